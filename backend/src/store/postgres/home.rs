//! The database as a place that connections come from.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::StoreError;
use super::place::Protection;
use super::{PostgresPlace, Session, tls};

/// Longest attempt to connect, all hosts together.
const CONNECT_MAX: Duration = Duration::from_secs(10);

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
        let attempt = async {
            let config = self.place.config();
            let handle = self.handle();
            match &self.tls {
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    handle.spawn(serve(connection, wake));
                    Ok::<Client, tokio_postgres::Error>(client)
                }
                Some(tls) => {
                    let (client, connection) = config.connect(tls.clone()).await?;
                    handle.spawn(serve(connection, wake));
                    Ok(client)
                }
            }
        };
        let outcome = self.handle().block_on(async {
            match tokio::time::timeout(CONNECT_MAX, attempt).await {
                Ok(outcome) => outcome.map_err(StoreError::from),
                Err(_elapsed) => Err(StoreError::Unavailable {
                    what: "no server answered in time".to_owned(),
                }),
            }
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
