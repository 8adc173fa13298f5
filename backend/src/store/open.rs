//! Opening a store on either engine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::directory::Directory;
use super::lock::Lock;
use super::postgres::{self, Home, PostgresPlace};
use super::readers::Origin;
use super::sql::Connection;
use super::writer::{Groups, PostgresGroups, SqliteGroups, data_version};
use super::{Purpose, StoreError, StoreOptions, TokenId, schema};

/// How long a server waits for its database when it starts: after a power cut they start together.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Where a store is.
#[derive(Clone, Debug)]
pub struct Location {
    /// The storage folder: the database of the embedded engine; in any case bodies on their way in.
    pub folder: PathBuf,
    /// The database of PostgreSQL; `None` is the embedded engine.
    pub database: Option<PostgresPlace>,
}

impl<P: AsRef<Path>> From<P> for Location {
    fn from(folder: P) -> Self {
        Self {
            folder: folder.as_ref().to_owned(),
            database: None,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.database {
            Some(place) => place.fmt(formatter),
            None => self.folder.display().fmt(formatter),
        }
    }
}

/// Which engine keeps a store, and how it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineState {
    /// `sqlite` or `postgresql`.
    pub name: &'static str,
    /// Whether the last that was heard of it was an answer.
    pub reachable: bool,
}

/// What a store is made of, before its threads start.
pub(super) struct Opened {
    pub(super) groups: Box<dyn Groups>,
    pub(super) origin: Origin,
    pub(super) home: Option<Arc<Home>>,
    pub(super) lock: Option<Lock>,
}

pub(super) fn sqlite(folder: &Path, purpose: Purpose, directory: &Directory) -> Result<Opened, StoreError> {
    let lock = Lock::take(folder, purpose)?;
    let path = folder.join(schema::DATABASE);
    let connection = Connection::Sqlite(schema::open_writer(&path)?);
    // In this order: what another process commits from here on is noticed later.
    let loaded_at = data_version(&connection);
    directory.load(&connection)?;
    Ok(Opened {
        groups: Box::new(SqliteGroups::new(connection, loaded_at)),
        origin: Origin::File(path),
        home: None,
        lock: Some(lock),
    })
}

pub(super) fn postgresql(
    place: &PostgresPlace,
    options: &StoreOptions,
    purpose: Purpose,
    directory: &Directory,
) -> Result<Opened, StoreError> {
    let home = Home::new(place.clone())?;
    // A thread of its own: the caller's may be one where nothing may wait.
    let seen = std::thread::scope(|scope| {
        let filled = scope.spawn(|| fill(&home, purpose, directory)).join();
        filled.unwrap_or(Err(StoreError::Closed))
    })?;
    // Nobody else's, and no secret.
    let name = TokenId::generate(&ring::rand::SystemRandom::new())?;
    let groups = PostgresGroups::new(
        Arc::clone(&home),
        purpose,
        options.clock.clone(),
        name.as_str().to_owned(),
        seen,
    );
    Ok(Opened {
        groups: Box::new(groups),
        origin: Origin::Home(Arc::clone(&home)),
        home: Some(home),
        lock: None,
    })
}

/// Brings the schema up to date and fills the directory; gives the number of the last group in it.
fn fill(home: &Arc<Home>, purpose: Purpose, directory: &Directory) -> Result<i64, StoreError> {
    let begun = Instant::now();
    loop {
        let outcome = home.connect(None).and_then(|session| {
            let connection = postgres::migrate(session, home.place())?;
            connection.begin_reading()?;
            let (sequence, _) = postgres::look(&connection)?;
            directory.load(&connection)?;
            connection.commit()?;
            Ok(sequence)
        });
        match outcome {
            Err(error) if error.may_pass() && purpose == Purpose::Serve && begun.elapsed() < PATIENCE => {
                tracing::debug!(%error, "waiting for the database");
                std::thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}
