//! The tokens' file.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use super::TokenError;

/// How long one program waits for another's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Every change of the table, oldest first. Entries are never edited once released.
pub(super) fn migrations() -> Migrations<'static> {
    Migrations::new(vec![M::up(INITIAL)])
}

const INITIAL: &str = "
CREATE TABLE tokens (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    scopes       TEXT NOT NULL,      -- words, one blank between
    hash         BLOB NOT NULL,      -- SHA-256 of the secret
    created_at   INTEGER NOT NULL,   -- milliseconds since 1970, as all times here
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER
) STRICT, WITHOUT ROWID;
-- What the changelog says who wrote must mean one token at a time.
CREATE UNIQUE INDEX tokens_by_name ON tokens (name) WHERE revoked_at IS NULL;
";

pub(super) fn open(path: &Path) -> Result<Connection, TokenError> {
    let file = |cause| TokenError::File {
        path: path.to_owned(),
        cause,
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        dirless_program::fs::ensure_folder(folder, 0o700).map_err(file)?;
    }
    // Made by us, so that its mode does not depend on the umask.
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(file(error)),
        _ => {}
    }
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    migrations().to_latest(&mut connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => TokenError::Database(err),
        other => TokenError::Newer {
            path: path.to_owned(),
            reason: other.to_string(),
        },
    })?;
    Ok(connection)
}
