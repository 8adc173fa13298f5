//! Changes reach hosts as records of a log, until a new base is worth more.

use std::path::PathBuf;

use dirless_seal::trust::log::{Chain, TILE, split};
use dirless_syncer::signed::{Kind, Signer, Wish};

use crate::support::*;

fn tenant() -> Tenant {
    Tenant::new().logging(25)
}

fn log(tenant: &Tenant, version: u64) -> PathBuf {
    tenant.folder().join(format!("log/syncer-1/corp/all/{version}"))
}

/// Version and chain of the one source.
fn entry(tenant: &Tenant) -> (u64, Chain) {
    let head = head(tenant);
    let entry = head.entry(&label("corp"), &label("all")).unwrap();
    (entry.version, entry.chain)
}

/// Publishes these users; version and length of the log.
fn publish(tenant: &Tenant, signer: &Signer, users: &[&str]) -> (u64, u64) {
    stock(signer, "corp", &snapshot(2000, users));
    let settled = settle(signer);
    assert_eq!((settled.published.len(), settled.problems.len()), (1, 0), "{settled:?}");
    let (version, chain) = entry(tenant);
    (version, chain.length)
}

#[test]
fn a_change_is_a_record_of_the_log() {
    let tenant = tenant();
    let signer = tenant.signer();
    assert_eq!(publish(&tenant, &signer, &["alice"]), (1, 0));
    let mut host = tenant.join("web-1", &["all"]);
    let mut look = || host.look(&tenant.folder(), tenant.clock.now()).unwrap()["corp"].clone();
    assert!(!look().contains("bob"));
    assert_eq!(publish(&tenant, &signer, &["alice", "bob"]), (1, 1));
    assert!(look().contains("bob"));
    assert_eq!(publish(&tenant, &signer, &["alice"]), (1, 2));
    assert!(!look().contains("bob") && look().contains("alice"));
    let blobs = std::fs::read_dir(tenant.folder().join("blob")).unwrap().count();
    assert_eq!(blobs, 1);
    let size = std::fs::metadata(log(&tenant, 1).join("1")).unwrap().len();
    assert_eq!(size, 188);

    // Another program goes on where this one ended.
    tenant.minutes(1);
    let signer = tenant.signer();
    assert_eq!(publish(&tenant, &signer, &["carol"]), (1, 3));
    // A host that comes later sees the same.
    let mut late = tenant.join("web-2", &["all"]);
    let now = tenant.clock.now();
    assert_eq!(late.look(&tenant.folder(), now).unwrap()["corp"], look());
}

/// What the publisher keeps so that a change costs what it is may be lost or damaged, or be of something that nobody published:
/// then it looks at everything.
#[test]
fn a_change_is_found_whatever_is_left_of_what_was_kept() {
    let tenant = tenant();
    let signer = tenant.signer();
    publish(&tenant, &signer, &["alice"]);
    let mut host = tenant.join("web-1", &["all"]);
    let mut names = || {
        let seen = &host.look(&tenant.folder(), tenant.clock.now()).unwrap()["corp"];
        let all = ["alice", "bob", "carol", "dave", "erin"];
        all.iter()
            .filter(|name| seen.contains(**name))
            .copied()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), ["alice"]);
    let indexes = || {
        let files = std::fs::read_dir(tenant.state().join("body")).unwrap();
        files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "index"))
    };
    indexes().for_each(|path| std::fs::remove_file(path).unwrap());
    assert_eq!(publish(&tenant, &signer, &["alice", "bob"]), (1, 1));
    assert_eq!(names(), ["alice", "bob"]);
    for path in indexes() {
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(publish(&tenant, &signer, &["alice", "carol"]), (1, 2));
    assert_eq!(names(), ["alice", "carol"]);
    // Stocked and never settled: what hosts have is what came before.
    stock(&signer, "corp", &snapshot(2000, &["dave"]));
    assert_eq!(publish(&tenant, &signer, &["dave", "erin"]), (1, 3));
    assert_eq!(names(), ["dave", "erin"]);
}

/// What whoever serves the files sees of a change: the sizes of the record, of the head, and of nothing else.
#[test]
fn whose_change_it_is_does_not_show_on_the_wire() {
    let mut seen = std::collections::BTreeSet::new();
    for name in ["al", "carol", "bob.smith"] {
        let tenant = tenant();
        let signer = tenant.signer();
        publish(&tenant, &signer, &["zoe"]);
        let size = |path: PathBuf| std::fs::metadata(path).unwrap().len();
        let head = || size(tenant.folder().join("head/syncer-1"));
        publish(&tenant, &signer, &["zoe", name]);
        let appears = (size(log(&tenant, 1).join("0")), head());
        publish(&tenant, &signer, &["zoe"]);
        let goes = (size(log(&tenant, 1).join("1")), head());
        assert_eq!(std::fs::read_dir(tenant.folder().join("blob")).unwrap().count(), 1);
        seen.insert((appears, goes));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[test]
fn access_rules_have_a_log_too() {
    let tenant = tenant();
    let signer = tenant.signer();
    let source = label("access-rules");
    for (says, rules) in [
        ("a", r#"{"host_group_rules":[]}"#),
        ("b", r#"{"host_group_rules":[1]}"#),
    ] {
        signer
            .stock(&source, Kind::AccessRules, says, rules.as_bytes())
            .unwrap();
        settle(&signer);
    }
    let mut host = tenant.join("web-1", &["all"]);
    let seen = host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    assert_eq!(seen["access-rules"], r#"{"host_group_rules":[1]}"#);
    assert_eq!(head(&tenant).entries[0].chain.length, 1);
}

#[test]
fn a_log_that_gets_long_ends_in_a_new_base() {
    let tenant = tenant();
    let signer = tenant.signer();
    assert_eq!(publish(&tenant, &signer, &["alice"]), (1, 0));
    // Some 30 KB each; a log may have 64 KiB, however small its base.
    let many = |letter: char| (0..300).map(|number| format!("{letter}{number}")).collect::<Vec<_>>();
    let mut seen = Vec::new();
    for letter in ['a', 'b', 'c', 'd'] {
        let names = many(letter);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        seen.push(publish(&tenant, &signer, &names));
    }
    assert_eq!(seen, [(1, 1), (1, 2), (2, 0), (2, 1)]);
    let mut host = tenant.join("web-1", &["all"]);
    host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    // The log of the base before lingers for a day, like that.
    let count = |version| std::fs::read_dir(log(&tenant, version)).unwrap().count();
    assert_eq!((count(1), count(2)), (2, 1));
    tenant.minutes(25 * 60);
    settle(&signer);
    assert_eq!((count(1), count(2)), (0, 1));
}

#[test]
fn a_tile_is_written_with_its_last_record() {
    let tenant = tenant();
    let signer = tenant.signer();
    publish(&tenant, &signer, &["alice"]);
    for number in 0..=TILE {
        let tile = log(&tenant, 1).join("tile-0");
        assert_eq!(tile.exists(), number == TILE);
        let name = format!("u{}", number % 3);
        assert_eq!(publish(&tenant, &signer, &[&name]), (1, number + 1));
    }
    let tile = std::fs::read(log(&tenant, 1).join("tile-0")).unwrap();
    let records = split(&tile).unwrap();
    assert_eq!(records.len() as u64, TILE);
    for (number, record) in records.iter().enumerate() {
        assert_eq!(
            std::fs::read(log(&tenant, 1).join(number.to_string())).unwrap(),
            *record
        );
    }
}

#[test]
fn what_no_log_says_is_a_new_base() {
    let tenant = tenant();
    let signer = tenant.signer();
    publish(&tenant, &signer, &["alice"]);
    // Two of one name.
    assert_eq!(publish(&tenant, &signer, &["alice", "alice"]), (2, 0));
    assert_eq!(publish(&tenant, &signer, &["alice"]), (3, 0));
    assert_eq!(publish(&tenant, &signer, &["bob"]), (3, 1));
    let wish = Wish {
        epochs: [label("all")].into(),
        ..Wish::default()
    };
    signer.settle(&wish).unwrap();
    let (version, chain) = entry(&tenant);
    assert_eq!((version, chain.length), (4, 0));
    let none = Tenant::new();
    let signer = none.signer();
    publish(&none, &signer, &["alice"]);
    assert_eq!(publish(&none, &signer, &["bob"]), (2, 0));
}

#[test]
fn compartments_have_logs_of_their_own() {
    let tenant = Tenant::with(&[("db", None), ("web", None)]).logging(25);
    let signer = tenant.signer();
    for users in [&["alice"], &["bob"]] {
        stock(&signer, "corp", &snapshot(2000, users));
        settle(&signer);
    }
    let record = |compartment: &str| {
        let path = tenant.folder().join(format!("log/syncer-1/corp/{compartment}/1/0"));
        std::fs::read(path).unwrap()
    };
    assert_ne!(record("db"), record("web"));
    for compartment in ["db", "web"] {
        let mut host = tenant.join(compartment, &[compartment]);
        let seen = host.look(&tenant.folder(), tenant.clock.now()).unwrap();
        assert!(seen["corp"].contains("bob") && !seen["corp"].contains("alice"));
    }
}

#[test]
fn a_lost_state_goes_on_with_what_the_folder_has() {
    let tenant = tenant();
    let signer = tenant.signer();
    publish(&tenant, &signer, &["alice"]);
    publish(&tenant, &signer, &["alice", "bob"]);
    let mut host = tenant.join("web-1", &["all"]);
    host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    std::fs::remove_dir_all(tenant.state()).unwrap();
    let signer = tenant.signer();
    let adopted = signer.adopt().unwrap();
    assert_eq!(adopted.snapshots, 1);
    settle(&signer);
    assert_eq!(entry(&tenant).1.length, 1);
    host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    assert_eq!(publish(&tenant, &signer, &["carol"]), (2, 0));
    let seen = host.look(&tenant.folder(), tenant.clock.now());
    assert!(seen.is_err() || seen.unwrap()["corp"].contains("carol"));
}

/// A state that is put back from a backup: what was said since is never said again under its number.
#[test]
fn a_state_from_a_backup_overwrites_nothing() {
    let tenant = tenant();
    publish(&tenant, &tenant.signer(), &["alice"]);
    let backup = tenant.fork();
    publish(&tenant, &tenant.signer(), &["alice", "bob"]);
    let record = std::fs::read(log(&tenant, 1).join("0")).unwrap();
    // The folder of now, the state of then.
    std::fs::remove_dir_all(tenant.state()).unwrap();
    let status = std::process::Command::new("cp")
        .arg("-a")
        .args([backup.state(), tenant.state()])
        .status();
    assert!(status.unwrap().success());
    let signer = tenant.signer();
    stock(&signer, "corp", &snapshot(2000, &["mallory"]));
    assert!(signer.settle(&Wish::default()).is_err(), "the head is another copy's");
    assert_eq!(std::fs::read(log(&tenant, 1).join("0")).unwrap(), record);
}
