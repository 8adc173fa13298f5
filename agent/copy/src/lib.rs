//! The host's copy of the directory, which the agent writes and the LDAP server reads: a flat file of entries, and a
//! SQLite file that knows where each one is and what it is found by.
//!
//! It knows neither keys nor the network nor LDAP; writer and reader share nothing but the file. What
//! always holds: the file at the copy's path is complete and never changes while it has that path, so
//! that readers need no locks and a writer killed at any moment leaves the old generation or the new
//! one; an entry keeps its `entryUUID`, and its `entryCSN` and `modifyTimestamp` change only when the
//! entry does. What a site has beyond the standard schema is in the file too: keys and indexes follow it,
//! so that a generation under another schema is made anew from the one before, with the same stamps.
//!
//! Two files take turns. The next generation is made in the spare one: it first catches up with what
//! the current one has, then takes the new changes, is synced and given the current one's name; the
//! current one becomes the spare. A change so costs what changed and not the directory. A spare that
//! somebody still reads is left to them, and another is made. Both name entries in the same flat file, which
//! only grows: what a generation names in it never changes.

#![forbid(unsafe_code)]

mod appender;
mod catch_up;
mod draft;
mod edit;
mod files;
mod hot;
mod index;
mod layout;
mod overlay;
mod plan;
mod posix;
mod reader;
mod rebuild;
mod record;
mod records;
mod row;
mod search;
mod sorted;
#[cfg(test)]
mod tests;
mod uuid;

pub use draft::{Draft, Record, Summary};
pub use edit::Edit;
pub use hot::Hot;
pub use overlay::{Layered, Named, Overlay, Unfit};
pub use posix::{Account, Group, Posix, User};
pub use reader::{Apart, Change, Kind, Position, Reader, Row, Scope, Wants};
pub use search::Query;

use std::path::PathBuf;

/// Takes entries in the order of their keys: a draft, or something before one.
pub trait Target {
    /// Takes the next entry.
    ///
    /// # Errors
    /// As [`Draft::put`].
    fn put(&mut self, record: &Record<'_>) -> Result<(), CopyError>;
}

impl Target for Draft {
    fn put(&mut self, record: &Record<'_>) -> Result<(), CopyError> {
        Self::put(self, record)
    }
}

/// Why a copy cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file system refused.
    #[error("cannot {doing} {path}: {source}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is sorted outside memory cannot be written or read.
    #[error("the directory copy: {0}")]
    Sort(#[from] std::io::Error),
    /// The database is damaged or the disk is full.
    #[error("the directory copy: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file is of another version of this program.
    #[error("the directory copy {path} has format {found}; this program reads {expected}: let the agent publish once")]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The one that is read.
        expected: i64,
    },
    /// What lies in the flat file is not what the database says.
    #[error("{path} is damaged at byte {offset}: remove the directory copy, and the agent makes it anew")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// An entry, or all of them, take more room than can be told.
    #[error("the entry {0} is too large for the directory copy")]
    TooLarge(String),
    /// Entries must come in the order of their keys, each once.
    #[error("the entry {0} came out of order")]
    Order(String),
    /// What the copy says of its schema makes no sense.
    #[error("the directory copy's schema: {0}")]
    Schema(#[from] dirless_directory::schema::SchemaError),
    /// Stored bytes are no entry.
    #[error(transparent)]
    Encoded(#[from] dirless_directory::encoded::EncodedError),
}

impl CopyError {
    fn file(doing: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }
}
