//! A folder of files: YAML, JSON, TOML and LDIF, for instance a git checkout.
//!
//! All files are read, or nothing of them is published: a broken file does not take people away.
//! Hidden files and folders are passed over (`.git`), so is whatever has another ending.

mod format;
mod gather;
mod ldif;
mod watch;

use std::io::Read;
use std::path::{Path, PathBuf};

use dirless_model::NameRule;
use futures_util::future::BoxFuture;

pub use format::{Access, AccessRule, Content, Format, Person, RawEntry, RawValue, Team, Values};
pub use gather::{File, FileError, Gathered, gather};
pub use ldif::records;
pub use watch::Watch;

use super::{Complete, Page, Progress, Source, SourceDirectory, SourceError, read_to_end};

/// Folders in folders beyond this are an error: a loop of bind mounts has no end.
const DEEPEST: usize = 16;
/// Files beyond this are an error.
const MOST_FILES: usize = 100_000;

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
    folder: PathBuf,
}

impl FileSource {
    /// The source `name` in the folder that `config` names. Nothing is read yet.
    #[must_use]
    pub fn new(name: &str, config: &FilesConfig) -> Self {
        Self {
            name: name.to_owned(),
            folder: config.folder.clone(),
        }
    }

    /// Reads and checks all files.
    ///
    /// # Errors
    /// When one cannot be read or is broken.
    pub fn gather(&self) -> Result<Gathered, SourceError> {
        let files = self.files()?;
        gather(&files).map_err(|error| SourceError::Setup(format!("{error}; nothing of {} was taken", self.name)))
    }

    fn files(&self) -> Result<Vec<File>, SourceError> {
        let paths = paths(&self.folder).map_err(|(path, error)| unreadable(&path, &error))?;
        let read = |path: PathBuf| {
            let text = read(&path).map_err(|error| unreadable(&path, &error))?;
            Ok(File { path, text })
        };
        paths.into_iter().map(read).collect()
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(format::LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > format::LARGEST {
        return Err(std::io::Error::other("it is larger than 16 MiB; split it"));
    }
    Ok(text)
}

fn unreadable(path: &Path, error: &std::io::Error) -> SourceError {
    SourceError::Setup(format!("{}: {error}", path.display()))
}

/// Our files under `folder`, in order.
fn paths(folder: &Path) -> Result<Vec<PathBuf>, (PathBuf, std::io::Error)> {
    let mut found = Vec::new();
    let mut left = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = left.pop() {
        let failed = |error| (folder.clone(), error);
        if depth > DEEPEST || found.len() > MOST_FILES {
            return Err(failed(std::io::Error::other("too deep, or too many files")));
        }
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            // Follows symbolic links: folders of mounted secrets and configuration maps are made of them.
            let kind = std::fs::metadata(&path).map_err(|error| (path.clone(), error))?;
            let ending = path.extension().and_then(|ending| ending.to_str());
            if kind.is_dir() {
                left.push((path, depth + 1));
            } else if ending.and_then(Format::of).is_some() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn read<'a>(&'a self, progress: &'a dyn Progress) -> BoxFuture<'a, Result<SourceDirectory, SourceError>> {
        Box::pin(async move {
            // All files are one page: gathered as a whole, or an error.
            let whole = |_| {
                std::future::ready(self.gather().map(|all| Page {
                    entries: vec![all],
                    next: None,
                }))
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
