//! The records of a log against those in the store.

use dirless_model::snapshot::Part;
use dirless_seal::trust::log::{Changes, Records};
use dirless_seal::{Digest, RecordKind};

use super::FollowError;
use crate::pipeline::partial::{Change, Store, StoreError};

/// Beginnings of the keys of further members of a document of which neither accounts nor entries depend.
const HARMLESS: [&[u8]; 4] = [b"\"ssh_keys\":", b"\"ledger\":", b"\"sequence\"", b"\"generated_at\""];

/// Records as a log sees them: what it reads is in the store, what it changes is collected.
struct Collected<'a> {
    store: &'a Store,
    place: u8,
    changes: Vec<Change>,
    gone: Vec<Digest>,
    come: Vec<Digest>,
}

impl Collected<'_> {
    fn note(&mut self, kind: RecordKind, key: &[u8], bytes: Option<Vec<u8>>) -> Result<bool, StoreError> {
        let old = self.store.get(self.place, Part::from(kind), key)?;
        self.gone.extend(old.as_ref().map(|old| kind.leaf(old)));
        self.come.extend(bytes.as_ref().map(|new| kind.leaf(new)));
        self.changes.push(Change {
            source: self.place,
            part: Part::from(kind),
            key: key.to_vec(),
            bytes,
        });
        Ok(old.is_some())
    }
}

impl Records for Collected<'_> {
    type Error = StoreError;

    fn get(&mut self, kind: RecordKind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(self.place, Part::from(kind), key)
    }

    fn put(&mut self, kind: RecordKind, key: &[u8], bytes: Vec<u8>) -> Result<(), StoreError> {
        self.note(kind, key, Some(bytes)).map(drop)
    }

    fn remove(&mut self, kind: RecordKind, key: &[u8]) -> Result<bool, StoreError> {
        self.note(kind, key, None)
    }
}

/// What one record of the log changes, once the content root is the one it says.
pub(super) fn take(store: &Store, place: u8, changes: &Changes) -> Result<Vec<Change>, FollowError> {
    let mut collected = Collected {
        store,
        place,
        changes: Vec::new(),
        gone: Vec::new(),
        come: Vec::new(),
    };
    let others = changes
        .changes
        .keys()
        .filter(|(kind, _)| Part::from(*kind) == Part::Other);
    for (_, key) in others {
        if !HARMLESS.iter().any(|harmless| key.starts_with(harmless)) {
            return Err(FollowError::Whole("a source says something else of itself"));
        }
    }
    let applied = changes.apply(&mut collected);
    applied.map_err(|error| FollowError::Log(error.to_string()))?;
    if store.update_content(place, &collected.gone, &collected.come)? == changes.content {
        Ok(collected.changes)
    } else {
        Err(FollowError::Log(
            "its records do not have the content root that it says".to_owned(),
        ))
    }
}
