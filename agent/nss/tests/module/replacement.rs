//! Tables that appear, are replaced, and go bad.

use crate::ask::{eventually, uid_of, write_as_table};
use crate::host::Host;
use crate::tables::{META, table};
use dirless_table::TableMeta;
use nss_dirless::abi::Outcome;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn generation(generation: u64) -> TableMeta {
    TableMeta { generation, ..META }
}

#[test]
fn a_replaced_table_is_seen_by_the_very_next_lookup_and_the_old_one_unmapped() {
    let host = Host::with(&table(META, 0));
    for round in 1..50 {
        host.publish(&table(generation(round), round as u32));
        assert_eq!(
            host.uid_of(&format!("user{}", round - 1)),
            Ok(100_000 + round as u32 - 1)
        );
        assert_eq!(host.uid_of(&format!("user{round}")), Err(Outcome::NotFound));
        assert_eq!(host.module.source().tables_held(), 1);
    }
    let mapped = std::fs::read_to_string("/proc/self/maps").unwrap();
    let folder = host.folder.path().to_str().unwrap();
    assert_eq!(mapped.lines().filter(|line| line.contains(folder)).count(), 1);
}

#[test]
fn a_table_that_appears_is_found() {
    let host = Host::new();
    assert_eq!(host.uid_of("alice"), Err(Outcome::Missing));
    for _ in 0..10_000 {
        assert_eq!(host.uid_of("alice"), Err(Outcome::Missing));
    }
    host.publish(&table(META, 0));
    eventually("a table that appeared", || host.uid_of("alice") == Ok(60_001));
}

#[test]
fn a_bad_table_is_left_for_a_good_one() {
    let host = Host::new();
    write_as_table(&host.path(), b"not a table, but long enough to look at");
    assert_eq!(host.uid_of("alice"), Err(Outcome::Damaged));
    host.publish(&table(META, 0));
    eventually("a good table", || host.uid_of("alice") == Ok(60_001));
}

#[test]
fn a_bad_replacement_keeps_the_last_good_table() {
    let host = Host::with(&table(META, 0));
    assert_eq!(host.uid_of("alice"), Ok(60_001));
    host.publish(&table(generation(2), 1));
    write_as_table(&host.folder.path().join("bad"), b"bad");
    std::fs::rename(host.folder.path().join("bad"), host.path()).unwrap();
    for _ in 0..1000 {
        assert_eq!(host.uid_of("alice"), Ok(60_001));
        assert_eq!(host.uid_of("user0"), Err(Outcome::NotFound));
    }
    std::fs::remove_file(host.path()).unwrap();
    host.publish(&table(generation(3), 1));
    eventually("the next good table", || host.uid_of("user0").is_ok());
}

/// A publisher that died between mark and rename leaves a marked table: it is served, not refused, and
/// the next one is found.
#[test]
fn a_table_marked_but_never_replaced_is_served() {
    let mut bytes = table(META, 0);
    let host = Host::with(&bytes);
    assert_eq!(host.uid_of("alice"), Ok(60_001));
    let old = std::fs::OpenOptions::new().write(true).open(host.path()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&old, &[1], 192).unwrap();
    let late = Host::new();
    bytes.splice(192..193, [1]);
    write_as_table(&late.path(), &bytes);
    for host in [&host, &late] {
        for _ in 0..1000 {
            assert_eq!(host.uid_of("alice"), Ok(60_001));
        }
        assert_eq!(host.module.source().tables_held(), 1);
        host.publish(&table(generation(2), 1));
        eventually("the next table", || host.uid_of("user0").is_ok());
    }
}

/// Two threads ask without pause while tables change; every answer is right for some table of the time.
fn torture(host: &Host, rounds: u64, mut between: impl FnMut()) {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let module = host.module;
    let threads: Vec<_> = (0..2)
        .map(|thread| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            std::thread::spawn(move || {
                let own = ["alice", "bob"][thread];
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(uid_of(module, own), Ok(60_001 + thread as u32));
                    assert_eq!(uid_of(module, "nobody"), Err(Outcome::NotFound));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..rounds {
        host.publish(&table(generation(round), (round % 7) as u32));
        between();
    }
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(asked.load(Ordering::Relaxed) > rounds);
    eventually("old tables unmapped", || {
        uid_of(module, "alice").is_ok() && module.source().tables_held() == 1
    });
}

#[test]
fn two_threads_and_constant_replacement_stay_clean() {
    let host = Host::with(&table(META, 0));
    torture(&host, 400, || ());
}

unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(code: i32) -> !;
}

/// The child has only the forking thread; the counters and locks of the others are void.
#[test]
fn children_forked_in_the_middle_of_lookups_go_on() {
    let host = Host::with(&table(META, 0));
    assert_eq!(host.uid_of("alice"), Ok(60_001));
    let next = table(generation(10_000), 100);
    let (module, path) = (host.module, host.path());
    torture(&host, 100, || {
        // SAFETY: the child only asks, publishes to a path of its own, and leaves without unwinding.
        let child = unsafe { fork() };
        if child == 0 {
            module.after_fork_in_child();
            let well = uid_of(module, "alice") == Ok(60_001)
                && uid_of(module, "bob") == Ok(60_002)
                && module.start(nss_dirless::Database::Passwd) == Outcome::Success
                && module.end(nss_dirless::Database::Passwd) == Outcome::Success;
            // SAFETY: ends the child at once.
            unsafe { _exit(if well { 7 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: our own child.
        assert_eq!(unsafe { waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 7 << 8, "exit code of the child");
    });
    dirless_table::publish_bytes(&path, &next).unwrap();
    assert_eq!(host.uid_of("user99"), Ok(100_099));
}

/// A long-lived child with stuck counters from its parent still exchanges and unmaps tables.
#[test]
fn a_child_with_a_vanished_reader_still_exchanges_tables() {
    let host = Host::with(&table(META, 0));
    let module = host.module;
    let (ready, leave) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let reader = {
        let (ready, leave) = (Arc::clone(&ready), Arc::clone(&leave));
        std::thread::spawn(move || {
            let held = module.source().read(12_345, |table| {
                ready.store(true, Ordering::SeqCst);
                while !leave.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                table.stats().generation
            });
            assert_eq!(held, Ok(1), "the table a reader holds stays as long as it reads");
        })
    };
    eventually("the reader", || ready.load(Ordering::SeqCst));
    let path = host.path();
    let tables: Vec<Vec<u8>> = (2..30).map(|n| table(generation(n), n as u32)).collect();
    // SAFETY: as above; the publishing child allocates, which glibc's fork allows.
    let child = unsafe { fork() };
    if child == 0 {
        module.after_fork_in_child();
        let mut well = true;
        for (bytes, last) in tables.iter().zip(1u32..) {
            well &= dirless_table::publish_bytes(&path, bytes).is_ok();
            well &= uid_of(module, &format!("user{last}")) == Ok(100_000 + last);
            well &= module.source().tables_held() == 1;
        }
        // SAFETY: ends the child at once.
        unsafe { _exit(if well { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 7 << 8, "exit code of the child");
    leave.store(true, Ordering::SeqCst);
    reader.join().unwrap();
    eventually("old tables unmapped", || {
        host.uid_of("user28").is_ok() && module.source().tables_held() == 1
    });
}
