//! What PostgreSQL adds to the contract, which `store_suite` has for both engines: several backends on one
//! database, lost connections, failover, and copies from one engine to the other.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../store_suite/common.rs"]
#[expect(dead_code, reason = "shared with the suite, which uses all of it")]
mod common;
mod connect;
mod cut;
mod failover;
mod outage;
#[path = "../process/mod.rs"]
mod process;
mod processes;
mod several;
mod transfer;

use std::time::{Duration, Instant};

/// Runs what blocks where it may.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Waits until something is so.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
