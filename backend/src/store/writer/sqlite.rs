//! Groups of writes on the embedded engine: one transaction a group, one savepoint a write.

use std::sync::Arc;

use super::super::StoreError;
use super::super::change::Change;
use super::super::sql::Connection;
use super::{Groups, Queued, Told};

/// The one connection that writes.
pub(crate) struct SqliteGroups {
    connection: Connection,
    seen: i64,
}

impl SqliteGroups {
    /// `loaded_at` is the [`data_version`] from before the directory was filled.
    pub(crate) fn new(connection: Connection, loaded_at: i64) -> Self {
        Self {
            connection,
            seen: loaded_at,
        }
    }
}

/// SQLite's `data_version` moves when another connection commits. Ours is the only writing one of
/// this process, so a move means another process, such as the command line.
pub(crate) fn data_version(connection: &Connection) -> i64 {
    let version = connection
        .prepare("PRAGMA data_version")
        .and_then(|mut pragma| pragma.query_row(&[], |row| row.get(0)));
    version.unwrap_or_default()
}

impl Groups for SqliteGroups {
    /// The file is asked at every tick, and tells nobody by itself.
    fn start(&mut self, _wake: Arc<dyn Fn() + Send + Sync>) {}

    fn look(&mut self, told: &Told) {
        let now = data_version(&self.connection);
        if now == self.seen {
            return;
        }
        match told.directory.load(&self.connection) {
            Ok(()) => {
                self.seen = now;
                told.notices.tell(Change::Everything);
            }
            Err(error) => tracing::error!(%error, "cannot read realms and tenants again; trying once more shortly"),
        }
    }

    fn commit(&mut self, mut group: Vec<Queued>, told: &Told) {
        if group.len() == 1 {
            group.into_iter().for_each(|queued| self.commit_alone(queued, told));
            return;
        }
        match self.try_group(&mut group) {
            Ok(refused) => {
                for (queued, refusal) in group.into_iter().zip(refused) {
                    self.finish(queued, refusal.map_or(Ok(()), Err), told);
                }
            }
            Err(error) => {
                tracing::debug!(%error, writes = group.len(), "a group of writes failed; trying each alone");
                if matches!(error, StoreError::DiskFull) {
                    self.shrink_log();
                }
                group.into_iter().for_each(|queued| self.commit_alone(queued, told));
            }
        }
    }

    fn close(&mut self) {
        // Leaves one plain file behind; failing that, the log is replayed at the next start.
        if !self.shrink_log() {
            tracing::warn!("the write-ahead log stays until the next start");
        }
    }
}

impl SqliteGroups {
    /// Runs the group in one transaction and gives back each write's own refusal, if any. An error
    /// means that nothing of the group is stored.
    fn try_group(&self, group: &mut [Queued]) -> Result<Vec<Option<StoreError>>, StoreError> {
        self.connection.begin_writing()?;
        let outcome = self.run_group(group).and_then(|refused| {
            self.connection.commit()?;
            Ok(refused)
        });
        if outcome.is_err() {
            self.connection.rollback();
        }
        outcome
    }

    fn run_group(&self, group: &mut [Queued]) -> Result<Vec<Option<StoreError>>, StoreError> {
        let mut refused = Vec::with_capacity(group.len());
        for queued in group {
            self.connection.batch("SAVEPOINT one")?;
            match queued.run(&self.connection) {
                Ok(()) => refused.push(None),
                // SQLite may have thrown away the whole transaction, or the room that this write
                // lacks was taken by another one of the group: each gets its own chance.
                Err(error) if matches!(error, StoreError::DiskFull) || self.connection.is_idle() => {
                    return Err(error);
                }
                Err(error) => {
                    self.connection.batch("ROLLBACK TO one")?;
                    refused.push(Some(error));
                }
            }
            self.connection.batch("RELEASE one")?;
        }
        Ok(refused)
    }

    fn commit_alone(&self, mut queued: Queued, told: &Told) {
        let mut outcome = self.try_alone(&mut queued);
        if outcome.is_err() {
            self.connection.rollback();
        }
        if matches!(outcome, Err(StoreError::DiskFull)) && self.shrink_log() {
            outcome = self.try_alone(&mut queued);
            if outcome.is_err() {
                self.connection.rollback();
            }
        }
        self.finish(queued, outcome, told);
    }

    fn finish(&self, queued: Queued, outcome: Result<(), StoreError>, told: &Told) {
        match outcome {
            Ok(()) => told.finish(queued, Some(&self.connection)),
            Err(error) => queued.refuse(error),
        }
    }

    /// Moves the write-ahead log into the database, whose free pages may have room for it, and
    /// cuts it to nothing; whether that worked.
    fn shrink_log(&self) -> bool {
        let blocked = self
            .connection
            .prepare("PRAGMA wal_checkpoint(TRUNCATE)")
            .and_then(|mut pragma| pragma.query_row(&[], |row| row.get::<i64>(0)));
        blocked.is_ok_and(|blocked| blocked == 0)
    }

    fn try_alone(&self, queued: &mut Queued) -> Result<(), StoreError> {
        self.connection.begin_writing()?;
        queued.run(&self.connection)?;
        self.connection.commit()
    }
}
