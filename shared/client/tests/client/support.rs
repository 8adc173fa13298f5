//! What the tests of the client share: a client with short waits, a resolver that answers what it
//! is told, and a server that says any bytes at all.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dirless_client::{ClientBuilder, Resolve, Resolving, RetryPolicy, Timeouts};
use dirless_program::Secret;
use dirless_wire::TenantId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const TENANT: &str = "615d1286d91a88073425f44e10dca43f4d0ec96a8c2581c7b582ad240178afac";
pub(crate) const KEY: &str = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";

/// Waits long enough for a busy machine and short enough for a test.
pub(crate) fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(5),
        call: Duration::from_secs(5),
        fetch: Duration::from_secs(5),
        probe: Duration::from_secs(5),
        ..Timeouts::default()
    }
}

pub(crate) fn builder(url: &str) -> ClientBuilder {
    ClientBuilder::new()
        .url(url)
        .unwrap()
        .bearer(Secret::new("sekret-token-1".to_owned()))
        .tenant(TenantId::new(TENANT).unwrap())
        .timeouts(timeouts())
        .retry(RetryPolicy::none())
        .seed(1)
}

/// Names and their addresses; ports are the addresses' own, so that one name has many local ones.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<HashMap<String, Vec<SocketAddr>>>);

impl Names {
    pub(crate) fn with(name: &str, addresses: &[SocketAddr]) -> Arc<Self> {
        let names = Self::default();
        names.set(name, addresses);
        Arc::new(names)
    }

    pub(crate) fn set(&self, name: &str, addresses: &[SocketAddr]) {
        self.0.lock().unwrap().insert(name.to_owned(), addresses.to_vec());
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str, _: u16) -> Resolving<'a> {
        let found = self.0.lock().unwrap().get(host).cloned();
        Box::pin(async move { found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name")) })
    }
}

/// A server on `address` that reads one request head from each connection and hands the connection
/// to `answer` with the number of the connection, from 0.
pub(crate) async fn raw<A, F>(address: &str, answer: A) -> SocketAddr
where
    A: Fn(usize, TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let bound = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((mut stream, _)) = listener.accept().await else {
                break;
            };
            if read_head(&mut stream).await.is_some() {
                tokio::spawn(answer(number, stream));
            }
        }
    });
    bound
}

/// A server that always says these bytes and closes.
pub(crate) async fn says(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes = Arc::new(bytes.into());
    raw("127.0.0.1:0", move |_, mut stream| {
        let bytes = Arc::clone(&bytes);
        async move {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            // Unread input would make the kernel reset the connection and the client lose the tail.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await
}

async fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(count) if count > 0 => head.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
    Some(head)
}

/// An address on which nothing listens.
pub(crate) async fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
