//! Partial runs against runs over everything.

use std::collections::{BTreeMap, BTreeSet};

use dirless_model::NameRule;
use dirless_model::snapshot::Joined;
use dirless_model::texts::Texts;
use dirless_seal::Identity;
use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::pipeline::open::Opening;
use crate::pipeline::report::Report;
use crate::pipeline::{
    AccessInput, Content, HostFiles, HostLimits, Inputs, Opener, Ratchet, SourceInput, access, decide, read,
};

const SOURCES: [&str; 3] = ["local", "aws-identity-center", "files"];

/// All that a host shows: users with all of it, groups with gid and members.
type Shows = (BTreeMap<String, Shown>, BTreeMap<String, (u32, BTreeSet<String>)>);
/// What each source says, by part and key.
type Directory = [BTreeMap<(Part, Vec<u8>), Vec<u8>>; 3];

fn inputs(rules: &str, limits: HostLimits) -> Inputs {
    let source = |name: &&str| SourceInput {
        name: (*name).to_owned(),
        note: None,
        fetched: None,
        last_good: None,
    };
    Inputs {
        sources: SOURCES.iter().map(source).collect(),
        directory: None,
        opener: Opener::Key(Identity::generate()),
        access: AccessInput {
            fetched: Some(rules.as_bytes().to_vec()),
            ..AccessInput::default()
        },
        name_rule: NameRule::default(),
        hostname: "web-1".to_owned(),
        limits,
        host: HostFiles {
            passwd: "root:x:0:0::/root:/bin/sh\nu7:x:5007:5007::/:/bin/sh\n".to_owned(),
            group: "root:x:0:\nsudo:x:27:\ng7:x:6007:\n".to_owned(),
            shells: None,
        },
        ratchet: Ratchet::default(),
    }
}

/// A run over everything.
fn whole(inputs: &Inputs, directory: &Directory) -> (Shows, usize, BTreeMap<String, usize>) {
    let mut texts = Texts::new();
    let mut report = Report::begin();
    let mut parts = Vec::new();
    for (source, records) in SOURCES.iter().zip(directory) {
        let mut joined = Joined::default();
        records.iter().for_each(|((part, _), bytes)| joined.add(*part, bytes));
        let document = joined.finish();
        let read = read::read(source, Opening::of(&document), &inputs.name_rule, &mut texts, None).unwrap();
        report.dropped.append(read.drops);
        parts.push(read.part);
    }
    let rules = access::choose(&inputs.access).unwrap();
    let content = decide(inputs, &rules, texts, parts, &mut report, None).unwrap();
    (shows(&content), report.excluded_total, report.dropped.by_code)
}

fn shows(content: &Content) -> Shows {
    let (texts, directory) = (&content.texts, &content.directory);
    let name = |place: u32| texts.name(directory.users[place as usize].name).to_owned();
    let users = directory.users.iter().map(|user| {
        let shown = Shown {
            uid: user.uid.number(),
            gid: user.gid.number(),
            gecos: texts.get(user.gecos).to_owned(),
            home: texts.get(user.home).to_owned(),
            shell: texts.name(user.shell).to_owned(),
            keys: texts.get(user.keys).to_owned(),
        };
        (texts.name(user.name).to_owned(), shown)
    });
    let groups = directory.groups.iter().map(|group| {
        let members = directory.members(group).iter().map(|place| name(*place)).collect();
        (texts.name(group.name).to_owned(), (group.gid.number(), members))
    });
    let private = content.private.users.iter().map(|place| {
        (
            name(*place),
            (directory.users[*place as usize].gid.number(), BTreeSet::new()),
        )
    });
    (users.collect(), groups.chain(private).collect())
}

/// What a host shows after a change.
fn applied((mut users, mut groups): Shows, effect: &Effect) -> Shows {
    for (name, shown) in &effect.users {
        match shown {
            Some(shown) => drop(users.insert(name.clone(), shown.clone())),
            None => assert!(users.remove(name).is_some(), "{name} goes and was not there"),
        }
    }
    for (name, change) in &effect.groups {
        match change {
            GroupChange::Put(gid, members) => drop(groups.insert(name.clone(), (*gid, members.clone()))),
            GroupChange::Drop => assert!(groups.remove(name).is_some(), "{name} goes and was not there"),
            GroupChange::Members { joined, left } => {
                let (_, members) = groups.get_mut(name).unwrap();
                for name in joined {
                    assert!(members.insert(name.clone()));
                }
                for name in left {
                    assert!(members.remove(name));
                }
            }
        }
    }
    (users, groups)
}

fn fill(store: &Store, directory: &Directory) {
    for (source, records) in (0u8..).zip(directory) {
        for ((part, key), bytes) in records {
            store.put(source, *part, key, bytes).unwrap();
        }
    }
}

fn store() -> Store {
    Store::new(Connection::open_in_memory().unwrap(), NameRule::default()).unwrap()
}

#[derive(Clone, Debug)]
enum Record {
    User { name: u8, uid: u8, gid: u8, shell: u8 },
    Group { name: u8, gid: u8, members: BTreeSet<u8> },
    Keys { name: u8, key: u8 },
}

fn user_name(number: u8) -> String {
    // Two spellings of some names, a name that is none, and names that groups have too.
    match number {
        0 => "U1".to_owned(),
        11 => "a b".to_owned(),
        12.. => format!("g{}", number - 11),
        _ => format!("u{number}"),
    }
}

fn group_name(number: u8) -> String {
    match number {
        0 => "G 1".to_owned(),
        8 => "g-1".to_owned(),
        9 => "sudo".to_owned(),
        10.. => format!("u{}", number - 8),
        _ => format!("g{number}"),
    }
}

impl Record {
    fn place(&self) -> (Part, Vec<u8>) {
        match self {
            Self::User { name, .. } => (Part::User, user_name(*name).into_bytes()),
            Self::Group { name, .. } => (Part::Group, group_name(*name).into_bytes()),
            Self::Keys { name, .. } => {
                let name = serde_json::to_string(&user_name(*name)).unwrap();
                (Part::Other, format!("\"ssh_keys\":{name}").into_bytes())
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        // 5007 and 6007 are the host's own, 5000 is 0: refused.
        let number = |base: u32, number: u8| if number == 0 { 0 } else { base + u32::from(number) };
        match self {
            Self::User { name, uid, gid, shell } => {
                // Some primary groups are those of groups, others are nobody's.
                let gid = if *gid < 6 {
                    6000 + u32::from(*gid)
                } else {
                    5000 + u32::from(*gid)
                };
                let shell = ["/bin/sh", "/bin/bash", "/bin/evil"][usize::from(*shell)];
                serde_json::json!({
                    "username": user_name(*name), "uid": number(5000, *uid), "gid": gid, "gecos": "", "home": "/home/x",
                    "shell": shell
                })
            }
            Self::Group { name, gid, members } => serde_json::json!({
                "name": group_name(*name), "gid": number(6000, *gid),
                "members": members.iter().map(|member| user_name(*member)).collect::<Vec<_>>()
            }),
            Self::Keys { name, key } => {
                let key =
                    format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhmVTGUVH8BWEvFbbLhWPFnhX8QdzBPE2tQTfmGqsZM k{key}");
                let name = serde_json::to_string(&user_name(*name)).unwrap();
                return format!("\"ssh_keys\":{name}:{}", serde_json::to_string(&key).unwrap()).into_bytes();
            }
        }
        .to_string()
        .into_bytes()
    }
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        4 => (0..15u8, 0..10u8, 0..10u8, 0..3u8)
            .prop_map(|(name, uid, gid, shell)| Record::User { name, uid, gid, shell }),
        3 => (0..14u8, 0..9u8, proptest::collection::btree_set(0..15u8, 0..6))
            .prop_map(|(name, gid, members)| Record::Group { name, gid, members }),
        1 => (0..15u8, 0..3u8).prop_map(|(name, key)| Record::Keys { name, key }),
    ]
}

/// Records of sources, and whether each comes or goes.
fn step() -> impl Strategy<Value = Vec<(u8, Record, bool)>> {
    proptest::collection::vec((0..3u8, record(), proptest::bool::weighted(0.7)), 1..4)
}

const OPEN: &str = r#"{"enforce_group_memberships":false,"host_group_rules":[]}"#;
const SOME: &str = r#"{"enforce_group_memberships":true,"host_group_rules":[
    {"group":"G 1","host":"web-1"},{"group":"g2","host":"web-1"},{"group":"g3","host":"db-1"}]}"#;

fn limits(mapped: bool) -> HostLimits {
    let mut limits = HostLimits::default();
    if mapped {
        limits.map_groups = ["sudo", "g7"].iter().map(|name| name.parse().unwrap()).collect();
    }
    limits
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_partial_run_ends_as_a_whole_one(
        first in proptest::collection::vec((0..3u8, record()), 0..40),
        steps in proptest::collection::vec(step(), 1..5),
        enforced: bool, mapped: bool,
    ) {
        let inputs = inputs(if enforced { SOME } else { OPEN }, limits(mapped));
        let mut directory = Directory::default();
        for (source, record) in &first {
            directory[usize::from(*source)].insert(record.place(), record.bytes());
        }
        let store = store();
        fill(&store, &directory);
        let (mut shown, mut excluded, mut codes) = whole(&inputs, &directory);
        for step in &steps {
            let mut changes = BTreeMap::new();
            for (source, record, comes) in step {
                let place = record.place();
                let bytes = comes.then(|| record.bytes());
                match &bytes {
                    Some(bytes) => drop(directory[usize::from(*source)].insert(place.clone(), bytes.clone())),
                    None => drop(directory[usize::from(*source)].remove(&place)),
                }
                changes.insert((*source, place), bytes);
            }
            let changes = changes.into_iter().map(|((source, (part, key)), bytes)| Change { source, part, key, bytes });
            let effect = effect(&store, &inputs, changes.collect()).unwrap();
            shown = applied(shown, &effect);
            excluded = excluded + effect.excluded.1 - effect.excluded.0;
            for (code, count) in &effect.dropped.1.by_code {
                *codes.entry(code.clone()).or_default() += count;
            }
            for (code, count) in &effect.dropped.0.by_code {
                *codes.get_mut(code).unwrap() -= count;
            }
            codes.retain(|_, count| *count > 0);
            let (wanted, all_excluded, all_codes) = whole(&inputs, &directory);
            prop_assert_eq!(&shown, &wanted);
            prop_assert_eq!(excluded, all_excluded);
            prop_assert_eq!(&codes, &all_codes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_garbled_file_of_records_is_an_error_or_an_answer(
        places in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..40), cut in proptest::option::of(any::<usize>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.db");
        let open = || {
            let db = Connection::open(&path)?;
            db.execute_batch("PRAGMA synchronous = OFF")?;
            Store::new(db, NameRule::default())
        };
        let mut directory = Directory::default();
        for number in 0..12 {
            let record = Record::User { name: number, uid: number, gid: number, shell: 0 };
            directory[0].insert(record.place(), record.bytes());
        }
        let group = Record::Group { name: 1, gid: 1, members: (0..12).collect() };
        directory[0].insert(group.place(), group.bytes());
        fill(&open().unwrap(), &directory);
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, byte) in &places {
            let at = at % bytes.len();
            bytes[at] ^= byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut % bytes.len());
        }
        std::fs::write(&path, bytes).unwrap();
        // Whatever it says: that it fits table and bodies is checked by whoever follows.
        if let Ok(store) = open() {
            let _ = store.note("table");
            let changed = Record::User { name: 3, uid: 9, gid: 2, shell: 1 };
            let (part, key) = changed.place();
            let change = Change { source: 0, part, key, bytes: Some(changed.bytes()) };
            let _ = effect(&store, &inputs(OPEN, limits(false)), vec![change]);
        }
    }
}
