//! A folder of files: YAML, JSON, TOML and LDIF, for instance a git checkout.
//!
//! All files are read, or nothing of them is published: a broken file does not take people away.
//! Hidden files and folders are passed over (`.git`), so is whatever has another ending.

mod folder;
mod format;
mod gather;
mod ldif;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use dirless_model::NameRule;
use futures_util::future::BoxFuture;

pub use folder::{Folder, Wanted};
pub use format::{Access, AccessRule, Content, Format, Person, RawEntry, RawValue, Team, Values, Wrong};
pub(crate) use gather::error;
pub use gather::{File, FileError, Gathered, gather};
pub use ldif::records;
pub use watch::Watch;

use super::{Complete, Page, Progress, Source, SourceDirectory, SourceError, read_to_end};
use crate::engines::Engine;

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
    /// Are changes picked up at once, and not only every `[syncer] interval_seconds`?
    #[serde(default = "default_watch")]
    pub watch: bool,
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
}

impl FileSource {
    /// The source `name` in the folder that `config` names. Nothing is read yet.
    #[must_use]
    pub fn new(name: &str, config: &FilesConfig) -> Self {
        Self {
            name: name.to_owned(),
            folder: Folder::new(&config.folder),
            engines: config.engines.clone(),
        }
    }

    /// Reads and checks all files.
    ///
    /// # Errors
    /// When one cannot be read or is broken.
    pub async fn gather(&self) -> Result<Gathered, SourceError> {
        let files = self.folder.read_at_rest(wanted(&self.engines)).await;
        let gathered = files.and_then(|files| gather(&files).map_err(|error| self.folder.place(error)));
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
