//! `dirless-backend`: see `dirless-backend --help`.

use std::process::ExitCode;

use clap::Parser;
use dirless_backend::command::Arguments;
use dirless_program::command::{finish, start};

fn main() -> ExitCode {
    start();
    finish(Arguments::parse().run(&dirless_program::environment))
}
