//! The next generation, made of single changes.

use std::collections::BTreeSet;
use std::path::Path;

use dirless_directory::encoded::{Attributes, put_attribute, walk};
use dirless_directory::{DnKey, Schema};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use crate::draft::{Draft, Record, Summary, digest, stamps};
use crate::files::open_generation;
use crate::record::{Fields, Place};
use crate::records::Source;
use crate::{CopyError, Target};

/// The next generation of a copy, made of what changes in it: it costs what changes and nothing for the
/// entries that stay. Dropped before it is finished, it leaves no trace.
///
/// [`Draft`] makes the same generation of all entries; either may follow the other.
#[derive(Debug)]
pub struct Edit {
    draft: Draft,
    /// Keys of entries below which one came or went.
    parents: BTreeSet<DnKey>,
}

impl Edit {
    /// Begins the generation after the one at `path`.
    ///
    /// # Errors
    /// When there is none, or a file cannot be read or written.
    pub fn begin(path: &Path, schema: Schema, now: Timestamp) -> Result<Self, CopyError> {
        let before = open_generation(path)?;
        let mut draft = Draft::after(path, Some(before), schema, "", now)?;
        draft.keep_the_rest()?;
        Ok(Self {
            draft,
            parents: BTreeSet::new(),
        })
    }

    /// Takes an entry: a new one, one that differs, or one of another name than the entry of its
    /// identity had. One that is there as it is changes nothing. Its parent is put before it.
    ///
    /// # Errors
    /// When the file cannot be written; the edit is of no more use then.
    pub fn put(&mut self, record: &Record<'_>) -> Result<(), CopyError> {
        let key = record.key.as_bytes();
        let below = self.has_below(key)?;
        let digest = digest(record.dn, &record.uuid, record.attributes, below);
        let held = self.draft.held(key)?;
        if held.as_ref().is_some_and(|(_, held)| *held == digest) {
            return Ok(());
        }
        let moved_from = self.draft.key_of(&record.uuid)?.filter(|old| old != key);
        self.draft.write(&record.into(), &digest, below)?;
        if held.is_none() {
            self.parents.extend(record.key.parent());
        }
        self.parents
            .extend(moved_from.and_then(|old| DnKey::from(old).parent()));
        Ok(())
    }

    /// Removes the entry with that key; false when there is none. Entries below it go before it.
    ///
    /// # Errors
    /// When there are entries below it, or the file cannot be written; the edit is of no more use then.
    pub fn remove(&mut self, key: &DnKey) -> Result<bool, CopyError> {
        let bytes = key.as_bytes();
        if self.draft.held(bytes)?.is_none() {
            return Ok(false);
        }
        if self.has_below(bytes)? {
            return Err(CopyError::Order(String::from_utf8_lossy(bytes).into_owned()));
        }
        self.draft.delete(bytes)?;
        self.parents.extend(key.parent());
        Ok(true)
    }

    /// Puts the generation in place. `content` is what [`Draft::content`] will tell of it.
    ///
    /// # Errors
    /// When a file cannot be written; the generation before stays then.
    pub fn finish(mut self, content: &str) -> Result<Summary, CopyError> {
        for parent in std::mem::take(&mut self.parents) {
            self.restamp(parent.as_bytes())?;
        }
        self.draft.finish(content)
    }

    fn has_below(&self, key: &[u8]) -> Result<bool, CopyError> {
        let end = DnKey::from(key.to_vec()).subtree_end();
        let mut statement = self
            .draft
            .next
            .prepare_cached("SELECT 1 FROM entries WHERE key > ?1 AND key < ?2 LIMIT 1")?;
        Ok(statement.exists(params![key, end])?)
    }

    /// Brings `hasSubordinates` of an entry to what is below it now.
    fn restamp(&mut self, key: &[u8]) -> Result<(), CopyError> {
        let below = self.has_below(key)?;
        let row = self
            .draft
            .next
            .prepare_cached("SELECT id, place, canonical, classes, dn FROM entries WHERE key = ?1")?
            .query_row([key], |row| {
                let (id, place): (i64, i64) = (row.get(0)?, row.get(1)?);
                let rest: (bool, i64, String) = (row.get(2)?, row.get(3)?, row.get(4)?);
                Ok((id, Place::of_number(place), rest))
            })
            .optional()?;
        let Some((id, place, (canonical, classes, dn))) = row else {
            return Ok(());
        };
        let whole = self.draft.records.entry(place, id)?;
        let bytes = whole.attributes;
        let old = Attributes::new(&bytes)?;
        let told: &[u8] = if below { b"TRUE" } else { b"FALSE" };
        let held = old.attribute("hasSubordinates").and_then(|mut held| held.values.next());
        if held == Some(told) {
            return Ok(());
        }
        let draft = &mut self.draft;
        draft.number += 1;
        draft.summary.changed += 1;
        let (modified, csn) = stamps(draft.time, draft.number - draft.start);
        let stamps: [(&str, &[u8]); 3] = [
            ("entryCSN", csn.as_bytes()),
            ("hasSubordinates", told),
            ("modifyTimestamp", modified.as_bytes()),
        ];
        let mut new = Vec::with_capacity(bytes.len() + 8);
        new.extend_from_slice(bytes.get(..bytes.len() - old.operational().len()).unwrap_or_default());
        for one in walk(old.operational()) {
            match stamps.iter().find(|(name, _)| name.eq_ignore_ascii_case(one.name)) {
                Some((name, value)) => put_attribute(&mut new, name, std::iter::once(*value)),
                None => new.extend_from_slice(one.encoded),
            }
        }
        let (old, attributes) = (Attributes::new(&bytes)?, Attributes::new(&new)?);
        let place = draft.records.append(&Fields {
            id,
            classes,
            key,
            dn: &dn,
            attributes,
            encoded: &new,
            secret: &whole.secret,
        })?;
        draft.records.forget(whole.size);
        // Of what the publisher gave it is known no more what it was: given again, it is written again.
        draft
            .next
            .prepare_cached("UPDATE entries SET place = ?2, changed = ?3, digest = x'' WHERE id = ?1")?
            .execute(params![id, place.number(), draft.number])?;
        draft
            .rows
            .change_terms(&draft.next, id, Some(old), Some(attributes), canonical)
    }
}

impl Target for Edit {
    fn put(&mut self, record: &Record<'_>) -> Result<(), CopyError> {
        Self::put(self, record)
    }
}

#[cfg(test)]
mod tests;
