//! The store under faults: killed at random moments while it writes, on a full disk, and
//! given the largest body.
//!
//! Without the usual harness, because the program is also its own child: `writer FOLDER` writes
//! until it is killed, `memory FOLDER` looks at its own peak, `full FOLDER` runs in a mount namespace of its own on a small tmpfs.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../store_suite/common.rs"]
#[expect(dead_code, reason = "shared with the suite, which uses all of it")]
mod common;
mod full;
mod kill;
mod memory;

use std::path::Path;

/// Two threads, as little as shows what happens between them.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["writer", folder] => kill::write_until_killed(Path::new(folder)),
        ["full", folder] => full::inside(Path::new(folder)),
        ["memory", folder] => memory::inside(Path::new(folder)),
        // Asked by tools that list tests.
        [.., "--list"] | ["--list", ..] => println!("store_faults: test"),
        _ => {
            for (name, test) in [
                ("killed_at_random_moments", kill::test as fn()),
                ("full_disk", full::test),
                ("the_largest_body_is_never_in_memory_whole", memory::test),
            ] {
                test();
                println!("test {name} ... ok");
            }
        }
    }
}
