//! `dirless-demo [--classic]`: tells the story of `dirless_e2e::demo` on a machine of its own; see deploy/demo.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use dirless_e2e::demo::{self, Protocol};
use dirless_e2e::story::Story;

/// Has hosts believe the backend, as deployed programs do.
const CLASSIC: &str = "--classic";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let protocol = match arguments[..] {
        [] => Protocol::Signed,
        [CLASSIC] => Protocol::Classic,
        _ => {
            eprintln!("usage: deploy/demo [{CLASSIC}]");
            return ExitCode::from(2);
        }
    };
    let outcome = if dirless_testkit::inside() {
        demo::run(&mut Story::default(), protocol).map(|()| true)
    } else {
        dirless_testkit::isolated_command(&arguments).and_then(|mut command| Ok(command.status()?.success()))
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
