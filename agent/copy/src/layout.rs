//! The tables of a copy.

use rusqlite::Connection;

/// Version of the format, in `user_version`. Files of any other one are made anew.
pub(crate) const FORMAT: i64 = 5;

/// `entries.digest` is of what the publisher gave, without what the writer adds. `changed` is the state
/// number of the last change, `added` that of the first. `place` says where the entry lies in the flat file
/// ([`crate::record::Place`]), which has its attributes.
pub(crate) const TABLES: &str = "
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE attributes(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE class_sets(id INTEGER PRIMARY KEY, classes TEXT NOT NULL UNIQUE);
CREATE TABLE entries(
    id INTEGER PRIMARY KEY, key BLOB NOT NULL, digest BLOB NOT NULL, uuid BLOB NOT NULL,
    classes INTEGER NOT NULL, added INTEGER NOT NULL, changed INTEGER NOT NULL,
    canonical INTEGER NOT NULL, dn TEXT NOT NULL, place INTEGER NOT NULL);
CREATE TABLE terms(
    attribute INTEGER NOT NULL, key BLOB NOT NULL, entry INTEGER NOT NULL,
    PRIMARY KEY(attribute, key, entry)) WITHOUT ROWID;
CREATE TABLE gone(
    uuid BLOB PRIMARY KEY, key BLOB NOT NULL, dn TEXT NOT NULL, number INTEGER NOT NULL,
    added INTEGER NOT NULL, created BLOB NOT NULL) WITHOUT ROWID;
";

/// Indexes, made after the first load because sorting once is cheaper.
pub(crate) const INDEXES: &str = "
CREATE INDEX entries_key ON entries(key, digest);
CREATE UNIQUE INDEX entries_uuid ON entries(uuid);
CREATE INDEX entries_classes ON entries(classes, key);
CREATE INDEX entries_changed ON entries(changed);
CREATE INDEX gone_number ON gone(number);
";

/// Names in `meta`.
pub(crate) mod meta {
    /// Whose state numbers these are.
    pub(crate) const LINEAGE: &str = "lineage";
    /// The state number.
    pub(crate) const NUMBER: &str = "number";
    /// The number since which deletions are known.
    pub(crate) const OLDEST: &str = "oldest";
    /// Digest of the content that the publisher published.
    pub(crate) const CONTENT: &str = "content";
    /// How many entries there are.
    pub(crate) const ENTRIES: &str = "entries";
    /// What the schema has beyond the standard one, a definition on each line.
    pub(crate) const SCHEMA: &str = "schema";
    /// Which flat file the entries are in: the number in its name.
    pub(crate) const RECORDS: &str = "records";
    /// The mark at its beginning.
    pub(crate) const RECORDS_MARK: &str = "records_mark";
    /// Bytes of it that this generation knows.
    pub(crate) const RECORDS_END: &str = "records_end";
    /// Bytes of it that are entries of this generation.
    pub(crate) const RECORDS_LIVE: &str = "records_live";
    /// Time of the last change, in seconds since 1970.
    pub(crate) const TIME: &str = "time";
}

/// A number in `meta`; 0 when it is absent.
pub(crate) fn number(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    let mut rows = statement.query([name])?;
    rows.next()?.map_or(Ok(0), |row| row.get(0))
}

/// A text in `meta`; empty when it is absent.
pub(crate) fn text(connection: &Connection, name: &str) -> rusqlite::Result<String> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    let mut rows = statement.query([name])?;
    rows.next()?.map_or_else(|| Ok(String::new()), |row| row.get(0))
}

/// Bytes in `meta`; none when they are absent.
pub(crate) fn blob(connection: &Connection, name: &str) -> rusqlite::Result<Vec<u8>> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    let mut rows = statement.query([name])?;
    rows.next()?.map_or_else(|| Ok(Vec::new()), |row| row.get(0))
}

/// Sets a value in `meta`.
pub(crate) fn set(connection: &Connection, name: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta(name, value) VALUES(?1, ?2)")?
        .execute(rusqlite::params![name, value])
        .map(drop)
}

/// The format of a file.
pub(crate) fn format(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}
