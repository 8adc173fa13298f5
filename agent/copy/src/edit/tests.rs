//! Edits against drafts: the same entries, whichever way they came.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use dirless_directory::encoded::encode;
use dirless_directory::{AttributeName, Dn, Entry, Filter, Value};
use proptest::prelude::*;

use super::*;
use crate::{Kind, Reader, Scope};

/// DN → identity and mail values.
type Model = BTreeMap<String, (u8, BTreeSet<u8>)>;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// Shows a record of what a model holds.
fn with_record<T>(dn: &str, (identity, values): &(u8, BTreeSet<u8>), then: impl FnOnce(&Record<'_>) -> T) -> T {
    let schema = Schema::standard();
    let mut entry = Entry::new(Dn::parse(dn).unwrap());
    let mut add = |name: &str, value: &str| entry.add(AttributeName::parse(name).unwrap(), Value::from(value));
    add("objectClass", "person");
    for value in values {
        // Two spellings that match.
        add(
            "mail",
            &format!("{}{}@x", if value % 2 == 0 { "m" } else { "M" }, value / 2),
        );
    }
    let key = schema.dn_key(entry.dn()).unwrap();
    then(&Record {
        key: &key,
        dn,
        uuid: [*identity; 16],
        attributes: &encode(&schema, &entry),
        canonical: false,
    })
}

fn key(dn: &str) -> DnKey {
    Schema::standard().dn_key_of(dn).unwrap()
}

/// Publishes a model whole.
fn publish(path: &Path, second: i64, model: &Model) -> Summary {
    let mut draft = Draft::begin(path, Schema::standard(), "series", at(second), false).unwrap();
    let mut names: Vec<&String> = model.keys().collect();
    names.sort_by_key(|dn| key(dn));
    for dn in names {
        with_record(dn, &model[dn], |record| draft.put(record)).unwrap();
    }
    draft.finish("").unwrap()
}

/// Everything but stamps, in the order of keys.
fn content(reader: &Reader, filter: &str) -> Vec<(String, Vec<u8>)> {
    let mut rows = Vec::new();
    let filter = Filter::parse(filter).unwrap();
    let root = DnKey::from(Vec::new());
    reader
        .candidates(&root, Scope::Subtree, &filter, None, &mut |row| {
            let mut bytes = Vec::new();
            row.attributes.select(&mut bytes, |name| {
                !matches!(name, "createTimestamp" | "modifyTimestamp" | "entryCSN")
            });
            if row.exact || filter == Filter::And(Vec::new()) {
                rows.push((row.dn.to_owned(), bytes));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

fn open(path: &Path) -> Reader {
    Reader::open(path, Schema::standard()).unwrap()
}

fn stamped(reader: &Reader, dn: &str, name: &str) -> String {
    let mut text = String::new();
    reader
        .lookup(key(dn).as_bytes(), &mut |row| {
            let value = row.attributes.attribute(name).unwrap().values.next().unwrap();
            text = String::from_utf8(value.to_vec()).unwrap();
        })
        .unwrap();
    text
}

fn model(names: &[(&str, u8)]) -> Model {
    names
        .iter()
        .map(|(dn, identity)| ((*dn).to_owned(), (*identity, BTreeSet::from([*identity]))))
        .collect()
}

#[test]
fn an_edit_touches_what_it_is_given_and_its_parents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.db");
    assert!(
        Edit::begin(&path, Schema::standard(), at(0)).is_err(),
        "there is no generation before it"
    );
    publish(&path, 0, &model(&[("dc=x", 1), ("ou=a,dc=x", 2), ("uid=u,dc=x", 3)]));
    let mut edit = Edit::begin(&path, Schema::standard(), at(60)).unwrap();
    with_record("uid=u,dc=x", &(3, BTreeSet::from([3])), |record| edit.put(record)).unwrap();
    with_record("uid=v,ou=a,dc=x", &(4, BTreeSet::new()), |record| edit.put(record)).unwrap();
    assert!(!edit.remove(&key("uid=nobody,dc=x")).unwrap());
    let summary = edit.finish("edited").unwrap();
    assert_eq!(
        (
            summary.entries,
            summary.added,
            summary.changed,
            summary.deleted,
            summary.number
        ),
        (4, 1, 1, 0, 5)
    );
    assert_eq!(Draft::content(&path).as_deref(), Some("edited"));
    let reader = open(&path);
    assert_eq!(stamped(&reader, "ou=a,dc=x", "hasSubordinates"), "TRUE");
    assert_eq!(stamped(&reader, "ou=a,dc=x", "modifyTimestamp"), "20270115080100Z");
    assert_eq!(stamped(&reader, "uid=u,dc=x", "modifyTimestamp"), "20270115080000Z");
    let told: Vec<_> = reader.changes(3).unwrap().unwrap();
    let told: Vec<_> = told.iter().map(|change| (change.dn.as_str(), change.kind)).collect();
    assert_eq!(told, [("uid=v,ou=a,dc=x", Kind::Added), ("ou=a,dc=x", Kind::Modified)]);
    let mut edit = Edit::begin(&path, Schema::standard(), at(120)).unwrap();
    assert!(matches!(edit.remove(&key("ou=a,dc=x")), Err(CopyError::Order(_))));
    assert!(edit.remove(&key("uid=v,ou=a,dc=x")).unwrap());
    assert!(edit.remove(&key("ou=a,dc=x")).unwrap());
    assert_eq!(edit.finish("").unwrap().entries, 2);
    assert_eq!(content(&open(&path), "(&)").len(), 2);
}

#[test]
fn a_dropped_edit_leaves_the_generation_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.db");
    publish(&path, 0, &model(&[("dc=x", 1), ("uid=u,dc=x", 3)]));
    let mut edit = Edit::begin(&path, Schema::standard(), at(60)).unwrap();
    edit.remove(&key("uid=u,dc=x")).unwrap();
    drop(edit);
    assert_eq!(open(&path).position().number, 2);
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 2, "the database and its entries");
}

/// Two levels, so that parents gain and lose children.
fn models() -> impl Strategy<Value = Vec<Model>> {
    let one = prop::collection::btree_map((0..3_u8, 0..4_u8), prop::collection::btree_set(0..6_u8, 0..3), 0..7);
    let model = one.prop_map(|entries| {
        let mut model = model(&[("dc=x", 100)]);
        for ((unit, user), values) in entries {
            let parent = format!("ou=o{unit},dc=x");
            model.insert(parent.clone(), (110 + unit, BTreeSet::new()));
            if user > 0 {
                // The same person may turn up below another unit.
                let identity = 10 * u8::from(values.len() > 1) * (unit + 1) + user;
                let taken = model.values().any(|(other, _)| *other == identity);
                if !taken {
                    model.insert(format!("uid=u{user},{parent}"), (identity, values));
                }
            }
        }
        model
    });
    prop::collection::vec(model, 2..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn edits_arrive_where_whole_generations_do(series in models()) {
        let folder = tempfile::tempdir().unwrap();
        let (edited, whole) = (folder.path().join("edited.db"), folder.path().join("whole.db"));
        let mut follower: BTreeMap<u8, String> = BTreeMap::new();
        let mut known = 0;
        let mut last: Option<&Model> = None;
        for (second, model) in (0..).zip(&series) {
            publish(&whole, second, model);
            match last {
                // Every third generation comes whole, after edits.
                Some(before) if second % 3 != 0 => {
                    let mut edit = Edit::begin(&edited, Schema::standard(), at(second)).unwrap();
                    // What is new or differs, parents first; then what is gone, children first.
                    let mut names: Vec<&String> = model.keys().collect();
                    names.sort_by_key(|dn| key(dn));
                    for dn in names {
                        with_record(dn, &model[dn], |record| edit.put(record)).unwrap();
                    }
                    let mut gone: Vec<&String> = before.keys().filter(|dn| !model.contains_key(*dn)).collect();
                    gone.sort_by_key(|dn| std::cmp::Reverse(key(dn)));
                    for dn in gone {
                        edit.remove(&key(dn)).unwrap();
                    }
                    let summary = edit.finish("").unwrap();
                    prop_assert_eq!(summary.entries, model.len() as u64);
                }
                _ => {
                    publish(&edited, second, model);
                }
            }
            last = Some(model);
            let (one, other) = (open(&edited), open(&whole));
            for filter in ["(&)", "(mail=m0@x)", "(mail=m1@x)", "(mail=M2@x)"] {
                prop_assert_eq!(content(&one, filter), content(&other, filter), "{}", filter);
            }
            for change in one.changes(known).unwrap().unwrap() {
                match change.kind {
                    Kind::Deleted => { follower.remove(&change.uuid[0]); }
                    Kind::Added | Kind::Modified => { follower.insert(change.uuid[0], change.dn); }
                }
            }
            known = one.position().number;
            let truth: BTreeMap<u8, String> = model.iter().map(|(dn, (identity, _))| (*identity, dn.clone())).collect();
            prop_assert_eq!(&follower, &truth);
        }
    }
}
