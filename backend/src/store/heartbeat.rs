//! Heartbeats: absorbed in memory, flushed to the database in sorted batches.
//!
//! An agent that beats again costs a lock and two comparisons. What was flushed stays in memory,
//! with its row number, until room is needed; a row number makes the next flush an update by
//! integer key, which is ten times cheaper than an upsert by text key.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dirless_wire::TenantId;
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::bypass::AllTenants;
use super::types::{millis, timestamp};
use super::{Store, StoreError, TenantHandle};

/// Longest extras of one agent, in bytes of JSON.
pub const EXTRAS_MAX: usize = 8 * 1024;

/// Longest agent id and host name, in bytes.
const LABEL_MAX: usize = 255;

/// Locks that share the load; a power of two.
const SHARDS: usize = 16;

/// Beats written in one write of the store.
const BATCH: usize = 2000;

/// Bytes an entry takes beside its texts: map slots, three fat pointers, numbers.
const ENTRY_OVERHEAD: usize = 160;

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

/// How far an entry is ahead of the database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ahead {
    No,
    Seen,
    Changed,
}

struct Entry {
    row: Option<i64>,
    hostname: Box<str>,
    extras: Option<Box<str>>,
    last_seen: i64,
    ahead: Ahead,
}

#[derive(Default)]
struct Shard {
    agents: HashMap<i64, HashMap<Box<str>, Entry>>,
    bytes: usize,
}

/// A copy of what has to be written.
struct Due {
    tenant: i64,
    agent_id: Box<str>,
    row: Option<i64>,
    hostname: Box<str>,
    extras: Option<Box<str>>,
    last_seen: i64,
    ahead: Ahead,
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
        if beat.agent_id.is_empty() || beat.agent_id.len() > LABEL_MAX || beat.hostname.len() > LABEL_MAX {
            return Absorbed::Refused;
        }
        let fits = beat.extras.is_none_or(|extras| extras.len() <= EXTRAS_MAX);
        let extras = beat.extras.filter(|_| fits);
        let now = millis(self.store.now());
        let mut shard = self.shard(beat.agent_id);
        if !shard.take(tenant.row(), &beat, extras, now, self.limits.bytes / SHARDS) {
            return Absorbed::Full;
        }
        if fits { Absorbed::Taken } else { Absorbed::WithoutExtras }
    }

    /// Writes what is ahead of the database. What could not be written stays for the next time.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn flush(&self) -> Result<usize, StoreError> {
        let mut due: Vec<Due> = self.shards.iter().flat_map(|shard| locked(shard).due()).collect();
        // Known rows in the order of the table, then new ones in the order of their index.
        due.sort_unstable_by(|a, b| {
            (a.row.is_none(), a.row, a.tenant, &a.agent_id).cmp(&(b.row.is_none(), b.row, b.tenant, &b.agent_id))
        });
        let mut written = 0;
        while !due.is_empty() {
            let rest = due.split_off(due.len().min(BATCH));
            let batch = std::sync::Arc::new(due);
            let job = std::sync::Arc::clone(&batch);
            match self
                .store
                .write(move |connection, _effects| write_batch(connection, &job))
                .await
            {
                Ok(rows) => {
                    written += batch.len();
                    for (due, row) in batch.iter().zip(rows) {
                        self.shard(&due.agent_id).learn(due, row);
                    }
                }
                Err(error) => {
                    for due in batch.iter().chain(&rest) {
                        self.shard(&due.agent_id).put_back(due);
                    }
                    return Err(error);
                }
            }
            due = rest;
        }
        Ok(written)
    }

    /// Flushes, notes token uses and sweeps replaced bodies at every interval until `stop`, then
    /// flushes once more. A failed flush is logged and tried again at the next.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let stopping = tokio::select! {
                () = &mut stop => true,
                () = tokio::time::sleep(self.limits.interval) => false,
            };
            if let Err(error) = self.flush().await {
                tracing::warn!(%error, "heartbeats stay in memory until the next flush");
            }
            if let Err(error) = self.store.flush_token_uses().await {
                tracing::warn!(%error, "the last use of tokens was not written");
            }
            if stopping {
                return;
            }
            if let Err(error) = self.store.sweep().await {
                tracing::warn!(%error, "replaced bodies were not removed");
            }
        }
    }

    /// The tenant's agents seen at or after `since`, from memory and disk, by id.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn active(&self, tenant: &TenantHandle, since: Timestamp) -> Result<Vec<Agent>, StoreError> {
        self.active_merged(Some(tenant.row()), since).await
    }

    /// Agents in memory, flushed or not.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| locked(shard).agents.values().map(HashMap::len).sum::<usize>())
            .sum()
    }

    pub(crate) async fn active_merged(&self, tenant: Option<i64>, since: Timestamp) -> Result<Vec<Agent>, StoreError> {
        let since = millis(since);
        // Disk first: a beat between the two reads is newer in memory and wins.
        let mut found = self
            .store
            .read(move |connection| on_disk(connection, tenant, since))
            .await?;
        for shard in &self.shards {
            locked(shard).each(tenant, |key, agent_id, entry| {
                if entry.last_seen >= since {
                    let place = (key, agent_id.to_owned());
                    let known = found.remove(&place).and_then(|seen| seen.extras);
                    let mut seen = entry.seen();
                    seen.extras = seen.extras.or(known);
                    found.insert(place, seen);
                }
            });
        }
        let names = AllTenants::names(&self.store);
        let mut agents = found
            .into_iter()
            .filter_map(|((row, agent_id), seen)| names.get(&row).map(|tenant| seen.into_agent(tenant, agent_id)))
            .collect::<Result<Vec<_>, _>>()?;
        agents.sort_by(|a, b| (&a.tenant, &a.agent_id).cmp(&(&b.tenant, &b.agent_id)));
        Ok(agents)
    }

    fn shard(&self, agent_id: &str) -> MutexGuard<'_, Shard> {
        let number = self.hasher.hash_one(agent_id) as usize & (SHARDS - 1);
        let shard = self.shards.get(number).expect("the mask keeps the number below SHARDS");
        locked(shard)
    }
}

fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is shown of an agent.
struct Seen {
    hostname: String,
    last_seen: i64,
    extras: Option<String>,
}

impl Seen {
    fn into_agent(self, tenant: &TenantId, agent_id: String) -> Result<Agent, StoreError> {
        Ok(Agent {
            tenant: tenant.clone(),
            agent_id,
            hostname: self.hostname,
            last_seen_at: timestamp(self.last_seen)?,
            extras: self.extras,
        })
    }
}

impl Entry {
    fn seen(&self) -> Seen {
        Seen {
            hostname: self.hostname.to_string(),
            last_seen: self.last_seen,
            extras: self.extras.as_deref().map(str::to_owned),
        }
    }

    fn bytes(&self, agent_id: &str) -> usize {
        ENTRY_OVERHEAD + agent_id.len() + self.hostname.len() + self.extras.as_deref().map_or(0, str::len)
    }

    fn differs(&self, beat: &Beat<'_>, extras: Option<&str>) -> bool {
        *self.hostname != *beat.hostname || extras.is_some_and(|extras| self.extras.as_deref() != Some(extras))
    }
}

impl Shard {
    /// Takes a beat, if there is or can be made room for it in `room` bytes.
    fn take(&mut self, tenant: i64, beat: &Beat<'_>, extras: Option<&str>, now: i64, room: usize) -> bool {
        let growth = beat.agent_id.len() + beat.hostname.len() + extras.map_or(0, str::len) + ENTRY_OVERHEAD;
        if let Some(entry) = self
            .agents
            .get_mut(&tenant)
            .and_then(|agents| agents.get_mut(beat.agent_id))
        {
            entry.last_seen = entry.last_seen.max(now);
            entry.ahead = entry.ahead.max(Ahead::Seen);
            if !entry.differs(beat, extras) {
                return true;
            }
        }
        if self.bytes + growth > room {
            self.forget_flushed();
        }
        if self.bytes + growth > room {
            return false;
        }
        let agents = self.agents.entry(tenant).or_default();
        let before = agents.remove(beat.agent_id);
        let entry = Entry {
            row: before.as_ref().and_then(|entry| entry.row),
            hostname: beat.hostname.into(),
            extras: match (extras, &before) {
                (Some(extras), _) => Some(extras.into()),
                (None, before) => before.as_ref().and_then(|entry| entry.extras.clone()),
            },
            last_seen: now,
            ahead: Ahead::Changed,
        };
        self.bytes += entry.bytes(beat.agent_id);
        self.bytes -= before.map_or(0, |entry| entry.bytes(beat.agent_id));
        agents.insert(beat.agent_id.into(), entry);
        true
    }

    /// Drops what the database has.
    fn forget_flushed(&mut self) {
        let mut bytes = 0;
        for agents in self.agents.values_mut() {
            agents.retain(|agent_id, entry| {
                let keep = entry.ahead != Ahead::No;
                bytes += if keep { entry.bytes(agent_id) } else { 0 };
                keep
            });
        }
        self.agents.retain(|_, agents| !agents.is_empty());
        self.bytes = bytes;
    }

    /// Copies what is ahead and takes it as written; [`Shard::put_back`] undoes that.
    fn due(&mut self) -> Vec<Due> {
        let mut due = Vec::new();
        for (tenant, agents) in &mut self.agents {
            for (agent_id, entry) in agents.iter_mut().filter(|(_, entry)| entry.ahead != Ahead::No) {
                let ahead = std::mem::replace(&mut entry.ahead, Ahead::No);
                let texts = ahead == Ahead::Changed || entry.row.is_none();
                due.push(Due {
                    tenant: *tenant,
                    agent_id: agent_id.clone(),
                    row: entry.row,
                    hostname: if texts { entry.hostname.clone() } else { "".into() },
                    extras: if texts { entry.extras.clone() } else { None },
                    last_seen: entry.last_seen,
                    ahead: if texts { Ahead::Changed } else { ahead },
                });
            }
        }
        due
    }

    fn entry(&mut self, due: &Due) -> Option<&mut Entry> {
        self.agents.get_mut(&due.tenant)?.get_mut(&due.agent_id)
    }

    fn learn(&mut self, due: &Due, row: i64) {
        if let Some(entry) = self.entry(due) {
            entry.row = Some(row);
        }
    }

    fn put_back(&mut self, due: &Due) {
        if let Some(entry) = self.entry(due) {
            entry.ahead = entry.ahead.max(due.ahead);
        }
    }

    fn each(&self, tenant: Option<i64>, mut take: impl FnMut(i64, &str, &Entry)) {
        let wanted = self
            .agents
            .iter()
            .filter(|(key, _)| tenant.is_none_or(|only| only == **key));
        for (key, agents) in wanted {
            agents.iter().for_each(|(agent_id, entry)| take(*key, agent_id, entry));
        }
    }
}

/// Writes one batch and gives the row of each.
fn write_batch(connection: &Connection, batch: &[Due]) -> Result<Vec<i64>, StoreError> {
    let mut seen = connection.prepare_cached("UPDATE agents SET last_seen_at = max(last_seen_at, ?2) WHERE id = ?1")?;
    let mut changed = connection.prepare_cached(
        "UPDATE agents SET last_seen_at = max(last_seen_at, ?2), hostname = ?3, extras = coalesce(?4, extras) \
         WHERE id = ?1",
    )?;
    let mut new = connection.prepare_cached(
        "INSERT INTO agents (tenant_id, agent_id, hostname, last_seen_at, extras) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (tenant_id, agent_id) DO UPDATE SET hostname = excluded.hostname, \
         last_seen_at = max(agents.last_seen_at, excluded.last_seen_at), \
         extras = coalesce(excluded.extras, agents.extras) RETURNING id",
    )?;
    let mut rows = Vec::with_capacity(batch.len());
    for due in batch {
        match due.row {
            Some(row) if due.ahead == Ahead::Seen => {
                seen.execute(params![row, due.last_seen])?;
                rows.push(row);
            }
            Some(row) => {
                changed.execute(params![row, due.last_seen, due.hostname, due.extras])?;
                rows.push(row);
            }
            None => {
                let values = params![due.tenant, due.agent_id, due.hostname, due.last_seen, due.extras];
                rows.push(new.query_row(values, |row| row.get(0))?);
            }
        }
    }
    Ok(rows)
}

fn on_disk(
    connection: &Connection,
    tenant: Option<i64>,
    since: i64,
) -> Result<BTreeMap<(i64, String), Seen>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT tenant_id, agent_id, hostname, last_seen_at, extras FROM agents \
         WHERE last_seen_at >= ?1 AND (?2 IS NULL OR tenant_id = ?2)",
    )?;
    let rows = select.query_map(params![since, tenant], |row| {
        let seen = Seen {
            hostname: row.get(2)?,
            last_seen: row.get(3)?,
            extras: row.get(4)?,
        };
        Ok(((row.get(0)?, row.get(1)?), seen))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
