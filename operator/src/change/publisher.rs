//! `dirless publisher`.

use anyhow::Context;
use clap::Subcommand;
use dirless_seal::trust::{IdRange, NamePattern, Publisher, Right, Scope};
use dirless_seal::{Label, VerifyingKey};

use super::{change, remove};
use crate::Surroundings;
use crate::at::At;

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Let a key publish, within bounds
    Add(Add),
    /// Put another key in a publisher's place, with the same bounds
    Rotate {
        #[command(flatten)]
        at: At,
        /// Name of the publisher
        name: Label,
        /// The new key (NAME+HASH+KEY); under the same name hosts go on without a gap, when heads bear both signatures
        #[arg(long)]
        key: VerifyingKey,
    },
    /// Let a publisher publish no more
    Revoke {
        #[command(flatten)]
        at: At,
        /// Name of the publisher
        name: Label,
    },
}

/// Arguments of `dirless publisher add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    #[command(flatten)]
    at: At,
    /// The publisher's key (NAME+HASH+KEY), as its syncer shows it
    #[arg(long)]
    key: VerifyingKey,
    /// A source that is its own; may be repeated
    #[arg(long = "source", value_name = "SOURCE", required = true)]
    sources: Vec<Label>,
    /// A range of user and group ids that it may use, such as 10000-19999; may be repeated
    #[arg(long = "ids", value_name = "LOW-HIGH")]
    ids: Vec<IdRange>,
    /// A pattern for the names that it may use, such as app-* or *; may be repeated
    #[arg(long = "names", value_name = "PATTERN")]
    names: Vec<NamePattern>,
    /// A kind of fact that it may state: users, groups, keys, access, entries; may be repeated
    #[arg(long, value_name = "KIND", required = true)]
    may: Vec<Right>,
}

pub(crate) fn run(command: &Command, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
    match command {
        Command::Add(add) => change(&add.at, surroundings, |policy| {
            policy.publishers.push(add.publisher());
            Ok(())
        }),
        Command::Rotate { at, name, key } => change(at, surroundings, |policy| {
            let publisher = policy
                .publishers
                .iter_mut()
                .find(|publisher| publisher.key.name() == name);
            let publisher = publisher
                .with_context(|| format!("the policy has no publisher {name}; look at it with: dirless policy show"))?;
            publisher.key = key.clone();
            Ok(())
        }),
        Command::Revoke { at, name } => change(at, surroundings, |policy| {
            remove(&mut policy.publishers, &format!("publisher {name}"), |publisher| {
                publisher.key.name() == name
            })
        }),
    }
}

impl Add {
    fn publisher(&self) -> Publisher {
        let mut ids = self.ids.clone();
        ids.sort_unstable();
        ids.dedup();
        let mut names = self.names.clone();
        names.sort();
        names.dedup();
        Publisher {
            key: self.key.clone(),
            scope: Scope {
                sources: self.sources.iter().cloned().collect(),
                ids,
                names,
                may: self.may.iter().copied().collect(),
            },
        }
    }
}
