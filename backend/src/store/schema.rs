//! The database: opening a connection, its settings, and the schema's history.
//!
//! A migration, once released, is never edited; the next change is one more entry in the list, and
//! works under the old and the new program (expand, deploy, contract).

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::StoreError;

/// Name of the database file in the storage folder.
pub(crate) const DATABASE: &str = "dirless.db";

/// How long a connection waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const STEPS: &[M<'_>] = &[
    M::up(include_str!("schema/0001-base.sql")),
    M::up(include_str!("schema/0002-trust.sql")),
    M::up(include_str!("schema/0003-sightings.sql")),
    M::up(include_str!("schema/0004-join-uses.sql")),
];

/// Newest schema number this program knows.
pub(crate) const NEWEST: i64 = STEPS.len() as i64;

pub(crate) fn migrations() -> Migrations<'static> {
    Migrations::from_slice(STEPS)
}

/// Opens the one writing connection, makes the file when it is missing, and brings it up to date.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    // SQLite would make the file with the umask's mode; its -wal and -shm copy the database's.
    // An existing file is not opened here: closing it again would drop the locks (fcntl(2)) of any
    // other connection of this process.
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(StoreError::file(path, error)),
        _ => {}
    }
    let mut connection = Connection::open_with_flags(path, flags())?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    refuse_newer(&connection, path)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // 8 MiB of pages: most groups of writes stay in memory until they are committed.
    connection.pragma_update(None, "cache_size", -8 * 1024)?;
    // 32 MiB of log between checkpoints, each of which costs two more syncs and writes a page that
    // changed often only once.
    connection.pragma_update(None, "wal_autocheckpoint", 8192)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    connection.set_prepared_statement_cache_capacity(128);
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// Opens a connection that can only read.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags())?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    refuse_newer(&connection, path)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Schema number of an open database.
pub(crate) fn version(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn flags() -> OpenFlags {
    // No creation (the file is there already, with its mode), no URI names, one thread at a time.
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

pub(crate) fn refuse_newer(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = version(connection)?;
    if found > NEWEST {
        return Err(StoreError::NewerSchema {
            path: path.to_owned(),
            found,
            known: NEWEST,
        });
    }
    Ok(())
}

pub(crate) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    match migrations().to_latest(connection) {
        Ok(()) => Ok(()),
        Err(rusqlite_migration::Error::RusqliteError { err, .. }) => Err(err.into()),
        Err(rusqlite_migration::Error::MigrationDefinition(
            rusqlite_migration::MigrationDefinitionError::DatabaseTooFarAhead,
        )) => refuse_newer(connection, path),
        Err(other) => Err(StoreError::Engine(Arc::new(other))),
    }
}
