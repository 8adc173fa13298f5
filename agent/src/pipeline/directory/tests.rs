//! Copies that follow what changed against copies that are made of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use dirless_copy::{Edit, Kind, Overlay, Reader, Scope};
use dirless_directory::{DnKey, Filter, Schema};
use dirless_model::NameRule;
use dirless_model::snapshot::{Joined, Part};
use dirless_model::texts::Texts;
use dirless_seal::Identity;
use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::pipeline::open::Opening;
use crate::pipeline::partial::{Change, Effect, Store, TreeChange, TreeRules, effect};
use crate::pipeline::report::Report;
use crate::pipeline::{
    AccessInput, DirectoryInput, HostFiles, HostLimits, Inputs, Opener, Ratchet, SourceInput, access, decide, entries,
    read,
};

const BASE: &str = "dc=example,dc=com";
const ACCOUNTS: [&str; 2] = ["local", "people"];
const TREE: [&str; 2] = ["tree-web", "tree"];

/// What each source says, by its place, part and key.
type Records = BTreeMap<(u8, Part, Vec<u8>), Vec<u8>>;

fn inputs() -> Inputs {
    let source = |name: &&str| SourceInput {
        name: (*name).to_owned(),
        note: None,
        fetched: None,
        last_good: None,
    };
    Inputs {
        sources: ACCOUNTS.iter().map(source).collect(),
        directory: Some(DirectoryInput {
            base: Dn::parse(BASE).unwrap(),
            sources: TREE.iter().map(source).collect(),
        }),
        opener: Opener::Key(Identity::generate()),
        access: AccessInput {
            fetched: Some(b"{}".to_vec()),
            ..AccessInput::default()
        },
        name_rule: NameRule::default(),
        hostname: "web-1".to_owned(),
        limits: HostLimits::default(),
        host: HostFiles {
            passwd: "root:x:0:0::/root:/bin/sh\n".to_owned(),
            group: "root:x:0:\n".to_owned(),
            shells: None,
        },
        ratchet: Ratchet::default(),
    }
}

/// The standard schema, or one in which a name of the tree's is compared otherwise.
fn schema(extended: bool) -> Schema {
    let mut schema = Schema::standard();
    if extended {
        let badge = "attributetype ( 1.3.6.1.4.1.99999.2 NAME 'corpBadge' EQUALITY caseExactMatch SYNTAX \
            1.3.6.1.4.1.1466.115.121.1.15 )";
        schema.extend(badge).unwrap();
    }
    schema
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn document(records: &Records, place: u8) -> Vec<u8> {
    let mut joined = Joined::default();
    for ((source, part, _), bytes) in records {
        if *source == place {
            joined.add(*part, bytes);
        }
    }
    joined.finish()
}

/// What a run over everything publishes, and what it tells of the tree: entries left out, and those of earlier names.
fn whole(inputs: &Inputs, schema: &Schema, records: &Records) -> (Content, Tree, (usize, usize)) {
    let mut texts = Texts::new();
    let mut report = Report::begin();
    let mut parts = Vec::new();
    for (place, source) in (0u8..).zip(ACCOUNTS) {
        let document = document(records, place);
        let read = read::read(source, Opening::of(&document), &inputs.name_rule, &mut texts, None).unwrap();
        parts.push(read.part);
    }
    let rules = access::choose(&inputs.access).unwrap();
    let content = decide(inputs, &rules, texts, parts, &mut report, None).unwrap();
    let mut overlay = Overlay::default();
    let mut dropped = 0;
    for (place, source) in (2u8..).zip(TREE) {
        let base = Dn::parse(BASE).unwrap();
        let (part, drops) = entries::part(source, &document(records, place), schema, &base).unwrap();
        dropped += drops.total;
        overlay.append(part);
    }
    let twice = overlay.sort();
    let schema = schema.clone();
    (content, Tree { overlay, schema }, (dropped, twice))
}

fn publish_whole(path: &Path, second: i64, content: &Content, tree: &Tree) {
    let base = Dn::parse(BASE).unwrap();
    publish(path, &base, content, tree, &content.digest(true), at(second)).unwrap();
}

fn open(path: &Path) -> Reader {
    Reader::open(path, Schema::standard()).unwrap()
}

/// Key, name, attributes and secrets of an entry.
type Row = (Vec<u8>, String, Vec<u8>, Vec<u8>);

/// Everything in a copy but what says when.
fn says(path: &Path) -> Vec<Row> {
    let reader = open(path);
    let mut rows = Vec::new();
    let (root, all) = (DnKey::from(Vec::new()), Filter::parse("(&)").unwrap());
    reader
        .candidates(&root, Scope::Subtree, &all, None, &mut |row| {
            let mut bytes = Vec::new();
            row.attributes.select(&mut bytes, |name| {
                !matches!(name, "createTimestamp" | "modifyTimestamp" | "entryCSN")
            });
            rows.push((row.key.to_vec(), row.dn.to_owned(), bytes, Vec::new()));
            ControlFlow::Continue(())
        })
        .unwrap();
    for (key, _, _, secret) in &mut rows {
        reader
            .secrets(key, &mut |attributes| attributes.select(secret, |_| true))
            .unwrap();
    }
    rows
}

/// What an index finds, which is apart from the entries.
fn finds(path: &Path) -> Vec<Vec<String>> {
    let reader = open(path);
    let root = DnKey::from(Vec::new());
    [
        "(mail=m1@x)",
        "(uid=u1)",
        "(memberOf=cn=g1,ou=groups,dc=example,dc=com)",
        "(objectClass=person)",
    ]
    .iter()
    .map(|filter| {
        let mut found = Vec::new();
        let filter = Filter::parse(filter).unwrap();
        reader
            .candidates(&root, Scope::Subtree, &filter, None, &mut |row| {
                if row.exact {
                    found.push(row.dn.to_owned());
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        found.sort();
        found
    })
    .collect()
}

fn store(records: &Records, schema: &Schema) -> Store {
    let store = Store::new(Connection::open_in_memory().unwrap(), NameRule::default()).unwrap();
    let rules = TreeRules::new(schema.clone(), Dn::parse(BASE).unwrap(), 2..4).unwrap();
    let store = store.with_tree(rules).unwrap();
    for ((source, part, key), bytes) in records {
        store.put(*source, *part, key, bytes).unwrap();
    }
    store
}

/// Follows `changes` in store and copy. What of the tree was told before is told anew; none when only a whole run can tell.
fn follow(
    path: &Path,
    second: i64,
    store: &Store,
    inputs: &Inputs,
    changes: BTreeMap<(u8, Part, Vec<u8>), Option<Vec<u8>>>,
    told: &mut (usize, usize),
) -> Option<()> {
    let mut of_source: BTreeMap<u8, Vec<Change>> = BTreeMap::new();
    for ((source, part, key), bytes) in changes {
        let change = Change {
            source,
            part,
            key,
            bytes,
        };
        of_source.entry(source).or_default().push(change);
    }
    let (mut effects, mut tree) = (Vec::<Effect>::new(), TreeChange::default());
    for (place, changes) in of_source {
        if let Some(name) = TREE.get(usize::from(place).wrapping_sub(2)) {
            tree.take(store, name, changes).unwrap();
        } else {
            effects.push(effect(store, inputs, changes).unwrap());
        }
    }
    for (before, now) in &tree.dropped {
        told.0 = told.0 + now.total - before.total;
    }
    told.1 = told.1 + tree.twice.1 - tree.twice.0;
    let base = Dn::parse(BASE).unwrap();
    let held = Held {
        base: &base,
        reader: open(path),
    };
    let plan = match plan(&held, store, inputs, &effects, &tree) {
        Ok(plan) => plan,
        Err(FollowCopyError::Partial(_)) => return None,
        Err(error) => panic!("{error}"),
    };
    if let Some(plan) = plan {
        let schema = held.reader.schema().clone();
        let mut edit = Edit::begin(path, schema, at(second)).unwrap();
        plan.apply(&held, &mut edit).unwrap();
        edit.finish("followed").unwrap();
    }
    Some(())
}

#[derive(Clone, Debug)]
enum Record {
    User {
        name: u8,
        uid: u8,
        gecos: u8,
    },
    Group {
        name: u8,
        gid: u8,
        members: BTreeSet<u8>,
    },
    Entry {
        dn: &'static str,
        says: u8,
        mail: u8,
        uuid: Option<u8>,
    },
}

/// Under accounts, over them, beside them; in two spellings; deep without parents; elsewhere, and no name at all.
const NAMES: [&str; 22] = [
    "dc=example,dc=com",
    "ou=users,dc=example,dc=com",
    "OU=Groups,dc=example,dc=com",
    "uid=u1,ou=users,dc=example,dc=com",
    "UID=U1,ou=users,dc=example,dc=com",
    "uid=u2,ou=users,dc=example,dc=com",
    "cn=phone,uid=u1,ou=users,dc=example,dc=com",
    "cn=a,cn=phone,uid=u2,ou=users,dc=example,dc=com",
    "cn=g1,ou=groups,dc=example,dc=com",
    "cn=u3,ou=groups,dc=example,dc=com",
    "cn=below,cn=g1,ou=groups,dc=example,dc=com",
    "ou=services,dc=example,dc=com",
    "cn=web,ou=services,dc=example,dc=com",
    "cn=db,OU=Services,dc=example,dc=com",
    "cn=x,ou=deep,ou=Services,dc=example,dc=com",
    "cn=y,OU=Deep,ou=services,dc=example,dc=com",
    "cn=z,ou=b,ou=a,dc=example,dc=com",
    "corpBadge=R1,ou=services,dc=example,dc=com",
    "corpBadge=r1,ou=services,dc=example,dc=com",
    "cn=elsewhere,dc=example,dc=org",
    "dc=com",
    "nonsense",
];

impl Record {
    fn place(&self, source: bool) -> (u8, Part, Vec<u8>) {
        let (first, part, key) = match self {
            Self::User { name, .. } => (0, Part::User, format!("u{name}")),
            Self::Group { name, .. } => (0, Part::Group, group_name(*name)),
            Self::Entry { dn, .. } => (2, Part::Entry, (*dn).to_owned()),
        };
        (first + u8::from(source), part, key.into_bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::User { name, uid, gecos } => serde_json::json!({
                "username": format!("u{name}"), "uid": 5000 + u32::from(*uid), "gid": 5000 + u32::from(*uid),
                "gecos": (["", "A Name,x", "Ünï"][usize::from(*gecos)]), "home": "/home/x", "shell": "/bin/sh"
            }),
            Self::Group { name, gid, members } => serde_json::json!({
                "name": group_name(*name), "gid": 6000 + u32::from(*gid),
                "members": members.iter().map(|member| format!("u{member}")).collect::<Vec<_>>()
            }),
            Self::Entry { dn, says, mail, uuid } => {
                let mut attributes = match says {
                    0 => serde_json::json!({"objectClass": ["person"], "cn": ["x", "y"]}),
                    1 => serde_json::json!({"objectClass": ["posixAccount"], "uidNumber": ["0"]}),
                    2 => {
                        serde_json::json!({"objectClass": ["inetOrgPerson"], "sn": ["z"], "userPassword": ["{SSHA}x"]})
                    }
                    3 => serde_json::json!({}),
                    _ => serde_json::json!({"memberUid": ["u1"], "member": [NAMES[3]], "cn": ["q"]}),
                };
                if let (Some(attributes), true) = (attributes.as_object_mut(), *says != 3) {
                    attributes.insert("mail".to_owned(), serde_json::json!([format!("m{mail}@x")]));
                    if let Some(uuid) = uuid {
                        let uuid = format!("0b7b5c2e-58b3-4f1a-9d0e-3f2a6f0c1d{uuid:02x}");
                        attributes.insert("entryUUID".to_owned(), serde_json::json!([uuid]));
                    }
                }
                serde_json::json!({"dn": dn, "attributes": attributes})
            }
        }
        .to_string()
        .into_bytes()
    }
}

/// Two of them are names of users.
fn group_name(number: u8) -> String {
    match number {
        5.. => format!("u{}", number - 3),
        _ => format!("g{number}"),
    }
}

fn record() -> impl Strategy<Value = Record> {
    let entry = |uuid: BoxedStrategy<Option<u8>>| {
        (0..NAMES.len(), 0..5u8, 0..3u8, uuid).prop_map(|(dn, says, mail, uuid)| Record::Entry {
            dn: NAMES[dn],
            says,
            mail,
            uuid,
        })
    };
    prop_oneof![
        3 => (0..6u8, 0..8u8, 0..3u8).prop_map(|(name, uid, gecos)| Record::User { name, uid, gecos }),
        2 => (0..7u8, 0..8u8, prop::collection::btree_set(0..7u8, 0..4))
            .prop_map(|(name, gid, members)| Record::Group { name, gid, members }),
        4 => entry(Just(None).boxed()),
        1 => entry((0..200u8).prop_map(Some).boxed()),
        1 => entry((0..3u8).prop_map(Some).boxed()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_copy_that_follows_is_one_that_was_made_of_everything(
        first in prop::collection::vec((any::<bool>(), record()), 0..30),
        steps in prop::collection::vec(prop::collection::vec((any::<bool>(), record(), prop::bool::weighted(0.65)), 1..5), 1..8),
        extended: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (followed, made) = (folder.path().join("followed.db"), folder.path().join("made.db"));
        let (inputs, schema) = (inputs(), schema(extended));
        let mut records: Records = first.iter().map(|(source, record)| (record.place(*source), record.bytes())).collect();
        let store = store(&records, &schema);
        let (content, tree, mut told) = whole(&inputs, &schema, &records);
        publish_whole(&followed, 0, &content, &tree);
        let mut follower: BTreeMap<[u8; 16], String> = BTreeMap::new();
        let mut known = 0;
        for (second, step) in (1..).zip(&steps) {
            let mut changes = BTreeMap::new();
            for (source, record, comes) in step {
                let place = record.place(*source);
                let bytes = comes.then(|| record.bytes());
                match &bytes {
                    Some(bytes) => drop(records.insert(place.clone(), bytes.clone())),
                    None => drop(records.remove(&place)),
                }
                changes.insert(place, bytes);
            }
            let (content, tree, all_told) = whole(&inputs, &schema, &records);
            publish_whole(&made, second, &content, &tree);
            if follow(&followed, second, &store, &inputs, changes, &mut told).is_none() {
                publish_whole(&followed, second, &content, &tree);
            }
            prop_assert_eq!(told, all_told);
            prop_assert_eq!(says(&followed), says(&made));
            prop_assert_eq!(finds(&followed), finds(&made));
            // Who follows by state numbers arrives there too.
            let reader = open(&followed);
            for change in reader.changes(known).unwrap().unwrap() {
                match change.kind {
                    Kind::Deleted => drop(follower.remove(&change.uuid)),
                    Kind::Added | Kind::Modified => drop(follower.insert(change.uuid, change.dn)),
                }
            }
            known = reader.position().number;
            let names: BTreeSet<String> = says(&followed).into_iter().map(|(_, dn, _, _)| dn).collect();
            prop_assert_eq!(follower.values().cloned().collect::<BTreeSet<_>>(), names);
        }
    }
}
