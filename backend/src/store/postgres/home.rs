//! The database as a place that connections come from.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_postgres::config::Host;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::StoreError;
use super::place::Protection;
use super::{PostgresPlace, Session, tls};

/// Longest attempt to connect, all hosts together.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// How long those that were asked are waited for before the next host is asked as well: one that hangs takes
/// connections and says nothing.
const NEXT_HOST: Duration = Duration::from_millis(500);

/// For how long after a failed attempt nobody else tries: a thousand requests must not be a thousand
/// attempts at a server that is just coming back.
const QUIET: Duration = Duration::from_millis(100);

/// Called for each notice of a change with the name of the writer that made it, and with none when the connection that
/// listens has ended.
pub(crate) type Wake = Arc<dyn Fn(Option<&str>) + Send + Sync>;

/// A database and what it takes to reach it. Its sockets are served by a thread of their own, so that
/// the threads of the store can wait for answers.
pub(crate) struct Home {
    place: PostgresPlace,
    tls: Option<MakeRustlsConnect>,
    runtime: Option<Runtime>,
    reachable: AtomicBool,
    /// How often an answer was given up.
    given_up: AtomicU64,
    failed: Mutex<Option<(Instant, StoreError)>>,
}

impl fmt::Debug for Home {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Home").field(&self.place).finish()
    }
}

impl Home {
    /// Connects to nothing yet.
    pub(crate) fn new(place: PostgresPlace) -> Result<Arc<Self>, StoreError> {
        let tls = match place.protection() {
            Protection::None => None,
            Protection::Full(file) => Some(tls::connector(file.as_deref())?),
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store-sockets")
            .enable_all()
            .build()
            .map_err(|error| StoreError::Engine(Arc::new(error)))?;
        Ok(Arc::new(Self {
            place,
            tls,
            runtime: Some(runtime),
            reachable: AtomicBool::new(true),
            given_up: AtomicU64::new(0),
            failed: Mutex::new(None),
        }))
    }

    pub(crate) fn place(&self) -> &PostgresPlace {
        &self.place
    }

    /// Whether the last that was heard of the database was an answer.
    pub(crate) fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// How often an answer was given up. Whoever hangs is likely at the other end of every session that began before.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    /// An answer is waited for no longer.
    pub(super) fn give_up(&self) {
        self.given_up.fetch_add(1, Ordering::Relaxed);
        self.answered(false);
    }

    pub(super) fn answered(&self, did: bool) {
        let before = self.reachable.swap(did, Ordering::Relaxed);
        if before != did {
            if did {
                tracing::info!(database = %self.place, "the store's database answers");
            } else {
                tracing::error!(database = %self.place, "the store's database does not answer: reads of what is in memory go on, writes are refused until it does");
            }
        }
    }

    pub(super) fn handle(&self) -> &Handle {
        let runtime = self.runtime.as_ref();
        runtime.expect("the runtime is only taken by the drop").handle()
    }

    /// A new connection to the server that takes writes. `wake` hears of notices, once the session listens. Blocks.
    pub(crate) fn connect(self: &Arc<Self>, wake: Option<Wake>) -> Result<Session, StoreError> {
        if let Some((when, error)) = &*self.failed.lock().unwrap_or_else(PoisonError::into_inner)
            && when.elapsed() < QUIET
        {
            return Err(error.clone());
        }
        let attempt = async { tokio::time::timeout(CONNECT_MAX, self.first_that_writes(wake)).await };
        let outcome = self.handle().block_on(attempt).unwrap_or_else(|_elapsed| {
            Err(StoreError::Unavailable {
                what: "no server answered in time".to_owned(),
            })
        });
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(client) => {
                *failed = None;
                drop(failed);
                self.answered(true);
                Ok(Session::new(Arc::clone(self), client))
            }
            Err(error) => {
                *failed = Some((Instant::now(), error.clone()));
                drop(failed);
                self.answered(false);
                Err(error)
            }
        }
    }

    /// Asks the hosts in their order.
    async fn first_that_writes(&self, wake: Option<Wake>) -> Result<Client, StoreError> {
        let mut hosts = self.place.configs().into_iter();
        let mut asked = FuturesUnordered::new();
        let mut refused = Vec::new();
        loop {
            let last = match hosts.next() {
                Some(config) => {
                    asked.push(self.ask(config, wake.clone()));
                    false
                }
                None => true,
            };
            let answer = match last {
                true => asked.next().await,
                // Nobody has answered yet: the next one is asked beside them.
                false => tokio::time::timeout(NEXT_HOST, asked.next()).await.unwrap_or_default(),
            };
            match answer {
                Some(Ok(client)) => return Ok(client),
                Some(Err(error)) => refused.push(error),
                None if last => return Err(all_refused(refused)),
                None => {}
            }
        }
    }

    /// Asks one host; who it was is told with its refusal.
    async fn ask(&self, config: Config, wake: Option<Wake>) -> Result<Client, (String, StoreError)> {
        let outcome = match &self.tls {
            None => config.connect(NoTls).await.map(|(client, connection)| {
                self.handle().spawn(serve(connection, wake));
                client
            }),
            Some(tls) => config.connect(tls.clone()).await.map(|(client, connection)| {
                self.handle().spawn(serve(connection, wake));
                client
            }),
        };
        outcome.map_err(|error| (named(&config), StoreError::from(error)))
    }
}

/// The hosts of one way to connect, as errors name them.
fn named(config: &Config) -> String {
    let names = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(folder) => folder.display().to_string(),
    });
    names.collect::<Vec<_>>().join(",")
}

/// What all of them come to: it may pass as long as one of them may come back.
fn all_refused(refused: Vec<(String, StoreError)>) -> StoreError {
    let each = |error: &StoreError| match error {
        StoreError::Unavailable { what } => what.clone(),
        other => other.to_string(),
    };
    let for_good = refused.iter().all(|(_, error)| !error.may_pass());
    let all = refused.iter().map(|(host, error)| format!("{host}: {}", each(error)));
    let what = all.collect::<Vec<_>>().join("; ");
    match refused.into_iter().next() {
        Some((_, first)) if for_good => first,
        _ => StoreError::Unavailable { what },
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // In the background: the last handle of a store may be dropped where nothing may block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Drives a connection until it ends.
async fn serve<S, T>(mut connection: Connection<S, T>, wake: Option<Wake>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notification(notice)) => {
                if let Some(wake) = &wake {
                    wake(Some(notice.payload()));
                }
            }
            Ok(AsyncMessage::Notice(notice)) => tracing::debug!(notice = notice.message(), "the database says"),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a connection to the database ended");
                break;
            }
        }
    }
    if let Some(wake) = wake {
        wake(None);
    }
}
