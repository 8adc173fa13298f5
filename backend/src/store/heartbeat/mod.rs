//! Heartbeats: absorbed in memory, flushed to the database in sorted batches.
//!
//! An agent that beats again costs a lock and two comparisons. What was flushed stays in memory,
//! with its row number, until room is needed; a row number makes the next flush an update by
//! integer key, which is ten times cheaper than an upsert by text key. When the directory was read
//! again the numbers are forgotten, for the database may be an earlier one: the next flush goes by name.

mod rows;
mod shard;

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher as _;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dirless_wire::TenantId;
use jiff::Timestamp;
use tokio::time::Instant;

use super::bypass::AllTenants;
use super::sql::Connection;
use super::types::{CLOCKS_APART, believed_until, millis};
use super::writer::Effects;
use super::{Store, StoreError, TenantHandle, TrustHandle};
use rows::{on_disk, write_batch};
pub(crate) use shard::Mark;
use shard::{Due, Shard};

/// Longest extras of one agent, in bytes of JSON.
pub const EXTRAS_MAX: usize = 8 * 1024;

/// Longest agent id and host name, in bytes.
const LABEL_MAX: usize = 255;

/// Locks that share the load; a power of two.
const SHARDS: usize = 16;

/// Beats written in one write of the store.
const BATCH: usize = 2000;

/// Bounds of the memory and the delay.
#[derive(Clone, Copy, Debug)]
pub struct HeartbeatLimits {
    /// Most bytes in memory, all agents together.
    pub bytes: usize,
    /// Time between flushes; what is lost at most when the machine stops, and only of presence.
    pub interval: Duration,
}

impl Default for HeartbeatLimits {
    fn default() -> Self {
        Self {
            bytes: 64 * 1024 * 1024,
            interval: Duration::from_secs(10),
        }
    }
}

/// One heartbeat.
#[derive(Clone, Copy, Debug)]
pub struct Beat<'a> {
    /// Who, unique within the tenant; 1 to 255 bytes.
    pub agent_id: &'a str,
    /// Its host; up to 255 bytes.
    pub hostname: &'a str,
    /// What else it said, as JSON; `None` keeps what it said before.
    pub extras: Option<&'a str>,
}

/// What became of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Absorbed {
    /// Counted; on disk after the next flush.
    Taken,
    /// Counted, but its extras are longer than [`EXTRAS_MAX`] and were left out.
    WithoutExtras,
    /// Its id or host name is empty or too long.
    Refused,
    /// The memory is full of beats that wait for the disk: ask again later.
    Full,
}

/// An agent and when it was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its id.
    pub agent_id: String,
    /// Its host.
    pub hostname: String,
    /// When.
    pub last_seen_at: Timestamp,
    /// What else it said, as JSON.
    pub extras: Option<String>,
}

/// Absorbs heartbeats. One for each store; share it behind an `Arc`.
pub struct HeartbeatSink {
    store: Store,
    limits: HeartbeatLimits,
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

impl std::fmt::Debug for HeartbeatSink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("HeartbeatSink")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl HeartbeatSink {
    /// An empty sink.
    #[must_use]
    pub fn new(store: Store, limits: HeartbeatLimits) -> Self {
        Self {
            store,
            limits,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Takes a heartbeat. Memory only, never waits for the disk.
    pub fn beat(&self, tenant: &TenantHandle, beat: Beat<'_>) -> Absorbed {
        self.beat_marked(tenant, beat, None)
    }

    /// What stands for this message in [`beat_marked`](Self::beat_marked) and
    /// [`beat_again`](Self::beat_again). Keyed, so that nobody can make two messages of one mark.
    pub(crate) fn mark(&self, message: &[u8]) -> Mark {
        Mark(self.hasher.hash_one(message))
    }

    /// [`beat`](Self::beat) for an agent whose whole message is the one its extras came in. `false`
    /// when it is not, or the agent is not in memory: nothing was taken then.
    pub(crate) fn beat_again(&self, tenant: &TenantHandle, beat: Beat<'_>, mark: Mark) -> bool {
        let now = millis(self.store.now());
        self.shard(beat.agent_id).take_again(tenant.tenant(), &beat, mark, now)
    }

    /// [`beat`](Self::beat), to be recognised by its mark when it comes again.
    pub(crate) fn beat_marked(&self, tenant: &TenantHandle, beat: Beat<'_>, mark: Option<Mark>) -> Absorbed {
        self.beat_of(tenant.tenant(), beat, mark)
    }

    /// A sign of life of a node, which is called by its name.
    pub(crate) fn node_beat(&self, tenant: &TrustHandle, name: &str) -> Absorbed {
        let beat = Beat {
            agent_id: name,
            hostname: name,
            extras: None,
        };
        self.beat_of(tenant.tenant(), beat, None)
    }

    fn beat_of(&self, tenant: &TenantId, beat: Beat<'_>, mark: Option<Mark>) -> Absorbed {
        // A NUL cannot be stored, and one beat must not keep its batch from the disk.
        let odd = |label: &str| label.len() > LABEL_MAX || label.contains('\0');
        if beat.agent_id.is_empty() || odd(beat.agent_id) || odd(beat.hostname) {
            return Absorbed::Refused;
        }
        let fits = beat
            .extras
            .is_none_or(|extras| extras.len() <= EXTRAS_MAX && !extras.contains('\0'));
        let beat = Beat {
            extras: beat.extras.filter(|_| fits),
            ..beat
        };
        let now = millis(self.store.now());
        let mut shard = self.shard(beat.agent_id);
        if !shard.take(tenant, &beat, mark, now, self.limits.bytes / SHARDS) {
            return Absorbed::Full;
        }
        if fits { Absorbed::Taken } else { Absorbed::WithoutExtras }
    }

    /// Writes what is ahead of the database. What could not be written stays for the next time.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn flush(&self) -> Result<usize, StoreError> {
        let mut written = 0;
        while !self.flush_due(&mut written).await? {}
        Ok(written)
    }

    /// One pass over what is due; `false` when the directory was read again meanwhile, and some of it waits still.
    async fn flush_due(&self, written: &mut usize) -> Result<bool, StoreError> {
        let loads = self.store.directory().loads();
        let mut due: Vec<Due> = self
            .shards
            .iter()
            .flat_map(|shard| locked(shard).due(loads, millis(self.store.now())))
            .collect();
        // Known rows in the order of the table, then new ones by their names.
        due.sort_unstable_by(|a, b| {
            (a.row.is_none(), a.row, &a.tenant, &a.agent_id).cmp(&(b.row.is_none(), b.row, &b.tenant, &b.agent_id))
        });
        while !due.is_empty() {
            let rest = due.split_off(due.len().min(BATCH));
            let batch = Arc::new(due);
            let outcome = self.write_rows(&batch, loads).await;
            let Ok(Some(rows)) = outcome else {
                for due in batch.iter().chain(&rest) {
                    self.shard(&due.agent_id).put_back(due);
                }
                return outcome.map(|_outdated| false);
            };
            *written += rows.iter().flatten().count();
            for (due, row) in batch.iter().zip(rows) {
                self.shard(&due.agent_id).learn(due, row, loads);
            }
            due = rest;
        }
        Ok(true)
    }

    /// Writes a batch whose rows are as of so many loads of the directory, and gives the row of each; `None`, and nothing
    /// written, when there was another load.
    async fn write_rows(&self, batch: &Arc<Vec<Due>>, loads: u64) -> Result<Option<Vec<Option<i64>>>, StoreError> {
        let (batch, directory, clock) = (
            Arc::clone(batch),
            Arc::clone(self.store.directory()),
            self.store.clock(),
        );
        let work = move |connection: &Connection, _: &mut Effects| {
            let current = directory.loads() == loads;
            let write = || write_batch(connection, &batch, believed_until(clock.now()));
            current.then(write).transpose()
        };
        self.store.write(work).await
    }

    /// Flushes, notes uses of tokens and keys, writes receipts and sweeps replaced bodies at every interval until `stop`, then
    /// flushes once more. A failed flush is logged and tried again at the next. Receipts that others may be waiting for are
    /// written in between.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut next = Instant::now() + self.limits.interval;
        loop {
            let stopping = tokio::select! {
                () = &mut stop => true,
                () = tokio::time::sleep_until(next) => false,
                () = self.store.receipts_due() => {
                    if let Err(error) = self.store.flush_receipts().await {
                        tracing::debug!(%error, "receipts stay in memory until the next flush");
                    }
                    continue;
                }
            };
            if let Err(error) = self.flush().await {
                tracing::warn!(%error, "heartbeats stay in memory until the next flush");
            }
            if let Err(error) = self.store.flush_token_uses().await {
                tracing::warn!(%error, "the last use of tokens was not written");
            }
            if let Err(error) = self.store.flush_key_uses().await {
                tracing::warn!(%error, "the last use of keys was not written");
            }
            // Which looks for split views when they are written.
            if let Err(error) = self.store.all_tenants_bypassing_realm_scope().split_views().await {
                tracing::warn!(%error, "receipts stay in memory until the next flush");
            }
            if stopping {
                return;
            }
            if let Err(error) = self.store.sweep().await {
                tracing::warn!(%error, "replaced bodies were not removed");
            }
            next = Instant::now() + self.limits.interval;
        }
    }

    /// The tenant's agents seen at or after `since`, from memory and disk, by id. Not those that were seen further in the
    /// future than `since` is in the past, by a clock that was ahead.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn active(&self, tenant: &TenantHandle, since: Timestamp) -> Result<Vec<Agent>, StoreError> {
        self.active_merged(Some((tenant.row(), tenant.tenant())), since).await
    }

    /// Agents in memory, flushed or not.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| locked(shard).agents.values().map(HashMap::len).sum::<usize>())
            .sum()
    }

    /// Of one tenant, by its row and name, or of all.
    pub(crate) async fn active_merged(
        &self,
        tenant: Option<(i64, &TenantId)>,
        since: Timestamp,
    ) -> Result<Vec<Agent>, StoreError> {
        let row = tenant.map(|(row, _)| row);
        let seen_at = around(millis(self.store.now()), millis(since));
        // Memory first: what leaves it before the disk is read is on disk by then, so that nobody falls between.
        let mut in_memory = Vec::new();
        for shard in &self.shards {
            locked(shard).each(tenant.map(|(_, name)| name), |tenant, agent_id, entry| {
                if seen_at.contains(&entry.last_seen) {
                    in_memory.push(((tenant.clone(), agent_id.to_owned()), entry.seen()));
                }
            });
        }
        let on_disk = self
            .store
            .read(move |connection| on_disk(connection, row, &seen_at))
            .await?;
        let names = AllTenants::names(&self.store);
        let named = on_disk
            .into_iter()
            .filter_map(|((row, agent_id), seen)| Some(((names.get(&row)?.clone(), agent_id), seen)));
        let mut found: BTreeMap<_, _> = named.collect();
        // Some may be of tenants that are lost with the database's last rows.
        in_memory.retain(|((tenant, _), _)| self.store.directory().binding(tenant.as_str()).is_some());
        for (place, mut seen) in in_memory {
            let known = found.remove(&place);
            // It may have beaten since, here or at another server.
            seen.last_seen = seen.last_seen.max(known.as_ref().map_or(0, |known| known.last_seen));
            seen.extras = seen.extras.or(known.and_then(|known| known.extras));
            found.insert(place, seen);
        }
        found
            .into_iter()
            .map(|((tenant, agent_id), seen)| seen.into_agent(tenant, agent_id))
            .collect()
    }

    fn shard(&self, agent_id: &str) -> MutexGuard<'_, Shard> {
        let number = self.hasher.hash_one(agent_id) as usize & (SHARDS - 1);
        let shard = self.shards.get(number).expect("the mask keeps the number below SHARDS");
        locked(shard)
    }
}

/// From `since` to as far in the future, for clocks may be apart, and what a clock wrote that was ahead is not true for ever.
fn around(now: i64, since: i64) -> RangeInclusive<i64> {
    let window = now.saturating_sub(since).max(CLOCKS_APART);
    since..=now.saturating_add(window)
}

fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
