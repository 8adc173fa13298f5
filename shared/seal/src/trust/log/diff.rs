//! What changed between two snapshots, found while their records stream by.
//!
//! Three passes: over the one before ([`Before`]), over the one after ([`After`]), and over the one before again
//! ([`Resolution`]), for the bytes of what changed. In between only digests are kept, and what changed.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use super::LONGEST_RECORD;
use super::changes::{Change, Changes};
use super::codec::cost;
use super::hunks::hunks;
use crate::{Digest, Digester, RecordKind};

/// New bytes of changed records that are kept at most: far more than a record of the log takes, for most of a changed
/// group is in both.
const MOST_KEPT: usize = 64 << 20;

/// No log can say this change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// Two records have one key.
    #[error("two records have the same name")]
    Twice,
    /// It is more than a record of the log may hold.
    #[error("more changed than a record of the log holds")]
    TooMuch,
    /// The second look at the snapshot before is at another one.
    #[error("what was compared changed meanwhile")]
    Other,
}

/// Half a digest: enough to tell records apart that nobody made in order to be confused.
type Short = [u8; 16];

fn short(digest: &Digest) -> Short {
    let mut short = [0; 16];
    short
        .iter_mut()
        .zip(digest.as_bytes())
        .for_each(|(to, from)| *to = *from);
    short
}

fn id(kind: RecordKind, key: &[u8]) -> Short {
    let mut digester = Digester::default();
    digester.update(&[kind.byte()]);
    digester.update(key);
    short(&digester.finish())
}

/// The records of the snapshot before, by their digests.
#[derive(Debug, Default)]
pub struct Before(HashMap<Short, Option<Short>>);

impl Before {
    /// Takes a record.
    ///
    /// # Errors
    /// When there was one of this kind under this key.
    pub fn add(&mut self, kind: RecordKind, key: &[u8], bytes: &[u8]) -> Result<(), DiffError> {
        match self.0.insert(id(kind, key), Some(short(&kind.leaf(bytes)))) {
            None => Ok(()),
            Some(_) => Err(DiffError::Twice),
        }
    }

    /// Goes on to the snapshot after.
    #[must_use]
    pub fn compare(self) -> After {
        After {
            before: self.0,
            changed: BTreeMap::new(),
            kept: 0,
        }
    }
}

/// The records of the snapshot after, as far as they are others.
#[derive(Debug)]
pub struct After {
    /// Those that were not seen again have their digests still.
    before: HashMap<Short, Option<Short>>,
    changed: BTreeMap<(RecordKind, Vec<u8>), (Vec<u8>, Was)>,
    kept: usize,
}

/// Was there one before?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Was {
    New,
    Other,
}

impl After {
    /// Takes a record.
    ///
    /// # Errors
    /// When there was one of this kind under this key, or too much changed.
    pub fn add(&mut self, kind: RecordKind, key: &[u8], bytes: &[u8]) -> Result<(), DiffError> {
        let was = match self.before.insert(id(kind, key), None) {
            Some(None) => return Err(DiffError::Twice),
            Some(Some(leaf)) if leaf == short(&kind.leaf(bytes)) => return Ok(()),
            Some(Some(_)) => Was::Other,
            None => Was::New,
        };
        self.kept = self.kept.saturating_add(key.len()).saturating_add(bytes.len());
        if self.kept > MOST_KEPT {
            return Err(DiffError::TooMuch);
        }
        match self.changed.entry((kind, key.to_vec())) {
            Entry::Vacant(place) => {
                place.insert((bytes.to_vec(), was));
                Ok(())
            }
            Entry::Occupied(_) => Err(DiffError::Twice),
        }
    }

    /// Goes on to the snapshot before once more.
    #[must_use]
    pub fn resolve(self) -> Resolution {
        let mut left = self.before;
        left.retain(|_, leaf| leaf.is_some());
        let unresolved = left.len() + self.changed.values().filter(|(_, was)| *was == Was::Other).count();
        Resolution {
            gone: left,
            changed: self.changed,
            changes: BTreeMap::new(),
            size: 0,
            unresolved,
        }
    }
}

/// What each changed record was before.
#[derive(Debug)]
pub struct Resolution {
    gone: HashMap<Short, Option<Short>>,
    changed: BTreeMap<(RecordKind, Vec<u8>), (Vec<u8>, Was)>,
    changes: BTreeMap<(RecordKind, Vec<u8>), Change>,
    size: usize,
    /// How many records of the snapshot before are still to come.
    unresolved: usize,
}

impl Resolution {
    /// Takes a record of the snapshot before again.
    ///
    /// # Errors
    /// When too much changed.
    pub fn add(&mut self, kind: RecordKind, key: &[u8], bytes: &[u8]) -> Result<(), DiffError> {
        if self.unresolved == 0 {
            return Ok(());
        }
        if self.gone.remove(&id(kind, key)).is_some() {
            self.unresolved -= 1;
            return self.note(kind, key, Change::Drop);
        }
        let place = (kind, key.to_vec());
        if self.changed.get(&place).is_some_and(|(_, was)| *was == Was::Other)
            && let Some((after, _)) = self.changed.remove(&place)
        {
            self.unresolved -= 1;
            let spliced = Change::Splice(hunks(bytes, &after));
            let put = Change::Put(after);
            let change = if cost(&spliced) < cost(&put) { spliced } else { put };
            return self.note(kind, key, change);
        }
        Ok(())
    }

    fn note(&mut self, kind: RecordKind, key: &[u8], change: Change) -> Result<(), DiffError> {
        self.size = self.size.saturating_add(key.len()).saturating_add(cost(&change));
        self.changes.insert((kind, key.to_vec()), change);
        if self.size > LONGEST_RECORD {
            return Err(DiffError::TooMuch);
        }
        Ok(())
    }

    /// The changes; `content` is the content root of the snapshot after.
    ///
    /// # Errors
    /// When the second look was at another snapshot, or too much changed.
    pub fn finish(mut self, content: Digest) -> Result<Changes, DiffError> {
        if self.unresolved > 0 {
            return Err(DiffError::Other);
        }
        for ((kind, key), (bytes, _)) in std::mem::take(&mut self.changed) {
            self.note(kind, &key, Change::Put(bytes))?;
        }
        Ok(Changes {
            content,
            changes: self.changes,
        })
    }
}

/// The changes between two snapshots that are in memory; `content` is the content root of the one after.
///
/// # Errors
/// When they are more than a record of the log holds.
pub fn diff(
    before: &BTreeMap<(RecordKind, Vec<u8>), Vec<u8>>,
    after: &BTreeMap<(RecordKind, Vec<u8>), Vec<u8>>,
    content: Digest,
) -> Result<Changes, DiffError> {
    let mut first = Before::default();
    for ((kind, key), bytes) in before {
        first.add(*kind, key, bytes)?;
    }
    let mut second = first.compare();
    for ((kind, key), bytes) in after {
        second.add(*kind, key, bytes)?;
    }
    let mut third = second.resolve();
    for ((kind, key), bytes) in before {
        third.add(*kind, key, bytes)?;
    }
    third.finish(content)
}
