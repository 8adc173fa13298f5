//! Groups of writes on PostgreSQL: one transaction a group, one group at a time over all backends.
//!
//! A group first takes the next number of the store, and with it the row lock that every other group
//! waits for. So each sees all before it, first-writer-wins and compare-and-swap hold across backends,
//! and the numbers rise in the order of the commits. On the way each group hears what others wrote.
//!
//! A connection may end while the server commits. The next one then asks, under the same lock, whether
//! this backend's last group is there: it is neither lost nor run twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dirless_program::Clock;

use super::super::change::Change;
use super::super::postgres::{self, CHANNEL, Found, Home, IN_USE, Wake};
use super::super::sql::{Connection, params};
use super::super::types::millis;
use super::super::{Purpose, StoreError, tenant};
use super::{Effects, Groups, Queued, Told};

/// How often an idle writer looks whether others have written, when no notice came.
const POLL: Duration = Duration::from_secs(2);

/// How long a write waits for a database that does not answer, or in the way of which others are: a
/// server that is promoted by hand is back sooner; for longer outages callers are told to come again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pauses between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// What a backend that vanished holds is let go, and what cannot go on ends before we stop waiting for it.
const SETTINGS: &str = "SET idle_in_transaction_session_timeout = '15s'; SET lock_timeout = '20s'; \
     SET statement_timeout = '25s'";

/// The one connection that writes, and listens.
pub(crate) struct PostgresGroups {
    home: Arc<Home>,
    purpose: Purpose,
    clock: Clock,
    /// Who we are among the writers.
    name: String,
    connection: Option<Connection>,
    wake: Option<Wake>,
    woken: Arc<AtomicBool>,
    looked: Instant,
    /// The number up to which all changes are known here.
    seen: i64,
    /// Whether the directory was filled at `seen`, and no connection was lost since.
    fresh: bool,
    /// Our last group, and whether it is unknown how its commit ended.
    group: i64,
    in_doubt: bool,
}

/// How a group came to be stored.
enum Stored {
    /// Now.
    Now,
    /// By the attempt before, whose connection ended first.
    Before,
}

impl PostgresGroups {
    /// `seen` is the store's number from before the directory was filled; `name` is nobody else's.
    pub(crate) fn new(home: Arc<Home>, purpose: Purpose, clock: Clock, name: String, seen: i64) -> Self {
        Self {
            home,
            purpose,
            clock,
            name,
            connection: None,
            wake: None,
            woken: Arc::new(AtomicBool::new(false)),
            looked: Instant::now(),
            seen,
            fresh: true,
            group: 0,
            in_doubt: false,
        }
    }

    /// A connection that is good as far as is known.
    fn connect(&mut self, told: &Told) -> Result<(), StoreError> {
        if self.connection.as_ref().is_some_and(Connection::is_idle) {
            return Ok(());
        }
        self.connection = None;
        let session = self.home.connect(self.wake.clone())?;
        let connection = Connection::Postgres(session);
        connection.batch(SETTINGS)?;
        durable(&connection)?;
        connection.batch(&format!("LISTEN {CHANNEL}"))?;
        if self.purpose == Purpose::Serve {
            share(&connection, &self.home)?;
        }
        if !self.fresh {
            self.read_all(&connection, told)?;
        }
        self.fresh = false;
        self.connection = Some(connection);
        Ok(())
    }

    /// Reads everything again: after a loss of the connection, and when too far behind. A standby that
    /// was promoted may know less than what was seen.
    fn read_all(&mut self, connection: &Connection, told: &Told) -> Result<(), StoreError> {
        connection.begin_reading()?;
        let (sequence, _) = postgres::look(connection)?;
        told.directory.load(connection)?;
        connection.commit()?;
        self.seen = sequence;
        told.notices.tell(Change::Everything);
        Ok(())
    }

    /// Learns what groups up to `last` changed.
    fn follow(&mut self, connection: &Connection, last: i64, forgotten: i64, told: &Told) -> Result<(), StoreError> {
        if last == self.seen {
            return Ok(());
        }
        if last < self.seen || self.seen < forgotten {
            told.directory.load(connection)?;
            told.notices.tell(Change::Everything);
            self.seen = last;
            return Ok(());
        }
        let all = postgres::read(connection, self.seen, last)?;
        // First what is asked without the database, then the caches, as for our own writes.
        if all.contains(&Found::Bearers) {
            told.directory.load_bearers(connection)?;
        }
        for found in &all {
            match found {
                Found::Binding(row) => told.directory.bind(Arc::new(tenant::current(connection, *row)?)),
                Found::Keys(row) => told.directory.load_keys(connection, *row)?,
                Found::Bearers | Found::Change(_) => {}
            }
        }
        for found in all {
            if let Found::Change(change) = found {
                told.notices.tell(change);
            }
        }
        self.seen = last;
        Ok(())
    }

    fn look_now(&mut self, told: &Told) -> Result<(), StoreError> {
        self.connect(told)?;
        let Some(connection) = self.connection.take() else {
            return Ok(());
        };
        let outcome = (|| {
            connection.begin_reading()?;
            let (sequence, forgotten) = postgres::look(&connection)?;
            self.follow(&connection, sequence, forgotten, told)?;
            connection.commit()
        })();
        if outcome.is_err() {
            connection.rollback();
        }
        self.connection = Some(connection).filter(Connection::is_idle);
        outcome
    }

    fn try_group(&mut self, group: &mut [Queued], told: &Told) -> Result<Stored, StoreError> {
        self.connect(told)?;
        let Some(connection) = self.connection.take() else {
            return Err(StoreError::Closed);
        };
        let outcome = self.run(&connection, group, told);
        if outcome.is_err() {
            connection.rollback();
        }
        self.connection = Some(connection).filter(Connection::is_idle);
        outcome
    }

    fn run(&mut self, connection: &Connection, group: &mut [Queued], told: &Told) -> Result<Stored, StoreError> {
        connection.begin_writing()?;
        let (sequence, forgotten) = connection
            .prepare("UPDATE store_state SET sequence = sequence + 1 WHERE id = 1 RETURNING sequence, forgotten")?
            .query_row(params![], |row| Ok((row.get::<i64>(0)?, row.get(1)?)))?;
        self.follow(connection, sequence - 1, forgotten, told)?;
        if self.in_doubt && self.is_there(connection)? {
            // This commit, of a number without changes, is answered when the one before is as durable.
            connection.commit()?;
            self.in_doubt = false;
            self.seen = sequence;
            return Ok(Stored::Before);
        }
        self.in_doubt = false;
        for queued in &mut *group {
            queued.run(connection)?;
        }
        let now = millis(self.clock.now());
        let any = postgres::note(connection, sequence, group.iter().map(|queued| &queued.effects))?;
        connection
            .prepare(
                "INSERT INTO writers (writer, last_group, written_at) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (writer) DO UPDATE SET last_group = excluded.last_group, written_at = excluded.written_at",
            )?
            .send(params![self.name, self.group, now])?;
        postgres::forget(connection, sequence, now)?;
        if any {
            connection
                .prepare("SELECT pg_notify(?1, ?2)")?
                .send(params![CHANNEL, self.name])?;
        }
        self.in_doubt = true;
        let committed = connection.commit();
        if connection.is_idle() {
            self.in_doubt = false;
        }
        committed?;
        self.seen = sequence;
        Ok(Stored::Now)
    }

    /// Whether our last group was stored.
    fn is_there(&self, connection: &Connection) -> Result<bool, StoreError> {
        let last: Option<i64> = connection
            .prepare("SELECT last_group FROM writers WHERE writer = ?1")?
            .query_optional(params![self.name], |row| row.get(0))?;
        Ok(last == Some(self.group))
    }
}

impl Groups for PostgresGroups {
    fn start(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        let (woken, own) = (Arc::clone(&self.woken), self.name.clone());
        self.wake = Some(Arc::new(move |writer| {
            // What we wrote ourselves is known here.
            if writer != Some(&own) {
                woken.store(true, Ordering::Release);
                wake();
            }
        }));
    }

    fn look(&mut self, told: &Told) {
        if !self.woken.swap(false, Ordering::AcqRel) && self.looked.elapsed() < POLL && self.connection.is_some() {
            return;
        }
        self.looked = Instant::now();
        if let Err(error) = self.look_now(told) {
            tracing::debug!(%error, "cannot look what others wrote");
        }
    }

    fn commit(&mut self, mut group: Vec<Queued>, told: &Told) {
        self.group += 1;
        let mut pause = PAUSES.0;
        loop {
            match self.try_group(&mut group, told) {
                Ok(stored) => {
                    for mut queued in group {
                        if matches!(stored, Stored::Before) {
                            // Told already, in its place among those of others.
                            queued.effects = Effects::default();
                        }
                        told.finish(queued, self.connection.as_ref());
                    }
                    return;
                }
                Err(error) if error.may_pass() => {
                    group = refuse_late(group, &error);
                    if group.is_empty() {
                        self.in_doubt = false;
                        return;
                    }
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(PAUSES.1);
                }
                Err(error) if group.len() == 1 => {
                    self.in_doubt = false;
                    group.into_iter().for_each(|queued| queued.refuse(error.clone()));
                    return;
                }
                Err(error) => {
                    self.in_doubt = false;
                    tracing::debug!(%error, writes = group.len(), "a group of writes failed; trying each alone");
                    for queued in group {
                        self.commit(vec![queued], told);
                    }
                    return;
                }
            }
        }
    }

    fn close(&mut self) {
        self.connection = None;
    }
}

/// Refuses those that have waited long enough; gives the others.
fn refuse_late(group: Vec<Queued>, error: &StoreError) -> Vec<Queued> {
    let (late, patient): (Vec<_>, Vec<_>) = group.into_iter().partition(|queued| queued.since.elapsed() >= PATIENCE);
    late.into_iter().for_each(|queued| queued.refuse(error.clone()));
    patient
}

/// An acknowledged write must survive: a database whose commits are not durable by its own settings is told
/// to make ours so. Anything stricter stays.
fn durable(connection: &Connection) -> Result<(), StoreError> {
    let set: String = connection
        .prepare("SELECT current_setting('synchronous_commit')")?
        .query_row(params![], |row| row.get(0))?;
    if set == "off" {
        connection.batch("SET synchronous_commit = on")?;
    }
    Ok(())
}

/// Says that a server uses the database, unless it is being copied.
fn share(connection: &Connection, home: &Home) -> Result<(), StoreError> {
    let free: bool = connection
        .prepare("SELECT pg_try_advisory_lock_shared(?1)")?
        .query_row(params![IN_USE], |row| row.get(0))?;
    if free {
        return Ok(());
    }
    Err(StoreError::InUse {
        path: home.place().to_string().into(),
    })
}
