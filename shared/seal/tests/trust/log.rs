//! Logs: what a change is, where a record opens, how far a log was followed.

use std::collections::BTreeMap;

use dirless_seal::trust::log::{
    ApplyError, Chain, Change, Changes, ChangesError, DiffError, Hunk, LONGEST_RECORD, LogKey, Place, RecordError, diff,
};
use dirless_seal::trust::{Head, Manifest, Memory, Policy, Refusal, parse, print, read};
use dirless_seal::{Content, Digest, Identity, Note, RecordKind};
use proptest::prelude::*;

use crate::support::{Tenant, at, label, signed};

type Snapshot = BTreeMap<(RecordKind, Vec<u8>), Vec<u8>>;

fn root(snapshot: &Snapshot) -> Digest {
    let mut content = Content::default();
    snapshot
        .iter()
        .for_each(|((kind, _), bytes)| content.add(kind.leaf(bytes)));
    content.root()
}

fn kind() -> impl Strategy<Value = RecordKind> {
    prop_oneof![
        Just(RecordKind::User),
        Just(RecordKind::Group),
        Just(RecordKind::Entry),
        Just(RecordKind::Other)
    ]
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    proptest::collection::btree_map((kind(), "[a-d]{0,2}".prop_map(String::into_bytes)), bytes(), 0..24)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    ("[xy,]{0,6}", 1usize..80).prop_map(|(text, times)| text.repeat(times).into_bytes())
}

fn change() -> impl Strategy<Value = Change> {
    let hunk = (1u32..9, 0u32..9, "[a-z]{1,4}").prop_map(|(skip, removed, bytes)| Hunk {
        skip,
        removed,
        bytes: bytes.into_bytes(),
    });
    prop_oneof![
        bytes().prop_map(Change::Put),
        proptest::collection::vec(hunk, 1..5).prop_map(Change::Splice),
        Just(Change::Drop)
    ]
}

fn changes() -> impl Strategy<Value = Changes> {
    let changes = proptest::collection::btree_map((kind(), "[a-z]{0,3}".prop_map(String::into_bytes)), change(), 0..20);
    (any::<[u8; 32]>(), changes).prop_map(|(content, changes)| Changes {
        content: Digest::from_bytes(content),
        changes,
    })
}

fn place() -> (Identity, Place) {
    let tenant = Tenant::new();
    let manifest = tenant.manifest(7, Some(tenant.id));
    (tenant.epoch, Place::of(&manifest, Digest::of(b"manifest")))
}

proptest! {
    #[test]
    fn the_difference_makes_one_snapshot_of_the_other(before in snapshot(), after in snapshot()) {
        let changes = diff(&before, &after, root(&after)).unwrap();
        let same = before.iter().filter(|(key, bytes)| after.get(*key) == Some(*bytes)).count();
        prop_assert_eq!(changes.changes.len() + same, before.keys().chain(after.keys()).collect::<std::collections::BTreeSet<_>>().len());
        let mut records = before;
        Changes::decode(&changes.encode().unwrap()).unwrap().apply(&mut records).unwrap();
        prop_assert_eq!(&records, &after);
        prop_assert_eq!(root(&records), changes.content);
    }

    #[test]
    fn changes_survive_their_bytes(changes in changes()) {
        prop_assert_eq!(Changes::decode(&changes.encode().unwrap()), Ok(changes));
    }

    #[test]
    fn what_is_read_has_no_other_spelling(changes in changes(), at in any::<proptest::sample::Index>(), byte: u8) {
        let mut bytes = changes.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = Changes::decode(&bytes) {
            prop_assert_eq!(read.encode(), Ok(bytes));
        }
    }

    #[test]
    fn bytes_of_strangers_are_read_or_refused(bytes in proptest::collection::vec(0u8..16, 0..200)) {
        if let Ok(read) = Changes::decode(&bytes) {
            prop_assert_eq!(read.encode(), Ok(bytes));
        }
    }

    #[test]
    fn a_record_opens_as_what_it_was_sealed(changes in changes(), number in 0u64..1000) {
        let (epoch, place) = place();
        let key = LogKey::new(&epoch, &place);
        let sealed = key.seal(number, &changes).unwrap();
        prop_assert_eq!(LogKey::new(&epoch, &place).open(number, &sealed), Ok(changes));
        prop_assert_eq!(key.open(number + 1, &sealed), Err(RecordError::Sealed(number + 1)));
    }
}

fn one_user(shell: &str) -> Snapshot {
    let user = format!(
        r#"{{"username":"alice","uid":2001,"gid":2001,"gecos":"Alice Liddell","home":"/home/alice","shell":"{shell}"}}"#
    );
    let sequence = format!("\"sequence\":{}", shell.len());
    BTreeMap::from([
        ((RecordKind::User, b"alice".to_vec()), user.into_bytes()),
        ((RecordKind::Other, b"\"sequence\"".to_vec()), sequence.into_bytes()),
    ])
}

#[test]
fn small_changes_have_one_size() {
    let (epoch, place) = place();
    let key = LogKey::new(&epoch, &place);
    let empty = Snapshot::new();
    let alice = one_user("/bin/sh");
    let mut sizes = Vec::new();
    for (before, after) in [(&alice, &one_user("/usr/bin/zsh")), (&alice, &empty), (&alice, &alice)] {
        let changes = diff(before, after, root(after)).unwrap();
        sizes.push(key.seal(3, &changes).unwrap().len());
    }
    // Nonce and tag beside the padding.
    assert_eq!(sizes, [188; 3]);
    // Sealed twice it is another record, whatever the numbers.
    let changes = diff(&alice, &empty, root(&empty)).unwrap();
    assert_ne!(key.seal(3, &changes).unwrap(), key.seal(3, &changes).unwrap());
}

/// A snapshot as syncers write it: a person with the account, and the group that she is in.
fn with_person(name: &str, words: &str, groups: &[&str]) -> Snapshot {
    let user = format!(
        r#"{{"username":"{name}","uid":1879048193,"gid":1879048193,"gecos":"{words}","home":"/home/{name}","shell":"/bin/bash","id":"9067f2a4-{:08}"}}"#,
        name.len()
    );
    let mut snapshot = BTreeMap::from([((RecordKind::User, name.as_bytes().to_vec()), user.into_bytes())]);
    for group in ["engineering", "ops", "everybody"] {
        let member = if groups.contains(&group) {
            format!(",\"{name}\"")
        } else {
            String::new()
        };
        let text = format!(r#"{{"name":"{group}","gid":1879048200,"members":["zoe"{member}]}}"#);
        snapshot.insert((RecordKind::Group, group.as_bytes().to_vec()), text.into_bytes());
    }
    snapshot
}

#[test]
fn who_appears_goes_or_moves_is_not_told_by_the_size() {
    let (epoch, place) = place();
    let key = LogKey::new(&epoch, &place);
    let people = [
        ("al", "Al", &["ops"][..]),
        (
            "bartholomew.smith-jones",
            "Bartholomew Smith-Jones",
            &["engineering", "ops"],
        ),
        ("carol", "Carol Danvers, Office 12", &["everybody"]),
    ];
    let size =
        |before: &Snapshot, after: &Snapshot| key.seal(7, &diff(before, after, root(after)).unwrap()).unwrap().len();
    let mut sizes = std::collections::BTreeSet::new();
    for (name, words, groups) in people {
        let there = with_person(name, words, groups);
        let mut nobody = with_person(name, words, &[]);
        nobody.remove(&(RecordKind::User, name.as_bytes().to_vec()));
        let married = with_person(name, "Somebody Else", groups);
        let moved = with_person(name, words, &["engineering", "everybody"]);
        sizes.insert([
            size(&nobody, &there),
            size(&there, &nobody),
            size(&there, &married),
            size(&there, &moved),
        ]);
    }
    assert_eq!(sizes.len(), 1, "{sizes:?}");
}

#[test]
fn a_record_opens_in_its_own_place_alone() {
    let (epoch, place) = place();
    let changes = diff(&Snapshot::new(), &one_user("/bin/sh"), root(&Snapshot::new())).unwrap();
    let sealed = LogKey::new(&epoch, &place).seal(0, &changes).unwrap();
    let others = [
        Place {
            tenant: Digest::of(b"x"),
            ..place.clone()
        },
        Place {
            publisher: label("syncer-2"),
            ..place.clone()
        },
        Place {
            source: label("aws-identity-center"),
            ..place.clone()
        },
        Place {
            compartment: label("web"),
            ..place.clone()
        },
        Place {
            epoch: 2,
            ..place.clone()
        },
        Place {
            version: 8,
            ..place.clone()
        },
        Place {
            manifest: Digest::of(b"x"),
            ..place.clone()
        },
    ];
    for other in others {
        assert_ne!(other, place);
        assert_eq!(
            LogKey::new(&epoch, &other).open(0, &sealed),
            Err(RecordError::Sealed(0)),
            "{other:?}"
        );
    }
    let stranger = LogKey::new(&Identity::generate(), &place);
    assert_eq!(stranger.open(0, &sealed), Err(RecordError::Sealed(0)));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let of = |key: &str, change| Changes {
        content: Digest::of(b""),
        changes: BTreeMap::from([((RecordKind::User, key.as_bytes().to_vec()), change)]),
    };
    let cut = |skip, removed| {
        Change::Splice(vec![Hunk {
            skip,
            removed,
            bytes: b"x".to_vec(),
        }])
    };
    let mut alice = one_user("/bin/sh");
    let length = u32::try_from(alice[&(RecordKind::User, b"alice".to_vec())].len()).unwrap();
    for changes in [of("bob", Change::Drop), of("bob", cut(0, 0))] {
        assert!(matches!(changes.apply(&mut alice), Err(ApplyError::Absent { .. })));
    }
    for (skip, removed) in [(length + 1, 0), (length, 1), (0, length + 1), (u32::MAX, u32::MAX)] {
        let changes = of("alice", cut(skip, removed));
        assert!(matches!(changes.apply(&mut alice), Err(ApplyError::Beyond { .. })));
    }
    assert_eq!(alice, one_user("/bin/sh"));
    of("alice", cut(length, 0)).apply(&mut alice).unwrap();

    let long = of("a", Change::Put(vec![0; LONGEST_RECORD]));
    assert_eq!(long.encode(), Err(ChangesError::TooLong));
    assert!(of("a", Change::Splice(vec![])).encode().is_err());
    let long = BTreeMap::from([((RecordKind::User, b"a".to_vec()), vec![0; LONGEST_RECORD + 1])]);
    assert_eq!(diff(&Snapshot::new(), &long, Digest::of(b"")), Err(DiffError::TooMuch));
}

/// A host that accepted the tenant's manifest of version 7.
fn host(tenant: &Tenant) -> (Memory, Policy, Note, Manifest) {
    let (memory, policy) = tenant.host();
    let manifest = tenant.manifest(7, Some(tenant.id));
    let note = signed(&manifest, &[&tenant.publisher]);
    (memory, policy, note, manifest)
}

fn head(tenant: &Tenant, version: u64, note: &Note, chain: Chain) -> Head {
    let mut head = tenant.head(version, 0, &[note]);
    head.entries[0].chain = chain;
    head
}

#[test]
fn a_log_only_grows() {
    let tenant = Tenant::new();
    let (mut memory, policy, note, _) = host(&tenant);
    let base = Chain::of(note.digest());
    let second = base.then(b"one").then(b"two");
    let named = head(&tenant, 1, &note, second);
    // The log was not followed, or not to its end.
    assert_eq!(memory.manifest(&policy, &named, &note), Err(Refusal::Mixed("manifest")));
    assert_eq!(
        memory.manifest_and_log(&policy, &named, &note, base.then(b"one")),
        Err(Refusal::Mixed("log"))
    );
    memory.manifest_and_log(&policy, &named, &note, second).unwrap();

    let rollback = |found| {
        Err(Refusal::Rollback {
            kind: "log",
            found,
            seen: 2,
        })
    };
    for (chain, refused) in [
        (base, rollback(0)),
        (base.then(b"one"), rollback(1)),
        (
            base.then(b"one").then(b"2"),
            Err(Refusal::Fork {
                kind: "log",
                version: 2,
            }),
        ),
    ] {
        let named = head(&tenant, 2, &note, chain);
        assert_eq!(memory.check_entry(&named, &named.entries[0]), refused);
        assert_eq!(memory.log(&named, &named.entries[0], chain), refused);
        let whole = memory.manifest_and_log(&policy, &named, &note, chain);
        assert_eq!(whole.map(drop), refused);
    }
    let third = second.then(b"three");
    let named = head(&tenant, 2, &note, third);
    let entry = &named.entries[0];
    memory.check_entry(&named, entry).unwrap();
    assert_eq!(memory.log(&named, entry, second), Err(Refusal::Mixed("log")));
    memory.log(&named, entry, third).unwrap();
    assert_eq!(memory.chain(&label("syncer-1"), entry), Some(third));

    let text = print(&memory).unwrap();
    assert_eq!(read::<Memory>(&text).unwrap(), memory);
    assert!(text.contains(&format!(" 3 {}\n", third.hash)), "{text}");
}

#[test]
fn a_new_base_ends_the_log() {
    let tenant = Tenant::new();
    let (mut memory, policy, note, _) = host(&tenant);
    let chain = Chain::of(note.digest()).then(b"one");
    let named = head(&tenant, 1, &note, chain);
    memory.manifest_and_log(&policy, &named, &note, chain).unwrap();
    let next = signed(&tenant.manifest(8, Some(note.digest())), &[&tenant.publisher]);
    let named = head(&tenant, 2, &next, Chain::of(next.digest()));
    memory.check_entry(&named, &named.entries[0]).unwrap();
    memory.manifest(&policy, &named, &next).unwrap();
    assert_eq!(
        memory.chain(&label("syncer-1"), &named.entries[0]),
        Some(Chain::of(next.digest()))
    );
    // And no log brings the old one back.
    let named = head(&tenant, 3, &note, chain.then(b"two"));
    let refused = memory.check_entry(&named, &named.entries[0]).unwrap_err();
    assert_eq!(refused.code(), "rollback");
}

#[test]
fn a_manifest_with_a_log_is_looked_at_before_it_is_believed() {
    let tenant = Tenant::new();
    let (memory, policy, note, manifest) = host(&tenant);
    let named = head(&tenant, 1, &note, Chain::of(note.digest()).then(b"one"));
    assert_eq!(memory.look_at_manifest(&policy, &named, &note), Ok(manifest.clone()));
    let stranger = signed(&manifest, &[&tenant.roots[0]]);
    assert_eq!(
        memory.look_at_manifest(&policy, &named, &stranger),
        Err(Refusal::Forged("manifest"))
    );
    // Another one of the same version is signed as well; no log leads from it to the hash.
    let other = Manifest {
        issued: at(1),
        ..manifest
    };
    let other = signed(&other, &[&tenant.publisher]);
    assert!(memory.look_at_manifest(&policy, &named, &other).is_ok());
    let reached = Chain::of(other.digest()).then(b"one");
    assert_eq!(
        memory.clone().manifest_and_log(&policy, &named, &other, reached),
        Err(Refusal::Mixed("log"))
    );
    let older = signed(&tenant.manifest(6, None), &[&tenant.publisher]);
    assert_eq!(
        memory.look_at_manifest(&policy, &named, &older),
        Err(Refusal::Mixed("manifest"))
    );
    let text = print(&named).unwrap();
    assert_eq!(parse::<Head>(&Note::sign(text, &[]).unwrap()), Ok(named));
}
