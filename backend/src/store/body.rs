//! The rows of snapshots: pointer, generation, chunks.

use super::sql::{Connection, Row, params};
use bytes::{Bytes, BytesMut};
use dirless_wire::{AgePublicKey, AwsAccountId, ETag, SourceName};
use jiff::Timestamp;

use super::directory::{parsed, parsed_or_null};
use super::types::{DIGEST, digest_column, etag_of_digest, millis, signed, timestamp, unsigned};
use super::{Generation, SnapshotMeta, SnapshotPut, SourceState, SpooledBody, StoreError};

pub(crate) struct Pointer {
    pub(crate) row: i64,
    pub(crate) last: u64,
    pub(crate) current: Option<i64>,
}

pub(crate) fn pointer(
    connection: &Connection,
    tenant: i64,
    source: &SourceName,
) -> Result<Option<Pointer>, StoreError> {
    let mut select =
        connection.prepare("SELECT id, last, current FROM sources WHERE tenant_id = ?1 AND source = ?2")?;
    let mut rows = select.query(params![tenant, source.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(Pointer {
        row: row.get(0)?,
        last: unsigned(row.get(1)?)?,
        current: row.get(2)?,
    }))
}

/// Tag of the current snapshot, if there is one.
pub(crate) fn current_tag(
    connection: &Connection,
    tenant: i64,
    source: &SourceName,
) -> Result<Option<ETag>, StoreError> {
    Ok(match state(connection, tenant, source)? {
        Some((_, SourceState::Present(meta))) => Some(meta.etag),
        _ => None,
    })
}

pub(crate) fn key_and_account(
    connection: &Connection,
    row: i64,
) -> Result<(AgePublicKey, Option<AwsAccountId>), StoreError> {
    let mut select = connection.prepare("SELECT public_key, account FROM tenants WHERE id = ?1")?;
    let mut rows = select.query(params![row])?;
    match rows.next()? {
        Some(row) => Ok((parsed(row, 0)?, parsed_or_null(row, 1)?)),
        None => Err(StoreError::corrupt(format!("tenant row {row} is gone"))),
    }
}

pub(crate) fn store_body(
    connection: &Connection,
    tenant: i64,
    source: &SourceName,
    put: &SnapshotPut,
    body: &SpooledBody,
    now: Timestamp,
) -> Result<SnapshotMeta, StoreError> {
    let pointer = match pointer(connection, tenant, source)? {
        Some(pointer) => pointer,
        None => first_pointer(connection, tenant, source, now)?,
    };
    let mut meta = SnapshotMeta {
        source: source.clone(),
        generation: Generation(pointer.last),
        etag: etag_of_digest(&body.digest),
        length: body.length,
        recipient: put.recipient.clone(),
        users: put.users,
        groups: put.groups,
        stored_at: timestamp(millis(now))?,
        body: pointer.current.unwrap_or_default(),
    };
    if let Some(current) = pointer.current
        && digest_of(connection, current)? == body.digest
    {
        refresh(connection, &meta)?;
        return Ok(meta);
    }
    meta.generation = Generation(pointer.last + 1);
    meta.body = insert_body(connection, pointer.row, &meta, body)?;
    connection
        .prepare("UPDATE sources SET last = ?2, current = ?3, deleted_at = NULL WHERE id = ?1")?
        .execute(params![pointer.row, signed(meta.generation.0), meta.body])?;
    if let Some(replaced) = pointer.current {
        supersede(connection, pointer.row, replaced, now)?;
    }
    Ok(meta)
}

fn first_pointer(
    connection: &Connection,
    tenant: i64,
    source: &SourceName,
    now: Timestamp,
) -> Result<Pointer, StoreError> {
    // "Deleted" until the pointer is set, which happens in the same transaction.
    let row = connection
        .prepare("INSERT INTO sources (tenant_id, source, last, deleted_at) VALUES (?1, ?2, 0, ?3) RETURNING id")?
        .query_row(params![tenant, source.as_str(), millis(now)], |row| row.get(0))?;
    Ok(Pointer {
        row,
        last: 0,
        current: None,
    })
}

fn digest_of(connection: &Connection, body: i64) -> Result<[u8; DIGEST], StoreError> {
    let bytes: Vec<u8> = connection
        .prepare("SELECT sha256 FROM generations WHERE id = ?1")?
        .query_row(params![body], |row| row.get(0))?;
    digest_column(&bytes)
}

fn refresh(connection: &Connection, meta: &SnapshotMeta) -> Result<(), StoreError> {
    connection
        .prepare("UPDATE generations SET recipient = ?2, users = ?3, groups = ?4, stored_at = ?5 WHERE id = ?1")?
        .execute(params![
            meta.body,
            meta.recipient.as_ref().map(AgePublicKey::as_str),
            meta.users.map(signed),
            meta.groups.map(signed),
            millis(meta.stored_at),
        ])?;
    Ok(())
}

fn insert_body(
    connection: &Connection,
    source: i64,
    meta: &SnapshotMeta,
    body: &SpooledBody,
) -> Result<i64, StoreError> {
    let chunks = body.length.div_ceil(super::CHUNK_MAX as u64);
    let row: i64 = connection
        .prepare(
            "INSERT INTO generations (source_id, generation, sha256, length, chunks, recipient, users, groups, stored_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) RETURNING id",
        )?
        .query_row(
            params![
                source,
                signed(meta.generation.0),
                body.digest,
                signed(body.length),
                signed(chunks),
                meta.recipient.as_ref().map(AgePublicKey::as_str),
                meta.users.map(signed),
                meta.groups.map(signed),
                millis(meta.stored_at),
            ],
            |row| row.get(0),
        )?;
    let mut insert = connection.prepare("INSERT INTO chunks (generation_id, number, bytes) VALUES (?1, ?2, ?3)")?;
    body.each_chunk(|number, bytes| {
        insert.send(params![row, number, bytes])?;
        Ok(())
    })?;
    Ok(row)
}

/// Marks a body as replaced, and removes those replaced before it: at most two bodies of a source
/// take space, however fast it is written.
pub(crate) fn supersede(connection: &Connection, source: i64, replaced: i64, now: Timestamp) -> Result<(), StoreError> {
    connection
        .prepare("DELETE FROM generations WHERE source_id = ?1 AND superseded_at IS NOT NULL")?
        .execute(params![source])?;
    connection
        .prepare("UPDATE generations SET superseded_at = ?2 WHERE id = ?1")?
        .execute(params![replaced, millis(now)])?;
    Ok(())
}

pub(crate) const STATE_COLUMNS: &str = "SELECT s.source, s.last, s.deleted_at, g.id, g.generation, g.sha256, g.length, \
     g.recipient, g.users, g.groups, g.stored_at FROM sources s LEFT JOIN generations g ON g.id = s.current";

pub(crate) fn state(
    connection: &Connection,
    tenant: i64,
    source: &SourceName,
) -> Result<Option<(SourceName, SourceState)>, StoreError> {
    let mut select = connection.prepare(&format!("{STATE_COLUMNS} WHERE s.tenant_id = ?1 AND s.source = ?2"))?;
    let mut rows = select.query(params![tenant, source.as_str()])?;
    rows.next()?.map(read_state).transpose()
}

pub(crate) fn read_state(row: Row<'_>) -> Result<(SourceName, SourceState), StoreError> {
    let source: SourceName = parsed(row, 0)?;
    let Some(body) = row.get::<Option<i64>>(3)? else {
        let state = SourceState::Deleted {
            at: timestamp(row.get(2)?)?,
            generation: Generation(unsigned(row.get(1)?)?),
        };
        return Ok((source, state));
    };
    let digest = digest_column(row.bytes(5)?)?;
    let meta = SnapshotMeta {
        source: source.clone(),
        generation: Generation(unsigned(row.get(4)?)?),
        etag: etag_of_digest(&digest),
        length: unsigned(row.get(6)?)?,
        recipient: parsed_or_null(row, 7)?,
        users: row.get::<Option<i64>>(8)?.map(unsigned).transpose()?,
        groups: row.get::<Option<i64>>(9)?.map(unsigned).transpose()?,
        stored_at: timestamp(row.get(10)?)?,
        body,
    };
    Ok((source, SourceState::Present(meta)))
}

pub(crate) fn whole_body(connection: &Connection, meta: &SnapshotMeta) -> Result<Bytes, StoreError> {
    let mut select = connection.prepare("SELECT bytes FROM chunks WHERE generation_id = ?1 ORDER BY number")?;
    let mut rows = select.query(params![meta.body])?;
    let mut body = BytesMut::with_capacity(usize::try_from(meta.length).unwrap_or_default());
    while let Some(row) = rows.next()? {
        body.extend_from_slice(row.bytes(0)?);
    }
    if body.len() as u64 != meta.length {
        return Err(StoreError::corrupt(format!(
            "a body of {} bytes, {} expected",
            body.len(),
            meta.length
        )));
    }
    Ok(body.freeze())
}
