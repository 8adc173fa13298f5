//! A full disk: the write fails with its own error, nothing else is damaged, and as soon as there
//! is space again the same store goes on.

use std::path::Path;
use std::process::Command;

use dirless_backend::store::{
    BackupError, Beat, HeartbeatLimits, HeartbeatSink, PutOutcome, SnapshotPut, SpooledBody, Store, StoreError,
    TenantHandle, backup, verify,
};

use crate::common::{body_of, noise, open, origin, source, start, tenant};

/// Size of the file system, and of what is kept back to be freed later.
const DISK: &str = "size=12m";
const KEPT_BACK: usize = 4_000_000;

pub(crate) fn test() {
    let folder = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let status = command
        .arg("--mount")
        .arg(program)
        .arg("full")
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

/// Runs in a mount namespace of its own, which ends with the process.
pub(crate) fn inside(folder: &Path) {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", DISK, "none"])
        .arg(folder)
        .status()
        .unwrap();
    assert!(mounted.success(), "{mounted}");
    crate::block_on(fill_and_recover(folder));
}

async fn put(handle: &TenantHandle, number: u64, length: usize) -> Result<(), StoreError> {
    let body = SpooledBody::from_bytes(noise(number, length).into());
    let name = source(&format!("s{number}"));
    match handle
        .put_snapshot(&name, SnapshotPut::default(), body, origin())
        .await?
    {
        PutOutcome::Stored(_) => Ok(()),
        other => panic!("{other:?}"),
    }
}

async fn expect_stored(handle: &TenantHandle, stored: &[(u64, usize)]) {
    for (number, length) in stored {
        let body = body_of(handle, &format!("s{number}")).await.unwrap();
        assert!(body == noise(*number, *length), "body {number}");
    }
}

async fn fill_and_recover(folder: &Path) {
    let filler = folder.join("filler");
    std::fs::write(&filler, vec![1; KEPT_BACK]).unwrap();
    let storage = folder.join("storage");
    let store = open(&storage);
    let handle = tenant(&store, "acme", "t1").await;
    let sink = HeartbeatSink::new(store.clone(), HeartbeatLimits::default());
    let mut stored = Vec::new();
    let refused = fill(&handle, &mut stored).await;
    assert!(stored.len() > 5, "{} bodies", stored.len());
    // What is stored stays readable meanwhile.
    expect_stored(&handle, &stored).await;
    assert!(store.is_alive());
    let beat = Beat {
        agent_id: "a",
        hostname: "vm",
        extras: None,
    };
    let _absorbed = sink.beat(&handle, beat);
    spool_fails(&store).await;
    backup_fails(&storage, folder);

    std::fs::remove_file(&filler).unwrap();
    put(&handle, refused, 300_000).await.unwrap();
    stored.push((refused, 300_000));
    sink.flush().await.unwrap();
    assert_eq!(sink.active(&handle, start()).await.unwrap().len(), 1);
    one_too_many_fails_alone(&handle, &mut stored).await;
    expect_stored(&handle, &stored).await;
    store.close().await;
    drop((sink, handle, store));

    let seen = verify(&storage).unwrap();
    assert!(seen.is_clean(), "{:?}", seen.problems);
    let store = open(&storage);
    let handle = tenant(&store, "acme", "t1").await;
    expect_stored(&handle, &stored).await;
}

/// Stores bodies until the disk is full for good: a refused write may leave room in the log for
/// the next, so it takes several refusals in a row. Gives a number that was refused.
async fn fill(handle: &TenantHandle, stored: &mut Vec<(u64, usize)>) -> u64 {
    let mut refused_in_a_row = 0;
    for number in 0.. {
        match put(handle, number, 300_000).await {
            Ok(()) => {
                refused_in_a_row = 0;
                stored.push((number, 300_000));
            }
            Err(StoreError::DiskFull) => refused_in_a_row += 1,
            Err(other) => panic!("{other}"),
        }
        if refused_in_a_row == 5 {
            return number;
        }
    }
    unreachable!("the disk is small")
}

async fn spool_fails(store: &Store) {
    let mut writer = store.body_writer(u64::MAX);
    let piece = noise(1, 100_000);
    let error = loop {
        if let Err(error) = writer.write(&piece).await {
            break error;
        }
    };
    assert!(matches!(error, StoreError::DiskFull), "{error}");
}

fn backup_fails(storage: &Path, folder: &Path) {
    let before = std::fs::read_dir(folder).unwrap().count();
    let error = backup(storage, &folder.join("backup")).unwrap_err();
    assert!(matches!(error, BackupError::Store(StoreError::DiskFull)), "{error}");
    assert_eq!(
        std::fs::read_dir(folder).unwrap().count(),
        before,
        "nothing is left behind"
    );
}

/// Small bodies and one that cannot fit, all at once: they share commits, and only one fails.
async fn one_too_many_fails_alone(handle: &TenantHandle, stored: &mut Vec<(u64, usize)>) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1000..1020 {
        let (handle, length) = (handle.clone(), if number == 1010 { 14_000_000 } else { 3_000 });
        tasks.spawn(async move { (number, length, put(&handle, number, length).await) });
    }
    for (number, length, outcome) in tasks.join_all().await {
        match outcome {
            Ok(()) => stored.push((number, length)),
            Err(StoreError::DiskFull) => assert_eq!(number, 1010),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(stored.iter().all(|(number, _)| *number != 1010));
}
