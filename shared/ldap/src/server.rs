//! Listeners and the connections they bring.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::connection::{End, Shared, serve as serve_connection, turn_away};
use crate::session::Link;
use crate::stream::Stream;
use crate::workers::Workers;
use crate::{Config, Directory, Peer};

/// How long connections may take to end once the server does.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait when the system has no more descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Where clients come in.
#[derive(Debug)]
pub enum Listener {
    /// `ldap://`. With a TLS configuration, clients may start TLS.
    Plain(TcpListener),
    /// `ldaps://`.
    Tls(TcpListener),
    /// `ldapi://`: the kernel says who is there.
    Local(UnixListener),
}

/// Everything a server needs but its directory.
#[derive(Debug, Default)]
pub struct Setup {
    /// The sockets, bound.
    pub listeners: Vec<Listener>,
    /// Certificate and key, for `ldaps://` and StartTLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Limits and behaviour.
    pub config: Config,
}

/// Who a connection is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    Address(IpAddr),
    User(u32),
}

#[derive(Default)]
struct Counts {
    all: usize,
    each: HashMap<Origin, usize>,
}

/// A counted connection; counted out when dropped.
struct Place {
    counts: Arc<Mutex<Counts>>,
    origin: Origin,
}

impl Place {
    fn take(counts: &Arc<Mutex<Counts>>, origin: Origin, config: &Config) -> Option<Self> {
        let mut counted = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let each = counted.each.get(&origin).copied().unwrap_or(0);
        if counted.all >= config.limits.connections || each >= config.limits.connections_per_peer {
            return None;
        }
        counted.all += 1;
        counted.each.insert(origin, each + 1);
        drop(counted);
        Some(Self {
            counts: Arc::clone(counts),
            origin,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all = counts.all.saturating_sub(1);
        if let Some(each) = counts.each.get_mut(&self.origin) {
            *each = each.saturating_sub(1);
            if *each == 0 {
                counts.each.remove(&self.origin);
            }
        }
    }
}

/// What every listener needs for its connections.
#[derive(Clone)]
pub(crate) struct Context {
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    counts: Arc<Mutex<Counts>>,
}

/// Serves `directory` until `shutdown` is ready, then ends the connections, each with a notice.
pub async fn serve(setup: Setup, directory: Arc<dyn Directory>, shutdown: impl Future<Output = ()>) {
    let (end, ending) = watch::channel(false);
    let context = context(setup.config, setup.tls, directory, ending);
    let mut listeners = JoinSet::new();
    for listener in setup.listeners {
        listeners.spawn(listen(listener, context.clone()));
    }
    shutdown.await;
    // The listeners end their connections; those that do not read are cut off.
    let _ = end.send(true);
    let _ = timeout(GRACE, async { while listeners.join_next().await.is_some() {} }).await;
}

/// As [`serve`], on `workers` threads of its own, at least one. A connection is served by one of them from
/// beginning to end, so that an answer is handed over to nobody.
///
/// # Errors
/// When a thread cannot be started, or one ends before `shutdown` is ready.
pub async fn serve_on_threads(
    workers: usize,
    setup: Setup,
    directory: Arc<dyn Directory>,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let (end, ending) = watch::channel(false);
    let context = context(setup.config, setup.tls, directory, ending);
    let mut workers = Workers::start(setup.listeners, workers.max(1), &context)?;
    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        () = workers.ended() => Err(std::io::Error::other("a thread that serves ended")),
    };
    let _ = end.send(true);
    let _ = timeout(GRACE, workers.ended_all()).await;
    outcome
}

fn context(
    config: Config,
    tls: Option<Arc<rustls::ServerConfig>>,
    directory: Arc<dyn Directory>,
    ending: watch::Receiver<bool>,
) -> Context {
    let config = Arc::new(config);
    Context {
        shared: Arc::new(Shared {
            directory,
            verifications: Semaphore::new(config.limits.verifications.max(1)),
            asked: Semaphore::new(config.limits.asked.max(1)),
            writes: Semaphore::new(config.limits.writes.max(1)),
            config,
            ending,
        }),
        tls: tls.map(TlsAcceptor::from),
        counts: Arc::default(),
    }
}

pub(crate) async fn listen(listener: Listener, context: Context) {
    let mut connections = JoinSet::new();
    let mut ending = context.shared.ending.clone();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            _ = ending.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok(accepted) => {
                connections.spawn(admit(accepted, context.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "ldap.accept.failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

enum Accepted {
    Plain(TcpStream, IpAddr),
    Tls(TcpStream, IpAddr),
    Local(UnixStream),
}

async fn accept(listener: &Listener) -> std::io::Result<Accepted> {
    match listener {
        Listener::Plain(listener) => {
            let (stream, address) = listener.accept().await?;
            Ok(Accepted::Plain(stream, address.ip()))
        }
        Listener::Tls(listener) => {
            let (stream, address) = listener.accept().await?;
            Ok(Accepted::Tls(stream, address.ip()))
        }
        Listener::Local(listener) => Ok(Accepted::Local(listener.accept().await?.0)),
    }
}

/// Counts a connection in, finds out what it is, and serves it.
async fn admit(accepted: Accepted, context: Context) {
    let mut link = Link {
        private: true,
        tls: false,
        start_tls: false,
        peer: None,
    };
    let (stream, origin, tls_first): (Box<dyn Stream>, _, _) = match accepted {
        Accepted::Local(stream) => {
            let Ok(credentials) = stream.peer_cred() else {
                return;
            };
            let (uid, gid) = (credentials.uid(), credentials.gid());
            link.peer = Some(Peer { uid, gid });
            (Box::new(stream), Origin::User(uid), false)
        }
        Accepted::Plain(stream, address) | Accepted::Tls(stream, address) if stream.set_nodelay(true).is_err() => {
            let _ = address;
            return;
        }
        Accepted::Plain(stream, address) => {
            link.private = address.to_canonical().is_loopback();
            link.start_tls = context.tls.is_some();
            (Box::new(stream), Origin::Address(address), false)
        }
        Accepted::Tls(stream, address) => (Box::new(stream), Origin::Address(address), true),
    };
    let Some(_place) = Place::take(&context.counts, origin, &context.shared.config) else {
        return turn_away(stream, &context.shared.config).await;
    };
    if let Err(error) = talk(stream, link, tls_first, &context).await {
        tracing::debug!(%error, "ldap.connection.broken");
    }
}

async fn talk(stream: Box<dyn Stream>, link: Link, tls_first: bool, context: &Context) -> std::io::Result<()> {
    let stream = if tls_first {
        stream
    } else {
        match serve_connection(stream, link, Arc::clone(&context.shared)).await? {
            End::Closed => return Ok(()),
            End::StartTls(stream) => stream,
        }
    };
    let Some(tls) = &context.tls else {
        return Ok(());
    };
    let handshake = timeout(context.shared.config.limits.write, tls.accept(stream));
    let stream = handshake
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    let link = Link {
        private: true,
        tls: true,
        ..link
    };
    serve_connection(Box::new(stream), link, Arc::clone(&context.shared)).await?;
    Ok(())
}
