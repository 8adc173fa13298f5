//! `dirless-ldapd`: see `dirless-ldapd --help`.

use std::process::ExitCode;

use clap::Parser;
use dirless_ldapd::command::Arguments;
use dirless_program::command::{finish, start};

fn main() -> ExitCode {
    start();
    finish(Arguments::parse().run(&dirless_program::environment))
}
