//! `dirless-syncer`: see `dirless-syncer --help`.

use std::process::ExitCode;

use clap::Parser;
use dirless_program::command::{finish, start};
use dirless_syncer::command::Arguments;

fn main() -> ExitCode {
    start();
    match Arguments::parse().run(&dirless_program::environment) {
        Ok(code) => code,
        Err(error) => finish(Err(error)),
    }
}
