//! What a publish costs: makes a host with a large sealed directory, publishes it in a process of its
//! own and reports CPU time, peak memory and sizes.
//!
//! ```text
//! cargo run --release -p dirless-agent --example publish_cost -- [USERS] [FOLDER]
//! ```

mod common;

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use base64::Engine;
use dirless_agent::paths::Paths;
use dirless_agent::pipeline::{Durations, Report, SourceState, publish_command};
use dirless_program::Clock;
use dirless_seal::Identity;

fn main() -> anyhow::Result<()> {
    common::run("publish_cost", measure, worker)
}

/// Makes the host and runs four workers on it: the first publishes, the second finds the same files, the
/// third the same people in another sealed body, the fourth one user more.
fn measure(users: u32, root: &Path) -> anyhow::Result<()> {
    let identity = Identity::generate();
    make_host(root, &identity)?;
    let runs = [
        ("first", Some(users)),
        ("same files", None),
        ("sealed again", Some(users)),
        ("one more", Some(users + 1)),
    ];
    for (what, people) in runs {
        let plain = people.map_or(Ok(0), |people| make_snapshot(root, &identity, people))?;
        let sealed = fs::metadata(Paths::under(root).sealed("aws-identity-center"))?.len();
        println!(
            "{what}: {} users in {} KiB of new JSON, {} KiB sealed",
            people.unwrap_or(users),
            plain / 1024,
            sealed / 1024
        );
        let status = common::worker(root)?.status()?;
        anyhow::ensure!(status.success(), "the worker ended with {status}");
    }
    let table = fs::metadata(Paths::under(root).table())?.len();
    println!("table: {} KiB", table / 1024);
    Ok(())
}

fn make_host(root: &Path, identity: &Identity) -> anyhow::Result<()> {
    let paths = common::host(root)?;
    fs::write(paths.age_key(), identity.expose().as_str())?;
    fs::set_permissions(paths.age_key(), Permissions::from_mode(0o600))?;
    common::note(&paths, "local", SourceState::Absent)?;
    common::note(&paths, "aws-identity-center", SourceState::Present)
}

/// Seals a directory in which everyone is in five of the groups and has a key. Returns the size of its
/// JSON in bytes.
fn make_snapshot(root: &Path, identity: &Identity, users: u32) -> anyhow::Result<usize> {
    let groups = (users / 50).max(1);
    let mut json = Vec::new();
    json.extend_from_slice(b"{\"sequence\":1,\"groups\":[");
    for group in 0..groups {
        let comma = if group == 0 { "" } else { "," };
        write!(
            json,
            "{comma}{{\"name\":\"team-{group}\",\"gid\":{},\"members\":[",
            1_900_000_000 + group
        )?;
        let members = (0..users).filter(|user| (0..5).any(|step| (user * 7 + step * 13) % groups == group));
        for (place, user) in members.enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(json, "{comma}\"user{user:06}\"")?;
        }
        json.extend_from_slice(b"]}");
    }
    json.extend_from_slice(b"],\"users\":[");
    for user in 0..users {
        let comma = if user == 0 { "" } else { "," };
        let uid = 1_910_000_000 + user;
        write!(
            json,
            "{comma}{{\"username\":\"user{user:06}\",\"uid\":{uid},\"gid\":{uid},\"gecos\":\"Person Number {user}\",\
             \"home\":\"/home/user{user:06}\",\"shell\":\"/bin/bash\",\"id\":\"9067{user:06}-0000-4000-8000-000000000000\"}}"
        )?;
    }
    json.extend_from_slice(b"],\"ssh_keys\":{");
    for user in 0..users {
        let comma = if user == 0 { "" } else { "," };
        write!(
            json,
            "{comma}\"user{user:06}\":\"ssh-ed25519 {} user{user:06}\"",
            key(user)
        )?;
    }
    json.extend_from_slice(b"}}");
    let file = fs::File::create(Paths::under(root).sealed("aws-identity-center"))?;
    dirless_seal::seal(&identity.recipient(), &mut json.as_slice(), file)?;
    Ok(json.len())
}

/// A key that differs from user to user and does not compress, as real ones.
fn key(user: u32) -> String {
    let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    let digest = dirless_seal::sha256_hex(&user.to_le_bytes());
    let nibble = |c: u8| if c.is_ascii_digit() { c - b'0' } else { c - b'a' + 10 };
    let (pairs, _) = digest.as_bytes().as_chunks::<2>();
    blob.extend(pairs.iter().map(|[high, low]| nibble(*high) << 4 | nibble(*low)));
    base64::engine::general_purpose::STANDARD.encode(blob)
}

fn worker(root: &Path) -> anyhow::Result<()> {
    let mut options = common::options(root)?;
    options.memory = Some(1 << 30);
    let code = publish_command(&Paths::under(root), &options, &Clock::system(), &mut std::io::stdout())?;
    if let Some(report) = Report::load(&Paths::under(root).report())? {
        let Durations { read, decide, publish } = report.durations;
        println!("  read {read} ms, decide {decide} ms, publish {publish} ms");
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .context("no VmHWM")?;
    println!(
        "  exit code {code}, CPU {:.0} ms, peak RSS {}",
        common::processor()?,
        peak.trim_start_matches("VmHWM:").trim()
    );
    Ok(())
}
