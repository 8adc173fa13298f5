//! Engines: what a platform keeps in files of its own, made into entries of the tree.
//!
//! Each engine is one file here behind the `Make` trait: agents, services, tenants, certificates,
//! mail and configs. An engine is pure: the same files make the same entries, in whatever order they
//! come. All files of a run are read before anything is made, a broken file stops its engine (and
//! those that lay its facts over their own) and no other, and the last good entries stay.

mod agents;
mod certificates;
mod configs;
mod draft;
mod inputs;
mod mail;
mod run;
mod services;
mod setting;
mod tenants;
mod trigger;

use std::collections::{BTreeMap, BTreeSet};

use dirless_directory::{Dn, Entry};

pub use inputs::Inputs;
pub use run::{Engines, Outcome, Ran, RunError, recall, remember};
pub use setting::{EngineConfig, EnginesConfig};
pub use trigger::{Trigger, TriggerError};

use crate::sources::files::{File, FileError, error};

/// One of the engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Tenants, their quotas and their overrides of configs. First, for others stand below them.
    Tenants,
    /// Agents, out of identity files, A2A cards, mail addresses and registrations.
    Agents,
    /// Certificates and the services that they are bound to.
    Certificates,
    /// Distribution lists and mailboxes.
    Mail,
    /// Services, with certificates and SMTP settings laid over them.
    Services,
    /// Configs.
    Configs,
}

impl Engine {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 6] = [
        Self::Tenants,
        Self::Agents,
        Self::Certificates,
        Self::Mail,
        Self::Services,
        Self::Configs,
    ];

    /// Its name, in the configuration, as a folder and as a trigger.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tenants => "tenants",
            Self::Agents => "agents",
            Self::Certificates => "certificates",
            Self::Mail => "mail",
            Self::Services => "services",
            Self::Configs => "configs",
        }
    }

    /// What its entries have as `aitherSource`.
    #[must_use]
    pub fn source(self) -> String {
        format!("engine-{}", self.name())
    }

    /// The engines whose files it reads besides its own.
    #[must_use]
    pub fn reads(self) -> &'static [Self] {
        match self {
            Self::Services => &[Self::Certificates, Self::Mail],
            _ => &[],
        }
    }

    /// All entries that it makes of `inputs`, each of another name. The schema has yet to take them.
    ///
    /// # Errors
    /// The file, the place in it, and what to do.
    pub fn entries(self, inputs: &Inputs, place: &Place<'_>) -> Result<Vec<Entry>, FileError> {
        let made = self.make().make(inputs, place)?;
        each_once(&made)?;
        Ok(made.into_iter().map(|made| made.entry).collect())
    }

    fn make(self) -> &'static dyn Make {
        match self {
            Self::Tenants => &tenants::Tenants,
            Self::Agents => &agents::Agents,
            Self::Certificates => &certificates::Certificates,
            Self::Mail => &mail::Mail,
            Self::Services => &services::Services,
            Self::Configs => &configs::Configs,
        }
    }
}

/// Where entries go.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The name above all others.
    pub base: &'a Dn,
    /// The tenants that are there.
    pub tenants: &'a BTreeSet<String>,
}

/// What an engine makes of the files.
trait Make {
    /// All entries of the engine, each with the file that it comes from.
    ///
    /// # Errors
    /// The file, the place in it, and what to do.
    fn make<'i>(&self, inputs: &'i Inputs, place: &Place<'_>) -> Result<Vec<Made<'i>>, FileError>;
}

/// An entry and where it comes from.
#[derive(Clone, Debug)]
struct Made<'i> {
    entry: Entry,
    file: Option<&'i File>,
    /// A word in the file that stands near what the entry is made of.
    word: String,
}

impl Made<'_> {
    fn word_or_name(&self) -> String {
        match self.word.is_empty() {
            true => self.entry.dn().to_string(),
            false => self.word.clone(),
        }
    }

    fn error(&self, reason: String) -> FileError {
        match self.file {
            Some(file) => error(file, &self.word, reason),
            None => FileError {
                path: std::path::PathBuf::new(),
                line: None,
                reason,
                busy: false,
            },
        }
    }
}

/// Refuses entries of one name, for instance of `a.yaml` and `a.json`.
fn each_once(all: &[Made<'_>]) -> Result<(), FileError> {
    let mut seen: BTreeMap<String, &Made<'_>> = BTreeMap::new();
    for made in all {
        let name = made.entry.dn().to_string().to_lowercase();
        if let Some(other) = seen.insert(name, made) {
            let other = other
                .file
                .map(|file| file.path.display().to_string())
                .unwrap_or_default();
            return Err(made.error(format!("{} is in {other} too; keep one of them", made.word_or_name())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
