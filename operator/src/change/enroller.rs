//! `dirless enroller`.

use std::path::PathBuf;

use clap::Subcommand;
use dirless_seal::trust::Enroller;
use dirless_seal::{Identity, Label, Recipient, VerifyingKey};

use super::{change, remove};
use crate::at::At;
use crate::options::Making;
use crate::{Surroundings, keys};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key of one's own that admits hosts from this machine, and show its public line for "enroller add"
    Create {
        /// The file to write it to, under a passphrase; never overwritten
        file: PathBuf,
        /// What it is called
        #[arg(long)]
        name: Label,
        #[command(flatten)]
        making: Making,
    },
    /// Let a key admit hosts
    Add {
        #[command(flatten)]
        at: At,
        /// The enroller's key (NAME+HASH+KEY), as its syncer shows it
        #[arg(long)]
        key: VerifyingKey,
        /// The recipient (age1…) that join requests are sealed to
        #[arg(long)]
        recipient: Recipient,
    },
    /// Let an enroller admit nobody any more
    Revoke {
        #[command(flatten)]
        at: At,
        /// Name of the enroller
        name: Label,
    },
}

pub(crate) fn run(command: &Command, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
    match command {
        Command::Create { file, name, making } => {
            let passphrases = making
                .passphrase
                .fresh(&[file.display().to_string()], surroundings.terminal)?;
            let (key, identity) = (keys::generate(name.clone())?, Identity::generate());
            for passphrase in &passphrases {
                keys::write(file, &keys::enroller_text(&key, &identity), passphrase, making.work)?;
            }
            writeln!(surroundings.out, "{} {}", key.verifying(), identity.recipient())?;
            Ok(())
        }
        Command::Add { at, key, recipient } => change(at, surroundings, |policy| {
            policy.enrollers.push(Enroller {
                key: key.clone(),
                recipient: recipient.clone(),
            });
            Ok(())
        }),
        Command::Revoke { at, name } => change(at, surroundings, |policy| {
            remove(&mut policy.enrollers, &format!("enroller {name}"), |enroller| {
                enroller.key.name() == name
            })
        }),
    }
}
