//! Single entries in the draft: their records and rows, their index terms, their tombstones.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use dirless_directory::encoded::{Attribute, Attributes, put_attribute};
use dirless_directory::{MatchingRule, Schema};
use rusqlite::{Connection, OptionalExtension, Statement, params};

use crate::appender::Appender;
use crate::record::{Fields, Place};
use crate::records::Source;
use crate::sorted::{Sorter, Term};
use crate::{CopyError, index};

/// Length of the prefix of encoded entries.
const PREFIX: usize = 4;
/// Terms of a first generation that are inserted together.
const TOGETHER: usize = 64;
/// Names of which the key is remembered: those of groups come again with each member.
const NAMES: usize = 8192;
/// Values of an attribute that are looked for among them; of more, few come again.
const FEW: usize = 64;
/// The name that creates and changes entries of a copy.
const AUTHOR: &[u8] = b"cn=dirless";

/// What the writer adds to an entry.
pub(crate) struct Stamp<'a> {
    pub(crate) uuid: [u8; 16],
    pub(crate) csn: &'a str,
    pub(crate) created: &'a [u8],
    pub(crate) modified: &'a str,
    pub(crate) has_subordinates: bool,
}

/// The entry with what every entry has. What the publisher gave stays as it is.
pub(crate) fn stamped(attributes: Attributes<'_>, stamp: &Stamp<'_>) -> Vec<u8> {
    let (user, operational) = (attributes.user(), attributes.operational());
    let mut out = Vec::with_capacity(PREFIX + user.len() + operational.len() + 320);
    out.extend_from_slice(&u32::try_from(user.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(user);
    out.extend_from_slice(operational);
    let uuid = crate::uuid::text(stamp.uuid);
    let subordinates: &[u8] = if stamp.has_subordinates { b"TRUE" } else { b"FALSE" };
    let added: [(&str, &[u8]); 7] = [
        ("createTimestamp", stamp.created),
        ("creatorsName", AUTHOR),
        ("entryCSN", stamp.csn.as_bytes()),
        ("entryUUID", uuid.as_bytes()),
        ("hasSubordinates", subordinates),
        ("modifiersName", AUTHOR),
        ("modifyTimestamp", stamp.modified.as_bytes()),
    ];
    for (name, value) in added {
        if dirless_directory::encoded::walk(operational).all(|one| !one.name.eq_ignore_ascii_case(name)) {
            put_attribute(&mut out, name, std::iter::once(value));
        }
    }
    out
}

/// A row that is there, with its entry.
pub(crate) struct Existing {
    pub(crate) id: i64,
    pub(crate) uuid: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) dn: String,
    pub(crate) added: i64,
    pub(crate) canonical: bool,
    pub(crate) attributes: Vec<u8>,
    /// Bytes that it takes in the flat file.
    pub(crate) size: u64,
}

/// The identity of the entry with that key.
pub(crate) fn uuid_at(connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut statement = connection.prepare_cached("SELECT uuid FROM entries WHERE key = ?1")?;
    statement.query_row([key], |row| row.get(0)).optional()
}

impl Existing {
    pub(crate) fn by_key(
        connection: &Connection,
        records: &impl Source,
        key: &[u8],
    ) -> Result<Option<Self>, CopyError> {
        let text = "SELECT id, uuid, key, dn, added, canonical, place FROM entries WHERE key = ?1";
        Self::find(connection, records, text, key)
    }

    pub(crate) fn by_uuid(
        connection: &Connection,
        records: &impl Source,
        uuid: &[u8],
    ) -> Result<Option<Self>, CopyError> {
        let text = "SELECT id, uuid, key, dn, added, canonical, place FROM entries WHERE uuid = ?1";
        Self::find(connection, records, text, uuid)
    }

    fn find(
        connection: &Connection,
        records: &impl Source,
        text: &str,
        value: &[u8],
    ) -> Result<Option<Self>, CopyError> {
        let mut statement = connection.prepare_cached(text)?;
        let mut rows = statement.query([value])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let id = row.get(0)?;
        let whole = records.entry(Place::of_number(row.get(6)?), id)?;
        Ok(Some(Self {
            id,
            uuid: row.get(1)?,
            key: row.get(2)?,
            dn: row.get(3)?,
            added: row.get(4)?,
            canonical: row.get(5)?,
            attributes: whole.attributes,
            size: whole.size,
        }))
    }

    /// Notes in the file of `connection` that it is gone since state `number`.
    pub(crate) fn bury(&self, connection: &Connection, number: i64) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO gone(uuid, key, dn, number, added, created) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                self.uuid,
                self.key,
                self.dn,
                number,
                self.added,
                self.created().unwrap_or_default()
            ])
            .map(drop)
    }

    /// When it was made.
    pub(crate) fn created(&self) -> Option<Vec<u8>> {
        let attributes = Attributes::new(&self.attributes).ok()?;
        attributes
            .attribute("createTimestamp")?
            .values
            .next()
            .map(<[u8]>::to_vec)
    }
}

/// A row to be written.
pub(crate) struct NewRow<'a> {
    pub(crate) id: Option<i64>,
    pub(crate) key: &'a [u8],
    pub(crate) digest: &'a [u8],
    pub(crate) uuid: &'a [u8],
    pub(crate) added: i64,
    pub(crate) changed: i64,
    /// Values that match are spelled alike.
    pub(crate) canonical: bool,
    pub(crate) dn: &'a str,
    /// Attributes that no query shows; empty when there are none.
    pub(crate) secret: &'a [u8],
    pub(crate) attributes: &'a [u8],
}

/// Terms that are inserted by one statement: it stays where it is in the index, for which the next one comes right after.
/// One statement for each looks for its place from the top.
#[derive(Default)]
struct Many {
    keys: Vec<u8>,
    /// Attribute, end of the key, entry.
    terms: Vec<(u32, usize, i64)>,
}

impl Many {
    fn statement(count: usize) -> String {
        let rows = vec!["(?, ?, ?)"; count].join(", ");
        format!("INSERT INTO terms(attribute, key, entry) VALUES {rows}")
    }

    fn take(&mut self, term: Term<'_>) {
        self.keys.extend_from_slice(term.key);
        self.terms.push((term.attribute, self.keys.len(), term.entry));
    }

    fn insert(&mut self, statement: &mut Statement<'_>) -> rusqlite::Result<()> {
        let (mut at, mut start) = (1, 0);
        for (attribute, end, entry) in self.terms.drain(..) {
            statement.raw_bind_parameter(at, attribute)?;
            statement.raw_bind_parameter(at + 1, self.keys.get(start..end))?;
            statement.raw_bind_parameter(at + 2, entry)?;
            (at, start) = (at + 3, end);
        }
        self.keys.clear();
        statement.raw_execute().map(drop)
    }
}

/// An entry in the flat file.
pub(crate) struct Lies {
    pub(crate) id: i64,
    pub(crate) classes: i64,
    pub(crate) place: Place,
}

/// Writes rows and their terms, and remembers the numbers that stand for names and classes.
#[derive(Default)]
pub(crate) struct Rows {
    schema: Schema,
    names: HashMap<String, Option<(i64, MatchingRule)>>,
    secret: HashMap<String, bool>,
    classes: HashMap<Vec<u8>, i64>,
    /// The number of the next entry that has none; none when it was not asked for yet.
    next: Option<i64>,
    /// Keys of names that values are.
    keys: HashMap<Vec<u8>, Vec<u8>>,
    /// Takes the terms of a first generation, to be sorted once.
    sorter: Option<Sorter>,
}

impl Rows {
    pub(crate) fn new(schema: Schema) -> Self {
        Self {
            schema,
            ..Self::default()
        }
    }

    /// From now on terms are kept, until [`Rows::insert_sorted`]. `draft` is the file they will be in.
    pub(crate) fn sort_terms(&mut self, draft: &Path) -> Result<(), CopyError> {
        self.sorter = Some(Sorter::new(draft).map_err(CopyError::file("sort beside", draft))?);
        Ok(())
    }

    /// Inserts the terms that were kept, in the order of their index.
    pub(crate) fn insert_sorted(&mut self, connection: &Connection) -> Result<(), CopyError> {
        let Some(sorter) = self.sorter.take() else {
            return Ok(());
        };
        let mut many = Many::default();
        let mut insert = connection.prepare(&Many::statement(TOGETHER))?;
        sorter.finish(|term| {
            many.take(term);
            if many.terms.len() < TOGETHER {
                return Ok(());
            }
            Ok::<_, CopyError>(many.insert(&mut insert)?)
        })?;
        if many.terms.is_empty() {
            return Ok(());
        }
        let mut insert = connection.prepare(&Many::statement(many.terms.len()))?;
        Ok(many.insert(&mut insert)?)
    }

    /// Parts an entry into what queries show and what they do not; none when there is nothing to hide.
    pub(crate) fn part(&mut self, attributes: Attributes<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut hides = false;
        for one in attributes.iter() {
            if !self.secret.contains_key(one.name) {
                let secret = self.schema.is_secret(one.name);
                self.secret.insert(one.name.to_owned(), secret);
            }
            hides |= self.secret.get(one.name) == Some(&true);
        }
        hides.then(|| {
            let is_secret = |name: &str| self.secret.get(name) == Some(&true);
            let (mut shown, mut hidden) = (Vec::new(), Vec::new());
            attributes.select(&mut shown, |name| !is_secret(name));
            attributes.select(&mut hidden, is_secret);
            (shown, hidden)
        })
    }

    /// Writes an entry and its row; `old` is the one in its place.
    pub(crate) fn write(
        &mut self,
        connection: &Connection,
        records: &mut Appender,
        new: &NewRow<'_>,
        old: Option<&Existing>,
    ) -> Result<(), CopyError> {
        let attributes = Attributes::new(new.attributes)?;
        let id = match new.id {
            Some(id) => id,
            None => self.free_id(connection)?,
        };
        let classes = self.class_set(connection, attributes.attribute("objectClass"))?;
        let place = records.append(&Fields {
            id,
            classes,
            key: new.key,
            dn: new.dn,
            attributes,
            encoded: new.attributes,
            secret: new.secret,
        })?;
        if let Some(old) = old {
            records.forget(old.size);
        }
        self.refer(connection, &Lies { id, classes, place }, new, old)
    }

    /// Writes the row of an entry that is in the flat file.
    pub(crate) fn refer(
        &mut self,
        connection: &Connection,
        lies: &Lies,
        new: &NewRow<'_>,
        old: Option<&Existing>,
    ) -> Result<(), CopyError> {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO entries(id, key, digest, uuid, classes, added, changed, canonical, dn, place)
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                lies.id,
                new.key,
                new.digest,
                new.uuid,
                lies.classes,
                new.added,
                new.changed,
                new.canonical,
                new.dn,
                lies.place.number()
            ])?;
        let attributes = Attributes::new(new.attributes)?;
        let before = old.map(|old| Attributes::new(&old.attributes)).transpose()?;
        let canonical = new.canonical && old.is_none_or(|old| old.canonical);
        self.change_terms(connection, lies.id, before, Some(attributes), canonical)
    }

    fn free_id(&mut self, connection: &Connection) -> Result<i64, CopyError> {
        let next = match self.next {
            Some(next) => next,
            None => connection.query_row("SELECT coalesce(max(id), 0) + 1 FROM entries", [], |row| row.get(0))?,
        };
        self.next = Some(next + 1);
        Ok(next)
    }

    /// Removes a row and its terms.
    pub(crate) fn remove(&mut self, connection: &Connection, old: &Existing) -> Result<(), CopyError> {
        let attributes = Attributes::new(&old.attributes)?;
        self.change_terms(connection, old.id, Some(attributes), None, true)?;
        connection
            .prepare_cached("DELETE FROM entries WHERE id = ?1")?
            .execute([old.id])?;
        Ok(())
    }

    /// Brings the terms of an entry from `before` to `after`, touching only values that differ.
    pub(crate) fn change_terms(
        &mut self,
        connection: &Connection,
        id: i64,
        before: Option<Attributes<'_>>,
        after: Option<Attributes<'_>>,
        canonical: bool,
    ) -> Result<(), CopyError> {
        let of = |attributes: Option<Attributes<'_>>, name: &str| {
            attributes
                .and_then(|attributes| attributes.iter().find(|one| one.name == name))
                .is_some()
        };
        for old in before.iter().flat_map(|attributes| attributes.iter()) {
            if !of(after, old.name) {
                self.change_attribute(connection, id, Some(old), None, canonical)?;
            }
        }
        for new in after.iter().flat_map(|attributes| attributes.iter()) {
            let old = before.and_then(|attributes| attributes.iter().find(|one| one.name == new.name));
            if old.is_none_or(|old| old.encoded != new.encoded) {
                self.change_attribute(connection, id, old, Some(new), canonical)?;
            }
        }
        Ok(())
    }

    fn change_attribute(
        &mut self,
        connection: &Connection,
        id: i64,
        before: Option<Attribute<'_>>,
        after: Option<Attribute<'_>>,
        canonical: bool,
    ) -> Result<(), CopyError> {
        let Some(name) = after.or(before).map(|attribute| attribute.name) else {
            return Ok(());
        };
        let Some((attribute, rule)) = self.attribute(connection, name)? else {
            return Ok(());
        };
        let (Some(old), new) = (before, after) else {
            return self.add_terms(connection, id, attribute, rule, after);
        };
        let held: HashSet<&[u8]> = old.values.collect();
        let wanted: HashSet<&[u8]> = new.into_iter().flat_map(|attribute| attribute.values).collect();
        let mut delete =
            connection.prepare_cached("DELETE FROM terms WHERE attribute = ?1 AND key = ?2 AND entry = ?3")?;
        let mut removed = false;
        for value in held.difference(&wanted) {
            if let Some((key, _)) = index::key(&self.schema, rule, value) {
                removed |= delete.execute(params![attribute, key, id])? > 0;
            }
        }
        let mut insert =
            connection.prepare_cached("INSERT OR IGNORE INTO terms(attribute, key, entry) VALUES(?1, ?2, ?3)")?;
        // Another spelling of a removed value has its key, which must stay.
        let again = removed && !canonical;
        for value in wanted.iter().filter(|value| again || !held.contains(*value)) {
            if let Some((key, _)) = index::key(&self.schema, rule, value) {
                insert.execute(params![attribute, key, id])?;
            }
        }
        Ok(())
    }

    /// Adds the terms of an attribute that was not there.
    fn add_terms(
        &mut self,
        connection: &Connection,
        entry: i64,
        attribute: i64,
        rule: MatchingRule,
        after: Option<Attribute<'_>>,
    ) -> Result<(), CopyError> {
        let values = after.into_iter().flat_map(|attribute| attribute.values);
        if let Some(sorter) = &mut self.sorter {
            let attribute = u32::try_from(attribute).unwrap_or(u32::MAX);
            let known = rule == MatchingRule::DistinguishedName && values.clone().nth(FEW).is_none();
            for value in values {
                if let Some(key) = self.keys.get(value).filter(|_| known) {
                    sorter.push(Term { attribute, key, entry })?;
                } else if let Some((key, _)) = index::key(&self.schema, rule, value) {
                    sorter.push(Term {
                        attribute,
                        key: &key,
                        entry,
                    })?;
                    if known && self.keys.len() < NAMES {
                        self.keys.insert(value.to_vec(), key);
                    }
                }
            }
            return Ok(());
        }
        let keys = values.filter_map(|value| index::key(&self.schema, rule, value).map(|(key, _)| key));
        let mut insert =
            connection.prepare_cached("INSERT OR IGNORE INTO terms(attribute, key, entry) VALUES(?1, ?2, ?3)")?;
        for key in keys {
            insert.execute(params![attribute, key, entry])?;
        }
        Ok(())
    }

    fn attribute(&mut self, connection: &Connection, name: &str) -> Result<Option<(i64, MatchingRule)>, CopyError> {
        if let Some(known) = self.names.get(name) {
            return Ok(*known);
        }
        let found = match index::indexed(&self.schema, name) {
            None => None,
            Some((name, rule)) => {
                let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO attributes(name) VALUES(?1)")?;
                insert.execute([&name])?;
                let mut select = connection.prepare_cached("SELECT id FROM attributes WHERE name = ?1")?;
                Some((select.query_row([&name], |row| row.get(0))?, rule))
            }
        };
        self.names.insert(name.to_owned(), found);
        Ok(found)
    }

    fn class_set(&mut self, connection: &Connection, attribute: Option<Attribute<'_>>) -> Result<i64, CopyError> {
        let raw = attribute.map_or(&[][..], |attribute| attribute.encoded);
        if let Some(known) = self.classes.get(raw) {
            return Ok(*known);
        }
        let classes = index::classes(&self.schema, attribute);
        let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO class_sets(classes) VALUES(?1)")?;
        insert.execute([&classes])?;
        let mut select = connection.prepare_cached("SELECT id FROM class_sets WHERE classes = ?1")?;
        let id = select.query_row([&classes], |row| row.get(0))?;
        self.classes.insert(raw.to_vec(), id);
        Ok(id)
    }
}
