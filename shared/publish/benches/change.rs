//! What it takes to publish one changed person among many: wall and processor time of taking the new snapshot in, and of settling.
//! A plain program:
//!
//! ```text
//! cargo bench -p dirless-publish --bench change -- [USERS…]
//! ```
//!
//! One compartment, one source with a key for everybody and teams; folders on the disk of the temporary folder, every file synced.
#![expect(clippy::unwrap_used, reason = "a measuring program, not the product")]

use std::time::{Duration, Instant};

use dirless_publish::{Kind, Wish};

mod tenant;

/// Changes at each size.
const CHANGES: u32 = 10;
/// Teams that one is in, and people in each.
const TEAM: usize = 50;

fn main() {
    dirless_program::command::start();
    let mut sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![1_000, 10_000, 100_000];
    }
    println!("| users | MB of snapshot | taken in: wall, CPU ms | settled: wall, CPU ms |");
    println!("|---|---|---|---|");
    for users in sizes {
        let temporary = tempfile::tempdir().unwrap();
        let signer = tenant::signer(temporary.path(), &temporary.path().join("tenant"));
        let source = "corp".parse().unwrap();
        let (mut stocked, mut settled, mut bytes) = (Vec::new(), Vec::new(), 0);
        // The first is a base, the second the first record after it.
        for change in 0..CHANGES + 2 {
            let plaintext = snapshot(users, change);
            bytes = plaintext.len();
            let first = measured(|| {
                signer
                    .stock(&source, Kind::Snapshot, &change.to_string(), &plaintext)
                    .unwrap()
            });
            let second = measured(|| {
                let settled = signer.settle(&Wish::default()).unwrap();
                assert!(settled.problems.is_empty(), "{:?}", settled.problems);
            });
            if change > 1 {
                stocked.push(first);
                settled.push(second);
            }
        }
        println!(
            "| {users} | {:.1} | {} | {} |",
            bytes as f64 / 1e6,
            median(&mut stocked),
            median(&mut settled)
        );
    }
}

fn measured<T>(work: impl FnOnce() -> T) -> (Duration, Duration) {
    let (wall, cpu) = (Instant::now(), tenant::cpu());
    work();
    (wall.elapsed(), tenant::cpu().saturating_sub(cpu))
}

fn median(of: &mut [(Duration, Duration)]) -> String {
    of.sort_unstable();
    let (wall, cpu) = of.get(of.len() / 2).copied().unwrap_or_default();
    format!("{:.1}, {:.1}", wall.as_secs_f64() * 1e3, cpu.as_secs_f64() * 1e3)
}

/// Everybody, one of whom has another full name after each change.
fn snapshot(users: usize, change: u32) -> Vec<u8> {
    let name = |number: usize| format!("user{number:07}");
    let mut text = format!("{{\"sequence\":{change},\"generated_at\":\"2026-01-01T00:00:{change:02}Z\",\"groups\":[");
    let mut put = |open: &str, records: &mut dyn Iterator<Item = String>| {
        text.push_str(open);
        for (place, record) in records.enumerate() {
            text.push_str(if place == 0 { "" } else { "," });
            text.push_str(&record);
        }
    };
    let team = |team: usize| {
        let members: Vec<String> = (team * TEAM..(team * TEAM + 5 * TEAM).min(users))
            .map(|number| format!("\"{}\"", name(number)))
            .collect();
        format!(
            r#"{{"name":"team{team:06}","gid":{},"members":[{}]}}"#,
            5_000 + team,
            members.join(",")
        )
    };
    put("", &mut (0..users.div_ceil(TEAM)).map(team));
    let user = |number: usize| {
        let (name, uid) = (name(number), 1_879_048_192 + number);
        let office = if number == users / 2 { change } else { 0 };
        format!(
            r#"{{"username":"{name}","uid":{uid},"gid":{uid},"gecos":"Person {number}, Office {office}","home":"/home/{name}","shell":"/bin/bash","id":"9067{number:08}-0000-4000-8000-000000000000"}}"#
        )
    };
    put("],\"users\":[", &mut (0..users).map(user));
    let mut state = 1_u64;
    let key = |number: usize| {
        let mut key = String::new();
        // No base64 of a key compresses.
        for _ in 0..4 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            key.push_str(&format!("{:011x}", state >> 20));
        }
        format!(
            r#""{0}":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{key} {0}@example.com""#,
            name(number)
        )
    };
    put("],\"ssh_keys\":{", &mut (0..users).map(key));
    text.push_str("}}");
    text.into_bytes()
}
