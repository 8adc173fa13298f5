//! Entries of the tree among the records: which of them stand, and what else has to do with one that changed.
//!
//! Of the entries of one name that of the first source stands. What depends on the order in which records stand in a
//! document (two entries of one source under one name, an identity that several entries have) only a whole run can tell.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use dirless_copy::Overlay;
use dirless_directory::{Dn, DnKey, Schema};
use dirless_model::snapshot::{Joined, Part, RawEntry};
use rusqlite::params;

use super::facts::{EntryFacts, Facts};
use super::{Change, PartialError, Store, StoreError};
use crate::pipeline::drops::Drops;
use crate::pipeline::entries;

pub(super) const TABLES: &str = "
    CREATE TABLE entries (record INTEGER PRIMARY KEY, source INTEGER NOT NULL, key BLOB, uuid BLOB, account INTEGER NOT NULL);
    CREATE INDEX entries_key ON entries (key, source);
    CREATE INDEX entries_account ON entries (account, key, source);
    CREATE INDEX entries_uuid ON entries (uuid, key);
";

/// How the sources of the tree are read.
#[derive(Debug)]
pub(crate) struct TreeRules {
    schema: Schema,
    base: Dn,
    base_key: DnKey,
    /// The places of the sources of the tree.
    places: Range<u8>,
    /// Those that are for other hosts.
    elsewhere: BTreeSet<u8>,
    /// Entries are laid in here to see what they are.
    scratch: RefCell<Overlay>,
}

impl TreeRules {
    /// For a copy that begins at `base`; none when that is no name under `schema`.
    #[must_use]
    pub(crate) fn new(schema: Schema, base: Dn, places: Range<u8>) -> Option<Self> {
        Some(Self {
            base_key: schema.dn_key(&base)?,
            schema,
            base,
            places,
            elsewhere: BTreeSet::new(),
            scratch: RefCell::default(),
        })
    }

    pub(super) fn has(&self, source: u8) -> bool {
        self.places.contains(&source)
    }

    /// What there is to know of a record of a source of the tree.
    pub(super) fn facts(&self, source: u8, part: Part, bytes: &[u8]) -> Result<Facts, StoreError> {
        if part != Part::Entry || self.elsewhere.contains(&source) {
            return Ok(Facts::Nothing);
        }
        let entry: RawEntry = serde_json::from_slice(bytes).map_err(|_other| StoreError::Odd)?;
        let mut overlay = self.scratch.borrow_mut();
        overlay.clear();
        if entries::lay(&mut overlay, &self.schema, &self.base_key, entry).is_err() {
            return Ok(Facts::Entry(EntryFacts::default()));
        }
        let facts = overlay.names().next().map(|named| EntryFacts {
            key: Some(DnKey::from(named.key.to_vec())),
            uuid: named.given,
            is_account: named.is_account,
        });
        Ok(Facts::Entry(facts.unwrap_or_default()))
    }
}

/// What changed of the tree.
#[derive(Debug, Default)]
pub(crate) struct TreeChange {
    /// Keys of entries that came, went or differ.
    pub(crate) keys: BTreeSet<DnKey>,
    /// Identities that these have or had.
    uuids: BTreeSet<[u8; 16]>,
    /// What was left out of the records before and is now, for each step.
    pub(crate) dropped: Vec<(Drops, Drops)>,
    /// How many entries had the name of one in an earlier source before, and have now.
    pub(crate) twice: (usize, usize),
}

impl TreeChange {
    /// Puts `changes` of the source called `name` into `store`, and notes what they touch.
    ///
    /// # Errors
    /// When only a run over everything can tell.
    pub(crate) fn take(&mut self, store: &Store, name: &str, changes: Vec<Change>) -> Result<(), PartialError> {
        let Some(rules) = &store.tree else {
            return Err(PartialError::Unfit("it is not known how the tree is read".to_owned()));
        };
        let (mut old, mut new) = (Joined::default(), Joined::default());
        let mut keys = BTreeSet::new();
        let mut steps = Vec::new();
        for change in changes {
            let facts = |bytes: &[u8]| store.facts(change.source, change.part, &change.key, bytes);
            let held = store.get(change.source, change.part, &change.key)?;
            let before = held.as_deref().map(facts).transpose()?;
            let after = change.bytes.as_deref().map(facts).transpose()?;
            for (facts, bytes, joined) in [(&before, &held, &mut old), (&after, &change.bytes, &mut new)] {
                if let (Some(Facts::Entry(entry)), Some(bytes)) = (facts, bytes) {
                    joined.add(Part::Entry, bytes);
                    keys.extend(entry.key.clone());
                    self.uuids.extend(entry.uuid);
                }
            }
            steps.push((change, before));
        }
        self.twice.0 += store.shadowed(&keys)?;
        for (change, before) in steps {
            let Change {
                source,
                part,
                key,
                bytes,
            } = change;
            match (bytes, before) {
                (Some(bytes), _) => store.put(source, part, &key, &bytes)?,
                (None, Some(facts)) => store.remove(&super::Record {
                    source,
                    part,
                    key,
                    bytes: Vec::new(),
                    facts,
                })?,
                (None, None) => {}
            }
        }
        self.twice.1 += store.shadowed(&keys)?;
        self.keys.extend(keys);
        let dropped = |joined: Joined| {
            let part = entries::part(name, &joined.finish(), &rules.schema, &rules.base);
            let part = part.map_err(|error| PartialError::Unfit(error.reason))?;
            Ok::<_, PartialError>(part.1)
        };
        self.dropped.push((dropped(old)?, dropped(new)?));
        Ok(())
    }

    /// Does the identity that an entry has not depend on others, beyond those that changed?
    ///
    /// # Errors
    /// When it does.
    pub(in crate::pipeline) fn check(&self, store: &Store) -> Result<(), PartialError> {
        for uuid in &self.uuids {
            if store.keys_of(uuid)?.iter().any(|key| !self.keys.contains(key)) {
                return Err(twice());
            }
        }
        store.check_identities(self.uuids.iter().copied())
    }
}

fn twice() -> PartialError {
    PartialError::Unfit("several entries have one entryUUID".to_owned())
}

impl Store {
    /// From now on reads records of sources of the tree by `rules`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn with_tree(mut self, mut rules: TreeRules) -> Result<Self, StoreError> {
        for place in rules.places.clone() {
            if self.note(&note_of_elsewhere(place))?.is_some() {
                rules.elsewhere.insert(place);
            }
        }
        self.tree = Some(rules);
        Ok(self)
    }

    /// Notes that a source, all of which is in the store, is for other hosts.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn leave_out(&self, source: u8) -> Result<(), StoreError> {
        self.set_note(&note_of_elsewhere(source), "-")?;
        self.db.execute("DELETE FROM entries WHERE source = ?1", [source])?;
        Ok(())
    }

    pub(super) fn put_entry(&self, record: i64, source: u8, entry: &EntryFacts) -> Result<(), StoreError> {
        let key = entry.key.as_ref().map(DnKey::as_bytes);
        let uuid = entry.uuid.as_ref().map(<[u8; 16]>::as_slice);
        self.db
            .prepare_cached("INSERT OR REPLACE INTO entries VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![record, source, key, uuid, entry.is_account])?;
        Ok(())
    }

    /// An entry is about to go, or to be another one.
    pub(super) fn forget_size(&self, source: u8, part: Part, key: &[u8]) -> Result<(), StoreError> {
        if part == Part::Entry {
            let held = self.get(source, part, key)?.map_or(0, |held| held.len() as u64);
            self.size.set(self.size.get().saturating_sub(held));
        }
        Ok(())
    }

    /// The entries of a name, as they travel, that of the first source first.
    ///
    /// # Errors
    /// When one source has two.
    pub(in crate::pipeline) fn entries_at(&self, key: &DnKey) -> Result<Vec<(u8, Vec<u8>)>, PartialError> {
        let mut select = self.db.prepare_cached(
            "SELECT entries.source, bytes FROM entries JOIN records ON id = record WHERE entries.key = ?1 ORDER BY 1",
        ).map_err(StoreError::from)?;
        let found = select
            .query_map([key.as_bytes()], |row| Ok((row.get::<_, u8>(0)?, row.get(1)?)))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(StoreError::from)?;
        if found
            .windows(2)
            .any(|two| matches!(two, [one, other] if one.0 == other.0))
        {
            return Err(PartialError::Unfit(
                "two entries of one source have one name".to_owned(),
            ));
        }
        Ok(found)
    }

    /// The first entry below a name that stands and is no account.
    pub(in crate::pipeline) fn first_below(&self, key: &DnKey) -> Result<Option<DnKey>, StoreError> {
        let mut select = self.db.prepare_cached(
            "SELECT key, source FROM entries WHERE account = 0 AND key > ?1 AND key < ?2 ORDER BY key, source",
        )?;
        let mut earlier = self
            .db
            .prepare_cached("SELECT 1 FROM entries WHERE key = ?1 AND source < ?2")?;
        let mut rows = select.query(params![key.as_bytes(), key.subtree_end()])?;
        while let Some(row) = rows.next()? {
            let (key, source): (Vec<u8>, u8) = (row.get(0)?, row.get(1)?);
            if !earlier.exists(params![key, source])? {
                return Ok(Some(DnKey::from(key)));
            }
        }
        Ok(None)
    }

    /// How many entries of these names have the name of one in an earlier source.
    fn shadowed(&self, keys: &BTreeSet<DnKey>) -> Result<usize, StoreError> {
        let mut count = self
            .db
            .prepare_cached("SELECT max(count(*) - 1, 0) FROM entries WHERE key = ?1")?;
        let mut sum = 0;
        for key in keys {
            sum += count.query_row([key.as_bytes()], |row| row.get::<_, u32>(0))? as usize;
        }
        Ok(sum)
    }

    /// Is each of these the identity of entries of one name?
    ///
    /// # Errors
    /// When one is not: which entry has it goes by their order.
    pub(in crate::pipeline) fn check_identities(
        &self,
        uuids: impl Iterator<Item = [u8; 16]>,
    ) -> Result<(), PartialError> {
        for uuid in uuids {
            if self.keys_of(&uuid)?.len() > 1 {
                return Err(twice());
            }
        }
        Ok(())
    }

    /// Names of the entries to which sources gave this identity, two at most.
    fn keys_of(&self, uuid: &[u8; 16]) -> Result<Vec<DnKey>, StoreError> {
        let mut select = self
            .db
            .prepare_cached("SELECT DISTINCT key FROM entries WHERE uuid = ?1 LIMIT 2")?;
        let keys = select.query_map([uuid.as_slice()], |row| row.get::<_, Vec<u8>>(0))?;
        Ok(keys.map(|key| key.map(DnKey::from)).collect::<Result<_, _>>()?)
    }

    /// Have the entries come to take so much room that a whole run may refuse them?
    pub(in crate::pipeline) fn is_large(&self) -> bool {
        // Laid into memory, an entry takes its name twice and the lengths of its values beside its bytes.
        self.size.get() > (entries::MOST / 2) as u64
    }
}

fn note_of_elsewhere(place: u8) -> String {
    format!("elsewhere {place}")
}
