//! `dirless revoke` on the syncer's machine: the syncer's own command, by the name under which an operator looks for it.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Error, anyhow};
use dirless_operator::RevokeArguments;

/// The program that holds what is published.
const SYNCER: &str = "dirless-syncer";

/// Runs it in place of this program, with the syncer's configuration where one was named. Comes back only when it cannot be
/// run, and says why.
pub(crate) fn run(arguments: &RevokeArguments, config: Option<&Path>) -> Error {
    let error = command(arguments, config).exec();
    match error.kind() {
        ErrorKind::NotFound => anyhow!(
            "{SYNCER} is not on this machine, and it holds what is published: ask it with --syncer URL, or run this where it \
             runs, such as ssh SYNCER dirless revoke NAME --wait"
        ),
        _ => Error::new(error).context(format!("running {SYNCER}")),
    }
}

pub(crate) fn command(arguments: &RevokeArguments, config: Option<&Path>) -> Command {
    let mut command = Command::new(SYNCER);
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    command.arg("revoke").args(arguments.words());
    command
}
