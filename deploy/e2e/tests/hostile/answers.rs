//! Answers that are no files: silence, floods, and what web servers say by accident or on purpose.

use anyhow::ensure;
use dirless_e2e::hostile::{Answer, Scene};

use crate::lie::Who::Early;
use crate::lie::{Lie, lie};

const HEAD: &str = "head/syncer-1";
const EVERYTHING: [&str; 5] = ["policy/", "head/", "manifest/", "blob/", "wrap/"];

pub(crate) fn lies() -> Vec<Lie> {
    let mut lies = withheld();
    lies.extend(floods());
    lies.extend(statuses());
    lies
}

/// Says this about the head.
fn head(answer: Answer) -> impl Fn(&Scene<'_>) -> anyhow::Result<()> + Send + Sync {
    move |scene| {
        scene.liar.say(HEAD, answer.clone());
        Ok(())
    }
}

/// Says this about the newest body.
fn body(answer: Answer) -> impl Fn(&Scene<'_>) -> anyhow::Result<()> + Send + Sync {
    move |scene| {
        scene.liar.say(&scene.newest_body()?.0, answer.clone());
        Ok(())
    }
}

fn status(code: u16) -> Answer {
    Answer::Status(code, Vec::new(), b"so it is".to_vec())
}

fn withheld() -> Vec<Lie> {
    vec![
        lie("withheld-head", Early, &["no-head"], head(Answer::absent())).or(head(status(410))),
        lie("withheld-everything", Early, &["no-head"], |scene| {
            for all in EVERYTHING {
                scene.liar.say(all, Answer::absent());
            }
            Ok(())
        }),
        lie("silence", Early, &["unreachable"], head(Answer::Silence)),
        lie("hanging-up", Early, &["unreachable"], head(Answer::Drop)),
        lie("nobody-there", Early, &["unreachable"], |scene| {
            for all in EVERYTHING {
                scene.liar.say(all, Answer::Drop);
            }
            Ok(())
        }),
        // Never silent for long, and never done.
        lie("slow-head", Early, &["too-slow"], |scene| {
            let bytes = scene.liar.file(HEAD)?;
            scene.liar.say(HEAD, Answer::Slow(bytes));
            Ok(())
        })
        .at_backends(&["unreachable"]),
        lie("slow-body", Early, &["too-slow"], |scene| {
            let (path, _) = scene.newest_body()?;
            let bytes = scene.liar.file(&path)?;
            scene.liar.say(&path, Answer::Slow(bytes));
            Ok(())
        })
        .at_backends(&["unreachable"]),
    ]
}

fn floods() -> Vec<Lie> {
    vec![
        lie("endless-head", Early, &["too-long"], head(Answer::Endless)),
        lie("endless-policy", Early, &["too-long"], |scene| {
            scene.liar.say("policy/4", Answer::Endless);
            Ok(())
        })
        .meanwhile(&["alice", "carol"]),
        lie("endless-body", Early, &["body-size"], body(Answer::Endless)),
        lie("endless-header", Early, &["unreachable"], head(Answer::EndlessHeader)),
        lie("length-too-long", Early, &["cut-short"], |scene| {
            let bytes = scene.liar.file(HEAD)?;
            scene.liar.say(HEAD, Answer::Length(bytes.len() + 10, bytes));
            Ok(())
        })
        .at_backends(&["unreachable"]),
        lie("length-too-short", Early, &["no-note"], |scene| {
            let bytes = scene.liar.file(HEAD)?;
            scene.liar.say(HEAD, Answer::Length(bytes.len() - 20, bytes));
            Ok(())
        }),
        lie(
            "absurd-length",
            Early,
            &["too-long"],
            head(Answer::Length(usize::MAX / 4, vec![b'x'; 1 << 20])),
        ),
    ]
}

fn statuses() -> Vec<Lie> {
    vec![
        lie("page-for-a-head", Early, &["no-note"], head(Answer::page())),
        lie("page-for-a-body", Early, &["body-size"], body(Answer::page())),
        lie("page-for-everything", Early, &["no-note", "no-note"], |scene| {
            for all in EVERYTHING {
                scene.liar.say(all, Answer::page());
            }
            Ok(())
        }),
        lie("not-modified", Early, &["bad-answer"], head(status(304))),
        lie("errors", Early, &["bad-answer"], head(status(500)))
            .or(head(status(503)))
            .at_backends(&["unreachable"]),
        lie("other-successes", Early, &["bad-answer"], head(status(206))).or(head(status(201))),
        lie("redirect", Early, &["bad-answer"], |scene| redirect(scene, 302))
            .or(|scene| redirect(scene, 301))
            .or(|scene| redirect(scene, 307))
            .or(|scene| redirect(scene, 308))
            .until(|scene| {
                let asked = scene.liar.asked();
                ensure!(!asked.iter().any(|line| line.contains("elsewhere")), "{asked:?}");
                scene.liar.truth();
                Ok(())
            }),
    ]
}

fn redirect(scene: &Scene<'_>, code: u16) -> anyhow::Result<()> {
    let to = format!("{}/elsewhere", scene.liar.url());
    scene
        .liar
        .say(HEAD, Answer::Status(code, vec![("Location", to)], Vec::new()));
    Ok(())
}
