//! Single entries in the draft: their rows, their index terms, their tombstones.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use dirless_directory::encoded::{Attribute, Attributes, EncodedError, put_attribute};
use dirless_directory::{MatchingRule, Schema};
use rusqlite::{Connection, OptionalExtension, params};

use crate::sorted::{Sorter, Term};
use crate::{CopyError, index};

/// Length of the prefix of encoded entries.
const PREFIX: usize = 4;
/// Bytes of an attribute from which on it is kept apart.
const LARGE: usize = 1024;
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

/// A row that is there.
pub(crate) struct Existing {
    pub(crate) id: i64,
    pub(crate) uuid: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) dn: String,
    pub(crate) added: i64,
    pub(crate) canonical: bool,
    pub(crate) attributes: Vec<u8>,
}

/// The identity of the entry with that key.
pub(crate) fn uuid_at(connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut statement = connection.prepare_cached("SELECT uuid FROM entries WHERE key = ?1")?;
    statement.query_row([key], |row| row.get(0)).optional()
}

impl Existing {
    pub(crate) fn by_key(connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<Self>> {
        let text = "SELECT id, uuid, key, dn, added, canonical, attributes, large FROM entries WHERE key = ?1";
        Self::find(connection, text, key)
    }

    pub(crate) fn by_uuid(connection: &Connection, uuid: &[u8]) -> rusqlite::Result<Option<Self>> {
        let text = "SELECT id, uuid, key, dn, added, canonical, attributes, large FROM entries WHERE uuid = ?1";
        Self::find(connection, text, uuid)
    }

    fn find(connection: &Connection, text: &str, value: &[u8]) -> rusqlite::Result<Option<Self>> {
        let mut statement = connection.prepare_cached(text)?;
        statement
            .query_row([value], |row| {
                Ok(Self {
                    id: row.get(0)?,
                    uuid: row.get(1)?,
                    key: row.get(2)?,
                    dn: row.get(3)?,
                    added: row.get(4)?,
                    canonical: row.get(5)?,
                    attributes: joined(row.get_ref(6)?.as_blob()?, row.get_ref(7)?.as_blob()?).unwrap_or_default(),
                })
            })
            .optional()
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

/// An entry with its large attributes apart.
struct Apart<'a> {
    /// Names of the large ones, a space between two.
    names: String,
    small: Cow<'a, [u8]>,
    large: Vec<u8>,
}

impl<'a> Apart<'a> {
    fn of(attributes: Attributes<'a>, whole: &'a [u8]) -> Self {
        let names: Vec<&str> = attributes
            .iter()
            .filter(|one| one.encoded.len() > LARGE)
            .map(|one| one.name)
            .collect();
        if names.is_empty() {
            return Self {
                names: String::new(),
                small: Cow::Borrowed(whole),
                large: Vec::new(),
            };
        }
        let (mut small, mut large) = (Vec::new(), Vec::new());
        attributes.select(&mut small, |name| !names.contains(&name));
        attributes.select(&mut large, |name| names.contains(&name));
        Self {
            names: names.join(" "),
            small: Cow::Owned(small),
            large,
        }
    }
}

/// The whole entry again.
pub(crate) fn joined(small: &[u8], large: &[u8]) -> Result<Vec<u8>, EncodedError> {
    if large.is_empty() {
        return Ok(small.to_vec());
    }
    let parts = [Attributes::new(small)?, Attributes::new(large)?];
    let user: usize = parts.iter().map(|part| part.user().len()).sum();
    let mut out = Vec::with_capacity(small.len() + large.len());
    out.extend_from_slice(&u32::try_from(user).unwrap_or(u32::MAX).to_be_bytes());
    for part in parts {
        out.extend_from_slice(part.user());
    }
    for part in parts {
        out.extend_from_slice(part.operational());
    }
    Ok(out)
}

/// Writes rows and their terms, and remembers the numbers that stand for names and classes.
#[derive(Default)]
pub(crate) struct Rows {
    schema: Schema,
    names: HashMap<String, Option<(i64, MatchingRule)>>,
    secret: HashMap<String, bool>,
    classes: HashMap<Vec<u8>, i64>,
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
        let mut insert = connection.prepare("INSERT INTO terms(attribute, key, entry) VALUES(?1, ?2, ?3)")?;
        sorter.finish(|term| {
            insert.execute(params![term.attribute, term.key, term.entry])?;
            Ok(())
        })
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

    /// Writes a row; `old` is the one in its place.
    pub(crate) fn write(
        &mut self,
        connection: &Connection,
        new: &NewRow<'_>,
        old: Option<&Existing>,
    ) -> Result<(), CopyError> {
        let attributes = Attributes::new(new.attributes)?;
        let classes = self.class_set(connection, attributes.attribute("objectClass"))?;
        let apart = Apart::of(attributes, new.attributes);
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO entries(id, key, digest, uuid, classes, added, changed, canonical, dn, secret,
                 large_names, attributes, large) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute(params![
                new.id,
                new.key,
                new.digest,
                new.uuid,
                classes,
                new.added,
                new.changed,
                new.canonical,
                new.dn,
                new.secret,
                apart.names,
                apart.small,
                apart.large
            ])?;
        let id = new.id.unwrap_or_else(|| connection.last_insert_rowid());
        let before = old.map(|old| Attributes::new(&old.attributes)).transpose()?;
        let canonical = new.canonical && old.is_none_or(|old| old.canonical);
        self.change_terms(connection, id, before, Some(attributes), canonical)
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
        let keys = values.filter_map(|value| index::key(&self.schema, rule, value).map(|(key, _)| key));
        if let Some(sorter) = &mut self.sorter {
            let attribute = u32::try_from(attribute).unwrap_or(u32::MAX);
            for key in keys {
                let key = key.as_slice();
                sorter.push(Term { attribute, key, entry })?;
            }
            return Ok(());
        }
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
