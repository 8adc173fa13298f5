//! `dirless revoke`: the syncer's command, by the name under which an operator looks for it.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Error, anyhow};

/// The program that holds what is published.
const SYNCER: &str = "dirless-syncer";

/// Runs it in place of this program. Comes back only when it cannot be run, and says why.
pub(crate) fn run(given: &[OsString]) -> Error {
    let error = Command::new(SYNCER).arg("revoke").args(given).exec();
    match error.kind() {
        ErrorKind::NotFound => anyhow!(
            "{SYNCER} is not on this machine, and it holds what is published: run this where it runs, such as \
             ssh SYNCER dirless revoke NAME --wait"
        ),
        _ => Error::new(error).context(format!("running {SYNCER}")),
    }
}
