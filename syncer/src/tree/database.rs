//! The database file: opening connections, their settings, and the history of the tables.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::TreeError;

/// Every change of the tables, oldest first. Entries are never edited once released.
fn migrations() -> Migrations<'static> {
    Migrations::new(vec![M::up(INITIAL)])
}

const INITIAL: &str = "
CREATE TABLE entries (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    key        BLOB NOT NULL UNIQUE,             -- DnKey: a subtree is one range
    parent     INTEGER REFERENCES entries (id),  -- none for the base
    children   INTEGER NOT NULL DEFAULT 0,
    version    INTEGER NOT NULL,
    dn         TEXT NOT NULL,
    attributes BLOB NOT NULL                     -- dirless_directory::encoded
) STRICT;
CREATE INDEX entries_by_parent ON entries (parent, key);

-- The values of indexed attributes as their equality rule compares them, cut to 256 bytes.
CREATE TABLE indexed (
    attribute INTEGER NOT NULL,
    value     BLOB NOT NULL,
    entry     INTEGER NOT NULL,
    PRIMARY KEY (attribute, value, entry)
) STRICT, WITHOUT ROWID;

CREATE TABLE indexed_attributes (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE changes (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    dn         TEXT NOT NULL,
    operation  TEXT NOT NULL CHECK (operation IN ('add', 'update', 'delete', 'rename')),
    actor      TEXT NOT NULL,
    at         INTEGER NOT NULL,                 -- milliseconds since 1970
    difference TEXT NOT NULL                     -- JSON
) STRICT;

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Opens the connection that writes, makes the file when it is missing, and brings it up to date.
pub(super) fn open_writer(path: &Path) -> Result<Connection, TreeError> {
    let settings = [
        // A write that was acknowledged survives a power cut.
        ("synchronous", "FULL"),
        ("foreign_keys", "ON"),
        // 32 MiB of pages: the inner pages of a million entries and their indexes stay in memory.
        ("cache_size", "-32768"),
        ("journal_size_limit", "67108864"),
    ];
    let connection = crate::database::open(path, &migrations(), &settings)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Opens a connection that can only read, also while another one writes.
pub(super) fn open_reader(path: &Path) -> Result<Connection, TreeError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    crate::database::ready(&connection)?;
    connection.pragma_update(None, "cache_size", -8 * 1024)?;
    connection.pragma_update(None, "mmap_size", 1_i64 << 30)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_migrations_fit_together() {
        super::migrations().validate().unwrap();
    }
}
