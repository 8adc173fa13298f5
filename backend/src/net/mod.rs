//! From bound listeners to requests: workers, connections, TLS, time limits, draining.
//!
//! Each worker is one thread with its own single-threaded runtime and its own listener on the shared
//! address, so a request is accepted, answered and finished by one core without handing anything over.

mod connection;
mod endless;
mod io;
mod listen;
mod plain;
mod state;
mod tls;
mod worker;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use listen::bind;
pub use tls::{Tls, TlsError};

use crate::app::App;
use worker::Worker;

/// How often the main task looks after the workers, certificates and old limiter entries.
const TICK: Duration = Duration::from_secs(1);

/// Why serving ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A worker thread could not be started.
    #[error("cannot start a worker thread: {0}")]
    Start(#[from] std::io::Error),
    /// A worker thread ended by a defect; the process must not linger with fewer.
    #[error("worker {number} ended unexpectedly: {reason}")]
    Worker {
        /// Which one.
        number: usize,
        /// What it said.
        reason: String,
    },
    /// The store's writing thread ended.
    #[error("the store stopped taking writes; see the log before this line")]
    Store,
}

/// What runs the server: everything a test may want to choose for itself.
#[derive(Debug)]
pub struct Serving {
    /// What requests are answered from.
    pub app: Arc<App>,
    /// Bound, non-blocking listeners; one worker each.
    pub listeners: Vec<TcpListener>,
    /// Own TLS, when wanted.
    pub tls: Option<Arc<Tls>>,
}

impl Serving {
    /// Serves until `shutdown` completes, then lets requests in progress finish for as long as
    /// `[server] drain_seconds` says. Calls `alive` about once a second while all workers move.
    ///
    /// # Errors
    /// When a worker cannot be started, a worker ends, or the store stops taking writes.
    pub async fn run(self, shutdown: impl Future<Output = ()>, alive: impl Fn()) -> Result<(), ServeError> {
        let (stop, stopping) = watch::channel(false);
        let (ended, mut endings) = mpsc::unbounded_channel();
        let open = Arc::new(AtomicUsize::new(0));
        let mut workers = Vec::new();
        for (number, listener) in self.listeners.into_iter().enumerate() {
            let worker = Worker {
                number,
                app: Arc::clone(&self.app),
                tls: self.tls.clone(),
                open: Arc::clone(&open),
                connections: Arc::default(),
            };
            workers.push(worker.start(listener, stopping.clone(), ended.clone())?);
        }
        drop(ended);
        tokio::pin!(shutdown);
        let mut ticks = tokio::time::interval(TICK);
        let outcome = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                ending = endings.recv() => {
                    let (number, reason) = ending.unwrap_or((0, "it left no word".to_owned()));
                    break Err(ServeError::Worker { number, reason });
                }
                _ = ticks.tick() => {
                    if !self.app.store.is_alive() {
                        break Err(ServeError::Store);
                    }
                    self.app.tend();
                    reload_if_stale(self.tls.as_deref());
                    if workers.iter().all(worker::Handle::moved) {
                        alive();
                    }
                }
            }
        };
        self.app.watch.close();
        // Nobody listening any more is fine: then there is nobody left to stop.
        let _ = stop.send(true);
        // Each worker ends by itself after the drain time, so joining is bounded.
        let joined = tokio::task::spawn_blocking(move || workers.into_iter().for_each(worker::Handle::join));
        let _ = joined.await;
        outcome
    }
}

fn reload_if_stale(tls: Option<&Tls>) {
    let Some(tls) = tls else { return };
    if !tls.is_stale() {
        return;
    }
    match tls.reload() {
        Ok(()) => tracing::info!("the TLS certificate was read again"),
        Err(error) => tracing::error!(%error, "the changed TLS certificate cannot be used; the old one stays"),
    }
}
