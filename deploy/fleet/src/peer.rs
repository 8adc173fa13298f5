//! Servers that tell many listeners: a backend, Redis, NATS.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use dirless_testkit::{Program, Running};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::board::Board;
use crate::fleet::address_of;
use crate::process::Usage;
use crate::raw::Listening;
use crate::site::Site;

/// Length of a message of Redis and NATS: what a signed head of one source with its framing takes.
const MESSAGE: usize = 500;
/// Addresses of the loopback network that listeners are spread over.
const ADDRESSES: usize = 8;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// `dirless-backend`: its notices, after a change that is on disk.
    Dirless,
    /// `redis-server`: SUBSCRIBE and PUBLISH, nothing is kept.
    Redis,
    /// `nats-server`: SUB and PUB, nothing is kept.
    Nats,
}

/// A server that runs.
pub(crate) enum Peer {
    Dirless(Site),
    Other {
        kind: Kind,
        running: Running,
        port: u16,
        publisher: TcpStream,
    },
}

impl Peer {
    /// Starts it with room for so many listeners; `None` when it is not installed.
    pub(crate) async fn start(kind: Kind, hosts: usize) -> anyhow::Result<Option<Self>> {
        // Room for the publisher, and for what a server opens itself.
        let connections = (hosts + 1000).to_string();
        let port = free_port()?;
        let number = port.to_string();
        let (name, arguments) = match kind {
            Kind::Dirless => return Ok(Some(Self::Dirless(Site::start(0, hosts).await?))),
            Kind::Redis => (
                "redis-server",
                vec![
                    "--port",
                    &number,
                    "--maxclients",
                    &connections,
                    "--save",
                    "",
                    "--protected-mode",
                    "no",
                ],
            ),
            Kind::Nats => ("nats-server", vec!["--addr", "0.0.0.0", "--port", &number]),
        };
        let Some(path) = ["/usr/bin", "/usr/sbin", "/usr/local/bin"]
            .map(|folder| format!("{folder}/{name}"))
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())
        else {
            return Ok(None);
        };
        let program = Program::system(&path).args(arguments);
        let running = tokio::task::spawn_blocking(move || program.serve_on(port)).await??;
        let mut publisher = TcpStream::connect(("127.0.0.1", port)).await?;
        publisher.set_nodelay(true)?;
        if kind == Kind::Nats {
            publisher.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").await?;
            until(&mut publisher, b"PONG").await?;
        }
        Ok(Some(Self::Other {
            kind,
            running,
            port,
            publisher,
        }))
    }

    /// How one listens.
    pub(crate) fn listening(&self) -> Listening {
        let (request, ready, message): (Vec<u8>, &'static [u8], &'static [u8]) = match self {
            Self::Dirless(site) => (site.listening(), b"event: state", b"event: state"),
            Self::Other { kind: Kind::Redis, .. } => (
                b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n".to_vec(),
                b"subscribe",
                b"message",
            ),
            Self::Other { .. } => (
                b"CONNECT {\"verbose\":false}\r\nSUB c 1\r\nPING\r\n".to_vec(),
                b"PONG",
                b"MSG c",
            ),
        };
        Listening {
            request: Arc::from(request),
            ready,
            message,
        }
    }

    /// Where a listener connects to.
    pub(crate) fn address(&self, host: usize) -> anyhow::Result<SocketAddr> {
        match self {
            Self::Dirless(site) => address_of(site.url(host)),
            Self::Other { port, .. } => Ok(format!("127.0.0.{}:{port}", 1 + host % ADDRESSES).parse()?),
        }
    }

    /// Publishes once, and waits for the server's word.
    pub(crate) async fn publish(&mut self, board: &Board) -> anyhow::Result<()> {
        match self {
            Self::Dirless(site) => site.change(2048, |digest| board.publish(0, digest)).await,
            Self::Other { kind, publisher, .. } => {
                let text = "x".repeat(MESSAGE);
                let (command, answer): (_, &[u8]) = match kind {
                    Kind::Redis => (
                        format!("*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n${MESSAGE}\r\n{text}\r\n"),
                        b":",
                    ),
                    _ => (format!("PUB c {MESSAGE}\r\n{text}\r\nPING\r\n"), b"PONG"),
                };
                publisher.write_all(command.as_bytes()).await?;
                until(publisher, answer).await
            }
        }
    }

    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        match self {
            Self::Dirless(site) => site.usage()?.context("its process is known"),
            Self::Other { running, .. } => Usage::of(running.id()),
        }
    }
}

async fn until(stream: &mut TcpStream, answer: &[u8]) -> anyhow::Result<()> {
    let mut said = Vec::new();
    while !said.windows(answer.len()).any(|window| window == answer) {
        if stream.read_buf(&mut said).await? == 0 {
            bail!("the server hung up: {:?}", String::from_utf8_lossy(&said));
        }
    }
    Ok(())
}

fn free_port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}
