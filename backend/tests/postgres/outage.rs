//! The database goes away and comes back: nothing acknowledged is lost, nothing needs a hand.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dirless_backend::store::{Beat, HeartbeatLimits, HeartbeatSink, StoreError};
use dirless_testkit::Postgres;

use crate::common::{at, body_of, open, origin, put, source, start, tenant};
use crate::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_refused_while_it_is_gone_and_go_on_by_themselves() {
    let mut server = Postgres::start().unwrap();
    let place = server.database("d").unwrap().parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = open(at(folder.path(), place));
    let handle = tenant(&store, "acme", "t1").await;
    put(&handle, "local", b"before").await;
    let sink = HeartbeatSink::new(store.clone(), HeartbeatLimits::default());
    let beat = Beat {
        agent_id: "a",
        hostname: "vm",
        extras: None,
    };
    let _taken = sink.beat(&handle, beat);

    server.kill().unwrap();
    // Together, as they come: the first must not make the others wait for each its own patience.
    let writes: Vec<_> = (0..20)
        .map(|number| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.put_setting(&format!("k{number}"), "v", origin()).await })
        })
        .collect();
    for write in writes {
        let refused = write.await.unwrap().unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
    }
    let refused = handle.source(&source("local")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
    assert!(!store.engine().reachable && store.is_alive());
    let refused = sink.flush().await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
    // Who may do what is still known.
    assert!(
        store
            .tenant(handle_credential(&store).as_ref().unwrap(), "t1")
            .is_some()
    );

    server.restart().unwrap();
    until("reads go on", async || body_of_or_none(&handle).await).await;
    until("writes go on", async || {
        handle.put_setting("after", "v", origin()).await.is_ok()
    })
    .await;
    assert!(store.engine().reachable);
    assert_eq!(body_of(&handle, "local").await.unwrap(), "before");
    assert_eq!(sink.flush().await.unwrap(), 1, "beats waited");
    assert_eq!(sink.active(&handle, start()).await.unwrap().len(), 1);
}

fn handle_credential(store: &dirless_backend::store::Store) -> Option<Arc<dirless_backend::store::Credential>> {
    let secret = dirless_backend::store::SecretHash::of(b"secret-of-acme");
    match store.authenticate(&secret)? {
        dirless_backend::store::Principal::Realm(credential) => Some(credential),
        dirless_backend::store::Principal::Operator(_) => None,
    }
}

async fn body_of_or_none(handle: &dirless_backend::store::TenantHandle) -> bool {
    handle.source(&source("local")).await.is_ok()
}

/// A server that hangs takes connections and answers nothing. Whoever is named after it is found all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_hangs_does_not_hide_the_one_that_serves() {
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = mute.local_addr().unwrap();
    let server = Postgres::start().unwrap();
    let url = server.database("d").unwrap();
    let (scheme, rest) = url.split_once("@").unwrap();
    let place = format!("{scheme}@{hangs},{rest}&sslmode=disable").parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = open(at(folder.path(), place));
    let handle = tenant(&store, "acme", "t1").await;
    put(&handle, "local", b"found").await;
    assert_eq!(body_of(&handle, "local").await.unwrap(), "found");
}

/// The server's ends of all connections, which answer nothing as long as this lives.
struct Hung(Vec<String>);

impl Hung {
    fn all_of(server: &Postgres) -> Self {
        let ends = "SELECT pid FROM pg_stat_activity WHERE application_name = 'dirless-backend'";
        let ends = server.sql("postgres", ends).unwrap();
        let hung = Self(ends.split_whitespace().map(str::to_owned).collect());
        assert!(hung.signal("-STOP"));
        hung
    }

    fn signal(&self, signal: &str) -> bool {
        let done = Command::new("kill").arg(signal).args(&self.0).status();
        done.is_ok_and(|status| status.success())
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _gone_already = self.signal("-CONT");
    }
}

/// One answer that does not come is waited for long enough; nobody else waits as long for the same server again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_server_that_hangs_are_tried_once_in_all() {
    let server = Postgres::start().unwrap();
    let place = server.database("d").unwrap().parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = open(at(folder.path(), place));
    let handle = tenant(&store, "acme", "t1").await;
    put(&handle, "local", b"before").await;
    let reads = (0..4).map(|_| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.settings().await.is_ok() })
    });
    for read in reads.collect::<Vec<_>>() {
        assert!(read.await.unwrap());
    }
    let hung = Hung::all_of(&server);
    assert!(hung.0.len() > 1, "a writer and readers: {:?}", hung.0);
    // Refused after half a minute, unless the writer's own look took that before it.
    let _refused = handle.put_setting("k", "v", origin()).await;
    let soon = Duration::from_secs(10);
    let read = tokio::time::timeout(soon, handle.settings()).await;
    assert!(read.expect("a new connection is made").is_ok());
    let written = tokio::time::timeout(soon, handle.put_setting("after", "v", origin())).await;
    assert!(written.expect("a new connection is made").is_ok());
}

/// Connections that are ended by an operator or a pooler are replaced without a word to anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_connections_cost_nobody_an_error() {
    let server = Postgres::start().unwrap();
    let place = server.database("d").unwrap().parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = open(at(folder.path(), place));
    let handle = tenant(&store, "acme", "t1").await;
    let done = Arc::new(AtomicU32::new(0));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (handle, done) = (handle.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                for number in 0..40 {
                    handle
                        .put_setting(&format!("{writer} {number}"), "v", origin())
                        .await
                        .unwrap();
                    handle.settings().await.unwrap();
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let all_ended = || writers.iter().all(tokio::task::JoinHandle::is_finished);
    while !all_ended() {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dirless-backend'";
        // Only when something was done since the last time: on a slow machine there would be nothing but ends.
        let before = done.load(Ordering::SeqCst);
        server.sql("postgres", end).unwrap();
        until("writing goes on", async || {
            all_ended() || done.load(Ordering::SeqCst) > before + 8
        })
        .await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(handle.settings().await.unwrap().len(), 160);
    // Each was written once, however often it was tried.
    let lines = server
        .sql("d", "SELECT count(*) FROM audit WHERE action = 'setting.put'")
        .unwrap();
    assert_eq!(lines.trim(), "160");
}
