//! `dirless root`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Subcommand;
use dirless_seal::{Label, VerifyingKey};

use super::change;
use crate::at::At;
use crate::options::Making;
use crate::{Surroundings, keys};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a root key, and show its public half
    Create {
        /// The file to write it to, under a passphrase; never overwritten
        file: PathBuf,
        /// Its name
        #[arg(long)]
        name: Label,
        #[command(flatten)]
        making: Making,
    },
    /// Let a key sign policies
    Add {
        #[command(flatten)]
        at: At,
        /// The public half (NAME+HASH+KEY)
        #[arg(long)]
        key: VerifyingKey,
        /// How many roots must sign from then on
        #[arg(long, value_name = "1-16")]
        threshold: Option<usize>,
    },
    /// Let a key sign policies no more
    Remove {
        #[command(flatten)]
        at: At,
        /// Its name
        name: Label,
        /// How many roots must sign from then on
        #[arg(long, value_name = "1-16")]
        threshold: Option<usize>,
    },
}

pub(crate) fn run(command: &Command, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
    match command {
        Command::Create { file, name, making } => {
            let passphrases = making.passphrase.fresh(&[name.to_string()], surroundings.terminal)?;
            let key = keys::generate(name.clone())?;
            for passphrase in &passphrases {
                keys::write(file, &key.expose(), passphrase, making.work)?;
            }
            writeln!(surroundings.out, "{}", key.verifying())?;
            Ok(())
        }
        Command::Add { at, key, threshold } => change(at, surroundings, |policy| {
            if !policy.roots.insert(key.clone()) {
                bail!("the policy has the root {key} already");
            }
            policy.threshold = threshold.unwrap_or(policy.threshold);
            Ok(())
        }),
        Command::Remove { at, name, threshold } => change(at, surroundings, |policy| {
            let before = policy.roots.len();
            policy.roots.retain(|root| root.name() != name);
            if policy.roots.len() == before {
                bail!("the policy has no root {name}; look at it with: dirless policy show");
            }
            policy.threshold = threshold.unwrap_or(policy.threshold);
            Ok(())
        }),
    }
}
