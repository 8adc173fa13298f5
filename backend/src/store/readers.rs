//! A small pool of reading connections, used on tokio's blocking threads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::sql::Connection;
use tokio::sync::Semaphore;

use super::{StoreError, schema};

#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    room: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf, connections: usize) -> Self {
        Self {
            path,
            idle: Mutex::new(Vec::new()),
            room: Arc::new(Semaphore::new(connections.max(1))),
        }
    }

    /// Runs `work` inside one read transaction: it sees one state of the database, however long.
    pub(crate) async fn read<T, F>(self: &Arc<Self>, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.room)
            .acquire_owned()
            .await
            .map_err(|_closed| StoreError::Closed)?;
        let pool = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = pool.take()?;
            let answer = in_snapshot(&connection, work);
            if connection.is_idle() {
                pool.idle
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(connection);
            }
            answer
        });
        done.await.map_err(|_panicked| StoreError::Closed)?
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => Ok(Connection::Sqlite(schema::open_reader(&self.path)?)),
        }
    }

    /// Closes the idle connections and takes no more work.
    pub(crate) fn stop(&self) {
        self.room.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn in_snapshot<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.batch("BEGIN")?;
    let answer = work(connection);
    connection.batch("COMMIT")?;
    answer
}
