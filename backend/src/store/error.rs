//! What can go wrong in the store. One variant for each thing a caller can do differently:
//! `DiskFull` → 507, `BodyTooLarge` → 413, `Busy`, `Unavailable` and `Superseded` → try again, `Nul` → 400, `NewerSchema`,
//! `InUse`, `Corrupt` → an operator acts, everything else → 500. "Not found" is never an error.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

/// Why a call of the store failed. No variant carries a body, a secret or a hash.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No space is left. Only this call failed; the next one succeeds as soon as there is space.
    #[error("the disk that holds the store is full: free some space, nothing else needs doing")]
    DiskFull,
    /// A body grew past the limit its writer was made with.
    #[error("the body is longer than {limit} bytes")]
    BodyTooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The body being read has been replaced and swept away meanwhile; read the new one.
    #[error("the body was replaced while it was being read: read again")]
    Superseded,
    /// Another process holds the write lock longer than the busy timeout.
    #[error("the store is locked by another process; is a backup tool copying the file by hand?")]
    Busy,
    /// The database cannot be reached, or takes no writes now. A write that got this answer is not stored, or, if
    /// the connection ended in its commit, may be: read before writing again, or write with the expected tag.
    #[error("the store's database cannot be reached ({what}): nothing needs doing here, it is tried again")]
    Unavailable {
        /// What was heard last.
        what: String,
    },
    /// A text holds a NUL character, which not every engine stores.
    #[error("a text holds a NUL character, which cannot be stored")]
    Nul,
    /// The store is being shut down, or its writer stopped after a defect.
    #[error("the store is closed")]
    Closed,
    /// The database was written by a newer program.
    #[error(
        "{path} has schema {found}, this program knows up to {known}: install the newer dirless-backend again, or restore a backup made by this one"
    )]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// Its schema number.
        found: i64,
        /// The newest schema number this program knows.
        known: i64,
    },
    /// A second server, or a restore beside a running one.
    #[error("{path} is in use by another process: stop dirless-backend first")]
    InUse {
        /// The storage folder.
        path: PathBuf,
    },
    /// Something in the database contradicts itself.
    #[error("the store is damaged ({what}): stop dirless-backend, run `dirless-backend verify`, restore a backup")]
    Corrupt {
        /// What was found.
        what: String,
    },
    /// A file or folder of the store cannot be used.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The system's random source failed.
    #[error("the system gives no random numbers: check that /dev/urandom is there")]
    NoRandomness,
    /// The database engine failed otherwise.
    #[error("the database engine failed: {0}")]
    Engine(Arc<dyn Error + Send + Sync>),
}

impl StoreError {
    /// An I/O error at `path`, full disks told apart.
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::File {
                path: path.to_owned(),
                source: Arc::new(source),
            },
        }
    }

    /// Whether the same may go well in a moment.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Busy | Self::InUse { .. })
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }
}

/// `SQLITE_IOERR_SHMSIZE`: the index of the write-ahead log could not grow, which a full disk causes.
const IOERR_SHMSIZE: i32 = 4874;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        if let rusqlite::Error::SqliteFailure(failure, _) = &error {
            match failure.code {
                ErrorCode::DiskFull => return Self::DiskFull,
                _ if failure.extended_code == IOERR_SHMSIZE => return Self::DiskFull,
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => return Self::Busy,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => return Self::corrupt(error.to_string()),
                _ => {}
            }
        }
        Self::Engine(Arc::new(error))
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn failure(code: i32) -> StoreError {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into()
    }

    #[test]
    fn engine_errors_are_told_apart() {
        assert!(matches!(failure(ffi::SQLITE_FULL), StoreError::DiskFull));
        assert!(matches!(failure(IOERR_SHMSIZE), StoreError::DiskFull));
        assert!(matches!(failure(ffi::SQLITE_BUSY), StoreError::Busy));
        assert!(matches!(failure(ffi::SQLITE_CORRUPT), StoreError::Corrupt { .. }));
        assert!(matches!(failure(ffi::SQLITE_NOTADB), StoreError::Corrupt { .. }));
        assert!(matches!(failure(ffi::SQLITE_CONSTRAINT), StoreError::Engine(_)));
    }

    #[test]
    fn a_full_disk_below_a_file_is_a_full_disk() {
        let full = StoreError::file(Path::new("/x"), io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(full, StoreError::DiskFull));
        let other = StoreError::file(Path::new("/x"), io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(other.to_string().starts_with("/x: "), "{other}");
    }
}
