//! How soon a change in a watched folder is noticed: from the end of a write to the moment at which the
//! cycle of reading begins, the rest that a checkout is given included. A plain program:
//!
//! ```text
//! cargo bench -p dirless-syncer --bench watch -- [FILES [ROUNDS]]
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measuring program, not the product"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use dirless_syncer::sources::files::Watch;

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let files = numbers.first().copied().unwrap_or(1_000);
    let rounds = numbers.get(1).copied().unwrap_or(40);
    let folder = tempfile::tempdir().unwrap();
    for n in 0..files {
        let own = folder.path().join(format!("team{:03}", n / 100));
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join(format!("p{n}.yaml")), format!("people: [{{name: p{n}}}]\n")).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mut took: Vec<Duration> = runtime.block_on(async {
        let mut watch = Watch::of(vec![(folder.path().to_owned(), Arc::new(|_: &std::path::Path| true))]);
        let mut all = Vec::new();
        for round in 0..rounds {
            let path = folder
                .path()
                .join(format!("team000/p{}.yaml", round % files.clamp(1, 100)));
            let writer = std::thread::spawn(move || {
                // Anywhere between two looks.
                std::thread::sleep(Duration::from_millis(100 + (round as u64 * 37) % 300));
                std::fs::write(path, format!("people: [{{name: p{round}, display_name: r{round}}}]\n")).unwrap();
                Instant::now()
            });
            let until = tokio::time::Instant::now() + Duration::from_secs(10);
            assert!(watch.changed_before(until).await, "nothing was noticed");
            let noticed = Instant::now();
            all.push(noticed.duration_since(writer.join().unwrap()));
        }
        all
    });
    took.sort();
    println!(
        "{files} files, {rounds} changes: noticed and at rest after {:.0} ms (median), {:.0} ms (worst)",
        took[took.len() / 2].as_secs_f64() * 1000.0,
        took[took.len() - 1].as_secs_f64() * 1000.0
    );
}
