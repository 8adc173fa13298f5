use std::path::PathBuf;

use super::{Exhausted, Object};

/// What went wrong with the ledger. Nothing is published after any of them.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another syncer holds the ledger.
    #[error("{path} is in use by another syncer; two would hand out the same numbers. Stop the other one first")]
    Locked {
        /// The ledger.
        path: PathBuf,
    },
    /// The ledger is not there, where it must be.
    #[error(
        "there is no id ledger at {path}: run `dirless-syncer once` to start one, or `ledger rebuild` to restore one"
    )]
    Missing {
        /// The ledger.
        path: PathBuf,
    },
    /// The file or its folder cannot be used.
    #[error("the id ledger {path} cannot be used: {cause}")]
    File {
        /// The ledger.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// SQLite reports a problem: a full disk, a damaged file.
    #[error(
        "the id ledger {path} could not be {doing}: {cause}; see whether the disk is full or failing. Nothing was published and no number was given out"
    )]
    Database {
        /// The ledger.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
    /// The file was written by a newer syncer.
    #[error("the id ledger {path} cannot be brought to this version: {reason}")]
    Version {
        /// The ledger.
        path: PathBuf,
        /// What the migration said.
        reason: String,
    },
    /// A line of the ledger makes no sense.
    #[error("the id ledger {path} is damaged at number {number}: {reason}; restore it, or run `ledger rebuild`")]
    Damaged {
        /// The ledger.
        path: PathBuf,
        /// The line.
        number: u32,
        /// What is odd.
        reason: String,
    },
    /// No number is left.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// Something claims a number that another object holds, or an object that holds another number.
    #[error("{object} claims {claimed}, but the ledger says {held}; a number never moves")]
    Conflict {
        /// Who claims.
        object: Box<Object>,
        /// The number claimed.
        claimed: u32,
        /// What the ledger has instead.
        held: String,
    },
}
