//! Durable puts a second: 64 clients sharing commits, 64 clients with one commit each, and one
//! client, in one run on one disk. `cargo bench -p dirless-backend --bench store -- [FOLDER]`.
//!
//! The folder decides the figures: give one on the disk that will hold the store.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dirless_backend::store::policy::ReplaceBy;
use dirless_backend::store::{
    Beat, GroupLimits, HeartbeatLimits, HeartbeatSink, Origin, Principal, Purpose, PutOutcome, RealmName, SecretHash,
    SnapshotPut, SpooledBody, Store, StoreOptions, TenantHandle,
};

/// Bytes of one body.
const BODY: usize = 20 * 1024;
/// Time for each row.
const SPAN: Duration = Duration::from_secs(5);
/// Distinct agents that beat.
const AGENTS: u64 = 20_000;

fn main() {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let parent = folder.unwrap_or_else(|| ".".into());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    println!("{BODY}-byte puts, synchronous=FULL, {} s each", SPAN.as_secs());
    println!(
        "{:<34} {:>9} {:>9} {:>9} {:>9}",
        "", "puts/s", "p50 ms", "p99 ms", "max ms"
    );
    let single = GroupLimits {
        writes: 1,
        ..GroupLimits::default()
    };
    // Alternating, so that a disk whose mood changes does not favour one of them.
    for _ in 0..2 {
        for (name, clients, group) in [
            ("group commit, 64 clients", 64, GroupLimits::default()),
            ("one commit each, 64 clients", 64, single),
            ("one commit each, 1 client", 1, single),
        ] {
            let place = tempfile::tempdir_in(&parent).unwrap();
            runtime.block_on(puts(name, place.path(), clients, group));
        }
    }
    let place = tempfile::tempdir_in(&parent).unwrap();
    runtime.block_on(heartbeats(place.path()));
}

async fn open(folder: &Path, group: GroupLimits) -> (Store, TenantHandle) {
    let options = StoreOptions {
        group,
        ..StoreOptions::new(folder)
    };
    let store = Store::open(options, Purpose::Serve).unwrap();
    let secret = SecretHash::of(b"a secret of the benchmark");
    let _made = store.create_realm(&RealmName::default_realm(), secret).await.unwrap();
    let Some(Principal::Realm(credential)) = store.authenticate(&secret) else {
        panic!("the realm was just made")
    };
    let tenant = "benchmark".parse().unwrap();
    let key = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s"
        .parse()
        .unwrap();
    let _enrolled = store
        .enroll(&credential, &tenant, &key, ReplaceBy::Enroll, Origin::console())
        .await
        .unwrap();
    let handle = store.tenant(&credential, tenant.as_str()).unwrap();
    (store, handle)
}

async fn puts(name: &str, folder: &Path, clients: u64, group: GroupLimits) {
    let (store, handle) = open(folder, group).await;
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        tasks.spawn(one_client(handle.clone(), client, start));
    }
    let mut times: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    let span = start.elapsed().as_secs_f64();
    store.close().await;
    times.sort_unstable();
    let at = |share: f64| {
        let place = (times.len() as f64 * share) as usize;
        times
            .get(place.min(times.len() - 1))
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    };
    let rate = times.len() as f64 / span;
    println!(
        "{name:<34} {rate:>9.0} {:>9.2} {:>9.2} {:>9.2}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

async fn one_client(handle: TenantHandle, client: u64, start: Instant) -> Vec<Duration> {
    let source = format!("s{client}").parse().unwrap();
    let mut body = vec![0x5a; BODY];
    let mut times = Vec::new();
    let mut number = 0u64;
    while start.elapsed() < SPAN {
        // Each body differs, or it would be recognised as the one that is there.
        number += 1;
        for (place, byte) in body.iter_mut().zip(number.to_le_bytes()) {
            *place = byte;
        }
        let began = Instant::now();
        let spooled = SpooledBody::from_bytes(Bytes::copy_from_slice(&body));
        let put = handle.put_snapshot(&source, SnapshotPut::default(), spooled, Origin::console());
        assert!(matches!(put.await.unwrap(), PutOutcome::Stored(_)));
        times.push(began.elapsed());
    }
    times
}

async fn heartbeats(folder: &Path) {
    let (store, handle) = open(folder, GroupLimits::default()).await;
    let sink = Arc::new(HeartbeatSink::new(store.clone(), HeartbeatLimits::default()));
    let count = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..2 {
        let (sink, handle, count) = (Arc::clone(&sink), handle.clone(), Arc::clone(&count));
        tasks.spawn_blocking(move || {
            let mut number: u64 = worker;
            while start.elapsed() < SPAN {
                let agent_id = format!("agent-{}", number % AGENTS);
                let beat = Beat {
                    agent_id: &agent_id,
                    hostname: "vm",
                    extras: None,
                };
                let _absorbed = sink.beat(&handle, beat);
                number += 2;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut flushed = 0;
    let mut flushing = Duration::ZERO;
    while start.elapsed() < SPAN {
        let began = Instant::now();
        flushed += sink.flush().await.unwrap();
        flushing += began.elapsed();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tasks.join_all().await;
    let beats = count.load(Ordering::Relaxed) as f64 / SPAN.as_secs_f64();
    let rows = flushed as f64 / flushing.as_secs_f64();
    println!("heartbeats absorbed {beats:.0}/s, flushed {rows:.0} rows/s while flushing");
    store.close().await;
}
