//! Servers that tell many listeners: a backend, nginx, Redis, NATS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use dirless_testkit::{Program, Running};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::board::Board;
use crate::fleet::address_of;
use crate::process::Usage;
use crate::raw::Listening;
use crate::site::{Plan, Site};

/// Length of a message of Redis and NATS: what a signed head of one source with its framing takes.
const MESSAGE: usize = 500;
/// Addresses of the loopback network that listeners are spread over.
const ADDRESSES: usize = 8;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// `dirless-backend`: its notices, after a change that is on disk.
    Dirless,
    /// `nginx` with nchan (Debian's libnginx-mod-nchan): server-sent events to who shows a bearer, kept in memory.
    Nginx,
    /// `redis-server`: SUBSCRIBE and PUBLISH, nothing is kept.
    Redis,
    /// `nats-server`: SUB and PUB, nothing is kept.
    Nats,
}

/// A server that runs.
pub(crate) enum Peer {
    Dirless(Box<Site>),
    Other {
        kind: Kind,
        running: Running,
        port: u16,
        publisher: TcpStream,
        /// What it needs of a disk.
        _folder: TempDir,
    },
}

/// Where Debian puts what nginx tells many with.
const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
/// What listeners at nginx show.
const BEARER: &str = "Bearer fleet-secret";

/// Two workers, as the backend has here; the same refusal as in backend/benches/nginx.sh.
fn nginx(folder: &Path, port: u16, connections: usize) -> String {
    let folder = folder.display();
    format!(
        "load_module {NCHAN};\nworker_processes 2;\nworker_rlimit_nofile {files};\ndaemon off;\npid {folder}/pid;\n\
         error_log {folder}/error.log;\nevents {{ worker_connections {connections}; }}\nhttp {{\n access_log off;\n\
         client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};\n\
         uwsgi_temp_path {folder}; scgi_temp_path {folder};\n keepalive_requests 1000000;\n server {{\n\
         listen 0.0.0.0:{port} reuseport;\n if ($http_authorization != {BEARER:?}) {{ return 401; }}\n\
         location = /sub {{ nchan_subscriber eventsource; nchan_channel_id c; nchan_subscriber_first_message newest; }}\n\
         location = /pub {{ nchan_publisher; nchan_channel_id c; nchan_message_buffer_length 1; }}\n }}\n}}\n",
        files = connections * 2,
    )
}

impl Peer {
    /// Starts it with room for so many listeners; `None` when it is not installed.
    pub(crate) async fn start(kind: Kind, hosts: usize) -> anyhow::Result<Option<Self>> {
        // Room for the publisher, and for what a server opens itself.
        let connections = (hosts + 1000).to_string();
        let port = free_port()?;
        let number = port.to_string();
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("nginx.conf");
        let configuration = file.display().to_string();
        let (name, arguments) = match kind {
            Kind::Dirless => {
                return Ok(Some(Self::Dirless(Box::new(
                    Site::start(
                        0,
                        Plan {
                            hosts,
                            ..Plan::default()
                        },
                    )
                    .await?,
                ))));
            }
            Kind::Nginx => {
                std::fs::write(&file, nginx(folder.path(), port, hosts + 1000))?;
                // A program without the module counts as not installed.
                let name = if Path::new(NCHAN).exists() { "nginx" } else { NCHAN };
                (name, vec!["-c", &configuration, "-e", "/dev/null"])
            }
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
            .find(|path| Path::new(path).exists())
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
            _folder: folder,
        }))
    }

    /// How one listens.
    pub(crate) fn listening(&self) -> anyhow::Result<Listening> {
        let (request, ready, message): (Vec<u8>, &'static [u8], &'static [u8]) = match self {
            Self::Dirless(site) => (site.listening()?, b"event: state", b"event: state"),
            Self::Other { kind: Kind::Nginx, .. } => (
                format!(
                    "GET /sub HTTP/1.1\r\nhost: fleet\r\naccept: text/event-stream\r\nauthorization: {BEARER}\r\n\r\n"
                )
                .into_bytes(),
                b"event-stream",
                b"data: ",
            ),
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
        Ok(Listening {
            request: Arc::from(request),
            ready,
            message,
        })
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
            Self::Dirless(site) => site.change(2048, |mark| board.publish(0, mark)).await,
            Self::Other { kind, publisher, .. } => {
                let text = "x".repeat(MESSAGE);
                let (command, answer): (_, &[u8]) = match kind {
                    Kind::Redis => (
                        format!("*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n${MESSAGE}\r\n{text}\r\n"),
                        b":",
                    ),
                    Kind::Nginx => (
                        format!(
                            "POST /pub HTTP/1.1\r\nhost: fleet\r\nauthorization: {BEARER}\r\ncontent-length: {MESSAGE}\r\n\r\n{text}"
                        ),
                        b"last message id",
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
            Self::Other { running, .. } => Usage::of_family(running.id()),
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
