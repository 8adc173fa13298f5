//! Receipts: what each node said it applied, opaque and signed. The last one of a node is kept. They are presence,
//! like heartbeats: in memory at once, on disk with the next flush.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::sql::params;
use bytes::Bytes;
use dirless_wire::trust::{KeyId, RECEIPT_MAX};
use jiff::Timestamp;

use super::super::directory::parsed;
use super::super::types::{millis, signed, timestamp};
use super::super::{Store, StoreError};
use super::objects::Page;
use super::{Caller, PAGE_MAX, TrustHandle};

/// Most bytes that wait for the disk.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a receipt costs besides its bytes.
const OVERHEAD: usize = 96;

/// Receipts written in one write of the store.
const BATCH: usize = 1000;

/// The last receipt of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its key.
    pub node: KeyId,
    /// When it came.
    pub received_at: Timestamp,
    /// Its bytes.
    pub bytes: Bytes,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By the row of the key.
    receipts: HashMap<i64, (Bytes, i64)>,
    bytes: usize,
}

/// Receipts that wait for the disk.
#[derive(Debug, Default)]
pub(crate) struct Receipts(Mutex<Waiting>);

impl Receipts {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// `false` when there is no room.
    fn take(&mut self, key: i64, receipt: Bytes, at: i64) -> bool {
        let before = self.receipts.get(&key).map_or(0, |(bytes, _)| bytes.len() + OVERHEAD);
        let after = self.bytes - before + receipt.len() + OVERHEAD;
        if after > BYTES_MAX {
            return false;
        }
        self.bytes = after;
        self.receipts.insert(key, (receipt, at));
        true
    }

    /// After a failed write: what came meanwhile is newer.
    fn put_back(&mut self, batch: &[(i64, Bytes, i64)]) {
        for (key, receipt, at) in batch {
            if !self.receipts.contains_key(key) {
                // Without room the node says it again in a minute.
                let _no_room = self.take(*key, receipt.clone(), *at);
            }
        }
    }
}

impl TrustHandle {
    /// Takes the receipt of the node that asks; `false` when too many wait for the disk. Memory only.
    ///
    /// It is 1 to [`RECEIPT_MAX`] bytes long; others are the caller's to refuse, and are not kept.
    #[must_use]
    pub fn put_receipt(&self, receipt: &Bytes) -> bool {
        let fits = (1..=RECEIPT_MAX).contains(&(receipt.len() as u64));
        let Caller::Key(key) = &self.caller else { return true };
        // Copied: the piece of the request that it came in may be far larger.
        let kept = Bytes::copy_from_slice(receipt);
        !fits
            || self
                .store
                .receipts()
                .lock()
                .take(key.row, kept, millis(self.store.now()))
    }

    /// The last receipts of nodes after `after`, by key; at most `limit` and [`PAGE_MAX`]. Of nodes whose key was
    /// revoked there is none.
    ///
    /// # Errors
    /// When reading fails, or writing what waits.
    pub async fn receipts(&self, after: &str, limit: usize) -> Result<Page<Receipt>, StoreError> {
        self.store.flush_receipts().await?;
        let (row, after, limit) = (self.row(), after.to_owned(), limit.clamp(1, PAGE_MAX));
        self.store
            .read(move |connection| {
                let mut select = connection.prepare(
                    "SELECT k.key, r.received_at, r.receipt FROM keys k JOIN receipts r ON r.key_id = k.id \
                     WHERE k.tenant_id = ?1 AND k.revoked_at IS NULL AND k.key > ?2 ORDER BY k.key LIMIT ?3",
                )?;
                let mut rows = select.query(params![row, after, signed(limit as u64 + 1)])?;
                let mut entries = Vec::new();
                while let Some(row) = rows.next()? {
                    entries.push(Receipt {
                        node: parsed(row, 0)?,
                        received_at: timestamp(row.get(1)?)?,
                        bytes: row.get::<Vec<u8>>(2)?.into(),
                    });
                }
                Ok(Page::cut(entries, limit))
            })
            .await
    }
}

impl Store {
    /// Writes the receipts that wait; [`super::super::HeartbeatSink::run`] calls it.
    ///
    /// # Errors
    /// When writing fails; what was not written waits for the next time.
    pub async fn flush_receipts(&self) -> Result<(), StoreError> {
        let waiting = std::mem::take(&mut *self.receipts().lock());
        let mut due: Vec<_> = waiting
            .receipts
            .into_iter()
            .map(|(key, (bytes, at))| (key, bytes, at))
            .collect();
        due.sort_unstable_by_key(|(key, ..)| *key);
        while !due.is_empty() {
            let rest = due.split_off(due.len().min(BATCH));
            let batch = Arc::new(due);
            let job = Arc::clone(&batch);
            let written = self
                .write(move |connection, _effects| {
                    let mut upsert = connection.prepare(
                        "INSERT INTO receipts (key_id, receipt, received_at) VALUES (?1, ?2, ?3) \
                         ON CONFLICT (key_id) DO UPDATE SET receipt = excluded.receipt, \
                         received_at = excluded.received_at WHERE excluded.received_at >= receipts.received_at",
                    )?;
                    for (key, receipt, at) in job.iter() {
                        upsert.send(params![key, receipt.as_ref(), at])?;
                    }
                    Ok(())
                })
                .await;
            if let Err(error) = written {
                let mut waiting = self.receipts().lock();
                waiting.put_back(&batch);
                waiting.put_back(&rest);
                return Err(error);
            }
            due = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_newer_receipts_stay() {
        let mut waiting = Waiting::default();
        let long = Bytes::from(vec![b'x'; 1 << 20]);
        let taken = (0..100).filter(|key| waiting.take(*key, long.clone(), 1)).count();
        assert_eq!(taken, BYTES_MAX / ((1 << 20) + OVERHEAD));
        assert!(waiting.take(0, Bytes::from_static(b"short"), 2), "it makes room");
        waiting.put_back(&[(0, long.clone(), 1), (5000, Bytes::from_static(b"y"), 1)]);
        assert_eq!(waiting.receipts[&0].0, "short");
        assert!(waiting.receipts.contains_key(&5000));
        let sum: usize = waiting.receipts.values().map(|(bytes, _)| bytes.len() + OVERHEAD).sum();
        assert_eq!(sum, waiting.bytes);
    }
}
