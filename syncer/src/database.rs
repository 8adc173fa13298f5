//! Opening a SQLite file of the syncer's own.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite_migration::Migrations;

/// How long one program waits for another's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a file cannot be used.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// It cannot be made, or the folder for it.
    File { path: PathBuf, cause: std::io::Error },
    /// SQLite says so.
    Database(rusqlite::Error),
    /// A later version of the program has changed its tables.
    Newer { path: PathBuf, reason: String },
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// Opens the file with a write-ahead log, makes it for the owner alone when it is missing, and brings
/// its tables up to date. `settings` are pragmas besides.
pub(crate) fn open(
    path: &Path,
    migrations: &Migrations<'_>,
    settings: &[(&str, &str)],
) -> Result<Connection, OpenError> {
    let file = |cause| OpenError::File {
        path: path.to_owned(),
        cause,
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        dirless_program::fs::ensure_folder(folder, 0o700).map_err(file)?;
    }
    // Made by us, so that its mode does not depend on the umask; SQLite gives -wal and -shm the same.
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(file(error)),
        _ => {}
    }
    let mut connection = Connection::open(path)?;
    ready(&connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    for (name, value) in settings {
        connection.pragma_update(None, name, value)?;
    }
    migrations.to_latest(&mut connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => OpenError::Database(err),
        other => OpenError::Newer {
            path: path.to_owned(),
            reason: other.to_string(),
        },
    })?;
    Ok(connection)
}

/// What every connection needs, also one that only reads.
pub(crate) fn ready(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Without this the value of a LIMIT has each statement planned anew.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rusqlite_migration::M;

    use super::*;

    #[test]
    fn a_file_is_made_for_its_owner_and_one_of_a_later_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own/x.db");
        let first = || vec![M::up("CREATE TABLE a (b INTEGER) STRICT;")];
        let connection = open(&path, &Migrations::new(first()), &[("synchronous", "FULL")]).unwrap();
        let mode: String = connection
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(connection);
        let more = [first(), vec![M::up("CREATE TABLE c (d INTEGER) STRICT;")]].concat();
        drop(open(&path, &Migrations::new(more), &[]).unwrap());
        let refused = open(&path, &Migrations::new(first()), &[]);
        assert!(matches!(refused, Err(OpenError::Newer { .. })), "{refused:?}");
        let refused = open(&path.join("below"), &Migrations::new(first()), &[]);
        assert!(matches!(refused, Err(OpenError::File { .. })), "{refused:?}");
    }
}
