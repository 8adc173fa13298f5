//! A small pool of reading connections, used on tokio's blocking threads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::postgres::Home;
use super::sql::Connection;
use super::{StoreError, schema};

/// How long a read tries to reach a database that does not answer. Shorter than the patience of writes: whoever
/// reads can be told to come again.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(110);

/// How long a read waits for others to be done, when they may be waiting for a database.
const QUEUED_MAX: Duration = Duration::from_secs(20);

/// Where connections come from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// The file of the embedded engine.
    File(PathBuf),
    /// A database of PostgreSQL.
    Home(Arc<Home>),
}

#[derive(Debug)]
pub(crate) struct Readers {
    origin: Origin,
    idle: Mutex<Vec<Connection>>,
    room: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(origin: Origin, connections: usize) -> Self {
        Self {
            origin,
            idle: Mutex::new(Vec::new()),
            room: Arc::new(Semaphore::new(connections.max(1))),
        }
    }

    /// Runs `work` inside one read transaction: it sees one state of the database, however long. It may run again
    /// when a connection is lost meanwhile.
    pub(crate) async fn read<T, F>(self: &Arc<Self>, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let room = Arc::clone(&self.room).acquire_owned();
        let permit = match &self.origin {
            Origin::File(_) => room.await,
            Origin::Home(_) => match tokio::time::timeout(QUEUED_MAX, room).await {
                Ok(permit) => permit,
                Err(_elapsed) => return Err(StoreError::Busy),
            },
        };
        let permit = permit.map_err(|_closed| StoreError::Closed)?;
        let pool = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            pool.read_here(work)
        });
        done.await.map_err(|_panicked| StoreError::Closed)?
    }

    fn read_here<T>(&self, mut work: impl FnMut(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let begun = Instant::now();
        loop {
            let outcome = self.take().and_then(|connection| {
                let answer = in_snapshot(&connection, &mut work);
                if connection.is_idle() && !self.room.is_closed() {
                    self.idle().push(connection);
                }
                answer
            });
            match outcome {
                Err(error) if self.tries_again(&error) && begun.elapsed() < PATIENCE => {
                    // Others that are idle are likely as dead.
                    self.idle().clear();
                    std::thread::sleep(PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    fn tries_again(&self, error: &StoreError) -> bool {
        matches!(self.origin, Origin::Home(_)) && !self.room.is_closed() && error.may_pass()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let idle = {
            let mut all = self.idle();
            std::iter::from_fn(|| all.pop()).find(Connection::is_idle)
        };
        match (idle, &self.origin) {
            (Some(connection), _) => Ok(connection),
            (None, Origin::File(path)) => Ok(Connection::Sqlite(schema::open_reader(path)?)),
            (None, Origin::Home(home)) => Ok(Connection::Postgres(home.connect(None)?)),
        }
    }

    /// Closes the idle connections and takes no more work.
    pub(crate) fn stop(&self) {
        self.room.close();
        self.idle().clear();
    }
}

fn in_snapshot<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.begin_reading()?;
    match work(connection) {
        Ok(answer) => connection.commit().map(|()| answer),
        Err(error) => {
            connection.rollback();
            Err(error)
        }
    }
}
