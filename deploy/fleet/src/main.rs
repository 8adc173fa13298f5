//! `dirless-fleet`: see `dirless-fleet --help`.

use std::process::ExitCode;

use clap::Parser;
use dirless_fleet::command::Arguments;
use dirless_program::command::{finish, start};

fn main() -> ExitCode {
    start();
    finish(Arguments::parse().run())
}
