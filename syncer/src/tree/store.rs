//! The store: one connection that writes, and as many that read as are wanted at a time.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dirless_directory::{AttributeName, Dn, Entry, Rdn, Schema};
use dirless_program::Clock;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::watch;

use super::actor::Actor;
use super::context::Context;
use super::modify::Modification;
use super::read::{Page, Query, Reader};
use super::record::Record;
use super::write::{Batch, Expect, Put};
use super::{TreeError, database, skeleton};

/// Connections that are kept for the next reader.
const READERS: usize = 16;

/// What a tree is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The database file.
    pub path: PathBuf,
    /// The name above all others; it starts with `dc`, `o` or `ou`.
    pub base: Dn,
    /// What entries may hold.
    pub schema: Schema,
    /// Attributes that are indexed besides those that always are.
    pub indexed: Vec<AttributeName>,
}

/// The directory tree.
///
/// Reads run beside each other and beside one write, and see the state that was committed when they
/// began. Every method blocks for as long as SQLite takes: from async code call them on a blocking thread.
#[derive(Debug)]
pub struct TreeStore {
    path: PathBuf,
    context: Context,
    clock: Clock,
    /// Closed before the writer: only that can bring its log into the file, and it does when it is the last to go.
    readers: Mutex<Vec<Connection>>,
    writer: Mutex<Connection>,
    state: watch::Sender<u64>,
}

impl TreeStore {
    /// Opens the tree, makes it when it is missing, and adds what is missing of its skeleton.
    ///
    /// # Errors
    /// When the file cannot be used, or the settings make no sense.
    pub fn open(settings: Settings, clock: Clock) -> Result<Self, TreeError> {
        let context = Context::new(settings.schema, settings.base, &settings.indexed)?;
        let store = Self {
            writer: Mutex::new(database::open_writer(&settings.path)?),
            path: settings.path,
            context,
            clock,
            readers: Mutex::new(Vec::new()),
            state: watch::Sender::new(0),
        };
        store.prepare()?;
        store.refresh()?;
        Ok(store)
    }

    /// Opens a tree that is there to look at it; whatever writes fails. When the schema has changed
    /// since it was written last, searches do without indexes.
    ///
    /// # Errors
    /// When the file cannot be used, or the settings make no sense.
    pub fn open_to_read(settings: Settings, clock: Clock) -> Result<Self, TreeError> {
        let mut context = Context::new(settings.schema, settings.base, &settings.indexed)?;
        let connection = database::open_reader(&settings.path)?;
        let reader = Reader {
            connection: &connection,
            context: &context,
        };
        if reader.fingerprint()? != Some(context.fingerprint()) {
            context.without_indexes();
        }
        Ok(Self {
            writer: Mutex::new(connection),
            path: settings.path,
            context,
            clock,
            readers: Mutex::new(Vec::new()),
            state: watch::Sender::new(0),
        })
    }

    fn prepare(&self) -> Result<(), TreeError> {
        let missing = self.read(|reader| -> Result<_, TreeError> {
            let known = reader.fingerprint()?;
            Ok((known != Some(self.context.fingerprint()), skeleton::is_missing(reader)?))
        })?;
        if missing == (false, false) {
            return Ok(());
        }
        self.write(&Actor::syncer(), |batch| {
            if missing.0 {
                batch.rebuild()?;
                let sql = "INSERT OR REPLACE INTO settings (name, value) VALUES ('fingerprint', ?1)";
                batch.reader().connection.execute(sql, [self.context.fingerprint()])?;
            }
            skeleton::add(batch)
        })
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The schema that entries follow.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.context.schema
    }

    /// The name above all others.
    #[must_use]
    pub fn base(&self) -> &Dn {
        &self.context.base
    }

    /// Runs `work` on one state of the tree.
    ///
    /// # Errors
    /// What `work` reports, or the database.
    pub fn read<T, E: From<TreeError>>(&self, work: impl FnOnce(Reader<'_>) -> Result<T, E>) -> Result<T, E> {
        let kept = lock(&self.readers).pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => database::open_reader(&self.path)?,
        };
        let outcome = {
            let transaction = connection.transaction().map_err(TreeError::from)?;
            work(Reader {
                connection: &transaction,
                context: &self.context,
            })
        };
        let mut readers = lock(&self.readers);
        if readers.len() < READERS {
            readers.push(connection);
        }
        outcome
    }

    /// Runs `work` in one transaction: all of it happens, on disk when this returns, or nothing.
    /// Others that write wait; those that read do not.
    ///
    /// # Errors
    /// What `work` reports, or the database.
    pub fn write<T, E: From<TreeError>>(
        &self,
        actor: &Actor,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = lock(&self.writer);
        let failed = |error: rusqlite::Error| E::from(TreeError::from(error));
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let mut batch = Batch::new(&transaction, &self.context, actor, self.clock.now())?;
        let outcome = work(&mut batch)?;
        let reader = batch.reader();
        batch.finish()?;
        let state = reader.state()?;
        transaction.commit().map_err(failed)?;
        self.announce(state);
        Ok(outcome)
    }

    /// Follows the number of the newest change: it wakes whoever waits when there are new ones.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.state.subscribe()
    }

    /// Looks for changes that another process made, and wakes whoever waits for them. Answers the
    /// number of the newest change.
    ///
    /// # Errors
    /// When the database fails.
    pub fn refresh(&self) -> Result<u64, TreeError> {
        let state = self.read(|reader| reader.state())?;
        self.announce(state);
        Ok(state)
    }

    fn announce(&self, state: u64) {
        self.state.send_if_modified(|known| {
            let newer = state > *known;
            *known = state.max(*known);
            newer
        });
    }

    /// [`Reader::get`] on the state of now.
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, dn: &Dn) -> Result<Option<Record>, TreeError> {
        self.read(|reader| reader.get(dn))
    }

    /// [`Reader::search`] on the state of now.
    ///
    /// # Errors
    /// As there.
    pub fn search(&self, query: &Query<'_>, limit: usize) -> Result<Page, TreeError> {
        self.read(|reader| reader.search(query, limit))
    }

    /// [`Batch::add`] alone.
    ///
    /// # Errors
    /// As there.
    pub fn add(&self, actor: &Actor, entry: &Entry) -> Result<(), TreeError> {
        self.write(actor, |batch| batch.add(entry))
    }

    /// [`Batch::put`] alone.
    ///
    /// # Errors
    /// As there.
    pub fn put(&self, actor: &Actor, entry: &Entry, expect: Expect) -> Result<Put, TreeError> {
        self.write(actor, |batch| batch.put(entry, expect))
    }

    /// [`Batch::modify`] alone.
    ///
    /// # Errors
    /// As there.
    pub fn modify(&self, actor: &Actor, dn: &Dn, steps: &[Modification], expect: Expect) -> Result<bool, TreeError> {
        self.write(actor, |batch| batch.modify(dn, steps, expect))
    }

    /// [`Batch::delete`] alone.
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self, actor: &Actor, dn: &Dn, expect: Expect) -> Result<(), TreeError> {
        self.write(actor, |batch| batch.delete(dn, expect))
    }

    /// [`Batch::rename`] alone.
    ///
    /// # Errors
    /// As there.
    pub fn rename(
        &self,
        actor: &Actor,
        dn: &Dn,
        rdn: Rdn,
        delete_old: bool,
        above: Option<&Dn>,
        expect: Expect,
    ) -> Result<(), TreeError> {
        self.write(actor, |batch| batch.rename(dn, rdn, delete_old, above, expect))
    }
}

/// A panic while the lock was held left at worst a transaction that SQLite has rolled back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
