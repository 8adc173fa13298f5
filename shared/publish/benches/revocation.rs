//! What it takes to lock one host out of many: time, CPU and bytes written. A plain program:
//!
//! ```text
//! cargo bench -p dirless-publish --bench revocation -- [HOSTS [USERS]]
//! ```
//!
//! One compartment, one source; the folders are on the disk of the temporary folder, and every file is synced.
#![expect(clippy::unwrap_used, reason = "a measuring program, not the product")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dirless_program::Clock;
use dirless_publish::{Custody, DiskFolder, Kind, NewCode, SignedConfig, Signer, Wish};
use dirless_seal::trust::{
    Compartment, Enroller, JoinRequest, OnExpiry, Policy, Publisher, Right, Scope, node_name, print,
};
use dirless_seal::{Digest, Identity, Note, SigningKey, seal_file};
use jiff::SignedDuration;
use rustix::time::{ClockId, clock_gettime};

fn main() {
    dirless_program::command::start();
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (hosts, users) = (*numbers.first().unwrap_or(&1_000), *numbers.get(1).unwrap_or(&10_000));
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("tenant");
    let signer = signer(temporary.path(), &folder);
    let names = join(&signer, &folder, hosts);
    let plaintext = snapshot(users);
    signer
        .stock(&"corp".parse().unwrap(), Kind::Snapshot, "x", &plaintext)
        .unwrap();
    signer.settle(&Wish::default()).unwrap();

    println!("{hosts} hosts, {users} users, {} bytes of snapshot", plaintext.len());
    println!("| run | wall ms | CPU ms | files written | bytes written |");
    println!("|---|---|---|---|---|");
    for (run, name) in names.iter().take(5).enumerate() {
        let before = files(&folder);
        let (wall, cpu) = (Instant::now(), cpu());
        signer.enroller().revoke(std::slice::from_ref(name)).unwrap();
        let settled = signer.settle(&Wish::default()).unwrap();
        let (wall, cpu) = (wall.elapsed(), self::cpu().saturating_sub(cpu));
        assert_eq!(settled.epochs.len(), 1);
        let after = files(&folder);
        let written: Vec<_> = after.iter().filter(|file| !before.contains(*file)).collect();
        let bytes: u64 = written.iter().map(|(_, length, _)| length).sum();
        println!(
            "| {run} | {} | {} | {} | {bytes} |",
            wall.as_millis(),
            cpu.as_millis(),
            written.len()
        );
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Paths, lengths and times of all files.
fn files(folder: &Path) -> BTreeSet<(String, u64, std::time::SystemTime)> {
    let mut all = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let (path, meta) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            if meta.is_dir() {
                folders.push(path);
            } else {
                all.insert((path.display().to_string(), meta.len(), meta.modified().unwrap()));
            }
        }
    }
    all
}

fn signer(temporary: &Path, folder: &Path) -> Signer {
    let clock = Clock::system();
    let tenant = Digest::of(b"tenant");
    let keys = Custody::generate(&"syncer-1".parse().unwrap()).unwrap();
    let root = SigningKey::generate("root-1".parse().unwrap()).unwrap();
    let (public, now) = (keys.public(), clock.now());
    let issued = jiff::Timestamp::from_second(now.as_second()).unwrap();
    let policy = Policy {
        tenant,
        version: 1,
        previous: None,
        issued,
        expires: issued + SignedDuration::from_hours(24),
        format: 1,
        lease: 86_400,
        threshold: 1,
        roots: [root.verifying().clone()].into(),
        publishers: vec![Publisher {
            key: public.publisher,
            scope: Scope {
                sources: ["corp".parse().unwrap()].into(),
                ids: vec!["2000-2000000000".parse().unwrap()],
                names: vec!["*".parse().unwrap()],
                may: BTreeSet::from(Right::ALL),
            },
        }],
        enrollers: vec![Enroller {
            key: public.enroller,
            recipient: public.recipient,
        }],
        recovery: vec![Identity::generate().recipient()],
        compartments: vec![Compartment {
            name: "all".parse().unwrap(),
            on_expiry: OnExpiry::Serve,
        }],
    };
    std::fs::create_dir_all(folder.join("policy")).unwrap();
    let note = Note::sign(print(&policy).unwrap(), &[&root]).unwrap();
    std::fs::write(folder.join("policy/1"), note.to_string()).unwrap();
    let config: SignedConfig =
        toml::from_str(&format!("folder = {folder:?}\nroots = \"{}\"", policy.fingerprint())).unwrap();
    let state = DiskFolder::private(&temporary.join("state"));
    Signer::over(
        config,
        tenant,
        keys,
        Arc::new(state),
        Arc::new(DiskFolder::public(folder)),
        clock,
    )
}

/// Lets hosts in; their names.
fn join(signer: &Signer, folder: &Path, hosts: u32) -> Vec<String> {
    let new = NewCode {
        hosts: BTreeSet::new(),
        compartments: ["all".parse().unwrap()].into(),
        uses: hosts,
        expires: Clock::system().now() + SignedDuration::from_hours(1),
        url: "https://x".to_owned(),
    };
    let code = signer.enroller().create_code(&new).unwrap();
    let mailbox = folder.join("join").join(code.code.as_str());
    std::fs::create_dir_all(&mailbox).unwrap();
    let to = signer.enroller().recipient();
    for host in 0..hosts {
        let key = SigningKey::generate("new".parse().unwrap()).unwrap();
        let key = key.renamed(node_name(key.verifying().as_bytes()));
        let own = Identity::generate().recipient();
        let request = JoinRequest::ask(&code, Clock::system().now(), &format!("h{host}"), &key, &own).unwrap();
        let mut sealed = Vec::new();
        seal_file(&[&to], &mut sealed, |out| out.write_all(request.to_string().as_bytes())).unwrap();
        std::fs::write(mailbox.join(Digest::of(&sealed).to_string()), sealed).unwrap();
    }
    let mut names = Vec::new();
    while names.len() < hosts as usize {
        let settled = signer.settle(&Wish::default()).unwrap();
        assert!(!settled.admitted.is_empty(), "{settled:?}");
        names.extend(settled.admitted.into_iter().map(|node| node.name.to_string()));
    }
    names
}

fn snapshot(users: u32) -> Vec<u8> {
    let users: Vec<_> = (0..users)
        .map(|number| {
            let name = format!("user{number}");
            let uid = 1_879_048_192 + number;
            serde_json::json!({"username": name, "uid": uid, "gid": uid, "gecos": "Some Body", "home": format!("/home/{name}"), "shell": "/bin/bash"})
        })
        .collect();
    serde_json::json!({"groups": [], "users": users})
        .to_string()
        .into_bytes()
}
