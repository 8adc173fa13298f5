//! Objects: opaque bytes under a name, written once; heads are replaced by compare and swap.

use super::super::sql::{Connection, Row, params};
use bytes::{Bytes, BytesMut};
use dirless_wire::ETag;
use dirless_wire::trust::{ObjectPath, Version};
use jiff::Timestamp;
use serde_json::json;

use super::super::types::{DIGEST, digest_column, etag_of_digest, millis, signed, timestamp, unsigned};
use super::super::{BodyReader, CHUNK_MAX, Change, DeleteOutcome, Expected, Origin, SpooledBody, StoreError, audit};
use super::{PAGE_MAX, TrustHandle};

/// What is known of an object without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Where it is, below the tenant.
    pub path: String,
    /// SHA-256 of its bytes.
    pub digest: [u8; 32],
    /// Their tag.
    pub etag: ETag,
    /// Their number.
    pub length: u64,
    /// When it was stored.
    pub stored_at: Timestamp,
    row: i64,
}

/// What became of an object that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum ObjectPut {
    /// It is stored now.
    Stored(ObjectMeta),
    /// These very bytes were stored before.
    Same(ObjectMeta),
    /// Other bytes are stored under the name, which is written once: 409.
    Occupied,
    /// A head is not the one that the writer expects: 412.
    Unexpected,
}

/// What may be new to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Version of the newest policy.
    pub policy: Option<Version>,
    /// The head of each publisher; none when they are longer than was asked for.
    pub heads: Option<Vec<(ObjectPath, Bytes)>>,
}

/// Entries of a list, and whether more follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries, in order.
    pub entries: Vec<T>,
    /// Whether there are more.
    pub more: bool,
}

impl<T> Page<T> {
    /// At most `limit` of the entries, one more of which says that more follow.
    pub(super) fn cut(mut entries: Vec<T>, limit: usize) -> Self {
        let more = entries.len() > limit;
        entries.truncate(limit);
        Self { entries, more }
    }
}

const COLUMNS: &str = "SELECT id, path, sha256, length, stored_at FROM objects";

impl TrustHandle {
    /// Stores an object. A name that is not a head's is written once, whatever is `expected`; a head is replaced
    /// when what is stored is what the writer expects. The same bytes again are fine in both cases.
    ///
    /// # Errors
    /// When writing fails; nothing is stored then.
    pub async fn put_object(
        &self,
        path: &ObjectPath,
        expected: Expected,
        body: SpooledBody,
        origin: Origin,
    ) -> Result<ObjectPut, StoreError> {
        let (row, now, actor, tenant) = (self.row(), self.store.now(), self.actor(origin), self.tenant().clone());
        let (name, mutable, bytes) = (path.to_string(), path.is_mutable(), body.length());
        self.store
            .write_body(bytes, move |connection, effects| {
                let stored = find(connection, row, &name)?;
                if let Some(stored) = &stored
                    && stored.digest == body.digest
                {
                    return Ok(ObjectPut::Same(stored.clone()));
                }
                if !mutable && stored.is_some() {
                    return Ok(ObjectPut::Occupied);
                }
                if mutable && !expected.holds(stored.as_ref().map(|stored| &stored.etag)) {
                    return Ok(ObjectPut::Unexpected);
                }
                if let Some(replaced) = &stored {
                    remove(connection, replaced.row)?;
                }
                let meta = insert(connection, row, &name, &body, now)?;
                // A head is signed again each minute, as a sign of life; that it began is an event.
                if stored.is_none() {
                    let details = json!({"path": name, "etag": meta.etag.header(), "length": meta.length});
                    audit::record(connection, now, &actor, Some(&tenant), "object.put", &details)?;
                }
                effects.changes.push(Change::Object {
                    tenant: tenant.clone(),
                    path: name.clone(),
                });
                Ok(ObjectPut::Stored(meta))
            })
            .await
    }

    /// An object and its bytes, read as one. The bytes are left out when they are more than `longest`; use
    /// [`TrustHandle::object_reader`] then.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn object(
        &self,
        path: &ObjectPath,
        longest: u64,
    ) -> Result<Option<(ObjectMeta, Option<Bytes>)>, StoreError> {
        let (row, name) = (self.row(), path.to_string());
        self.store
            .read(move |connection| {
                let Some(meta) = find(connection, row, &name)? else {
                    return Ok(None);
                };
                let body = if meta.length <= longest {
                    Some(whole(connection, &meta)?)
                } else {
                    None
                };
                Ok(Some((meta, body)))
            })
            .await
    }

    /// The newest policy's version, and all heads if they have at most `longest` bytes together; read as one.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn news(&self, longest: u64) -> Result<News, StoreError> {
        let row = self.row();
        self.store
            .read(move |connection| {
                Ok(News {
                    policy: newest_policy(connection, row)?,
                    heads: heads(connection, row, longest)?,
                })
            })
            .await
    }

    /// Reads the bytes of an object chunk by chunk.
    #[must_use]
    pub fn object_reader(&self, meta: &ObjectMeta) -> BodyReader {
        BodyReader::of_object(&self.store, meta.row, meta.length)
    }

    /// Deletes an object that nobody needs any more.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn delete_object(&self, path: &ObjectPath, origin: Origin) -> Result<DeleteOutcome, StoreError> {
        let (row, now, actor, tenant) = (self.row(), self.store.now(), self.actor(origin), self.tenant().clone());
        let name = path.to_string();
        self.store
            .write(move |connection, effects| {
                let Some(stored) = find(connection, row, &name)? else {
                    return Ok(DeleteOutcome::Nothing);
                };
                remove(connection, stored.row)?;
                let details = json!({"path": name, "etag": stored.etag.header()});
                audit::record(connection, now, &actor, Some(&tenant), "object.delete", &details)?;
                effects.changes.push(Change::Object {
                    tenant: tenant.clone(),
                    path: name.clone(),
                });
                Ok(DeleteOutcome::Deleted)
            })
            .await
    }

    /// What is stored under names after `after`, by name as text; at most `limit` and [`PAGE_MAX`].
    ///
    /// # Errors
    /// When reading fails.
    pub async fn objects(&self, after: &str, limit: usize) -> Result<Page<ObjectMeta>, StoreError> {
        let (row, after, limit) = (self.row(), after.to_owned(), limit.clamp(1, PAGE_MAX));
        self.store
            .read(move |connection| {
                let sql = format!("{COLUMNS} WHERE tenant_id = ?1 AND path > ?2 ORDER BY path LIMIT ?3");
                let mut select = connection.prepare(&sql)?;
                let mut rows = select.query(params![row, after, signed(limit as u64 + 1)])?;
                let mut entries = Vec::new();
                while let Some(row) = rows.next()? {
                    entries.push(read(row)?);
                }
                Ok(Page::cut(entries, limit))
            })
            .await
    }
}

fn find(connection: &Connection, tenant: i64, path: &str) -> Result<Option<ObjectMeta>, StoreError> {
    let mut select = connection.prepare(&format!("{COLUMNS} WHERE tenant_id = ?1 AND path = ?2"))?;
    let mut rows = select.query(params![tenant, path])?;
    rows.next()?.map(read).transpose()
}

/// Versions have no leading zeros, so that of two the longer text is the greater number.
fn newest_policy(connection: &Connection, tenant: i64) -> Result<Option<Version>, StoreError> {
    let path: Option<String> = connection
        .prepare(
            "SELECT path FROM objects WHERE tenant_id = ?1 AND path > 'policy/' AND path < 'policy0' \
             ORDER BY length(path) DESC, path DESC LIMIT 1",
        )?
        .query_optional(params![tenant], |row| row.get(0))?;
    let version = path.as_deref().and_then(|path| path.strip_prefix("policy/"));
    Ok(version.and_then(|version| version.parse().ok()))
}

fn heads(connection: &Connection, tenant: i64, longest: u64) -> Result<Option<Vec<(ObjectPath, Bytes)>>, StoreError> {
    let mut select = connection.prepare(&format!(
        "{COLUMNS} WHERE tenant_id = ?1 AND path > 'head/' AND path < 'head0' ORDER BY path"
    ))?;
    let mut rows = select.query(params![tenant])?;
    let (mut found, mut length) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let meta = read(row)?;
        length += meta.length;
        if length > longest {
            return Ok(None);
        }
        found.push(meta);
    }
    // Only then: one statement of a connection at a time is what every engine can do.
    drop(rows);
    let mut heads = Vec::new();
    for meta in found {
        let path = meta
            .path
            .parse()
            .map_err(|_| StoreError::corrupt(format!("{}: no path", meta.path)))?;
        heads.push((path, whole(connection, &meta)?));
    }
    Ok(Some(heads))
}

fn read(row: Row<'_>) -> Result<ObjectMeta, StoreError> {
    let digest: [u8; DIGEST] = digest_column(row.bytes(2)?)?;
    Ok(ObjectMeta {
        path: row.get(1)?,
        digest,
        etag: etag_of_digest(&digest),
        length: unsigned(row.get(3)?)?,
        stored_at: timestamp(row.get(4)?)?,
        row: row.get(0)?,
    })
}

fn insert(
    connection: &Connection,
    tenant: i64,
    path: &str,
    body: &SpooledBody,
    now: Timestamp,
) -> Result<ObjectMeta, StoreError> {
    let chunks = body.length.div_ceil(CHUNK_MAX as u64);
    let row: i64 = connection
        .prepare(
            "INSERT INTO objects (tenant_id, path, sha256, length, chunks, stored_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             RETURNING id",
        )?
        .query_row(
            params![
                tenant,
                path,
                body.digest,
                signed(body.length),
                signed(chunks),
                millis(now)
            ],
            |row| row.get(0),
        )?;
    let mut insert = connection.prepare("INSERT INTO object_chunks (object_id, number, bytes) VALUES (?1, ?2, ?3)")?;
    body.each_chunk(|number, bytes| {
        insert.send(params![row, number, bytes])?;
        Ok(())
    })?;
    Ok(ObjectMeta {
        path: path.to_owned(),
        digest: body.digest,
        etag: etag_of_digest(&body.digest),
        length: body.length,
        stored_at: timestamp(millis(now))?,
        row,
    })
}

fn remove(connection: &Connection, row: i64) -> Result<(), StoreError> {
    connection
        .prepare("DELETE FROM objects WHERE id = ?1")?
        .execute(params![row])?;
    Ok(())
}

fn whole(connection: &Connection, meta: &ObjectMeta) -> Result<Bytes, StoreError> {
    let mut select = connection.prepare("SELECT bytes FROM object_chunks WHERE object_id = ?1 ORDER BY number")?;
    let mut rows = select.query(params![meta.row])?;
    let mut body = BytesMut::with_capacity(usize::try_from(meta.length).unwrap_or_default());
    while let Some(row) = rows.next()? {
        body.extend_from_slice(row.bytes(0)?);
    }
    if body.len() as u64 != meta.length {
        let (found, length) = (body.len(), meta.length);
        return Err(StoreError::corrupt(format!(
            "{}: {found} bytes, {length} expected",
            meta.path
        )));
    }
    Ok(body.freeze())
}
