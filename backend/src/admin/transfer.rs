//! `migrate-store`.

use anyhow::Context as _;

use super::Console;
use crate::store::{Location, transfer};

/// What to copy where.
#[derive(Clone, Debug, clap::Args)]
pub struct TransferArguments {
    /// The store as it is: `sqlite:/FOLDER` or `postgres://USER@HOST/DATABASE`.
    #[arg(long, value_name = "URL")]
    pub from: String,
    /// Where to copy it: an empty folder or database.
    #[arg(long, value_name = "URL")]
    pub to: String,
}

/// Copies a store.
///
/// # Errors
/// What the operator has to know, with what to do next.
pub(super) fn run(from: &Location, to: &Location, console: &mut Console<'_>) -> anyhow::Result<()> {
    let copied = transfer(from, to).context("nothing was copied")?;
    writeln!(
        console.output,
        "copied {from} to {to}: {} rows, {} bytes of bodies; both sides have SHA-256 {}",
        copied.rows, copied.body_bytes, copied.digest
    )
    .context("cannot write to standard output")?;
    super::say(
        console,
        "the original is as it was; point [storage] url at the copy before the next start, and keep the original aside",
    )
}
