//! Heads that count, and what is said of hosts by them.

use std::collections::BTreeSet;

use dirless_publish::DiskFolder;
use dirless_seal::trust::{Lease, Publisher, Receipt, Scope, Succession, print};
use dirless_seal::{Digest, SigningKey};

use super::*;

fn key(name: &str) -> SigningKey {
    SigningKey::generate(name.parse().unwrap()).unwrap()
}

fn now() -> Timestamp {
    "2026-11-22T08:00:00Z".parse().unwrap()
}

fn told() -> Told {
    Told {
        json: false,
        lines: Vec::new(),
    }
}

/// That of a policy which names the publishers of `keys`.
fn view(keys: &[&SigningKey]) -> View {
    let publisher = |key: &&SigningKey| Publisher {
        key: key.verifying().clone(),
        scope: Scope {
            sources: BTreeSet::new(),
            ids: vec![],
            names: vec![],
            may: BTreeSet::new(),
        },
    };
    View::of(Policy {
        tenant: Digest::of(b"tenant"),
        version: 1,
        previous: None,
        issued: now(),
        expires: now(),
        format: 1,
        lease: 86_400,
        threshold: 1,
        roots: BTreeSet::from([key("root").verifying().clone()]),
        publishers: keys.iter().map(publisher).collect(),
        enrollers: vec![],
        recovery: vec![],
        compartments: vec![],
    })
}

fn head(publisher: &str, version: u64, keys: &[&SigningKey]) -> Vec<u8> {
    let head = Head {
        tenant: Digest::of(b"tenant"),
        publisher: publisher.parse().unwrap(),
        version,
        issued: now(),
        lease: Lease {
            fresh: 60,
            expires: 3600,
        },
        policy: 1,
        nodes: None,
        entries: vec![],
    };
    Note::sign(print(&head).unwrap(), keys)
        .unwrap()
        .to_string()
        .into_bytes()
}

/// One that applied these heads, heard of so many seconds ago.
fn host(heads: &[(&str, u64)], ago: i64) -> Host {
    let seen = |version| Seen {
        version,
        digest: Digest::of(b"head"),
    };
    Host {
        received: Timestamp::from_second(now().as_second() - ago).ok(),
        receipt: Some(Receipt {
            tenant: Digest::of(b"tenant"),
            node: "n1".parse().unwrap(),
            issued: now(),
            policy: seen(1),
            heads: heads
                .iter()
                .map(|(name, version)| (name.parse().unwrap(), seen(*version)))
                .collect(),
            generation: 1,
            users: 1,
            groups: 1,
            dropped: 0,
            alarms: vec![],
        }),
    }
}

fn word(view: &View, host: &Host) -> &'static str {
    view.about(&"n1".parse().unwrap(), host, now()).word
}

#[test]
fn nothing_is_applied_of_a_publisher_without_a_head() {
    let (one, two, folder) = (key("one"), key("two"), tempfile::tempdir().unwrap());
    let folder = DiskFolder::public(folder.path());
    let mut view = view(&[&one, &two]);
    let has = host(&[("one", 7), ("two", 7)], 10);
    let silent = host(&[("one", 7), ("two", 7)], 1000);
    assert_eq!(
        (word(&view, &has), word(&view, &silent)),
        ("unknown", "unknown, offline")
    );
    assert_eq!(word(&view, &Host::default()), "unknown, offline");

    assert!(view.take(&folder, &head("one", 7, &[&one]), &mut told()));
    assert!(
        !view.take(&folder, &head("two", 7, &[&one]), &mut told()),
        "another's key"
    );
    assert_eq!(
        (word(&view, &has), word(&view, &silent)),
        ("unknown", "unknown, offline")
    );
    let about = view.about(&"n1".parse().unwrap(), &has, now());
    assert_eq!(about.unknown, ["two"]);
    assert!(
        about.summary(&has).ends_with("  no head of two"),
        "{}",
        about.summary(&has)
    );
    // What is known to be lacking is lacking, whatever is not known.
    let (behind, lost) = (host(&[("one", 6), ("two", 7)], 10), host(&[("one", 6)], 1000));
    assert_eq!((word(&view, &behind), word(&view, &lost)), ("behind", "offline"));

    assert!(view.take(&folder, &head("two", 7, &[&two]), &mut told()));
    assert_eq!(
        (word(&view, &has), word(&view, &silent)),
        ("applied", "applied, offline")
    );
    // Where nobody may publish, nothing is current.
    assert_eq!(word(&self::view(&[]), &has), "unknown");
}

#[test]
fn heads_of_successors_count_once_their_successions_are_found() {
    let (first, second, third) = (key("one"), key("one"), key("one"));
    let place = tempfile::tempdir().unwrap();
    let folder = DiskFolder::public(place.path());
    let mut view = view(&[&first]);
    let has = host(&[("one", 9)], 10);
    let succession = |version, previous, key: &SigningKey, by: &SigningKey| {
        let succession = Succession {
            tenant: Digest::of(b"tenant"),
            publisher: "one".parse().unwrap(),
            version,
            previous,
            issued: now(),
            anchor: first.verifying().clone(),
            key: key.verifying().clone(),
        };
        let note = Note::sign(print(&succession).unwrap(), &[by, key]).unwrap();
        let path = Succession::path(first.verifying(), version);
        folder.replace(&path, note.to_string().as_bytes()).unwrap();
        note.digest()
    };
    let mut said = told();
    assert!(!view.take(&folder, &head("one", 6, &[&second]), &mut said));
    assert!(
        said.lines.concat().contains("not signed by its key"),
        "{:?}",
        said.lines
    );
    assert_eq!(word(&view, &has), "unknown");

    let seen = succession(1, None, &second, &first);
    let mut said = told();
    assert!(view.take(&folder, &head("one", 7, &[&first, &second]), &mut said));
    view.take(&folder, &head("one", 8, &[&second]), &mut said);
    assert!(view.heads.values().all(|current| current.seen.version == 8));
    assert!(!said.lines.concat().contains("problem"), "{:?}", said.lines);
    assert!(
        !view.take(&folder, &head("one", 9, &[&first]), &mut told()),
        "a key of before"
    );
    assert_eq!(word(&view, &has), "applied");

    // One that nobody known signed is told once, and the key that is known holds on.
    succession(2, Some(seen), &third, &third);
    let mut said = told();
    for version in [10, 11] {
        assert!(!view.take(&folder, &head("one", version, &[&third]), &mut said));
    }
    assert_eq!(
        said.lines.concat().matches("counts for nothing").count(),
        1,
        "{:?}",
        said.lines
    );
    view.take(&folder, &head("one", 12, &[&second]), &mut told());
    assert_eq!(view.heads.values().map(|current| current.seen.version).max(), Some(12));

    // Nor is the one before in the place of the next followed for ever.
    let again = std::fs::read(place.path().join(Succession::path(first.verifying(), 1))).unwrap();
    folder.replace(&Succession::path(first.verifying(), 2), &again).unwrap();
    assert!(!view.take(&folder, &head("one", 13, &[&third]), &mut said));
    assert_eq!(
        said.lines.concat().matches("counts for nothing").count(),
        2,
        "{:?}",
        said.lines
    );
}
