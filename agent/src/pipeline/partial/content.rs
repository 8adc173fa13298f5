//! The content root of one source's records, kept beside them.

use dirless_seal::{ContentStore, Digest};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::StoreError;

/// Leaves and nodes of the content of one source.
pub(super) struct Kept<'a> {
    pub db: &'a Connection,
    pub source: u8,
}

pub(super) const TABLES: &str = "
    CREATE TABLE leaves (source INTEGER, bucket INTEGER, leaves BLOB NOT NULL, PRIMARY KEY (source, bucket)) WITHOUT ROWID;
    CREATE TABLE nodes (source INTEGER, level INTEGER, at INTEGER, node BLOB NOT NULL, PRIMARY KEY (source, level, at))
        WITHOUT ROWID;
";

fn digests(bytes: &[u8]) -> Vec<Digest> {
    let (whole, _rest) = bytes.as_chunks::<32>();
    whole.iter().map(|bytes| Digest::from_bytes(*bytes)).collect()
}

impl ContentStore for Kept<'_> {
    type Error = StoreError;

    fn leaves(&mut self, bucket: u16) -> Result<Vec<Digest>, StoreError> {
        let mut select = self
            .db
            .prepare_cached("SELECT leaves FROM leaves WHERE source = ?1 AND bucket = ?2")?;
        let found: Option<Vec<u8>> = select
            .query_row(params![self.source, bucket], |row| row.get(0))
            .optional()?;
        Ok(found.map(|bytes| digests(&bytes)).unwrap_or_default())
    }

    fn keep_leaves(&mut self, bucket: u16, leaves: &[Digest]) -> Result<(), StoreError> {
        let bytes: Vec<u8> = leaves.iter().flat_map(|leaf| *leaf.as_bytes()).collect();
        self.db
            .prepare_cached("INSERT OR REPLACE INTO leaves VALUES (?1, ?2, ?3)")?
            .execute(params![self.source, bucket, bytes])?;
        Ok(())
    }

    fn node(&mut self, level: u8, at: u16) -> Result<Option<Digest>, StoreError> {
        let mut select = self
            .db
            .prepare_cached("SELECT node FROM nodes WHERE source = ?1 AND level = ?2 AND at = ?3")?;
        let found: Option<Vec<u8>> = select
            .query_row(params![self.source, level, at], |row| row.get(0))
            .optional()?;
        Ok(found.and_then(|bytes| digests(&bytes).first().copied()))
    }

    fn keep_node(&mut self, level: u8, at: u16, node: Option<Digest>) -> Result<(), StoreError> {
        match node {
            Some(node) => self
                .db
                .prepare_cached("INSERT OR REPLACE INTO nodes VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![self.source, level, at, node.as_bytes()])?,
            None => self
                .db
                .prepare_cached("DELETE FROM nodes WHERE source = ?1 AND level = ?2 AND at = ?3")?
                .execute(params![self.source, level, at])?,
        };
        Ok(())
    }
}
