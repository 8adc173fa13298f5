//! A way to a backend that counts what passes, by what was asked for. What counts are the bytes of HTTP, heads included, as they
//! pass a socket; the system's own headers around them are not seen here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    /// The request that is kept open.
    Notices,
    /// A record of the log, or a tile of it.
    Record,
    /// A heartbeat, with a receipt or a report.
    Heartbeat,
    /// A classic snapshot.
    Snapshot,
    /// Anything else.
    Other,
}

impl Asked {
    /// What a piece that begins a request asks for.
    fn of(piece: &[u8]) -> Option<Self> {
        let end = piece.windows(2).position(|two| two == b"\r\n")?;
        let line = std::str::from_utf8(piece.get(..end)?).ok()?;
        let path = line.strip_suffix(" HTTP/1.1")?.split(' ').nth(1)?;
        let found = [
            ("/watch", Self::Notices),
            ("/log/", Self::Record),
            ("/heartbeat", Self::Heartbeat),
            ("/v1/snapshot/fleet", Self::Snapshot),
        ];
        let kind = found.into_iter().find(|(part, _)| path.contains(part));
        Some(kind.map_or(Self::Other, |(_, kind)| kind))
    }
}

/// What passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) requests: u64,
    /// From the host.
    pub(crate) up: u64,
    /// To the host.
    pub(crate) down: u64,
}

impl Passed {
    /// Both ways.
    pub(crate) fn bytes(self) -> u64 {
        self.up + self.down
    }

    fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            up: self.up - before.up,
            down: self.down - before.down,
        }
    }
}

/// What passed, by what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count(BTreeMap<Asked, Passed>);

impl Count {
    /// Of this kind.
    pub(crate) fn of(&self, asked: Asked) -> Passed {
        self.0.get(&asked).copied().unwrap_or_default()
    }

    /// What came since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let more = |(asked, passed): (&Asked, &Passed)| (*asked, passed.since(before.of(*asked)));
        Self(self.0.iter().map(more).collect())
    }
}

type Counting = Arc<Mutex<BTreeMap<Asked, Passed>>>;

fn count(counting: &Counting, asked: Asked, add: impl FnOnce(&mut Passed)) {
    add(counting
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(asked)
        .or_default());
}

/// The way.
#[derive(Debug)]
pub(crate) struct Wire {
    address: SocketAddr,
    counting: Counting,
    /// Ends with this.
    _carrying: JoinSet<()>,
}

impl Wire {
    /// To the server at this address.
    pub(crate) async fn to(server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, counting) = (listener.local_addr()?, Counting::default());
        let (mut carrying, counted) = (JoinSet::new(), Arc::clone(&counting));
        carrying.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                while passing.try_join_next().is_some() {}
                let counting = Arc::clone(&counted);
                passing.spawn(async move {
                    // However it ends, both ends are closed.
                    let _ended = carry(near, server, &counting).await;
                });
            }
        });
        Ok(Self {
            address,
            counting,
            _carrying: carrying,
        })
    }

    /// Where it begins.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has passed until now.
    pub(crate) fn count(&self) -> Count {
        Count(self.counting.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

async fn carry(near: TcpStream, server: SocketAddr, counting: &Counting) -> anyhow::Result<()> {
    let far = TcpStream::connect(server).await.context("the server")?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    // Answers follow requests on a connection, so what comes back is of what was asked last.
    let asked = Mutex::new(Asked::Other);
    let ((from_host, to_host), (from_server, to_server)) = (near.into_split(), far.into_split());
    let last = |piece: Option<&[u8]>| {
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(begun) = piece.and_then(Asked::of) {
            *asked = begun;
            count(counting, begun, |passed| passed.requests += 1);
        }
        *asked
    };
    let up = copy(from_host, to_server, |piece| {
        count(counting, last(Some(piece)), |passed| passed.up += piece.len() as u64);
    });
    let down = copy(from_server, to_host, |piece| {
        count(counting, last(None), |passed| passed.down += piece.len() as u64);
    });
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut see: impl FnMut(&[u8])) -> anyhow::Result<()> {
    let mut room = vec![0; 1 << 16];
    loop {
        let length = from.read(&mut room).await?;
        let piece = room.get(..length).unwrap_or_default();
        if piece.is_empty() {
            return Ok(());
        }
        see(piece);
        to.write_all(piece).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_known_by_their_first_line() {
        for (line, kind) in [
            ("GET /v2/ab/watch HTTP/1.1", Some(Asked::Notices)),
            ("GET /v1/watch HTTP/1.1", Some(Asked::Notices)),
            ("GET /v2/ab/log/p/fleet/all/1/7 HTTP/1.1", Some(Asked::Record)),
            ("POST /v2/ab/heartbeat HTTP/1.1", Some(Asked::Heartbeat)),
            ("POST /v1/agent/heartbeat HTTP/1.1", Some(Asked::Heartbeat)),
            ("GET /v1/snapshot/fleet HTTP/1.1", Some(Asked::Snapshot)),
            ("GET /v1/snapshot/authz-config HTTP/1.1", Some(Asked::Other)),
            ("dirless/receipt/v1", None),
        ] {
            assert_eq!(Asked::of(format!("{line}\r\nhost: x\r\n").as_bytes()), kind, "{line}");
        }
        assert_eq!(Asked::of(b"GET /v1/watch"), None);
    }

    #[tokio::test]
    async fn what_passes_is_counted_both_ways_and_by_kind() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Wire::to(server.local_addr().unwrap()).await.unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut piece = [0; 100];
            for answer in ["one", "seven bytes"] {
                let _length = stream.read(&mut piece).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let mut host = TcpStream::connect(wire.address).await.unwrap();
        let mut answer = [0; 100];
        let before = wire.count();
        let record = "GET /v2/t/log/x HTTP/1.1\r\n\r\n";
        host.write_all(record.as_bytes()).await.unwrap();
        assert_eq!(host.read(&mut answer).await.unwrap(), 3);
        let beat = "POST /v2/t/heartbeat HTTP/1.1\r\n\r\n";
        host.write_all(beat.as_bytes()).await.unwrap();
        assert_eq!(host.read(&mut answer).await.unwrap(), 11);
        served.await.unwrap();
        let passed = wire.count().since(&before);
        let expected = |text: &str, down| Passed {
            requests: 1,
            up: text.len() as u64,
            down,
        };
        assert_eq!(passed.of(Asked::Record), expected(record, 3));
        assert_eq!(passed.of(Asked::Heartbeat), expected(beat, 11));
        assert_eq!(passed.of(Asked::Notices), Passed::default());
    }
}
