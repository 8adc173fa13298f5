//! The worst moment: the connection ends when the server has the COMMIT and nobody has its answer.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::{at, open, origin, server, tenant};

/// Passes connections on, and ends as many as it is told right after a COMMIT has gone to the server.
struct Proxy {
    port: u16,
    cuts: Arc<AtomicU32>,
    done: Arc<AtomicU32>,
}

impl Proxy {
    fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cuts = Arc::new(AtomicU32::new(0));
        let done = Arc::new(AtomicU32::new(0));
        let told = (Arc::clone(&cuts), Arc::clone(&done));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&socket) else {
                    continue;
                };
                let (cuts, done) = (Arc::clone(&told.0), Arc::clone(&told.1));
                std::thread::spawn(move || pass(&client, &server, &cuts, &done));
            }
        });
        Self { port, cuts, done }
    }
}

fn pass(client: &TcpStream, server: &UnixStream, cuts: &AtomicU32, done: &AtomicU32) {
    let (mut to_client, mut from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ended = std::io::copy(&mut from_server, &mut to_client);
        let _closed = to_client.shutdown(Shutdown::Both);
    });
    let (mut from_client, mut to_server) = (client, server);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = match from_client.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        let bytes = &buffer[..length];
        let commits = bytes.windows(7).any(|window| window == b"COMMIT\0");
        // A commit that reads has nothing to lose; ours come after a write.
        let cut = commits
            && cuts
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok();
        if cut {
            // Before the server can answer.
            let _closed = client.shutdown(Shutdown::Both);
            done.fetch_add(1, Ordering::SeqCst);
        }
        if to_server.write_all(bytes).is_err() {
            break;
        }
    }
    let _closed = server.shutdown(Shutdown::Write);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_neither_lost_nor_done_twice() {
    let url = server().database("cut").unwrap();
    let socket = url
        .split_once('@')
        .unwrap()
        .1
        .split_once('/')
        .unwrap()
        .0
        .replace("%2F", "/");
    let proxy = Proxy::start(PathBuf::from(socket).join(".s.PGSQL.5432"));
    let place = format!("postgres://dirless@127.0.0.1:{}/cut?sslmode=disable", proxy.port);
    let folder = tempfile::tempdir().unwrap();
    let store = open(at(folder.path(), place.parse().unwrap()));
    let handle = tenant(&store, "acme", "t1").await;
    let put = async |number: u32| {
        handle
            .put_setting(&format!("k{number}"), &number.to_string(), origin())
            .await
    };
    for number in 0..12 {
        // The poll reads and commits as well, so that some of the cuts are wasted on it.
        proxy.cuts.store(1 + number % 3, Ordering::SeqCst);
        put(number).await.unwrap();
    }
    proxy.cuts.store(0, Ordering::SeqCst);
    assert!(proxy.done.load(Ordering::SeqCst) >= 12, "too few cuts to mean anything");
    let settings = handle.settings().await.unwrap();
    assert_eq!(settings.len(), 12);
    let written = "SELECT count(*), count(DISTINCT details) FROM audit WHERE action = 'setting.put'";
    assert_eq!(server().sql("cut", written).unwrap().trim(), "12|12");
}
