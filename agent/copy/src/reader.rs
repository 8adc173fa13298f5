//! Reading a finished generation.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dirless_directory::encoded::Attributes;
use dirless_directory::{DnKey, Schema};
use rusqlite::{Connection, OptionalExtension, params};

use crate::files::open_generation;
use crate::layout::{self, meta};
use crate::plan::{self, Planned};
use crate::record::{Parts, Place, joined};
use crate::records::{Recent, Records, Source, Verified, Window};
use crate::{CopyError, Hot, index};

/// Times that a generation which is replaced while it is opened is tried again.
const TRIES: usize = 100;
/// Bytes of an attribute from which on it is better sent from the file than read: two more calls cost less than two
/// more copies.
const APART: usize = 16 << 10;
/// Entries with one value among which a certain one is looked for.
const FEW_WITH: usize = 64;
/// Names of attributes whose place in the index is remembered.
const MOST_PLANNED: usize = 1024;

/// Says which attributes are looked at; all when there is nothing that says it.
pub type Wants<'a> = Option<&'a dyn Fn(&str) -> bool>;

/// Which generation of which series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The series: letters and digits.
    pub lineage: Arc<str>,
    /// The state number, growing within it.
    pub number: u64,
}

/// How far below its base a query looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The base alone.
    Base,
    /// Right below it.
    OneLevel,
    /// The base and everything below.
    Subtree,
}

/// An entry as it is kept.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The bytes of its key.
    pub key: &'a [u8],
    /// Its name.
    pub dn: &'a str,
    /// Its attributes.
    pub attributes: Attributes<'a>,
    /// The whole filter was held against it.
    pub exact: bool,
    /// Attributes that are not among those, for they take so much room that they are better sent from the file.
    pub apart: &'a [Apart<'a>],
}

/// An attribute that was left in the file, in the form in which [`Attributes`] has it.
#[derive(Clone, Copy, Debug)]
pub struct Apart<'a> {
    /// Its name.
    pub name: &'a str,
    /// It is one of the operational ones.
    pub operational: bool,
    /// The file. What is said of it stays so as long as it is open.
    pub file: &'a Arc<File>,
    /// Where in it the attribute begins.
    pub offset: u64,
    /// Bytes of it.
    pub length: usize,
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is there and was not before.
    Added,
    /// It was there and is.
    Modified,
    /// It is gone.
    Deleted,
}

/// The last change of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its `entryUUID`.
    pub uuid: [u8; 16],
    /// Its name, or the last one it had.
    pub dn: String,
    /// The key of that name.
    pub key: DnKey,
    /// What happened.
    pub kind: Kind,
}

/// One generation, open. It stays as it is while newer ones come; [`Reader::is_current`] tells.
pub struct Reader {
    path: PathBuf,
    /// Held with a shared lock, so that the writer leaves the file alone.
    file: File,
    pub(crate) connection: Connection,
    pub(crate) records: Records,
    recent: RefCell<Recent>,
    window: RefCell<Window>,
    verified: RefCell<Verified>,
    pub(crate) schema: Schema,
    pub(crate) attributes: HashMap<String, i64>,
    pub(crate) class_sets: Vec<(i64, Vec<String>)>,
    /// What the index knows of the attributes that were asked for.
    planned: RefCell<HashMap<String, Option<Planned>>>,
    /// Values that need not be looked for in the file.
    pub(crate) hot: Option<Arc<Hot>>,
    position: Position,
    oldest: u64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Reader({}, {:?})", self.path.display(), self.position)
    }
}

impl Reader {
    /// Opens the generation that is current at `path`. It is read by its own schema: `known`, when that is
    /// the one.
    ///
    /// # Errors
    /// When there is none, or it is of another format.
    pub fn open(path: &Path, known: Schema) -> Result<Self, CopyError> {
        for _ in 0..TRIES {
            let file = File::open(path).map_err(CopyError::file("open", path))?;
            // Locked by the writer means replaced meanwhile.
            if file.try_lock_shared().is_err() || !is_at(&file, path) {
                continue;
            }
            let opened = open_generation(path);
            // The lock keeps the file from coming back here, so what was opened between these looks is it. A
            // flat file that is not there may have been that of a generation before.
            if is_at(&file, path) {
                let (connection, records) = opened?;
                let schema = schema_of(&connection, known)?;
                return Self::new(path, file, (connection, records), schema);
            }
        }
        Err(CopyError::file("open", path)(std::io::Error::from(
            std::io::ErrorKind::ResourceBusy,
        )))
    }

    fn new(
        path: &Path,
        file: File,
        (connection, records): (Connection, Records),
        schema: Schema,
    ) -> Result<Self, CopyError> {
        let mut reader = Self {
            path: path.to_owned(),
            file,
            schema,
            attributes: HashMap::new(),
            class_sets: Vec::new(),
            planned: RefCell::default(),
            hot: None,
            position: Position {
                lineage: layout::text(&connection, meta::LINEAGE)?.into(),
                number: u64::try_from(layout::number(&connection, meta::NUMBER)?).unwrap_or(0),
            },
            oldest: u64::try_from(layout::number(&connection, meta::OLDEST)?).unwrap_or(0),
            connection,
            records,
            recent: RefCell::default(),
            window: RefCell::default(),
            verified: RefCell::default(),
        };
        // The file does not change: one transaction for all queries saves each of them one of its own.
        reader.connection.execute_batch("BEGIN")?;
        {
            let mut statement = reader.connection.prepare("SELECT name, id FROM attributes")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                reader.attributes.insert(row.get(0)?, row.get(1)?);
            }
            let mut statement = reader.connection.prepare("SELECT id, classes FROM class_sets")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let classes: String = row.get(1)?;
                reader
                    .class_sets
                    .push((row.get(0)?, classes.split(' ').map(str::to_owned).collect()));
            }
        }
        Ok(reader)
    }

    /// Another reader of the very same generation, while it is current.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn again(&self) -> Result<Option<Self>, CopyError> {
        let other = Self::open(&self.path, self.schema.clone())?;
        Ok((other.position == self.position).then_some(other))
    }

    /// From now on goes by values in memory, which must be those of its generation.
    pub fn go_by(&mut self, hot: Option<Arc<Hot>>) {
        self.hot = hot;
    }

    /// Is there no newer generation?
    #[must_use]
    pub fn is_current(&self) -> bool {
        is_at(&self.file, &self.path)
    }

    /// Which generation this is.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The schema by which it is read.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Names of the topmost entries, in the order of their keys.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn topmost(&self) -> Result<Vec<String>, CopyError> {
        let mut names = Vec::new();
        let mut from = Vec::new();
        let mut statement = self
            .connection
            .prepare_cached("SELECT key, dn FROM entries WHERE key >= ?1 ORDER BY key LIMIT 1")?;
        while let Some((key, dn)) = statement
            .query_row([&from], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?)))
            .optional()?
        {
            names.push(dn);
            from = DnKey::from(key).subtree_end();
        }
        Ok(names)
    }

    /// Shows the entry with that key; false when there is none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn lookup(&self, key: &[u8], visit: &mut dyn FnMut(Row<'_>)) -> Result<bool, CopyError> {
        self.lookup_as(key, Manner::default(), visit)
    }

    /// Shows the entry with that key in that manner; false when there is none.
    pub(crate) fn lookup_as(
        &self,
        key: &[u8],
        manner: Manner<'_>,
        visit: impl FnOnce(Row<'_>),
    ) -> Result<bool, CopyError> {
        let Some(found) = self.find(key)? else {
            return Ok(false);
        };
        self.with_record(found, false, |parts| self.show(found, parts, manner, visit))?;
        Ok(true)
    }

    /// The entry with that key.
    fn find(&self, key: &[u8]) -> Result<Option<Found>, CopyError> {
        if let Some(hot) = &self.hot {
            return Ok(hot.find(key));
        }
        let mut statement = self
            .connection
            .prepare_cached("SELECT id, place FROM entries WHERE key = ?1")?;
        let found = statement.query_row([key], |row| {
            Ok(Found {
                id: row.get(0)?,
                place: Place::of_number(row.get(1)?),
            })
        });
        Ok(found.optional()?)
    }

    /// The entry of that number.
    pub(crate) fn found(&self, id: i64) -> Result<Option<Found>, CopyError> {
        let place = match &self.hot {
            Some(hot) => hot.place(id),
            None => {
                let mut statement = self
                    .connection
                    .prepare_cached("SELECT place FROM entries WHERE id = ?1")?;
                let place = statement.query_row([id], |row| row.get(0)).optional()?;
                place.map(Place::of_number)
            }
        };
        Ok(place.map(|place| Found { id, place }))
    }

    /// Has the entry with that key a value that equals this one? None when the index does not tell.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn has_value(&self, key: &[u8], name: &str, value: &[u8]) -> Result<Option<bool>, CopyError> {
        let Some((attributes, rule)) = self.planned(name) else {
            return Ok(None);
        };
        let Some((term, true)) = index::key(&self.schema, rule, value) else {
            return Ok(None);
        };
        let Some(found) = self.find(key)? else {
            return Ok(None);
        };
        if self.has_term(found.id, &attributes, &term)? {
            return Ok(Some(true));
        }
        // That it has other values is known of large attributes; of others the entry itself tells.
        self.with_record(found, false, |parts| {
            let held = parts.large().any(|large| self.schema.is_subtype(large.name, name));
            Ok(held.then_some(false))
        })
    }

    fn has_term(&self, id: i64, attributes: &[i64], term: &[u8]) -> Result<bool, CopyError> {
        if let Some(hot) = self.hot.as_ref().filter(|hot| hot.has(attributes)) {
            let mut ids = Vec::new();
            let all = |attribute: &i64| hot.collect(*attribute, term, FEW_WITH, &mut ids);
            // With more of them it is quicker to ask for this one.
            if attributes.iter().all(all) && ids.len() <= FEW_WITH {
                return Ok(ids.contains(&id));
            }
        }
        let mut statement = self
            .connection
            .prepare_cached("SELECT 1 FROM terms WHERE attribute = ?1 AND key = ?2 AND entry = ?3")?;
        for attribute in attributes {
            if statement.exists(params![attribute, term, id])? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the index knows of an attribute.
    pub(crate) fn planned(&self, name: &str) -> Option<Planned> {
        if let Some(known) = self.planned.borrow().get(name) {
            return known.clone();
        }
        let found = plan::names(&self.schema, name).map(|(names, rule)| {
            let numbers = names.iter().filter_map(|name| self.attributes.get(name).copied());
            (numbers.collect(), rule)
        });
        let mut planned = self.planned.borrow_mut();
        // Names that clients make up are not kept for ever.
        if planned.len() >= MOST_PLANNED {
            planned.clear();
        }
        planned.insert(name.to_owned(), found.clone());
        found
    }

    /// Shows what no query shows of the entry with that key, for instance `userPassword`; false when there
    /// is no such entry.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn secrets(&self, key: &[u8], visit: &mut dyn FnMut(Attributes<'_>)) -> Result<bool, CopyError> {
        let Some(found) = self.find(key)? else {
            return Ok(false);
        };
        self.with_record(found, false, |parts| {
            if !parts.secret.is_empty() {
                visit(Attributes::new(parts.secret)?);
            }
            Ok(true)
        })
    }

    /// What became of entries after state number `since`, in the order of change, an entry's last
    /// change only; none when that is no longer known.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn changes(&self, since: u64) -> Result<Option<Vec<Change>>, CopyError> {
        if since < self.oldest || since > self.position.number {
            return Ok(None);
        }
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        let mut changes: Vec<(i64, Change)> = Vec::new();
        let mut statement = self
            .connection
            .prepare_cached("SELECT changed, uuid, dn, key, added FROM entries WHERE changed > ?1")?;
        let mut rows = statement.query([since])?;
        while let Some(row) = rows.next()? {
            let kind = if row.get::<_, i64>(4)? > since {
                Kind::Added
            } else {
                Kind::Modified
            };
            changes.push(change(row, kind)?);
        }
        let mut statement = self
            .connection
            .prepare_cached("SELECT number, uuid, dn, key FROM gone WHERE number > ?1 AND added <= ?1")?;
        let mut rows = statement.query([since])?;
        while let Some(row) = rows.next()? {
            changes.push(change(row, Kind::Deleted)?);
        }
        changes.sort_by_key(|(number, _)| *number);
        Ok(Some(changes.into_iter().map(|(_, change)| change).collect()))
    }

    /// Shows the first part of an entry's record. With `ahead`, what follows in the file is asked for next.
    pub(crate) fn with_record<R>(
        &self,
        found: Found,
        ahead: bool,
        visit: impl FnOnce(Parts<'_>) -> Result<R, CopyError>,
    ) -> Result<R, CopyError> {
        // Taken, for whoever is shown an entry may ask for another one.
        if ahead {
            let mut window = self.window.take();
            let shown = window.first(&self.records, found.place, found.id).and_then(visit);
            self.window.replace(window);
            return shown;
        }
        let mut lately = self.recent.borrow_mut().take(found.id);
        let shown = lately.first(&self.records, found.place, found.id).and_then(visit);
        self.recent.borrow_mut().put(found.id, lately);
        shown
    }

    /// Shows an entry as a row, with those of its large attributes that are wanted.
    pub(crate) fn show<R>(
        &self,
        found: Found,
        parts: Parts<'_>,
        manner: Manner<'_>,
        visit: impl FnOnce(Row<'_>) -> R,
    ) -> Result<R, CopyError> {
        let wants = manner.wants.filter(|_| manner.exact);
        let (mut read, mut apart) = (Vec::new(), Vec::new());
        for one in parts.large().filter(|one| wants.is_none_or(|wants| wants(one.name))) {
            if manner.apart && manner.exact && one.length >= APART {
                apart.push(Apart {
                    name: one.name,
                    operational: one.operational,
                    file: &self.records.file,
                    offset: self.verified.borrow_mut().place_of(&self.records, found.place, &one)?,
                    length: one.length,
                });
            } else {
                read.push((one.operational, self.records.large(found.place, &one)?));
            }
        }
        let whole;
        let attributes = if read.is_empty() {
            parts.small
        } else {
            whole = joined(parts.small, &read)?;
            &whole
        };
        Ok(visit(Row {
            key: parts.key,
            dn: parts.dn,
            attributes: Attributes::new(attributes)?,
            exact: manner.exact,
            apart: &apart,
        }))
    }
}

/// An entry and where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) id: i64,
    pub(crate) place: Place,
}

/// How entries are shown: whole, unless something else is said.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manner<'a> {
    /// The whole filter was held against it.
    pub(crate) exact: bool,
    /// What is looked at of an exact one.
    pub(crate) wants: Wants<'a>,
    /// Large attributes of an exact one stay in the file.
    pub(crate) apart: bool,
}

/// The schema of a generation.
fn schema_of(connection: &Connection, known: Schema) -> Result<Schema, CopyError> {
    let text = layout::text(connection, meta::SCHEMA)?;
    if text == known.extension_text() {
        return Ok(known);
    }
    let mut schema = Schema::standard();
    schema.extend(&text)?;
    Ok(schema)
}

fn change(row: &rusqlite::Row<'_>, kind: Kind) -> rusqlite::Result<(i64, Change)> {
    Ok((
        row.get(0)?,
        Change {
            uuid: row.get(1)?,
            dn: row.get(2)?,
            key: DnKey::from(row.get::<_, Vec<u8>>(3)?),
            kind,
        },
    ))
}

/// Is `file` what lies at `path` now?
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(there)) => (held.dev(), held.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
