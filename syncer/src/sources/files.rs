//! A folder of files: YAML, JSON, TOML and LDIF, for instance a git checkout.
//!
//! All files are read, or nothing of them is published: a broken file does not take people away.
//! Hidden files and folders are passed over (`.git`), so is whatever has another ending.

mod folder;
mod format;
mod gather;
mod ldif;
mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use dirless_model::NameRule;
use futures_util::future::BoxFuture;

pub use folder::{Folder, Wanted};
pub use format::{Access, AccessRule, Content, Format, Person, RawEntry, RawValue, Team, Values, Wrong};
pub(crate) use gather::error;
pub use gather::{File, FileError, Gathered, Groups, gather, gather_with};
pub use ldif::records;
pub use watch::Watch;

use super::{Complete, Page, Progress, Source, SourceDirectory, SourceError, read_to_end};
use crate::engines::Engine;
use crate::host_groups::HostGroups;
use crate::radius::PlanConfig;

/// `[[source]] kind = "files"`
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesConfig {
    /// Name on the wire and in the ledger.
    #[serde(default = "default_name")]
    pub name: String,
    /// The name rule; without it `[names]`.
    pub names: Option<NameRule>,
    /// The folder.
    pub folder: PathBuf,
    /// Engines that read the subfolder called like them; this source then leaves it to them.
    #[serde(default)]
    pub engines: Vec<Engine>,
    /// Are the access rules in the files put in force? One source at most may.
    #[serde(default)]
    pub access: bool,
    /// Groups of hosts that access rules may name, and the list of all hosts: the configuration's.
    #[serde(skip)]
    pub hosts: KnownHosts,
    /// Are changes picked up at once, and not only every `[syncer] interval_seconds`?
    #[serde(default = "default_watch")]
    pub watch: bool,
}

/// What the configuration knows of hosts.
#[derive(Clone, Debug, Default)]
pub struct KnownHosts {
    /// `[host_groups]`
    pub groups: HostGroups,
    /// `[plan]`
    pub plan: PlanConfig,
}

impl KnownHosts {
    /// The groups as access rules take them: names of hosts. A list of hosts that cannot be read is none, which
    /// matters where a rule needs it.
    fn resolve(&self) -> Groups {
        let inventory = self.plan.inventory().and_then(Result::ok);
        Groups {
            hosts: self.groups.resolve(inventory.as_ref().unwrap_or(&BTreeSet::new())),
            open: match inventory {
                Some(_) => BTreeSet::new(),
                None => self.groups.open().map(str::to_owned).collect(),
            },
        }
    }
}

fn default_name() -> String {
    "files".to_owned()
}

fn default_watch() -> bool {
    true
}

impl FilesConfig {
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.folder.is_absolute() {
            Ok(())
        } else {
            Err(("folder", "must be an absolute path".to_owned()))
        }
    }
}

/// A folder of files.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    folder: Folder,
    engines: Vec<Engine>,
    hosts: KnownHosts,
}

impl FileSource {
    /// The source `name` in the folder that `config` names. Nothing is read yet.
    #[must_use]
    pub fn new(name: &str, config: &FilesConfig) -> Self {
        Self {
            name: name.to_owned(),
            folder: Folder::new(&config.folder),
            engines: config.engines.clone(),
            hosts: config.hosts.clone(),
        }
    }

    /// Reads and checks all files.
    ///
    /// # Errors
    /// When one cannot be read or is broken.
    pub async fn gather(&self) -> Result<Gathered, SourceError> {
        let files = self.folder.read_at_rest(wanted(&self.engines)).await;
        let groups = self.hosts.resolve();
        let gathered = files.and_then(|files| gather_with(&files, &groups).map_err(|error| self.folder.place(error)));
        gathered.map_err(|error| {
            let name = &self.name;
            SourceError::Setup(format!(
                "{error}; nothing of {name} was taken, the last good state stays"
            ))
        })
    }
}

/// The files that this source reads: those with the right ending that no engine reads.
fn wanted(engines: &[Engine]) -> Wanted {
    let engines = engines.to_vec();
    Arc::new(move |path| {
        let first = path.iter().next().and_then(|first| first.to_str());
        let ending = path.extension().and_then(|ending| ending.to_str());
        !engines.iter().any(|engine| first == Some(engine.name())) && ending.and_then(Format::of).is_some()
    })
}

impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn read<'a>(&'a self, progress: &'a dyn Progress) -> BoxFuture<'a, Result<SourceDirectory, SourceError>> {
        Box::pin(async move {
            // All files are one page: gathered as a whole, or an error.
            let whole = |_| async {
                let all = self.gather().await?;
                Ok(Page {
                    entries: vec![all],
                    next: None,
                })
            };
            let whole = read_to_end(whole, |_| {}).await?;
            let empty = Gathered::default();
            let all = whole.get().first().unwrap_or(&empty);
            progress.users(all.users.len());
            progress.groups(all.groups.len());
            let members: Vec<(String, Complete<Vec<String>>)> = all
                .members
                .iter()
                .map(|(group, ids)| (group.clone(), whole.derive(|_| ids.iter().cloned().collect())))
                .collect();
            let users = whole.derive(|_| all.users.clone());
            let groups = whole.derive(|_| all.groups.clone());
            let directory = SourceDirectory::assemble(users, groups, members)?;
            Ok(directory.with_entries(whole.derive(|_| all.entries.clone())))
        })
    }
}

#[cfg(test)]
mod tests;
