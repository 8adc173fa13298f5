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
use std::time::Instant;

use dirless_program::Clock;
use dirless_publish::{Kind, NewCode, Signer, Wish};
use dirless_seal::trust::{JoinRequest, node_name};
use dirless_seal::{Digest, Identity, SigningKey, seal_file};
use jiff::SignedDuration;

mod tenant;

fn main() {
    dirless_program::command::start();
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (hosts, users) = (*numbers.first().unwrap_or(&1_000), *numbers.get(1).unwrap_or(&10_000));
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("tenant");
    let signer = tenant::signer(temporary.path(), &folder);
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
        let (wall, cpu) = (Instant::now(), tenant::cpu());
        signer.enroller().revoke(std::slice::from_ref(name)).unwrap();
        let settled = signer.settle(&Wish::default()).unwrap();
        let (wall, cpu) = (wall.elapsed(), tenant::cpu().saturating_sub(cpu));
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
