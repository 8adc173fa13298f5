//! `dirless compartment`.

use clap::Subcommand;
use dirless_seal::Label;
use dirless_seal::trust::{Compartment, OnExpiry};

use super::{change, remove};
use crate::Surroundings;
use crate::at::At;

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a compartment, or change what its hosts do when their lease has run out
    Add {
        #[command(flatten)]
        at: At,
        /// Its name
        name: Label,
        /// serve: go on without what was granted for a time only; close: let nobody in
        #[arg(long, value_name = "serve|close", default_value = "serve")]
        on_expiry: OnExpiry,
    },
    /// Remove a compartment
    Remove {
        #[command(flatten)]
        at: At,
        /// Its name
        name: Label,
    },
}

pub(crate) fn run(command: &Command, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
    match command {
        Command::Add { at, name, on_expiry } => change(at, surroundings, |policy| {
            policy.compartments.retain(|compartment| compartment.name != *name);
            policy.compartments.push(Compartment {
                name: name.clone(),
                on_expiry: *on_expiry,
            });
            Ok(())
        }),
        Command::Remove { at, name } => change(at, surroundings, |policy| {
            remove(
                &mut policy.compartments,
                &format!("compartment {name}"),
                |compartment| compartment.name == *name,
            )
        }),
    }
}
