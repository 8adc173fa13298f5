//! The embedded engine's own promises: files and modes, a second process beside the server, groups.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use dirless_backend::store::{
    GroupLimits, Principal, Purpose, RealmName, RealmState, SecretHash, Store, StoreError, StoreOptions, verify,
};
use rusqlite::Connection;

use crate::common::{body_of, credential, noise, open, options, put, source, tenant};

fn database(folder: &Path) -> std::path::PathBuf {
    folder.join("dirless.db")
}

#[tokio::test]
async fn nothing_in_the_folder_is_readable_by_others() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("deep/storage");
    let store = open(&folder);
    let handle = tenant(&store, "acme", "t1").await;
    put(&handle, "local", &noise(1, 3_000_000)).await;
    assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o7777, 0o600, "{:?}", entry.path());
        files += 1;
    }
    assert!(files >= 5, "database, log, index, two locks");
    store.close().await;
    drop((handle, store));
    let names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !names.iter().any(|name| name == "dirless.db-wal"),
        "closed cleanly: {names:?}"
    );
}

#[tokio::test]
async fn everything_survives_closing_and_opening() {
    let folder = tempfile::tempdir().unwrap();
    let body = noise(3, 2_500_000);
    for round in 0..3 {
        let store = open(folder.path());
        let handle = tenant(&store, "acme", "t1").await;
        if round == 0 {
            put(&handle, "local", &body).await;
        }
        assert!(body_of(&handle, "local").await.unwrap() == body);
        store.close().await;
    }
    assert!(verify(folder.path()).unwrap().is_clean());
}

#[tokio::test]
async fn dropping_the_last_handle_finishes_queued_writes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let handle = tenant(&store, "acme", "t1").await;
    let write = tokio::spawn({
        let handle = handle.clone();
        async move { handle.put_setting("k", "v", crate::common::origin()).await }
    });
    write.await.unwrap().unwrap();
    drop((handle, store));
    let store = open(folder.path());
    let handle = tenant(&store, "acme", "t1").await;
    assert_eq!(handle.setting("k").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test]
async fn a_second_server_is_refused_and_a_console_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path());
    let refused = Store::open(options(folder.path()), Purpose::Serve);
    assert!(matches!(refused, Err(StoreError::InUse { .. })), "{refused:?}");

    let console = Store::open(options(folder.path()), Purpose::Console).unwrap();
    credential(&console, "acme").await;
    let secret = SecretHash::of(b"secret-of-acme");
    wait_for(|| server.authenticate(&secret).is_some());
    let name = RealmName::parse("acme").unwrap();
    let _done = console.set_realm_state(&name, RealmState::Suspended).await.unwrap();
    wait_for(|| matches!(server.authenticate(&secret), Some(Principal::Realm(realm)) if realm.is_suspended()));
    // And a tenant that another process enrolled.
    tenant(&console, "acme", "t1").await;
    let acme = credential(&server, "acme").await;
    wait_for(|| server.tenant(&acme, "t1").is_some());
}

fn wait_for(done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "nothing was noticed");
        std::thread::yield_now();
    }
}

#[test]
fn a_database_of_a_newer_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let connection = Connection::open(database(folder.path())).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let bytes = std::fs::read(database(folder.path())).unwrap();
    for purpose in [Purpose::Serve, Purpose::Console] {
        let refused = Store::open(options(folder.path()), purpose).unwrap_err();
        assert!(
            matches!(refused, StoreError::NewerSchema { found: 99, .. }),
            "{refused}"
        );
        assert!(refused.to_string().contains("schema 99"), "{refused}");
    }
    assert!(matches!(verify(folder.path()), Err(StoreError::NewerSchema { .. })));
    assert_eq!(std::fs::read(database(folder.path())).unwrap(), bytes);
}

#[test]
fn something_that_is_no_database_is_reported_as_damaged() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(database(folder.path()), noise(1, 8192)).unwrap();
    let refused = Store::open(options(folder.path()), Purpose::Serve).unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
}

#[test]
fn the_settings_that_durability_rests_on_are_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open(folder.path());
    let connection = Connection::open(database(folder.path())).unwrap();
    let mode: String = connection
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
    let audit = "INSERT INTO audit (at, role, action, details) VALUES (1, 'console', 'x', '{}')";
    connection.execute(audit, ()).unwrap();
    for change in ["UPDATE audit SET action = 'y'", "DELETE FROM audit"] {
        let refused = connection.execute(change, ()).unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
}

/// More writes than the queue and a group hold, with bodies over the byte limit of a group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_get_through_small_groups_and_a_short_queue() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(
        StoreOptions {
            queue: 8,
            group: GroupLimits {
                writes: 5,
                bytes: 300_000,
            },
            ..options(folder.path())
        },
        Purpose::Serve,
    )
    .unwrap();
    let handle = tenant(&store, "acme", "t1").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let handle = handle.clone();
        tasks.spawn(async move {
            let length = if number % 10 == 0 { 400_000 } else { 2_000 };
            put(&handle, &format!("s{number}"), &noise(number, length)).await
        });
    }
    assert_eq!(tasks.join_all().await.len(), 100);
    assert_eq!(handle.sources().await.unwrap().len(), 100);
    store.close().await;
    let seen = verify(folder.path()).unwrap();
    assert!(seen.is_clean(), "{:?}", seen.problems);
    assert_eq!((seen.tenants, seen.bodies), (1, 100));
}

#[tokio::test]
async fn at_most_two_bodies_of_a_source_take_space() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let handle = tenant(&store, "acme", "t1").await;
    for number in 0..20 {
        put(&handle, "local", &noise(number, 100_000)).await;
    }
    assert_eq!(verify(folder.path()).unwrap().bodies, 2);
    handle
        .delete_snapshot(&source("local"), crate::common::origin())
        .await
        .unwrap();
    assert_eq!(verify(folder.path()).unwrap().bodies, 1);
}

#[tokio::test]
async fn a_caller_that_stops_waiting_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let handle = tenant(&store, "acme", "t1").await;
    for number in 0..50 {
        let write = handle.put_setting("k", "v", crate::common::origin());
        // Polled once, then dropped: queued, with nobody to answer.
        let _gone = tokio::time::timeout(Duration::ZERO, write).await;
        put(&handle, "local", &noise(number, 10)).await;
    }
    assert!(store.is_alive());
}
