//! The tokens' file.

use std::path::Path;

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use super::TokenError;

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
    Ok(crate::database::open(path, &migrations(), &[])?)
}
