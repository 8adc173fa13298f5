//! What a record of the log says.

use std::collections::BTreeMap;

use crate::{Digest, RecordKind};

/// What becomes of a record of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is these bytes now, whether or not there was one.
    Put(Vec<u8>),
    /// These parts of it are others now, in their order, at least one.
    Splice(Vec<Hunk>),
    /// It is gone.
    Drop,
}

/// A part of a record that is another one now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hunk {
    /// How many bytes stay in front of it, counted from the end of the hunk before.
    pub skip: u32,
    /// How many bytes go.
    pub removed: u32,
    /// What comes in their place.
    pub bytes: Vec<u8>,
}

/// What one publish of a source changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Content root of the snapshot after it.
    pub content: Digest,
    /// By kind and key of the record: a user's name, a group's, an entry's DN, the names that lead to anything else.
    pub changes: BTreeMap<(RecordKind, Vec<u8>), Change>,
}

/// Where the records of a snapshot are, each under a key of its own within its kind.
pub trait Records {
    /// Why it fails.
    type Error;

    /// The bytes of the record; `None` when there is none.
    ///
    /// # Errors
    /// When that cannot be told.
    fn get(&mut self, kind: RecordKind, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Puts it in place of what may be there.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn put(&mut self, kind: RecordKind, key: &[u8], bytes: Vec<u8>) -> Result<(), Self::Error>;

    /// Takes it out; `false` when there was none.
    ///
    /// # Errors
    /// When it cannot be.
    fn remove(&mut self, kind: RecordKind, key: &[u8]) -> Result<bool, Self::Error>;
}

impl Records for BTreeMap<(RecordKind, Vec<u8>), Vec<u8>> {
    type Error = std::convert::Infallible;

    fn get(&mut self, kind: RecordKind, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(BTreeMap::get(self, &(kind, key.to_vec())).cloned())
    }

    fn put(&mut self, kind: RecordKind, key: &[u8], bytes: Vec<u8>) -> Result<(), Self::Error> {
        self.insert((kind, key.to_vec()), bytes);
        Ok(())
    }

    fn remove(&mut self, kind: RecordKind, key: &[u8]) -> Result<bool, Self::Error> {
        Ok(BTreeMap::remove(self, &(kind, key.to_vec())).is_some())
    }
}

/// Changes do not fit the records. What was changed before is changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError<E> {
    /// A record that is to change is not there.
    #[error("the log changes a record that is not there: {}", shown(*.kind, .key))]
    Absent {
        /// Of this kind.
        kind: RecordKind,
        /// Under this key.
        key: Vec<u8>,
    },
    /// A record that is to change is shorter than what is to change.
    #[error("the log changes a record beyond its end: {}", shown(*.kind, .key))]
    Beyond {
        /// Of this kind.
        kind: RecordKind,
        /// Under this key.
        key: Vec<u8>,
    },
    /// The records cannot be read or kept.
    #[error(transparent)]
    Records(#[from] E),
}

fn shown(kind: RecordKind, key: &[u8]) -> String {
    let key: String = String::from_utf8_lossy(key).chars().take(80).collect();
    format!("{kind:?} {key:?}")
}

impl Changes {
    /// Applies them to `records`.
    ///
    /// # Errors
    /// When they do not fit, or `records` fail. Some may have been applied then.
    pub fn apply<R: Records>(&self, records: &mut R) -> Result<(), ApplyError<R::Error>> {
        for ((kind, key), change) in &self.changes {
            let absent = || ApplyError::Absent {
                kind: *kind,
                key: key.clone(),
            };
            match change {
                Change::Put(bytes) => records.put(*kind, key, bytes.clone())?,
                Change::Splice(hunks) => {
                    let before = records.get(*kind, key)?.ok_or_else(absent)?;
                    let after = spliced(&before, hunks).ok_or_else(|| ApplyError::Beyond {
                        kind: *kind,
                        key: key.clone(),
                    })?;
                    records.put(*kind, key, after)?;
                }
                Change::Drop => {
                    if !records.remove(*kind, key)? {
                        return Err(absent());
                    }
                }
            }
        }
        Ok(())
    }
}

/// `before` with `hunks` in it; `None` when it is too short for them.
pub(super) fn spliced(before: &[u8], hunks: &[Hunk]) -> Option<Vec<u8>> {
    let more: usize = hunks.iter().map(|hunk| hunk.bytes.len()).sum();
    let mut after = Vec::with_capacity(before.len().saturating_add(more));
    let mut rest = before;
    for hunk in hunks {
        let (kept, from) = rest.split_at_checked(usize::try_from(hunk.skip).ok()?)?;
        after.extend_from_slice(kept);
        rest = from.get(usize::try_from(hunk.removed).ok()?..)?;
        after.extend_from_slice(&hunk.bytes);
    }
    after.extend_from_slice(rest);
    Some(after)
}
