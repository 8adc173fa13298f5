//! `dirless enroller`.

use std::path::PathBuf;

use clap::Subcommand;
use dirless_seal::trust::Enroller;
use dirless_seal::{Label, Recipient, VerifyingKey};

use super::{change, remove};
use crate::Surroundings;

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Let a key admit hosts
    Add {
        /// The folder of the tenant
        folder: PathBuf,
        /// The enroller's key (NAME+HASH+KEY), as its syncer shows it
        #[arg(long)]
        key: VerifyingKey,
        /// The recipient (age1…) that join requests are sealed to
        #[arg(long)]
        recipient: Recipient,
    },
    /// Let an enroller admit nobody any more
    Revoke {
        /// The folder of the tenant
        folder: PathBuf,
        /// Name of the enroller
        name: Label,
    },
}

pub(crate) fn run(command: &Command, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
    match command {
        Command::Add { folder, key, recipient } => change(folder, surroundings, |policy| {
            policy.enrollers.push(Enroller {
                key: key.clone(),
                recipient: recipient.clone(),
            });
            Ok(())
        }),
        Command::Revoke { folder, name } => change(folder, surroundings, |policy| {
            remove(&mut policy.enrollers, &format!("enroller {name}"), |enroller| {
                enroller.key.name() == name
            })
        }),
    }
}
