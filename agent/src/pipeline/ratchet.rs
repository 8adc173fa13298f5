//! The sequence ratchet: a snapshot older than one that was accepted before is refused.
//!
//! Its file is apart from the data and is synced before anything is published, so that neither a
//! crash nor a restored data folder opens the way for an old body.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use crate::paths::Paths;

/// How far a number may lie above the last one. A syncer adds one for each snapshot; whoever forges a
/// larger step wants to use the numbers up, so that no true snapshot could ever follow.
const LARGEST_STEP: u64 = 1 << 32;
/// The largest number with which a source may begin: numbers may be times in seconds.
const LARGEST_FIRST: u64 = 1 << 48;

/// Highest sequence number accepted for each source.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Ratchet(BTreeMap<String, u64>);

/// A body that is older than one accepted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rollback {
    /// A smaller number.
    #[error("it has sequence {found}, but {seen} was accepted before: an old snapshot is being replayed")]
    Lower {
        /// Its number.
        found: u64,
        /// The number accepted before.
        seen: u64,
    },
    /// No number, where one was seen before.
    #[error("it has no sequence number, but {seen} was accepted before: an old snapshot is being replayed")]
    Missing {
        /// The number accepted before.
        seen: u64,
    },
    /// A number that nobody reaches by counting.
    #[error("it has sequence {found}, which no syncer reaches by counting on from {seen}: somebody forged it")]
    Leap {
        /// Its number.
        found: u64,
        /// The number accepted before; 0 when there was none.
        seen: u64,
    },
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the ratchet {path}: {reason}; restore it, or remove it to accept whatever sequence comes next")]
pub struct RatchetError {
    path: String,
    reason: String,
}

impl Ratchet {
    /// Would a snapshot of `source` with `sequence` be accepted?
    ///
    /// # Errors
    /// When it is older than one accepted before, or absurdly far ahead.
    pub fn check(&self, source: &str, sequence: Option<u64>) -> Result<(), Rollback> {
        match (self.0.get(source).copied(), sequence) {
            (None, Some(found)) if found > LARGEST_FIRST => Err(Rollback::Leap { found, seen: 0 }),
            (None, _) => Ok(()),
            (Some(seen), None) => Err(Rollback::Missing { seen }),
            (Some(seen), Some(found)) if found < seen => Err(Rollback::Lower { found, seen }),
            (Some(seen), Some(found)) if found - seen > LARGEST_STEP => Err(Rollback::Leap { found, seen }),
            (Some(_), Some(_)) => Ok(()),
        }
    }

    /// Remembers that `sequence` of `source` was accepted. It never goes down.
    pub fn accept(&mut self, source: &str, sequence: Option<u64>) {
        if let Some(sequence) = sequence {
            let seen = self.0.entry(source.to_owned()).or_insert(sequence);
            *seen = sequence.max(*seen);
        }
    }

    /// The highest number accepted for `source`.
    #[must_use]
    pub fn seen(&self, source: &str) -> Option<u64> {
        self.0.get(source).copied()
    }

    /// Forgets `source`, so that it may begin anew: for an operator whose syncer lost its state, or
    /// whose backend served forged numbers. Gives the number that was forgotten.
    pub fn forget(&mut self, source: &str) -> Option<u64> {
        self.0.remove(source)
    }

    /// Reads the file; an absent one is a new host.
    ///
    /// # Errors
    /// When it is there but cannot be read: then nothing may be published.
    pub fn load(path: &Path) -> Result<Self, RatchetError> {
        let error = |reason: String| RatchetError {
            path: path.display().to_string(),
            reason,
        };
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|reason| error(reason.to_string())),
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(reason) => Err(error(reason.to_string())),
        }
    }

    /// Writes the file durably.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        dirless_program::fs::publish(path, 0o600, &bytes)
    }
}

/// Forgets the number of `source` on this host: `dirless refresh --forget-sequence`. Waits for a running
/// worker, which would write its own memory over it.
///
/// # Errors
/// When the file cannot be used or written.
pub fn forget_sequence(paths: &Paths, source: &str) -> Result<Option<u64>, RatchetError> {
    let path = paths.ratchet();
    let error = |reason: io::Error| RatchetError {
        path: path.display().to_string(),
        reason: reason.to_string(),
    };
    let lock = fs::File::create(paths.publish_lock()).map_err(error)?;
    lock.lock().map_err(error)?;
    let mut ratchet = Ratchet::load(&path)?;
    let forgotten = ratchet.forget(source);
    if forgotten.is_some() {
        ratchet.save(&path).map_err(error)?;
    }
    Ok(forgotten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_only_go_up_and_never_away() {
        let mut ratchet = Ratchet::default();
        assert_eq!(ratchet.check("local", None), Ok(()));
        ratchet.accept("local", None);
        assert_eq!(ratchet.seen("local"), None);
        ratchet.accept("local", Some(7));
        ratchet.accept("local", Some(5));
        assert_eq!(ratchet.seen("local"), Some(7));
        assert_eq!(ratchet.check("local", Some(7)), Ok(()));
        assert_eq!(
            ratchet.check("local", Some(6)),
            Err(Rollback::Lower { found: 6, seen: 7 })
        );
        assert_eq!(ratchet.check("local", None), Err(Rollback::Missing { seen: 7 }));
        assert_eq!(ratchet.check("other", None), Ok(()));
        assert_eq!(ratchet.forget("local"), Some(7));
        assert_eq!(ratchet.forget("local"), None);
        assert_eq!(ratchet.check("local", None), Ok(()));
    }

    #[test]
    fn a_forged_number_cannot_use_the_numbers_up() {
        let mut ratchet = Ratchet::default();
        for found in [u64::MAX, LARGEST_FIRST + 1] {
            assert_eq!(
                ratchet.check("local", Some(found)),
                Err(Rollback::Leap { found, seen: 0 })
            );
        }
        assert_eq!(ratchet.check("local", Some(LARGEST_FIRST)), Ok(()));
        ratchet.accept("local", Some(7));
        for found in [u64::MAX, 8 + LARGEST_STEP] {
            assert_eq!(
                ratchet.check("local", Some(found)),
                Err(Rollback::Leap { found, seen: 7 })
            );
        }
        assert_eq!(ratchet.check("local", Some(7 + LARGEST_STEP)), Ok(()));
    }

    #[test]
    fn the_file_survives_and_a_damaged_one_is_not_a_new_host() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ratchet.json");
        assert_eq!(Ratchet::load(&path).unwrap(), Ratchet::default());
        let mut ratchet = Ratchet::default();
        ratchet.accept("local", Some(u64::MAX));
        ratchet.save(&path).unwrap();
        assert_eq!(Ratchet::load(&path).unwrap(), ratchet);
        fs::write(&path, "{").unwrap();
        assert!(
            Ratchet::load(&path)
                .unwrap_err()
                .to_string()
                .contains("remove it to accept")
        );
    }
}
