//! What look-ups go by, kept in memory: which entries have which value of a name, a number or a membership, and
//! where each entry lies in the flat file.
//!
//! It is read from the index in the file when a server opens it, and brought along from generation to
//! generation by what changed. Asking it costs one memory access; asking the file is a descent of a tree
//! within SQLite, a third of what a look-up took, and another one for the entry. The entries themselves stay in the
//! flat file, one call to the system away.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use dirless_directory::encoded::Attributes;
use rusqlite::{OptionalExtension, params};

use crate::layout::{self, meta};
use crate::reader::{Found, Reader};
use crate::record::Place;
use crate::records::Source;
use crate::{CopyError, index};

/// The attributes that programs look accounts and groups up by.
const ATTRIBUTES: [&str; 8] = [
    "uid",
    "uidNumber",
    "gidNumber",
    "cn",
    "mail",
    "member",
    "memberUid",
    "uniqueMember",
];
/// Values that are kept at most: 40 MB of them.
const MOST: usize = 2_500_000;
/// Stands for the attribute whose values are the keys of entries; those in the index are numbered from 1.
const KEYS: i64 = 0;
/// Entries of one value that are kept at most. More would lie in a row where other values are looked for.
const FREQUENT: usize = 64;
/// Of this many values one may be of a changed entry before all are read anew.
const CHANGED: usize = 20;

/// Values of one generation, in memory.
#[derive(Clone)]
pub struct Hot {
    /// Numbers of the attributes in the index.
    attributes: HashMap<i64, String>,
    base: Arc<Base>,
    /// Where each entry lies, by its number; 0 for none.
    places: Arc<Vec<i64>>,
    /// Where those lie of which that is no longer the truth.
    moved: HashMap<u32, i64>,
    /// Entries of which the base no longer tells the truth.
    stale: HashSet<u32>,
    /// Values of those that are there now.
    newer: HashMap<u64, Vec<u32>>,
    newer_count: usize,
}

impl std::fmt::Debug for Hot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Hot({} values, {} newer)", self.base.count, self.newer_count)
    }
}

/// A hash table without removal: where a value belongs is told by one hash, which one it is by another,
/// so that two values are the same one by accident less often than a disk errs. Both have a key of their
/// own in each process: nobody can make values that meet.
struct Base {
    place: RandomState,
    mark: RandomState,
    slots: Vec<Slot>,
    count: usize,
    /// Values that too many entries have: the file knows them.
    frequent: HashSet<u64>,
    /// The value that was inserted last, and how many entries had it.
    last: (u64, usize),
}

/// A place in the table: mark and entry lie side by side, for one look at memory.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// The halves of the mark, which as one number would take more room.
    mark: [u32; 2],
    /// Entries begin at 1; 0 is a free place.
    entry: u32,
}

fn halves(mark: u64) -> [u32; 2] {
    [(mark >> 32) as u32, mark as u32]
}

impl Base {
    fn new(count: usize) -> Self {
        // Three of four places are taken at most.
        let places = (count + count / 3 + 8).next_multiple_of(8);
        Self {
            place: RandomState::new(),
            mark: RandomState::new(),
            slots: vec![Slot::default(); places],
            count: 0,
            frequent: HashSet::new(),
            last: (0, 0),
        }
    }

    fn first_place(&self, attribute: i64, key: &[u8]) -> usize {
        // The high half of the product is even over all places, whatever their number.
        let wide = u128::from(self.place.hash_one((attribute, key))) * self.slots.len() as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    fn mark(&self, attribute: i64, key: &[u8]) -> u64 {
        self.mark.hash_one((attribute, key))
    }

    /// Entries of one value come one after the other.
    fn insert(&mut self, attribute: i64, key: &[u8], entry: u32) {
        let (mut at, mark) = (self.first_place(attribute, key), self.mark(attribute, key));
        let before = if self.last.0 == mark { self.last.1 } else { 0 };
        self.last = (mark, before + 1);
        if before >= FREQUENT {
            self.frequent.insert(mark);
            return;
        }
        while self.slots.get(at).is_some_and(|held| held.entry != 0) {
            at = (at + 1) % self.slots.len();
        }
        if let Some(slot) = self.slots.get_mut(at) {
            let mark = halves(mark);
            *slot = Slot { mark, entry };
            self.count += 1;
        }
    }

    /// Shows the entries that have a value, until `visit` says that it is enough.
    fn find(&self, attribute: i64, key: &[u8], mark: u64, mut visit: impl FnMut(u32) -> bool) {
        let mut at = self.first_place(attribute, key);
        let mark = halves(mark);
        while let Some(slot) = self.slots.get(at) {
            if slot.entry == 0 || (slot.mark == mark && !visit(slot.entry)) {
                return;
            }
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
    }
}

impl Hot {
    /// Reads the values of a generation; none when there are too many to be kept.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(reader: &Reader) -> Result<Option<Self>, CopyError> {
        let mut attributes = HashMap::new();
        let mut count = 0_usize;
        for name in ATTRIBUTES {
            let number = index::indexed(&reader.schema, name).and_then(|(oid, _)| reader.attributes.get(&oid));
            if let Some(number) = number {
                let held: i64 = reader.connection.query_row(
                    "SELECT count(*) FROM terms WHERE attribute = ?1",
                    [number],
                    |row| row.get(0),
                )?;
                count += usize::try_from(held).unwrap_or(usize::MAX);
                attributes.insert(*number, name.to_owned());
            }
        }
        let entries = layout::number(&reader.connection, meta::ENTRIES)?;
        count = count.saturating_add(usize::try_from(entries).unwrap_or(usize::MAX));
        if count > MOST {
            return Ok(None);
        }
        let mut base = Base::new(count);
        let Some(places) = places(reader, &mut base)? else {
            return Ok(None);
        };
        for number in attributes.keys() {
            let mut statement = reader
                .connection
                .prepare("SELECT key, entry FROM terms WHERE attribute = ?1")?;
            let mut rows = statement.query([number])?;
            while let Some(row) = rows.next()? {
                let Ok(entry) = u32::try_from(row.get::<_, i64>(1)?) else {
                    return Ok(None);
                };
                let key = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
                base.insert(*number, key, entry);
            }
        }
        Ok(Some(Self {
            attributes,
            base: Arc::new(base),
            places: Arc::new(places),
            moved: HashMap::new(),
            stale: HashSet::new(),
            newer: HashMap::new(),
            newer_count: 0,
        }))
    }

    /// The values of the generation that `new` reads, made of these, which are those of `old`; none when
    /// that is more work than reading all.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn brought_to(&self, old: &Reader, new: &Reader) -> Result<Option<Self>, CopyError> {
        // Under another schema, or in another flat file, everything has another place.
        let schema = |reader: &Reader| reader.schema().extension_text();
        let same = old.position().lineage == new.position().lineage && old.records.is_same(&new.records);
        if !same || schema(old) != schema(new) {
            return Ok(None);
        }
        let Some(changes) = new.changes(old.position().number)? else {
            return Ok(None);
        };
        let mut next = self.clone();
        // An attribute that had no values before has a number only now.
        for name in ATTRIBUTES {
            let number = index::indexed(&new.schema, name).and_then(|(oid, _)| new.attributes.get(&oid));
            if let Some(number) = number {
                next.attributes.insert(*number, name.to_owned());
            }
        }
        for change in &changes {
            if let Some(entry) = entry_of(old, &change.uuid)? {
                next.forget(entry);
            }
        }
        for change in &changes {
            if !next.learn(new, &change.uuid)? || next.newer_count > self.base.count / CHANGED + CHANGED {
                return Ok(None);
            }
        }
        Ok(Some(next))
    }

    fn forget(&mut self, entry: u32) {
        self.stale.insert(entry);
        self.moved.remove(&entry);
        let mut gone = 0;
        self.newer.retain(|_, entries| {
            let before = entries.len();
            entries.retain(|held| *held != entry);
            gone += before - entries.len();
            !entries.is_empty()
        });
        self.newer_count -= gone;
    }

    /// Takes up an entry as it is now; false when it cannot be.
    fn learn(&mut self, reader: &Reader, uuid: &[u8; 16]) -> Result<bool, CopyError> {
        let mut statement = reader
            .connection
            .prepare_cached("SELECT id, place, key FROM entries WHERE uuid = ?1")?;
        let mut rows = statement.query([uuid.as_slice()])?;
        let Some(row) = rows.next()? else {
            return Ok(true);
        };
        let Ok(entry) = u32::try_from(row.get::<_, i64>(0)?) else {
            return Ok(false);
        };
        let place = row.get(1)?;
        let key = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        let bytes = reader
            .records
            .entry(Place::of_number(place), i64::from(entry))?
            .attributes;
        self.stale.insert(entry);
        self.moved.insert(entry, place);
        self.newer.entry(self.base.mark(KEYS, key)).or_default().push(entry);
        self.newer_count += 1;
        for held in Attributes::new(&bytes)?.iter() {
            let Some((oid, rule)) = index::indexed(&reader.schema, held.name) else {
                continue;
            };
            let Some(number) = reader.attributes.get(&oid) else {
                continue;
            };
            if !self.attributes.contains_key(number) {
                continue;
            }
            for value in held.values {
                if let Some((key, _)) = index::key(&reader.schema, rule, value) {
                    let mark = self.base.mark(*number, &key);
                    self.newer.entry(mark).or_default().push(entry);
                    self.newer_count += 1;
                }
            }
        }
        Ok(true)
    }

    /// The entry with that key.
    pub(crate) fn find(&self, key: &[u8]) -> Option<Found> {
        let mut ids = Vec::new();
        self.collect(KEYS, key, 0, &mut ids);
        let id = ids.first().copied()?;
        Some(Found {
            id,
            place: self.place(id)?,
        })
    }

    /// Where the entry of that number lies.
    pub(crate) fn place(&self, id: i64) -> Option<Place> {
        let entry = u32::try_from(id).ok()?;
        let place = if self.stale.contains(&entry) {
            self.moved.get(&entry)
        } else {
            self.places.get(usize::try_from(entry).ok()?)
        };
        place.copied().filter(|place| *place != 0).map(Place::of_number)
    }

    /// Are all values of these attributes kept?
    pub(crate) fn has(&self, attributes: &[i64]) -> bool {
        attributes.iter().all(|number| self.attributes.contains_key(number))
    }

    /// Adds the entries that have a value to `ids`, until there are more than `most`; false when only the file tells.
    pub(crate) fn collect(&self, attribute: i64, key: &[u8], most: usize, ids: &mut Vec<i64>) -> bool {
        let mark = self.base.mark(attribute, key);
        if self.base.frequent.contains(&mark) {
            return false;
        }
        self.base.find(attribute, key, mark, |entry| {
            if !self.stale.contains(&entry) {
                ids.push(i64::from(entry));
            }
            ids.len() <= most
        });
        if let Some(newer) = self.newer.get(&mark) {
            let room = (most + 1).saturating_sub(ids.len());
            ids.extend(newer.iter().take(room).map(|entry| i64::from(*entry)));
        }
        true
    }
}

/// Where the entries lie, and their keys into `base`; none when their numbers are too large or full of gaps.
fn places(reader: &Reader, base: &mut Base) -> Result<Option<Vec<i64>>, CopyError> {
    let last: i64 = reader
        .connection
        .query_row("SELECT coalesce(max(id), 0) FROM entries", [], |row| row.get(0))?;
    let Some(count) = usize::try_from(last).ok().filter(|last| *last < MOST) else {
        return Ok(None);
    };
    let mut places = vec![0; count + 1];
    let mut statement = reader.connection.prepare("SELECT id, place, key FROM entries")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(entry) = u32::try_from(row.get::<_, i64>(0)?) else {
            return Ok(None);
        };
        if let Some(place) = places.get_mut(entry as usize) {
            *place = row.get(1)?;
        }
        let key = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        base.insert(KEYS, key, entry);
    }
    Ok(Some(places))
}

fn entry_of(reader: &Reader, uuid: &[u8; 16]) -> Result<Option<u32>, CopyError> {
    let mut statement = reader
        .connection
        .prepare_cached("SELECT id FROM entries WHERE uuid = ?1")?;
    let found: Option<i64> = statement
        .query_row(params![uuid.as_slice()], |row| row.get(0))
        .optional()?;
    Ok(found.and_then(|id| u32::try_from(id).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_values_are_found_and_no_others() {
        let mut base = Base::new(10_000);
        for entry in 1..=10_000_u32 {
            base.insert(7, format!("key{}", entry / 2).as_bytes(), entry);
        }
        assert!(base.frequent.is_empty());
        for entry in 1..=1000_u32 {
            base.insert(9, b"everybody has it", entry);
        }
        let mark = base.mark(9, b"everybody has it");
        assert!(base.frequent.len() == 1 && base.frequent.contains(&mark));
        assert_eq!(base.count, 10_000 + FREQUENT);
        for number in 0..6000_u32 {
            let key = format!("key{number}");
            let find = |attribute| {
                let mut found = Vec::new();
                base.find(
                    attribute,
                    key.as_bytes(),
                    base.mark(attribute, key.as_bytes()),
                    |entry| {
                        found.push(entry);
                        true
                    },
                );
                found.sort_unstable();
                found
            };
            let expected: Vec<u32> = (1..=10_000).filter(|entry| entry / 2 == number).collect();
            assert_eq!(find(7), expected, "{key}");
            assert!(find(8).is_empty());
        }
        assert!(Base::new(0).count == 0);
        Base::new(0).find(1, b"x", 2, |_| panic!("nothing is there"));
    }
}
