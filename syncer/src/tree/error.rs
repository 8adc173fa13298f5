//! Why the tree could not do what it was asked to; each kind is one that a front answers differently.

use std::path::PathBuf;

use dirless_directory::encoded::EncodedError;
use dirless_directory::schema::{SchemaError, Violation};
use dirless_directory::{AttributeName, Dn};

use crate::database::OpenError;

/// Why an operation on the tree did not happen. Nothing of it did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The entry is not there (noSuchObject).
    #[error("there is no entry {dn:?}", dn = .dn.to_string())]
    Absent {
        /// The entry.
        dn: Dn,
        /// The deepest entry above it that is there; the root when none is.
        matched: Dn,
    },
    /// The entry is there already (entryAlreadyExists).
    #[error("the entry {dn:?} exists already", dn = .0.to_string())]
    Exists(Dn),
    /// The entry has others below it (notAllowedOnNonLeaf).
    #[error("the entry {dn:?} has entries below it; remove those first, or the whole subtree", dn = .0.to_string())]
    NotLeaf(Dn),
    /// Someone else wrote the entry in between (assertionFailed).
    #[error("the entry {dn:?} has version {held}, not {expected}; read it again", dn = .dn.to_string())]
    Version {
        /// The entry.
        dn: Dn,
        /// The version it has; 0 when it is not there.
        held: u64,
        /// The version that was asked for.
        expected: u64,
    },
    /// The entry would break the schema (objectClassViolation, invalidAttributeSyntax and others).
    #[error("the entry {dn:?} {violation}", dn = .dn.to_string())]
    Schema {
        /// The entry.
        dn: Dn,
        /// What breaks.
        violation: Violation,
    },
    /// A value of the name does not fit its attribute (invalidDNSyntax).
    #[error("{dn:?} is no name: a value in it does not fit its attribute", dn = .0.to_string())]
    Name(Dn),
    /// The name is not under the base of the tree (unwillingToPerform).
    #[error("{dn:?} is not under {base:?}, the base of this tree", dn = .dn.to_string(), base = .base.to_string())]
    Outside {
        /// The name.
        dn: Dn,
        /// The base.
        base: Dn,
    },
    /// The server keeps that attribute itself (constraintViolation).
    #[error("{0} is kept by the server and cannot be written")]
    KeptByServer(AttributeName),
    /// The value to be removed is not there (noSuchAttribute).
    #[error("there is no such value of {0} to remove")]
    NoSuchValue(AttributeName),
    /// The value to be added is there already (attributeOrValueExists).
    #[error("{0} has that value already")]
    ValueExists(AttributeName),
    /// Only an integer can be increased (constraintViolation).
    #[error("{0} has no single integer value to increase")]
    NotInteger(AttributeName),
    /// What an entry is cannot change (objectClassModsProhibited).
    #[error("the structural object class of {dn:?} cannot change from {from} to {to}", dn = .dn.to_string())]
    StructuralClass {
        /// The entry.
        dn: Dn,
        /// The class that it has.
        from: String,
        /// The class that it would have.
        to: String,
    },
    /// An entry cannot move below itself, and the base not at all (unwillingToPerform).
    #[error("the entry {dn:?} cannot move there", dn = .0.to_string())]
    Move(Dn),
    /// A source showed something that cannot stand in the tree.
    #[error("the source {source_name} cannot go into the tree: {reason}")]
    Source {
        /// The source.
        source_name: String,
        /// What is wrong.
        reason: String,
    },
    /// The configuration of the tree makes no sense.
    #[error("[tree] {key}: {reason}")]
    Setting {
        /// The key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A schema file cannot be taken in.
    #[error("the schema file {path}: {cause}")]
    SchemaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: SchemaError,
    },
    /// An entry of the tree cannot be understood.
    #[error("the tree's entry {dn:?} is damaged: {reason}; restore the tree from a backup")]
    Damaged {
        /// The entry, as it is written.
        dn: String,
        /// What is wrong.
        reason: String,
    },
    /// The file was made by a newer program.
    #[error("{path} cannot be used by this program: {reason}; install the newer one again")]
    Newer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The database failed.
    #[error("the tree's database failed: {0}")]
    Database(#[from] rusqlite::Error),
}

impl From<OpenError> for TreeError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::File { path, cause } => Self::File { path, cause },
            OpenError::Database(error) => Self::Database(error),
            OpenError::Newer { path, reason } => Self::Newer { path, reason },
        }
    }
}

impl TreeError {
    /// Is the file itself damaged, or no tree at all?
    #[must_use]
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::Damaged { .. } => true,
            Self::Database(error) => matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase)),
            _ => false,
        }
    }

    pub(super) fn damaged(dn: impl Into<String>) -> impl FnOnce(EncodedError) -> Self {
        let dn = dn.into();
        |error| Self::Damaged {
            dn,
            reason: error.to_string(),
        }
    }

    pub(super) fn schema(dn: &Dn) -> impl FnOnce(Violation) -> Self {
        |violation| Self::Schema {
            dn: dn.clone(),
            violation,
        }
    }
}
