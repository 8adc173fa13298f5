//! A database that several backends share: a primary with a synchronous standby, and ways to them that can be taken away.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use dirless_testkit::Postgres;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;

/// Name of the database.
const NAME: &str = "fleet";
/// How soon a server lets go of a backend that vanished: its open transaction may hold the lock that all writes wait for.
/// What deploy/samples/cluster/patroni.yml sets in the server.
const VANISHED: Duration = Duration::from_secs(3);

/// The sockets that the two names in a URL lead to.
type Sockets = Arc<Mutex<[PathBuf; 2]>>;

/// A primary and its standby.
#[derive(Debug)]
pub(crate) struct Database {
    /// The primary first.
    servers: VecDeque<Postgres>,
    sockets: Sockets,
    relays: JoinSet<()>,
}

/// The folder that a server listens in.
fn socket_of(server: &Postgres) -> anyhow::Result<PathBuf> {
    let url = server.url(NAME);
    let host = url.split_once('@').and_then(|(_, rest)| rest.split_once('/'));
    let (folder, _) = host.context("a URL of PostgreSQL without a host")?;
    Ok(PathBuf::from(folder.replace("%2F", "/")).join(".s.PGSQL.5432"))
}

impl Database {
    /// Starts both. Takes seconds.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let primary = Postgres::start()?;
        primary.database(NAME)?;
        let standby = primary.synchronous_standby()?;
        let sockets = [socket_of(&primary)?, socket_of(&standby)?];
        Ok(Self {
            servers: VecDeque::from([primary, standby]),
            sockets: Arc::new(Mutex::new(sockets)),
            relays: JoinSet::new(),
        })
    }

    /// A URL by which both are reached over TCP at an address of this machine. It stays good whichever is the primary.
    pub(crate) async fn reachable_at(&mut self, address: Ipv4Addr) -> anyhow::Result<String> {
        let mut hosts = Vec::new();
        for number in 0..2 {
            let listener = TcpListener::bind((address, 0)).await?;
            hosts.push(listener.local_addr()?.to_string());
            self.relays.spawn(relay(listener, Arc::clone(&self.sockets), number));
        }
        let hosts = hosts.join(",");
        Ok(format!(
            "postgres://dirless@{hosts}/{NAME}?target_session_attrs=read-write&sslmode=disable"
        ))
    }

    /// Kills the primary outright and makes the standby one, as whatever watches over them would.
    pub(crate) fn fail_over(&mut self) -> anyhow::Result<()> {
        if self.servers.len() < 2 {
            bail!("there is no standby to take over");
        }
        let mut dead = self.servers.pop_front().context("there is no primary")?;
        dead.kill()?;
        self.servers.front().context("there is no standby")?.promote()
    }

    /// Gives a primary that is alone a standby again.
    pub(crate) fn mend(&mut self) -> anyhow::Result<()> {
        let primary = self.servers.front().context("there is no primary")?;
        if self.servers.len() > 1 {
            return Ok(());
        }
        let standby = primary.synchronous_standby()?;
        *self.sockets.lock().unwrap_or_else(PoisonError::into_inner) = [socket_of(primary)?, socket_of(&standby)?];
        self.servers.push_back(standby);
        Ok(())
    }
}

async fn relay(listener: TcpListener, sockets: Sockets, number: usize) {
    // Dropped with the database, and so all that passes.
    let mut passing = JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        while passing.try_join_next().is_some() {}
        let path = sockets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(number)
            .cloned();
        let Some(path) = path else { return };
        passing.spawn(async move {
            if let (Ok(()), Ok(mut server)) = (mind_the_gap(&near), UnixStream::connect(path).await) {
                // However it ends, both ends are closed.
                let _ended = tokio::io::copy_bidirectional(&mut near, &mut server).await;
            }
        });
    }
}

/// Has the system notice that the other side is gone.
fn mind_the_gap(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let alive = TcpKeepalive::new()
        .with_time(VANISHED / 3)
        .with_interval(VANISHED / 3)
        .with_retries(2);
    socket.set_tcp_keepalive(&alive)?;
    socket.set_tcp_user_timeout(Some(VANISHED))
}
