//! `dirless-agent`: the daemon of a host, and its worker.

use std::process::ExitCode;

fn main() -> ExitCode {
    dirless_program::command::start();
    dirless_agent::cli::agent::main(&dirless_program::environment)
}
