//! `dirless-demo`: tells the story of `dirless_e2e::demo` on a machine of its own; see deploy/demo.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use dirless_e2e::{demo, story::Story};

fn main() -> ExitCode {
    let outcome = if dirless_testkit::inside() {
        demo::run(&mut Story::default()).map(|()| true)
    } else {
        dirless_testkit::isolated_command(&[]).and_then(|mut command| Ok(command.status()?.success()))
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
