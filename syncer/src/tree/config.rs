//! `[tree]` of the configuration.

use std::path::{Path, PathBuf};

use dirless_directory::{AttributeName, Dn, Schema};
use dirless_program::Clock;

use super::TreeError;
use super::store::{Settings, TreeStore};

/// `[tree]`
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TreeConfig {
    /// The database, when it is not `tree.db` in the state folder.
    pub path: Option<PathBuf>,
    /// The name above all others.
    pub base_dn: String,
    /// Folder of the site's own schema files, `*.schema`, taken in by the order of their names.
    pub schema_folder: Option<PathBuf>,
    /// Attributes that are indexed besides those that always are.
    pub indexed: Vec<String>,
    /// Is the tree published to hosts, as the source `tree` and one for each `[[audience]]`?
    pub publish: bool,
}

impl Default for TreeConfig {
    fn default() -> Self {
        Self {
            path: None,
            base_dn: "dc=dirless".to_owned(),
            schema_folder: None,
            indexed: Vec::new(),
            publish: false,
        }
    }
}

impl TreeConfig {
    /// Where the database is.
    #[must_use]
    pub fn path(&self, state_folder: &Path) -> PathBuf {
        self.path.clone().unwrap_or_else(|| state_folder.join("tree.db"))
    }

    /// The name above all others.
    ///
    /// # Errors
    /// When the text is no name.
    pub fn base(&self) -> Result<Dn, TreeError> {
        let refuse = |reason| TreeError::Setting { key: "base_dn", reason };
        let base = Dn::parse(&self.base_dn).map_err(|error| refuse(error.to_string()))?;
        if base.is_root() {
            return Err(refuse("must not be empty".to_owned()));
        }
        Ok(base)
    }

    /// The standard schema and what the site's files add to it.
    ///
    /// # Errors
    /// When a file cannot be read or taken in.
    pub fn schema(&self) -> Result<Schema, TreeError> {
        let mut schema = Schema::standard();
        let Some(folder) = &self.schema_folder else {
            return Ok(schema);
        };
        let failed = |path: &Path| {
            let path = path.to_owned();
            |cause| TreeError::File { path, cause }
        };
        let mut files = Vec::new();
        for file in std::fs::read_dir(folder).map_err(failed(folder))? {
            let path = file.map_err(failed(folder))?.path();
            if path.extension().is_some_and(|extension| extension == "schema") {
                files.push(path);
            }
        }
        files.sort();
        for path in files {
            let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
            schema
                .extend(&text)
                .map_err(|cause| TreeError::SchemaFile { path, cause })?;
        }
        Ok(schema)
    }

    /// What the store is opened with.
    ///
    /// # Errors
    /// When a value makes no sense.
    pub fn settings(&self, state_folder: &Path) -> Result<Settings, TreeError> {
        let indexed = self.indexed.iter().map(|name| AttributeName::parse(name));
        Ok(Settings {
            path: self.path(state_folder),
            base: self.base()?,
            schema: self.schema()?,
            indexed: indexed.collect::<Result<_, _>>().map_err(|error| TreeError::Setting {
                key: "indexed",
                reason: error.to_string(),
            })?,
        })
    }

    /// Opens the tree, which must be there, to look at it: nothing is written.
    ///
    /// # Errors
    /// As [`TreeConfig::settings`] and [`TreeStore::open_to_read`].
    pub fn open_to_read(&self, state_folder: &Path, clock: Clock) -> Result<TreeStore, TreeError> {
        TreeStore::open_to_read(self.settings(state_folder)?, clock)
    }

    /// Opens the tree.
    ///
    /// # Errors
    /// As [`TreeConfig::settings`] and [`TreeStore::open`].
    pub fn open(&self, state_folder: &Path, clock: Clock) -> Result<TreeStore, TreeError> {
        TreeStore::open(self.settings(state_folder)?, clock)
    }
}
