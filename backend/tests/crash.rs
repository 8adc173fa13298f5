//! The server is killed with SIGKILL under load, again and again: what it acknowledged is there
//! afterwards, byte for byte, and the store is whole.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "process/mod.rs"]
mod process;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use process::{exchange, start};

const KEY: &str = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";
const ROUNDS: u64 = 20;
const WRITERS: usize = 4;

fn tenant(writer: usize) -> String {
    format!("X-Tenant-ID: tenant-{writer}\r\nX-Dirless-Recipient: {KEY}\r\n")
}

/// A body whose number and length can be checked: short and long ones, beyond one chunk.
fn body(writer: usize, number: u64) -> String {
    let length = [200, 20_000, 1_500_000][usize::try_from(number).unwrap() % 3];
    let start = format!("YWdlLWVuY3J5cHRpb24ub3JnL3Yx+{writer}+{number}+");
    start.chars().chain(std::iter::repeat('A')).take(length).collect()
}

#[test]
fn every_acknowledged_write_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    // Per writer: number of the last write that was acknowledged, and of the last one begun.
    let acknowledged: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let begun: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let writes = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    for round in 0..ROUNDS {
        let mut server = start(folder.path(), "");
        for writer in 0..WRITERS {
            let enrol = format!(r#"{{"tenant_id":"tenant-{writer}","age_public_key":"{KEY}"}}"#);
            assert_eq!(
                exchange(&server.address, "POST", "/v1/enrollment/enroll", "", &enrol)
                    .unwrap()
                    .0,
                200
            );
            let found = exchange(&server.address, "GET", "/v1/snapshot/local", &tenant(writer), "").unwrap();
            let (least, most) = (
                acknowledged[writer].load(Ordering::SeqCst),
                begun[writer].load(Ordering::SeqCst),
            );
            if most == 0 {
                assert_eq!(found.0, 404);
                continue;
            }
            let fits = (least..=most).any(|number| number > 0 && found == (200, body(writer, number)));
            assert!(
                fits || (least == 0 && found.0 == 404),
                "round {round}, writer {writer}: {least} to {most}"
            );
        }
        let address = server.address.clone();
        // Different moments: while starting to write, in the middle of long bodies, after many.
        let moment = Duration::from_millis(5 + round * 37 % 290);
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (address, acknowledged, begun) = (&address, &acknowledged[writer], &begun[writer]);
                let (writes, failures) = (&writes, &failures);
                scope.spawn(move || {
                    loop {
                        let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                        match exchange(
                            address,
                            "PUT",
                            "/v1/snapshot/local",
                            &tenant(writer),
                            &body(writer, number),
                        ) {
                            Some((200, _)) => acknowledged.store(number, Ordering::SeqCst),
                            Some(other) => failures.lock().unwrap().push(other),
                            None => break,
                        }
                        writes.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            std::thread::sleep(moment);
            server.child.kill().unwrap();
            server.child.wait().unwrap();
        });
    }
    assert!(failures.lock().unwrap().is_empty(), "{:?}", failures.lock().unwrap());
    assert!(
        writes.load(Ordering::SeqCst) > ROUNDS,
        "too few writes to mean anything"
    );
    let verified = dirless_backend::store::verify(folder.path().join("store")).unwrap();
    assert!(verified.is_clean(), "{:?}", verified.problems);
}
