//! `dirless`: what an administrator of a host does and asks.

use std::process::ExitCode;

fn main() -> ExitCode {
    dirless_program::command::start();
    dirless_agent::cli::dirless::main(&dirless_program::environment)
}
