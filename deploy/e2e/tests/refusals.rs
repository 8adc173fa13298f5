//! Whatever is wrong with a request, it is refused in the same words, byte for byte. How long that takes is measured by
//! `dirless-refusals`, for a test must not depend on the machine's speed.

use anyhow::ensure;
use dirless_e2e::http::{Reply, exchange};
use dirless_e2e::refusals::{Question, Scene};
use dirless_e2e::site::BACKEND;
use dirless_testkit::isolated;

/// All that was answered, but for what every answer has of its own.
fn answer(mut reply: Reply) -> Reply {
    for (name, value) in &mut reply.headers {
        if name == "date" || name == "x-request-id" {
            value.clear();
        }
    }
    reply
}

fn alike(questions: &[Question]) -> anyhow::Result<usize> {
    let mut asked = 0;
    for Question { name, cases } in questions {
        let mut first: Option<Reply> = None;
        for (wrong, request) in cases {
            let reply = answer(exchange(BACKEND, request)?);
            let first = first.get_or_insert_with(|| reply.clone());
            ensure!(
                reply.status == 401,
                "{name}, {wrong}: {} {}",
                reply.status,
                reply.text()
            );
            ensure!(
                (&reply.headers, &reply.body) == (&first.headers, &first.body),
                "{name}, {wrong}: {reply:?} is not {first:?}"
            );
            asked += 1;
        }
    }
    Ok(asked)
}

#[test]
fn refusals_do_not_tell_what_is_wrong() {
    isolated("refusals_do_not_tell_what_is_wrong", || {
        let scene = Scene::start()?;
        scene.is_open_to_the_right_ones()?;
        ensure!(alike(&scene.classic())? >= 60);
        ensure!(alike(&scene.verified()?)? >= 100);
        // Nothing of it has let anybody in, or locked anybody out.
        scene.is_open_to_the_right_ones()
    })
    .unwrap();
}
