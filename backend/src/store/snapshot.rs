//! Snapshots: one sealed body per (tenant, source), replaced whole.
//!
//! A body is a generation row and chunk rows of at most 1 MiB; the source's pointer is moved in
//! the transaction that writes them. The generation before stays readable for some minutes, so
//! that a slow download survives a replacement; [`Store::sweep`] removes it.

use std::time::Duration;

use super::sql::params;
use bytes::Bytes;
use dirless_wire::{AgePublicKey, AwsAccountId, ETag, SourceName};
use futures_util::Stream;
use jiff::Timestamp;
use serde_json::json;

use super::audit;
use super::body::{
    STATE_COLUMNS, current_tag, key_and_account, pointer, read_state, state, store_body, supersede, whole_body,
};
use super::policy::{Admission, admit};
use super::types::{millis, signed};
use super::{Change, Expected, Generation, Origin, SpooledBody, Store, StoreError, TenantHandle, trust};

/// How long a replaced or deleted body stays readable.
const KEPT_AFTER: Duration = Duration::from_secs(300);

/// What comes beside a body, from the request's headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotPut {
    /// `X-Dirless-Recipient`: the key it is sealed to.
    pub recipient: Option<AgePublicKey>,
    /// `X-AWS-Account-ID`.
    pub account: Option<AwsAccountId>,
    /// `X-Dirless-User-Count`.
    pub users: Option<u64>,
    /// `X-Dirless-Group-Count`.
    pub groups: Option<u64>,
}

/// What became of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum PutOutcome {
    /// It is the source's current snapshot and on disk.
    Stored(SnapshotMeta),
    /// It is sealed to another key than the registered one: 409.
    WrongRecipient {
        /// The registered key.
        registered: AgePublicKey,
    },
    /// It comes from another AWS account than the tenant's first: 409.
    OtherAccount {
        /// The first account.
        first: AwsAccountId,
    },
    /// Something else is stored than the writer expected: 412. Only from
    /// [`TenantHandle::put_snapshot_if`].
    Unexpected,
}

/// What became of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum DeleteOutcome {
    /// It is gone.
    Deleted,
    /// There was none.
    Nothing,
    /// Something else is stored than the caller expected: 412.
    Unexpected,
}

/// What is known of a stored snapshot without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// Its source.
    pub source: SourceName,
    /// Its number.
    pub generation: Generation,
    /// Tag of its body.
    pub etag: ETag,
    /// Length of its body in bytes.
    pub length: u64,
    /// The key it is sealed to, as its writer said.
    pub recipient: Option<AgePublicKey>,
    /// Users in it, as its writer said.
    pub users: Option<u64>,
    /// Groups in it, as its writer said.
    pub groups: Option<u64>,
    /// When it was stored last.
    pub stored_at: Timestamp,
    /// Row of the body.
    pub(crate) body: i64,
}

/// A source of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Nothing was ever stored: 404 `source_absent`.
    Absent,
    /// It was deleted: 404 `source_deleted`.
    Deleted {
        /// When.
        at: Timestamp,
        /// The number the deletion got.
        generation: Generation,
    },
    /// It has a snapshot.
    Present(SnapshotMeta),
}

impl TenantHandle {
    /// Stores a body as the current snapshot of `source`, if the tenant's key and account allow.
    /// A body equal to the current one keeps its generation and tag; its counts and time are new.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] and the other ways in which writing fails; nothing is stored then.
    pub async fn put_snapshot(
        &self,
        source: &SourceName,
        put: SnapshotPut,
        body: SpooledBody,
        origin: Origin,
    ) -> Result<PutOutcome, StoreError> {
        self.put_snapshot_if(source, put, Expected::Anything, body, origin)
            .await
    }

    /// [`TenantHandle::put_snapshot`], provided that what is stored is what the writer expects.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn put_snapshot_if(
        &self,
        source: &SourceName,
        put: SnapshotPut,
        expected: Expected,
        body: SpooledBody,
        origin: Origin,
    ) -> Result<PutOutcome, StoreError> {
        let (row, source, now, actor) = (self.row(), source.clone(), self.store().now(), self.actor(origin));
        let tenant = self.tenant().clone();
        let bytes = body.length;
        self.store()
            .write_body(bytes, move |connection, effects| {
                let (registered, bound) = key_and_account(connection, row)?;
                let bind = match admit(
                    &registered,
                    bound.as_ref(),
                    put.recipient.as_ref(),
                    put.account.as_ref(),
                ) {
                    Admission::Admit { bind } => bind,
                    Admission::WrongRecipient(registered) => return Ok(PutOutcome::WrongRecipient { registered }),
                    Admission::OtherAccount(first) => return Ok(PutOutcome::OtherAccount { first }),
                };
                if expected != Expected::Anything && !expected.holds(current_tag(connection, row, &source)?.as_ref()) {
                    return Ok(PutOutcome::Unexpected);
                }
                if let Some(account) = bind {
                    connection
                        .prepare("UPDATE tenants SET account = ?2 WHERE id = ?1")?
                        .execute(params![row, account.as_str()])?;
                    effects.changes.push(Change::Tenant { tenant: tenant.clone() });
                }
                let meta = store_body(connection, row, &source, &put, &body, now)?;
                let details = json!({
                    "source": source.as_str(), "generation": meta.generation.0, "etag": meta.etag.header(),
                    "length": meta.length, "users": meta.users, "groups": meta.groups,
                });
                audit::record(connection, now, &actor, Some(&tenant), "snapshot.put", &details)?;
                effects.changes.push(Change::Snapshot {
                    tenant: tenant.clone(),
                    source: source.clone(),
                    generation: meta.generation,
                    etag: meta.etag.clone(),
                });
                Ok(PutOutcome::Stored(meta))
            })
            .await
    }

    /// Deletes the current snapshot of `source`; `false` when there is none.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn delete_snapshot(&self, source: &SourceName, origin: Origin) -> Result<bool, StoreError> {
        let outcome = self.delete_snapshot_if(source, Expected::Anything, origin).await?;
        Ok(outcome == DeleteOutcome::Deleted)
    }

    /// [`TenantHandle::delete_snapshot`], provided that what is stored is what the caller expects.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn delete_snapshot_if(
        &self,
        source: &SourceName,
        expected: Expected,
        origin: Origin,
    ) -> Result<DeleteOutcome, StoreError> {
        let (row, source, now, actor) = (self.row(), source.clone(), self.store().now(), self.actor(origin));
        let tenant = self.tenant().clone();
        self.store()
            .write(move |connection, effects| {
                if expected != Expected::Anything && !expected.holds(current_tag(connection, row, &source)?.as_ref()) {
                    return Ok(DeleteOutcome::Unexpected);
                }
                let Some(pointer) = pointer(connection, row, &source)? else {
                    return Ok(DeleteOutcome::Nothing);
                };
                let Some(current) = pointer.current else {
                    return Ok(DeleteOutcome::Nothing);
                };
                let generation = Generation(pointer.last + 1);
                connection
                    .prepare("UPDATE sources SET last = ?2, current = NULL, deleted_at = ?3 WHERE id = ?1")?
                    .execute(params![pointer.row, signed(generation.0), millis(now)])?;
                supersede(connection, pointer.row, current, now)?;
                let details = json!({"source": source.as_str(), "generation": generation.0});
                audit::record(connection, now, &actor, Some(&tenant), "snapshot.delete", &details)?;
                effects.changes.push(Change::SourceDeleted {
                    tenant: tenant.clone(),
                    source: source.clone(),
                    generation,
                });
                Ok(DeleteOutcome::Deleted)
            })
            .await
    }

    /// The state of `source`, without its body.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn source(&self, source: &SourceName) -> Result<SourceState, StoreError> {
        let (row, source) = (self.row(), source.clone());
        self.store()
            .read(
                move |connection| Ok(state(connection, row, &source)?.map_or(SourceState::Absent, |(_, state)| state)),
            )
            .await
    }

    /// All sources ever written, by name.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn sources(&self) -> Result<Vec<(SourceName, SourceState)>, StoreError> {
        let row = self.row();
        self.store()
            .read(move |connection| {
                let mut select =
                    connection.prepare(&format!("{STATE_COLUMNS} WHERE s.tenant_id = ?1 ORDER BY s.source"))?;
                let mut rows = select.query(params![row])?;
                let mut states = Vec::new();
                while let Some(row) = rows.next()? {
                    states.push(read_state(row)?);
                }
                Ok(states)
            })
            .await
    }

    /// State and whole body of `source`, read as one: what a cache takes. The body is left out
    /// when it is longer than `longest` bytes; use [`TenantHandle::reader`] then.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn snapshot(
        &self,
        source: &SourceName,
        longest: u64,
    ) -> Result<(SourceState, Option<Bytes>), StoreError> {
        let (row, source) = (self.row(), source.clone());
        self.store()
            .read(move |connection| {
                let Some((_, state)) = state(connection, row, &source)? else {
                    return Ok((SourceState::Absent, None));
                };
                let body = match &state {
                    SourceState::Present(meta) if meta.length <= longest => Some(whole_body(connection, meta)?),
                    _ => None,
                };
                Ok((state, body))
            })
            .await
    }

    /// Reads a body chunk by chunk. It may be used for some minutes after its replacement.
    #[must_use]
    pub fn reader(&self, meta: &SnapshotMeta) -> BodyReader {
        BodyReader {
            store: self.store().clone(),
            chunks: "SELECT bytes FROM chunks WHERE generation_id = ?1 AND number = ?2",
            body: meta.body,
            left: meta.length,
            next: 0,
        }
    }
}

/// Reads one body, a chunk of at most 1 MiB at a time, each from its own short transaction.
#[derive(Debug)]
pub struct BodyReader {
    store: Store,
    chunks: &'static str,
    body: i64,
    left: u64,
    next: u32,
}

impl BodyReader {
    pub(crate) fn of_object(store: &Store, object: i64, length: u64) -> Self {
        Self {
            store: store.clone(),
            chunks: "SELECT bytes FROM object_chunks WHERE object_id = ?1 AND number = ?2",
            body: object,
            left: length,
            next: 0,
        }
    }

    /// The next chunk; `None` after the last.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] when the body is gone meanwhile, and when reading fails.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.left == 0 {
            return Ok(None);
        }
        let (chunks, body, number) = (self.chunks, self.body, self.next);
        let bytes = self
            .store
            .read(move |connection| {
                let mut select = connection.prepare(chunks)?;
                let bytes: Option<Vec<u8>> = select.query_optional(params![body, number], |row| row.get(0))?;
                Ok(Bytes::from(bytes.ok_or(StoreError::Superseded)?))
            })
            .await?;
        self.next += 1;
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| StoreError::corrupt("chunks longer than their body"))?;
        Ok(Some(bytes))
    }

    /// The rest of the body as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
        futures_util::stream::try_unfold(self, |mut reader| async move {
            Ok(reader.chunk().await?.map(|bytes| (bytes, reader)))
        })
    }
}

impl Store {
    /// Removes bodies that were replaced or deleted some minutes ago, and forgets what nodes said of old versions; gives the
    /// number of bodies.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn sweep(&self) -> Result<u64, StoreError> {
        let now = self.now();
        let before = millis(now) - i64::try_from(KEPT_AFTER.as_millis()).unwrap_or(i64::MAX);
        self.write(move |connection, _effects| {
            let swept = connection
                .prepare("DELETE FROM generations WHERE superseded_at IS NOT NULL AND superseded_at <= ?1")?
                .execute(params![before])?;
            trust::sweep_sightings(connection, now)?;
            Ok(swept)
        })
        .await
    }
}
