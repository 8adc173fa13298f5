//! A body of the largest accepted size goes in and out without ever being in memory whole.

use std::path::Path;
use std::process::Command;

use dirless_backend::store::{PutOutcome, SnapshotPut};

use crate::common::{noise, open, origin, source, tenant};

/// The largest body that is accepted by default (`max_payload_bytes`).
const BODY: usize = 50 * 1024 * 1024;
/// Most that memory may grow meanwhile, in KiB: pages of the database (8 MiB), a few chunks, the
/// allocator's slack; less than one body.
const GROWTH: u64 = 32 * 1024;

pub(crate) fn test() {
    let folder = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let status = Command::new(program).arg("memory").arg(folder.path()).status().unwrap();
    assert!(status.success(), "{status}");
}

/// A value in KiB from `/proc/self/status` (proc_pid_status(5)).
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Runs in a process of its own, whose peak is only this.
pub(crate) fn inside(folder: &Path) {
    crate::block_on(async {
        let store = open(folder);
        let handle = tenant(&store, "acme", "t1").await;
        let piece = noise(1, 64 * 1024);
        let before = memory("VmRSS:");
        let mut writer = store.body_writer(BODY as u64);
        for _ in 0..BODY / piece.len() {
            writer.write(&piece).await.unwrap();
        }
        let body = writer.finish().await.unwrap();
        let name = source("local");
        let put = handle.put_snapshot(&name, SnapshotPut::default(), body, origin());
        let PutOutcome::Stored(meta) = put.await.unwrap() else {
            panic!("nobody refuses this")
        };
        let mut reader = handle.reader(&meta);
        let mut length = 0;
        while let Some(chunk) = reader.chunk().await.unwrap() {
            assert!(chunk.chunks(piece.len()).all(|part| part == piece));
            length += chunk.len();
        }
        assert_eq!(length, BODY);
        let growth = memory("VmHWM:") - before;
        assert!(growth < GROWTH, "{growth} KiB for a body of {} KiB", BODY / 1024);
        println!("{growth} KiB for a body of {} KiB", BODY / 1024);
    });
}
