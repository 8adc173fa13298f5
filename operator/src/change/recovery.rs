//! `dirless recovery`.

use std::path::PathBuf;

use clap::Subcommand;
use dirless_seal::{Identity, Recipient};

use super::{change, remove};
use crate::at::At;
use crate::options::Making;
use crate::{Surroundings, keys};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a recovery key, and show its recipient
    Create {
        /// The file to write it to, under a passphrase; never overwritten
        file: PathBuf,
        #[command(flatten)]
        making: Making,
    },
    /// Seal to a recipient from the next epoch on
    Add {
        #[command(flatten)]
        at: At,
        /// The recipient (age1…)
        recipient: Recipient,
    },
    /// Seal to a recipient no more
    Remove {
        #[command(flatten)]
        at: At,
        /// The recipient (age1…)
        recipient: Recipient,
    },
}

pub(crate) fn run(command: &Command, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
    match command {
        Command::Create { file, making } => {
            let passphrases = making
                .passphrase
                .fresh(&[file.display().to_string()], surroundings.terminal)?;
            let identity = Identity::generate();
            for passphrase in &passphrases {
                keys::write(file, &identity.expose(), passphrase, making.work)?;
            }
            writeln!(surroundings.out, "{}", identity.recipient())?;
            Ok(())
        }
        Command::Add { at, recipient } => change(at, surroundings, |policy| {
            policy.recovery.push(recipient.clone());
            Ok(())
        }),
        Command::Remove { at, recipient } => change(at, surroundings, |policy| {
            remove(
                &mut policy.recovery,
                &format!("recovery recipient {recipient}"),
                |other| other == recipient,
            )
        }),
    }
}
