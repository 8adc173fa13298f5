//! One worker: a thread, its runtime, its listener and its connections.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::connection::{self, Acceptor};
use super::state::{Connections, TimeLimits};
use super::tls::Tls;
use crate::app::App;
use crate::routes;

/// How often connections are looked at; also the precision of their time limits.
const SWEEP: Duration = Duration::from_secs(1);
/// How long accepting pauses when the system has no descriptors left.
const PAUSE: Duration = Duration::from_millis(50);

/// What a worker is made of.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) app: Arc<App>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) open: Arc<AtomicUsize>,
    pub(super) connections: Arc<Connections>,
}

/// A running worker.
#[derive(Debug)]
pub(super) struct Handle {
    thread: JoinHandle<()>,
    beats: Arc<AtomicU32>,
    seen: AtomicU32,
}

impl Handle {
    /// Whether the worker's loop has moved since the last call. The tick may fall between two sweeps,
    /// so standing still counts only when it has happened for a few calls: the watchdog's own limit
    /// is many ticks long.
    pub(super) fn moved(&self) -> bool {
        let beats = self.beats.load(Ordering::Relaxed);
        self.seen.swap(beats, Ordering::Relaxed) != beats
    }

    /// Waits for the thread.
    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a worker thread ended by a panic");
        }
    }
}

/// Tells the main task when the thread ends, also by a panic.
struct Farewell {
    number: usize,
    word: Option<String>,
    ended: mpsc::UnboundedSender<(usize, String)>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let word = self.word.take().unwrap_or_else(|| "it panicked".to_owned());
        // The main task may be gone first; then nobody needs to know.
        let _ = self.ended.send((self.number, word));
    }
}

impl Worker {
    pub(super) fn start(
        self,
        listener: StdListener,
        stopping: watch::Receiver<bool>,
        ended: mpsc::UnboundedSender<(usize, String)>,
    ) -> io::Result<Handle> {
        let beats = Arc::new(AtomicU32::new(0));
        let beating = Arc::clone(&beats);
        let thread = std::thread::Builder::new()
            .name(format!("worker-{}", self.number))
            .spawn(move || {
                let mut farewell = Farewell {
                    number: self.number,
                    word: None,
                    ended,
                };
                let outcome = self.serve(listener, stopping, &beating);
                farewell.word =
                    Some(outcome.map_or_else(|error| error.to_string(), |()| "it was asked to stop".to_owned()));
            })?;
        Ok(Handle {
            thread,
            beats,
            seen: AtomicU32::new(u32::MAX),
        })
    }

    fn serve(self, listener: StdListener, stopping: watch::Receiver<bool>, beats: &Arc<AtomicU32>) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Files and database reads of the slow path; the hot path uses none.
            .max_blocking_threads(16)
            .thread_name(format!("worker-{}-blocking", self.number))
            .build()?;
        let outcome = runtime.block_on(self.accept_until(listener, stopping, beats));
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    }

    async fn accept_until(
        self,
        listener: StdListener,
        mut stopping: watch::Receiver<bool>,
        beats: &Arc<AtomicU32>,
    ) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let acceptor = Arc::new(Acceptor {
            router: routes::router(&self.app),
            app: Arc::clone(&self.app),
            tls: self.tls.clone(),
            connections: Arc::clone(&self.connections),
        });
        let sweeping = tokio::spawn(sweep(Arc::clone(&self.connections), Arc::clone(beats), self.limits()));
        loop {
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(&acceptor, stream, peer),
                    Err(error) => self.complain(&error).await,
                }
            }
        }
        drop(listener);
        self.drain().await;
        sweeping.abort();
        Ok(())
    }

    fn limits(&self) -> TimeLimits {
        let server = &self.app.config.server;
        TimeLimits {
            header: server.header_seconds,
            idle: server.idle_seconds,
            write: server.write_seconds,
        }
    }

    fn admit(&self, acceptor: &Arc<Acceptor>, stream: TcpStream, peer: SocketAddr) {
        let slot = Slot::take(&self.open);
        if slot.number > self.app.config.server.max_connections {
            self.app.metrics.connections_refused.increment(1);
            // Dropped: the client sees a closed connection and tries again.
            return;
        }
        self.app.metrics.connections_accepted.increment(1);
        let acceptor = Arc::clone(acceptor);
        tokio::spawn(async move {
            let _slot = slot;
            connection::serve(&acceptor, stream, peer).await;
        });
    }

    async fn complain(&self, error: &io::Error) {
        // A client that gave up before it was accepted is its own affair.
        if matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
        ) {
            return;
        }
        tracing::error!(%error, worker = self.number, "cannot accept connections; is the limit of open files too low?");
        tokio::time::sleep(PAUSE).await;
    }

    /// Lets connections finish what they are at.
    async fn drain(&self) {
        self.connections.stop();
        let limit = Duration::from_secs(u64::from(self.app.config.server.drain_seconds));
        let started = Instant::now();
        while self.connections.count() > 0 && started.elapsed() < limit {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let left = self.connections.count();
        if left > 0 {
            tracing::warn!(
                connections = left,
                worker = self.number,
                "stopping before these connections were done"
            );
        }
    }
}

/// One of `max_connections`.
#[derive(Debug)]
struct Slot {
    open: Arc<AtomicUsize>,
    number: usize,
}

impl Slot {
    fn take(open: &Arc<AtomicUsize>) -> Self {
        Self {
            number: open.fetch_add(1, Ordering::Relaxed) + 1,
            open: Arc::clone(open),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn sweep(connections: Arc<Connections>, beats: Arc<AtomicU32>, limits: TimeLimits) {
    let started = Instant::now();
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        let now = u32::try_from(started.elapsed().as_secs()).unwrap_or(u32::MAX);
        connections.sweep(now, limits);
        beats.fetch_add(1, Ordering::Relaxed);
    }
}
