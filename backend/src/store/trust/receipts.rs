//! Receipts: what each node said it applied, opaque and signed. The last one of a node is kept. They are presence,
//! like heartbeats: in memory at once, on disk with the next flush, or soon where others wait for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::sql::{Connection, params};
use super::super::writer::Effects;
use bytes::Bytes;
use dirless_wire::trust::{KeyId, RECEIPT_MAX};
use jiff::Timestamp;

use super::super::directory::parsed;
use super::super::types::{believed_until, millis, signed, timestamp};
use super::super::{Store, StoreError};
use super::haste::Haste;
use super::objects::Page;
use super::sightings::{self, Known, Sighting};
use super::{Caller, KeyCredential, PAGE_MAX, TrustHandle};

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

/// A receipt that waits for the disk.
#[derive(Clone, Debug)]
struct Kept {
    /// The row of its tenant.
    tenant: i64,
    /// Its node's. By the time it is written the row of the key may be nobody's, or another's.
    key: Arc<KeyCredential>,
    bytes: Bytes,
    at: i64,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By the row of the key.
    receipts: HashMap<i64, Kept>,
    bytes: usize,
}

/// Receipts that wait for the disk, and what is known of those before.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    waiting: Mutex<Waiting>,
    known: Mutex<Known>,
    haste: Haste,
    splits: AtomicUsize,
}

impl Receipts {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_splits(&self, splits: usize) {
        self.splits.store(splits, Ordering::Relaxed);
    }
}

impl Waiting {
    /// `false` when there is no room.
    fn take(&mut self, key: i64, receipt: Kept) -> bool {
        let before = self.receipts.get(&key).map_or(0, |kept| kept.bytes.len() + OVERHEAD);
        let after = self.bytes - before + receipt.bytes.len() + OVERHEAD;
        if after > BYTES_MAX {
            return false;
        }
        self.bytes = after;
        self.receipts.insert(key, receipt);
        true
    }

    /// After a failed write: what came meanwhile is newer.
    fn put_back(&mut self, batch: &[(i64, Kept)]) {
        for (key, receipt) in batch {
            if !self.receipts.contains_key(key) {
                // Without room the node says it again in a minute.
                let _no_room = self.take(*key, receipt.clone());
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
        let kept = Kept {
            tenant: self.row(),
            key: Arc::clone(key),
            bytes: Bytes::copy_from_slice(receipt),
            at: millis(self.store.now()),
        };
        if !fits {
            return true;
        }
        let receipts = self.store.receipts();
        let taken = receipts.lock().take(key.row, kept);
        // Whoever reads receipts here finds them in memory.
        if taken && self.store.is_shared() {
            receipts.haste.take(key.row, receipt, self.store.stored(self.tenant()));
        }
        taken
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
    /// Ends when receipts are there that other backends' readers may be waiting for: at most five times a second.
    pub(crate) async fn receipts_due(&self) {
        self.receipts().haste.due(tokio::time::sleep).await;
    }

    /// Writes the receipts that wait, and raises the alarm about those that contradict others;
    /// [`super::super::HeartbeatSink::run`] calls it. One whose key is not there is left out: the database lost it.
    ///
    /// # Errors
    /// When writing fails; what was not written waits for the next time.
    pub async fn flush_receipts(&self) -> Result<(), StoreError> {
        let waiting = std::mem::take(&mut *self.receipts().lock());
        let mut due: Vec<_> = waiting.receipts.into_iter().collect();
        due.sort_unstable_by_key(|(key, _)| *key);
        while !due.is_empty() {
            let rest = due.split_off(due.len().min(BATCH));
            let batch = Arc::new(due);
            if let Err(error) = self.write_receipts(&batch).await {
                let mut waiting = self.receipts().lock();
                waiting.put_back(&batch);
                waiting.put_back(&rest);
                return Err(error);
            }
            due = rest;
        }
        Ok(())
    }

    async fn write_receipts(&self, batch: &Arc<Vec<(i64, Kept)>>) -> Result<(), StoreError> {
        let (batch, directory, clock) = (Arc::clone(batch), Arc::clone(self.directory()), self.clock());
        let loads = directory.loads();
        let news = {
            let mut known = self.receipts().known();
            known.follow(loads);
            news_of(&known, &batch)
        };
        let work = move |connection: &Connection, _: &mut Effects| {
            // What was known to be there may be lost.
            let anew = (directory.loads() != loads).then(|| news_of(&Known::default(), &batch));
            let news = anew.as_ref().unwrap_or(&news);
            let names = if news.is_empty() {
                HashMap::new()
            } else {
                directory.tenant_names()
            };
            let now = clock.now();
            write(connection, &batch, believed_until(now))?;
            Ok((sightings::write(connection, news, &names, now)?, names))
        };
        let (written, names) = self.write(work).await?;
        self.receipts().known().learn(&written, loads);
        written.tell(&names);
        Ok(())
    }

    /// Split views there were when somebody looked last: [`crate::store::AllTenants::split_views`]. Memory only, never waits.
    #[must_use]
    pub fn split_views_known(&self) -> usize {
        self.receipts().splits.load(Ordering::Relaxed)
    }
}

/// What of a batch is not known yet.
fn news_of(known: &Known, batch: &[(i64, Kept)]) -> Vec<Sighting> {
    let news = batch
        .iter()
        .map(|(_, kept)| known.news(kept.tenant, &kept.key, &kept.bytes));
    news.flatten().collect()
}

/// Writes the receipts whose keys are there. Later ones stay, those whose time is believed.
fn write(connection: &Connection, batch: &[(i64, Kept)], believed_until: i64) -> Result<(), StoreError> {
    let mut upsert = connection.prepare(
        "INSERT INTO receipts (key_id, receipt, received_at) \
         SELECT id, ?4, ?5 FROM keys WHERE id = ?1 AND tenant_id = ?2 AND key = ?3 \
         ON CONFLICT (key_id) DO UPDATE SET receipt = excluded.receipt, \
         received_at = excluded.received_at \
         WHERE excluded.received_at >= receipts.received_at OR receipts.received_at > ?6",
    )?;
    for (row, Kept { tenant, key, bytes, at }) in batch {
        upsert.send(params![
            row,
            tenant,
            key.id().to_string(),
            bytes.as_ref(),
            at,
            believed_until
        ])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_newer_receipts_stay() {
        let mut waiting = Waiting::default();
        let long = Bytes::from(vec![b'x'; 1 << 20]);
        let kept = |bytes: &Bytes, at| Kept {
            tenant: 1,
            key: KeyCredential::example(1),
            bytes: bytes.clone(),
            at,
        };
        let taken = (0..100).filter(|key| waiting.take(*key, kept(&long, 1))).count();
        assert_eq!(taken, BYTES_MAX / ((1 << 20) + OVERHEAD));
        assert!(waiting.take(0, kept(&Bytes::from_static(b"short"), 2)), "it makes room");
        waiting.put_back(&[(0, kept(&long, 1)), (5000, kept(&Bytes::from_static(b"y"), 1))]);
        assert_eq!(waiting.receipts[&0].bytes, "short");
        assert!(waiting.receipts.contains_key(&5000));
        let sum: usize = waiting.receipts.values().map(|kept| kept.bytes.len() + OVERHEAD).sum();
        assert_eq!(sum, waiting.bytes);
    }
}
