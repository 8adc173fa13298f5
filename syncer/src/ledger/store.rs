use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dirless_model::ObjectId;
use dirless_model::snapshot::ObjectKind;
use dirless_program::fs::lock_patiently;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, params};

use super::events::{Event, append};
use super::{Allocator, Entry, LedgerError, Object, Origin, Preview, Settled, kind_text, schema};

/// The ledger file, open. Only one process at a time can have it open for writing.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    connection: Connection,
    /// Held for as long as the ledger is open; the kernel lets go of it when the process ends.
    _lock: Option<File>,
}

impl Ledger {
    /// Opens the ledger at `path` for writing, and makes it when it is missing.
    ///
    /// # Errors
    /// When another process has it open, or the file cannot be used.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let file_error = |cause| LedgerError::File {
            path: path.to_owned(),
            cause,
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
            dirless_program::fs::ensure_folder(folder, 0o700).map_err(file_error)?;
        }
        let lock = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(path.with_extension("lock"))
            .map_err(file_error)?;
        lock_patiently(|| Ok(lock.try_lock()?)).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => LedgerError::Locked { path: path.to_owned() },
            _ => file_error(error),
        })?;
        // Made by us, so that its mode does not depend on the umask; SQLite gives -wal and -shm the same.
        File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(file_error)?;
        let mut ledger = Self {
            path: path.to_owned(),
            connection: Connection::open(path).map_err(database(path, "opened"))?,
            _lock: Some(lock),
        };
        ledger.prepare()?;
        Ok(ledger)
    }

    /// Opens the ledger at `path` to look at it, also while a syncer runs.
    ///
    /// # Errors
    /// When there is none, or the file cannot be used.
    pub fn open_to_read(path: &Path) -> Result<Self, LedgerError> {
        if !path.exists() {
            return Err(LedgerError::Missing { path: path.to_owned() });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(database(path, "opened"))?;
        connection
            .busy_timeout(Duration::from_secs(5))
            .map_err(database(path, "opened"))?;
        Ok(Self {
            path: path.to_owned(),
            connection,
            _lock: None,
        })
    }

    fn prepare(&mut self) -> Result<(), LedgerError> {
        let path = self.path.clone();
        let set = |name, value: &str| {
            self.connection
                .pragma_update(None, name, value)
                .map_err(database(&path, "opened"))
        };
        set("journal_mode", "WAL")?;
        // An acknowledged number must survive a power cut: hosts may be using it by then.
        set("synchronous", "FULL")?;
        set("foreign_keys", "ON")?;
        schema::migrations()
            .to_latest(&mut self.connection)
            .map_err(|error| match error {
                rusqlite_migration::Error::RusqliteError { err, .. } => database(&path, "prepared")(err),
                other => LedgerError::Version {
                    path: path.clone(),
                    reason: other.to_string(),
                },
            })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has no number been given out yet?
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn is_empty(&self) -> Result<bool, LedgerError> {
        self.connection
            .query_row("SELECT NOT EXISTS (SELECT 1 FROM assignments)", [], |row| row.get(0))
            .map_err(database(&self.path, "read"))
    }

    /// Every line, by number.
    ///
    /// # Errors
    /// When the file cannot be read or a line makes no sense.
    pub fn entries(&self) -> Result<Vec<Entry>, LedgerError> {
        let failed = || database(&self.path, "read");
        let mut entries = BTreeMap::new();
        let mut query = self
            .connection
            .prepare(
                "SELECT number, source, kind, object_id, first_name, assigned_at, origin, subid_first, subid_count
                 FROM assignments",
            )
            .map_err(failed())?;
        let mut rows = query.query([]).map_err(failed())?;
        while let Some(row) = rows.next().map_err(failed())? {
            let line = Line::read(row).map_err(failed())?;
            let number = line.number;
            let entry = line.check().map_err(|reason| LedgerError::Damaged {
                path: self.path.clone(),
                number,
                reason,
            })?;
            entries.insert(number, entry);
        }
        for (number, event) in super::events::all(&self.connection).map_err(failed())? {
            if let Some(entry) = entries.get_mut(&number) {
                match event {
                    Event::Retired => entry.retired = true,
                    Event::Returned => entry.retired = false,
                    Event::Named(name) => entry.last_name = name,
                }
            }
        }
        Ok(entries.into_values().collect())
    }

    /// What [`Ledger::settle`] would do, without doing it.
    ///
    /// # Errors
    /// When the range is used up or the file cannot be read.
    pub fn preview(
        &self,
        source: &str,
        live: &BTreeMap<(ObjectKind, ObjectId), String>,
        allocator: &Allocator,
        now: Timestamp,
    ) -> Result<Preview, LedgerError> {
        Preview::of(self.entries()?, source, live, allocator, now)
    }

    /// Gives every object of `live` (with its name) the number it has always had, or a new one,
    /// and notes which objects of `source` are gone, back or renamed. All in one transaction that is on
    /// disk when this returns; on any error nothing has happened.
    ///
    /// # Errors
    /// When the range is used up or the file cannot be written.
    pub fn settle(
        &mut self,
        source: &str,
        live: &BTreeMap<(ObjectKind, ObjectId), String>,
        allocator: &Allocator,
        now: Timestamp,
    ) -> Result<Settled, LedgerError> {
        let preview = self.preview(source, live, allocator, now)?;
        if !preview.fresh.is_empty() || !preview.events.is_empty() {
            self.append(&preview.fresh, &preview.events, now)?;
        }
        Ok(preview.settled)
    }

    /// Adds lines that come from elsewhere. A line that is already there just so is passed over.
    /// All or nothing.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] when a number or an object is already taken otherwise.
    pub fn take_over(&mut self, lines: &[Entry], now: Timestamp) -> Result<usize, LedgerError> {
        let mut by_number: HashMap<u32, Object> = HashMap::new();
        let mut by_object: HashMap<Object, u32> = HashMap::new();
        for entry in self.entries()? {
            by_number.insert(entry.number, entry.object.clone());
            by_object.insert(entry.object, entry.number);
        }
        let mut fresh = Vec::new();
        for line in lines {
            let conflict = |held: String| LedgerError::Conflict {
                object: Box::new(line.object.clone()),
                claimed: line.number,
                held,
            };
            match (by_number.get(&line.number), by_object.get(&line.object)) {
                (Some(owner), _) if *owner != line.object => {
                    return Err(conflict(format!("{} belongs to {owner}", line.number)));
                }
                (_, Some(number)) if *number != line.number => {
                    return Err(conflict(format!("{} has {number}", line.object)));
                }
                (Some(_), Some(_)) => {}
                _ => {
                    by_number.insert(line.number, line.object.clone());
                    by_object.insert(line.object.clone(), line.number);
                    fresh.push(line.clone());
                }
            }
        }
        let retired = fresh
            .iter()
            .filter(|line| line.retired)
            .map(|line| (line.number, Event::Retired));
        let events: Vec<_> = retired.collect();
        self.append(&fresh, &events, now)?;
        Ok(fresh.len())
    }

    fn append(&mut self, lines: &[Entry], events: &[(u32, Event)], now: Timestamp) -> Result<(), LedgerError> {
        let path = self.path.clone();
        let failed = || database(&path, "written");
        let transaction = self.connection.transaction().map_err(failed())?;
        {
            let mut insert = transaction
                .prepare(
                    "INSERT INTO assignments
                     (number, source, kind, object_id, first_name, assigned_at, origin, subid_first, subid_count)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )
                .map_err(failed())?;
            for line in lines {
                insert
                    .execute(params![
                        line.number,
                        line.object.source,
                        kind_text(line.object.kind),
                        line.object.id.as_str(),
                        line.first_name,
                        line.assigned_at.as_millisecond(),
                        line.origin.text(),
                        line.subids.map(|(first, _)| first),
                        line.subids.map(|(_, count)| count),
                    ])
                    .map_err(failed())?;
            }
        }
        append(&transaction, events, now).map_err(failed())?;
        transaction.commit().map_err(failed())
    }

    /// The connection, for tests that attack the file.
    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// A line as it stands in the table.
struct Line {
    number: u32,
    source: String,
    kind: String,
    object_id: String,
    first_name: String,
    assigned_at: i64,
    origin: String,
    subids: (Option<u32>, Option<u32>),
}

impl Line {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: row.get(0)?,
            source: row.get(1)?,
            kind: row.get(2)?,
            object_id: row.get(3)?,
            first_name: row.get(4)?,
            assigned_at: row.get(5)?,
            origin: row.get(6)?,
            subids: (row.get(7)?, row.get(8)?),
        })
    }

    fn check(self) -> Result<Entry, String> {
        let kind = match self.kind.as_str() {
            "user" => ObjectKind::User,
            "group" => ObjectKind::Group,
            other => return Err(format!("kind {other:?}")),
        };
        Ok(Entry {
            number: self.number,
            object: Object {
                source: self.source,
                kind,
                id: ObjectId::parse(&self.object_id).map_err(|error| format!("the object id {error}"))?,
            },
            last_name: self.first_name.clone(),
            first_name: self.first_name,
            assigned_at: Timestamp::from_millisecond(self.assigned_at).map_err(|error| error.to_string())?,
            origin: Origin::parse(&self.origin).ok_or_else(|| format!("origin {:?}", self.origin))?,
            subids: self.subids.0.zip(self.subids.1),
            retired: false,
        })
    }
}

fn database(path: &Path, doing: &'static str) -> impl FnOnce(rusqlite::Error) -> LedgerError {
    let path = path.to_owned();
    move |cause| LedgerError::Database { path, doing, cause }
}
