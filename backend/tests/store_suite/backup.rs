//! Backup while writing, restore, verify.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dirless_backend::store::{BackupError, Problem, Purpose, RestoreError, Store, StoreError, backup, restore, verify};
use rusqlite::Connection;

use crate::common::{body_of, noise, open, options, put, start, tenant};

/// A store with one body, closed.
async fn filled(folder: &Path, body: &[u8]) {
    let store = open(folder);
    let handle = tenant(&store, "acme", "t1").await;
    put(&handle, "local", body).await;
    store.close().await;
}

async fn body_in(folder: &Path) -> Vec<u8> {
    let store = open(folder);
    let handle = tenant(&store, "acme", "t1").await;
    let body = body_of(&handle, "local").await.unwrap().to_vec();
    store.close().await;
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_whole_while_writers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let handle = tenant(&store, "acme", "t1").await;
    put(&handle, "first", &noise(0, 2_000_000)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (handle, stop) = (handle.clone(), Arc::clone(&stop));
        async move {
            let mut number = 1;
            while !stop.load(Ordering::SeqCst) {
                put(&handle, "local", &noise(number, 300_000)).await;
                number += 1;
            }
            number
        }
    });
    let file = folder.path().join("backup.db");
    let place = folder.path().to_owned();
    for _ in 0..5 {
        let (place, file) = (place.clone(), file.clone());
        let seen = tokio::task::spawn_blocking(move || backup(&place, &file))
            .await
            .unwrap()
            .unwrap();
        assert!(seen.is_clean() && seen.bodies >= 1);
    }
    stop.store(true, Ordering::SeqCst);
    assert!(writer.await.unwrap() > 1);
    store.close().await;
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().starts_with(".aside")),
        "{left:?}"
    );

    let elsewhere = tempfile::tempdir().unwrap();
    let restored = restore(elsewhere.path(), &file, false, start()).unwrap();
    assert_eq!(restored.kept_aside, None);
    let store = open(elsewhere.path());
    let handle = tenant(&store, "acme", "t1").await;
    assert!(body_of(&handle, "first").await.unwrap() == noise(0, 2_000_000));
}

#[tokio::test]
async fn a_backup_to_nowhere_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let missing = backup(&folder.path().join("absent"), &folder.path().join("b")).unwrap_err();
    assert!(
        matches!(missing, BackupError::Store(StoreError::File { .. })),
        "{missing}"
    );
    assert!(!folder.path().join("b").exists());
    filled(folder.path(), b"x").await;
    let nowhere = backup(folder.path(), &folder.path().join("absent/b")).unwrap_err();
    assert!(
        matches!(nowhere, BackupError::Store(StoreError::File { .. })),
        "{nowhere}"
    );
}

#[tokio::test]
async fn restoring_keeps_the_store_that_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("monday");
    filled(folder.path(), b"monday").await;
    backup(folder.path(), &file).unwrap();

    // Equal to the backup: nothing to lose.
    let restored = restore(folder.path(), &file, false, start()).unwrap();
    assert!(restored.kept_aside.unwrap().exists());

    let options = options(folder.path());
    options.clock.advance(Duration::from_secs(3600));
    let store = Store::open(options, Purpose::Serve).unwrap();
    let handle = tenant(&store, "acme", "t1").await;
    put(&handle, "local", b"tuesday").await;
    let in_use = restore(folder.path(), &file, true, start()).unwrap_err();
    assert!(
        matches!(in_use, RestoreError::Store(StoreError::InUse { .. })),
        "{in_use}"
    );
    store.close().await;
    drop((handle, store));

    let lossy = restore(folder.path(), &file, false, start()).unwrap_err();
    assert!(matches!(lossy, RestoreError::WouldLose { .. }), "{lossy}");
    assert!(lossy.to_string().contains("--discard-newer"));
    assert_eq!(body_in(folder.path()).await, b"tuesday");
    let later = start() + Duration::from_secs(1);
    let kept = restore(folder.path(), &file, true, later).unwrap().kept_aside.unwrap();
    assert_eq!(body_in(folder.path()).await, b"monday");
    assert_eq!(
        std::fs::metadata(folder.path().join("dirless.db")).unwrap().mode() & 0o7777,
        0o600
    );
    // What was kept is a backup itself.
    let elsewhere = tempfile::tempdir().unwrap();
    restore(elsewhere.path(), &kept, false, start()).unwrap();
    assert_eq!(body_in(elsewhere.path()).await, b"tuesday");
}

#[tokio::test]
async fn what_is_no_backup_is_refused_and_the_store_stays() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), b"mine").await;
    let file = folder.path().join("b");
    let refused = |what: &str| {
        let error = restore(folder.path(), &file, true, start()).unwrap_err();
        assert!(matches!(error, RestoreError::Damaged { .. }), "{what}: {error}");
    };
    std::fs::write(&file, noise(1, 100_000)).unwrap();
    refused("noise");
    std::fs::write(&file, b"").unwrap();
    refused("an empty file");
    std::fs::remove_file(&file).unwrap();
    Connection::open(&file)
        .unwrap()
        .execute_batch("CREATE TABLE t (x)")
        .unwrap();
    refused("somebody else's database");

    backup(folder.path(), &file).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    refused("half a backup");
    std::fs::write(&file, &bytes).unwrap();
    let connection = Connection::open(&file).unwrap();
    connection.execute("UPDATE chunks SET bytes = x'00'", ()).unwrap();
    drop(connection);
    refused("a backup with a changed body");

    std::fs::write(&file, &bytes).unwrap();
    let connection = Connection::open(&file).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let newer = restore(folder.path(), &file, true, start()).unwrap_err();
    assert!(
        matches!(newer, RestoreError::Store(StoreError::NewerSchema { .. })),
        "{newer}"
    );
    let missing = restore(folder.path(), &folder.path().join("absent"), true, start()).unwrap_err();
    assert!(
        matches!(missing, RestoreError::Store(StoreError::File { .. })),
        "{missing}"
    );
    assert_eq!(body_in(folder.path()).await, b"mine");
}

#[tokio::test]
async fn a_damaged_store_is_replaced_without_asking() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), b"good").await;
    let file = folder.path().join("b");
    backup(folder.path(), &file).unwrap();
    std::fs::write(folder.path().join("dirless.db"), noise(1, 50_000)).unwrap();
    std::fs::write(folder.path().join("dirless.db-wal"), noise(2, 50_000)).unwrap();
    let kept = restore(folder.path(), &file, false, start())
        .unwrap()
        .kept_aside
        .unwrap();
    assert_eq!(std::fs::read(&kept).unwrap(), noise(1, 50_000));
    assert_eq!(body_in(folder.path()).await, b"good");
}

type IsFound = fn(&Problem) -> bool;

/// Each kind of damage is found, by its own words.
#[tokio::test]
async fn verify_finds_each_kind_of_damage() {
    let damages: [(&str, IsFound); 9] = [
        ("UPDATE chunks SET bytes = zeroblob(length(bytes))", is_body),
        ("UPDATE chunks SET bytes = x'00' WHERE number = 1", is_body),
        ("DELETE FROM chunks WHERE number = 0", is_body),
        ("DELETE FROM chunks", is_body),
        ("UPDATE generations SET length = length + 1", is_body),
        ("UPDATE generations SET sha256 = zeroblob(32)", is_body),
        ("UPDATE sources SET last = last + 1", is_pointer),
        ("UPDATE generations SET superseded_at = 1", is_pointer),
        (
            "UPDATE tenants SET realm_id = 77",
            |problem| matches!(problem, Problem::ForeignKey(table) if table == "tenants"),
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), &noise(1, 1_500_000)).await;
    assert!(verify(folder.path()).unwrap().is_clean());
    let database = folder.path().join("dirless.db");
    let sound = std::fs::read(&database).unwrap();
    for (damage, expected) in damages {
        std::fs::write(&database, &sound).unwrap();
        let connection = Connection::open(&database).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        assert!(connection.execute(damage, ()).unwrap() > 0, "{damage}");
        drop(connection);
        let seen = verify(folder.path()).unwrap();
        assert!(seen.problems.iter().any(expected), "{damage}: {:?}", seen.problems);
        assert!(seen.problems.iter().all(|problem| !problem.to_string().is_empty()));
    }
    let pages = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at..at + 2000].fill(0xff);
        std::fs::write(&database, bytes).unwrap();
        verify(folder.path()).map_or(true, |seen| !seen.is_clean())
    };
    assert!(pages(4096 * 2) && pages(4096 * 3), "overwritten pages");
}

fn is_body(problem: &Problem) -> bool {
    matches!(problem, Problem::Body { .. })
}

fn is_pointer(problem: &Problem) -> bool {
    matches!(problem, Problem::Pointer { .. })
}
