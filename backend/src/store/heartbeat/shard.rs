//! One share of the agents in memory.

use std::collections::HashMap;

use dirless_wire::TenantId;

use super::super::StoreError;
use super::super::types::timestamp;
use super::{Agent, Beat};

/// Bytes an entry takes beside its texts: map slots, three fat pointers, numbers.
const ENTRY_OVERHEAD: usize = 176;

/// How far an entry is ahead of the database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ahead {
    No,
    Seen,
    Changed,
}

pub(super) struct Entry {
    pub(super) row: Option<i64>,
    pub(super) hostname: Box<str>,
    pub(super) extras: Option<Box<str>>,
    /// [`Mark`] of the message that the extras came in.
    mark: Option<Mark>,
    pub(super) last_seen: i64,
    pub(super) ahead: Ahead,
    /// Whether a copy is on its way to the disk: until it is there, this is the only other one.
    writing: bool,
}

/// Stands for the whole text of a message: two messages of one mark are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(pub(super) u64);

#[derive(Default)]
pub(super) struct Shard {
    pub(super) agents: HashMap<TenantId, HashMap<Box<str>, Entry>>,
    pub(super) bytes: usize,
    /// After how many loads of the directory the rows were learned.
    loads: u64,
}

/// A copy of what has to be written.
pub(super) struct Due {
    pub(super) tenant: TenantId,
    pub(super) agent_id: Box<str>,
    pub(super) row: Option<i64>,
    pub(super) hostname: Box<str>,
    pub(super) extras: Option<Box<str>>,
    pub(super) last_seen: i64,
    pub(super) ahead: Ahead,
}

/// What is shown of an agent.
pub(super) struct Seen {
    pub(super) hostname: String,
    pub(super) last_seen: i64,
    pub(super) extras: Option<String>,
}

impl Seen {
    pub(super) fn into_agent(self, tenant: TenantId, agent_id: String) -> Result<Agent, StoreError> {
        Ok(Agent {
            tenant,
            agent_id,
            hostname: self.hostname,
            last_seen_at: timestamp(self.last_seen)?,
            extras: self.extras,
        })
    }
}

impl Entry {
    pub(super) fn seen(&self) -> Seen {
        Seen {
            hostname: self.hostname.to_string(),
            last_seen: self.last_seen,
            extras: self.extras.as_deref().map(str::to_owned),
        }
    }

    fn bytes(&self, agent_id: &str) -> usize {
        ENTRY_OVERHEAD + agent_id.len() + self.hostname.len() + self.extras.as_deref().map_or(0, str::len)
    }

    fn differs(&self, beat: &Beat<'_>) -> bool {
        let says_else = |extras| self.extras.as_deref() != Some(extras);
        *self.hostname != *beat.hostname || beat.extras.is_some_and(says_else)
    }
}

impl Shard {
    /// Takes a beat of an agent that says, to the letter, what it said last; `false` when it does not.
    pub(super) fn take_again(&mut self, tenant: &TenantId, beat: &Beat<'_>, mark: Mark, now: i64) -> bool {
        let agents = self.agents.get_mut(tenant);
        let Some(entry) = agents.and_then(|agents| agents.get_mut(beat.agent_id)) else {
            return false;
        };
        if entry.mark != Some(mark) || *entry.hostname != *beat.hostname {
            return false;
        }
        entry.last_seen = now;
        entry.ahead = entry.ahead.max(Ahead::Seen);
        true
    }

    /// Takes a beat, if there is or can be made room for it in `room` bytes.
    pub(super) fn take(
        &mut self,
        tenant: &TenantId,
        beat: &Beat<'_>,
        mark: Option<Mark>,
        now: i64,
        room: usize,
    ) -> bool {
        let extras = beat.extras;
        let growth = beat.agent_id.len() + beat.hostname.len() + extras.map_or(0, str::len) + ENTRY_OVERHEAD;
        if let Some(entry) = self
            .agents
            .get_mut(tenant)
            .and_then(|agents| agents.get_mut(beat.agent_id))
        {
            entry.last_seen = now;
            entry.ahead = entry.ahead.max(Ahead::Seen);
            if !entry.differs(beat) {
                if extras.is_some() {
                    entry.mark = mark;
                }
                return true;
            }
        }
        if self.bytes + growth > room {
            self.forget_flushed();
        }
        if self.bytes + growth > room {
            return false;
        }
        let agents = self.agents.entry(tenant.clone()).or_default();
        let before = agents.remove(beat.agent_id);
        let entry = Entry {
            row: before.as_ref().and_then(|entry| entry.row),
            hostname: beat.hostname.into(),
            mark: match extras {
                Some(_) => mark,
                None => before.as_ref().and_then(|entry| entry.mark),
            },
            extras: match (extras, &before) {
                (Some(extras), _) => Some(extras.into()),
                (None, before) => before.as_ref().and_then(|entry| entry.extras.clone()),
            },
            last_seen: now,
            ahead: Ahead::Changed,
            writing: before.as_ref().is_some_and(|entry| entry.writing),
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
                let keep = entry.ahead != Ahead::No || entry.writing;
                bytes += if keep { entry.bytes(agent_id) } else { 0 };
                keep
            });
        }
        self.agents.retain(|_, agents| !agents.is_empty());
        self.bytes = bytes;
    }

    /// Copies what is ahead and takes it as written; [`Shard::put_back`] undoes that. With rows only when they were learned
    /// after as many `loads` of the directory, and not seen later than `now`: the clock may have been ahead.
    pub(super) fn due(&mut self, loads: u64, now: i64) -> Vec<Due> {
        self.follow(loads);
        let mut due = Vec::new();
        for (tenant, agents) in &mut self.agents {
            for (agent_id, entry) in agents.iter_mut().filter(|(_, entry)| entry.ahead != Ahead::No) {
                let ahead = std::mem::replace(&mut entry.ahead, Ahead::No);
                entry.writing = true;
                entry.last_seen = entry.last_seen.min(now);
                let texts = ahead == Ahead::Changed || entry.row.is_none();
                due.push(Due {
                    tenant: tenant.clone(),
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

    /// Forgets the rows that were learned after another number of loads.
    fn follow(&mut self, loads: u64) {
        if std::mem::replace(&mut self.loads, loads) != loads {
            let entries = self.agents.values_mut().flat_map(HashMap::values_mut);
            entries.for_each(|entry| entry.row = None);
        }
    }

    fn entry(&mut self, due: &Due) -> Option<&mut Entry> {
        self.agents.get_mut(&due.tenant)?.get_mut(&due.agent_id)
    }

    /// After a write: the row it went to, as of so many loads.
    pub(super) fn learn(&mut self, due: &Due, row: Option<i64>, loads: u64) {
        let row = row.filter(|_| self.loads == loads);
        if let Some(entry) = self.entry(due) {
            entry.row = row;
            entry.writing = false;
        }
    }

    pub(super) fn put_back(&mut self, due: &Due) {
        if let Some(entry) = self.entry(due) {
            entry.ahead = entry.ahead.max(due.ahead);
            entry.writing = false;
        }
    }

    /// The agents of one tenant or all.
    pub(super) fn each(&self, tenant: Option<&TenantId>, mut take: impl FnMut(&TenantId, &str, &Entry)) {
        let wanted = self
            .agents
            .iter()
            .filter(|(key, _)| tenant.is_none_or(|only| only == *key));
        for (key, agents) in wanted {
            agents.iter().for_each(|(agent_id, entry)| take(key, agent_id, entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_the_clock_is_set_back_times_follow() {
        let (mut shard, tenant) = (Shard::default(), "t".parse().unwrap());
        let beat = |agent_id| Beat {
            agent_id,
            hostname: "vm",
            extras: Some("{}"),
        };
        let room = 1 << 20;
        for agent_id in ["a", "b", "c"] {
            assert!(shard.take(&tenant, &beat(agent_id), Some(Mark(1)), 90_000, room));
        }
        assert!(shard.take_again(&tenant, &beat("a"), Mark(1), 5_000));
        assert!(shard.take(&tenant, &beat("b"), Some(Mark(1)), 6_000, room));
        let mut due = shard.due(0, 7_000);
        due.sort_by(|one, other| one.agent_id.cmp(&other.agent_id));
        let times: Vec<_> = due.iter().map(|due| (&*due.agent_id, due.last_seen)).collect();
        assert_eq!(times, [("a", 5_000), ("b", 6_000), ("c", 7_000)]);
    }
}
