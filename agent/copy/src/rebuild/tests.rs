//! Generations under another schema, against ones that were under it from the beginning.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use dirless_directory::{AttributeName, DnKey, Entry, Filter, Value};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{Draft, Edit, Hot, Kind, Reader, Record, Scope, Summary};

/// Schemas by number: the standard one, and others that disagree about three attributes.
fn schema(number: u8) -> Schema {
    let mut schema = Schema::standard();
    let definitions = match number % 4 {
        0 => [""; 3],
        1 => ["EQUALITY integerMatch", "EQUALITY caseExactMatch", "SUP userPassword"],
        2 => [
            "EQUALITY caseIgnoreMatch",
            "EQUALITY caseIgnoreMatch",
            "USAGE directoryOperation EQUALITY integerMatch",
        ],
        _ => [
            "EQUALITY integerMatch",
            "EQUALITY distinguishedNameMatch",
            "EQUALITY caseExactMatch",
        ],
    };
    for (at, definition) in definitions.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
        let text = format!("attributetype ( 1.3.6.1.4.1.99999.{at} NAME 'own{at}' {definition} )");
        schema.extend(&text).unwrap();
    }
    schema
}

/// Name of an entry and its values of own0, own1 and own2, by its identity.
type Model = BTreeMap<u8, (String, [u8; 3])>;

const TEXTS: [&str; 4] = ["07", "7", "Seven", "seven"];

fn entry(dn: &str, values: &[u8; 3]) -> Entry {
    let mut entry = Entry::new(Dn::parse(dn).unwrap());
    entry.add(AttributeName::parse("objectClass").unwrap(), Value::from("person"));
    for (at, value) in values.iter().enumerate() {
        let name = AttributeName::parse(&format!("own{at}")).unwrap();
        entry.add(name, Value::from(TEXTS[usize::from(value % 4)]));
    }
    entry
}

/// As a publisher has them: in the order of keys, names that are none or another's left out, and what has nothing above it.
fn records(schema: &Schema, model: &Model) -> Vec<(DnKey, u8, Entry)> {
    let mut all = BTreeMap::new();
    for (identity, (dn, values)) in model {
        if let Some(key) = Dn::parse(dn).ok().and_then(|dn| schema.dn_key(&dn)) {
            all.entry(key).or_insert((*identity, entry(dn, values)));
        }
    }
    let keys: Vec<DnKey> = all.keys().cloned().collect();
    all.retain(|_, (_, entry)| {
        let above = entry.dn().parent().filter(|above| !above.rdns().is_empty());
        above.is_none_or(|above| schema.dn_key(&above).is_some_and(|above| keys.contains(&above)))
    });
    all.into_iter()
        .map(|(key, (identity, entry))| (key, identity, entry))
        .collect()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn put(schema: &Schema, records: &[(DnKey, u8, Entry)], mut take: impl FnMut(&Record<'_>)) {
    for (key, identity, entry) in records {
        take(&Record {
            key,
            dn: &entry.dn().to_string(),
            uuid: [*identity; 16],
            attributes: &encode(schema, entry),
            canonical: false,
        });
    }
}

fn publish(path: &Path, second: i64, schema: &Schema, model: &Model) -> Summary {
    let mut draft = Draft::begin(path, schema.clone(), "series", at(second), false).unwrap();
    put(schema, &records(schema, model), |record| draft.put(record).unwrap());
    draft.finish("").unwrap()
}

fn open(path: &Path) -> Reader {
    Reader::open(path, Schema::standard()).unwrap()
}

/// An entry's name, and its attributes with their values.
type Row = (String, BTreeMap<String, Vec<Vec<u8>>>);

/// What a filter finds, with `stamps` or without.
fn found(reader: &Reader, filter: &str, stamps: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let filter = Filter::parse(filter).unwrap();
    let query = crate::Query {
        base: &DnKey::from(Vec::new()),
        scope: Scope::Subtree,
        filter: &filter,
        after: None,
        wants: None,
        apart: false,
    };
    reader
        .search(&query, &mut |row| {
            let subject = dirless_directory::encoded::Subject {
                dn: row.dn,
                key: row.key,
                attributes: row.attributes,
            };
            let matcher = dirless_directory::encoded::Matcher::new(reader.schema(), &filter);
            let matches = matcher.matches(reader.schema(), subject) == dirless_directory::filter::Truth::True;
            assert!(!row.exact || matches, "{filter:?} {}", row.dn);
            let stamp = |name: &str| ["createTimestamp", "modifyTimestamp", "entryCSN"].contains(&name);
            let attributes = row.attributes.iter().filter(|one| stamps || !stamp(one.name));
            let of = |one: dirless_directory::encoded::Attribute<'_>| {
                (one.name.to_owned(), one.values.map(<[u8]>::to_vec).collect())
            };
            if matches {
                rows.push((row.dn.to_owned(), attributes.map(of).collect()));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

const FILTERS: [&str; 7] = [
    "(objectClass=*)",
    "(own0=7)",
    "(own0=seven)",
    "(own1=Seven)",
    "(own1=seven)",
    "(own2=07)",
    "(1.3.6.1.4.1.99999.2=seven)",
];

fn model(entries: &[(u8, &str, [u8; 3])]) -> Model {
    let all = entries.iter();
    all.map(|(identity, dn, values)| (*identity, ((*dn).to_owned(), *values)))
        .collect()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.db");
    (folder, path)
}

#[test]
fn another_schema_alone_changes_no_stamp_and_every_index() {
    let (_folder, path) = folder();
    let entries = model(&[
        (1, "dc=x", [0; 3]),
        (2, "cn=a,dc=x", [0, 2, 2]),
        (3, "cn=b,dc=x", [1, 3, 3]),
    ]);
    publish(&path, 0, &schema(0), &entries);
    let before = open(&path);
    assert_eq!(found(&before, "(own0=7)", false).len(), 1);
    let hot = Hot::read(&before).unwrap().unwrap();
    let summary = publish(&path, 60, &schema(1), &entries);
    assert_eq!(
        (summary.added, summary.changed, summary.deleted, summary.entries),
        (0, 0, 0, 3)
    );
    let after = open(&path);
    assert!(after.schema().attribute("own0").is_some() && before.schema().attribute("own0").is_none());
    assert_eq!(after.position().lineage, before.position().lineage);
    assert!(after.position().number > before.position().number);
    assert!(after.changes(before.position().number).unwrap().unwrap().is_empty());
    assert!(hot.brought_to(&before, &after).unwrap().is_none());
    assert_eq!(found(&after, "(own0=007)", false).len(), 3);
    // What became a password is shown to nobody.
    for ((name, old), (same, new)) in
        found(&before, "(objectClass=*)", true)
            .iter()
            .zip(found(&after, "(objectClass=*)", true))
    {
        let mut old = old.clone();
        assert!(old.remove("own2").is_some() && *name == same);
        assert_eq!(old, new);
    }
    // And comes back; nothing was lost.
    publish(&path, 120, &schema(3), &entries);
    assert_eq!(found(&open(&path), "(own2=Seven)", true).len(), 1);
    publish(&path, 180, &schema(0), &entries);
    let rows = |reader: &Reader| found(reader, "(objectClass=*)", true);
    assert_eq!(rows(&open(&path)), rows(&before));
}

#[test]
fn names_that_become_one_or_none_are_gone_and_told() {
    let (_folder, path) = folder();
    let entries = model(&[
        (1, "dc=x", [0; 3]),
        (2, "own0=07,dc=x", [0; 3]),
        (3, "own0=7,dc=x", [0; 3]),
        (4, "own0=z,dc=x", [0; 3]),
    ]);
    publish(&path, 0, &schema(0), &entries);
    let before = open(&path);
    // The first of two stays, as for whoever publishes them.
    let edit = Edit::begin(&path, schema(1), at(60)).unwrap();
    assert_eq!(edit.finish("").unwrap().entries, 2);
    let reader = open(&path);
    let names: Vec<String> = found(&reader, "(objectClass=*)", false)
        .into_iter()
        .map(|(dn, _)| dn)
        .collect();
    assert_eq!(names, ["dc=x", "own0=07,dc=x"]);
    let changes = reader.changes(before.position().number).unwrap().unwrap();
    let mut gone: Vec<_> = changes.iter().map(|change| (change.uuid[0], change.kind)).collect();
    gone.sort_by_key(|(uuid, _)| *uuid);
    assert_eq!(gone, [(3, Kind::Deleted), (4, Kind::Deleted)]);
}

fn any_model() -> impl Strategy<Value = Model> {
    let dn = prop::sample::select(vec![
        "cn=a,dc=x",
        "cn=b,dc=x",
        "own0=07,dc=x",
        "own0=7,dc=x",
        "own1=Seven,dc=x",
        "own1=seven,dc=x",
        "cn=c,own1=seven,dc=x",
    ]);
    prop::collection::btree_map(
        2..9_u8,
        (dn.prop_map(str::to_owned), prop::array::uniform3(0..4_u8)),
        0..6,
    )
    .prop_map(|mut all| {
        all.insert(1, ("dc=x".to_owned(), [0; 3]));
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the generations were under, and whichever way the last one was made.
    #[test]
    fn a_generation_is_what_it_would_be_under_its_schema_from_the_start(
        steps in prop::collection::vec((0..4_u8, any_model(), any::<bool>()), 1..5)
    ) {
        let (_folder, path) = folder();
        let mut second = 0;
        for (number, entries, by_edit) in steps {
            let schema = schema(number);
            second += 60;
            if by_edit && path.exists() {
                let wanted = records(&schema, &entries);
                let mut edit = Edit::begin(&path, schema.clone(), at(second)).unwrap();
                // All that is there goes, from below, but for what is wanted as it is.
                let held: Vec<String> = {
                    let reader = open(&path);
                    found(&reader, "(objectClass=*)", false).into_iter().map(|(dn, _)| dn).collect()
                };
                let mut gone: Vec<DnKey> = held.iter().filter_map(|dn| schema.dn_key_of(dn)).collect();
                gone.sort();
                gone.dedup();
                for key in gone.iter().rev().filter(|key| wanted.iter().all(|(other, ..)| other != *key)) {
                    edit.remove(key).unwrap();
                }
                put(&schema, &wanted, |record| edit.put(record).unwrap());
                edit.finish("").unwrap();
            } else {
                publish(&path, second, &schema, &entries);
            }
            let (_other, fresh) = folder();
            publish(&fresh, 0, &schema, &entries);
            let (reader, fresh) = (open(&path), open(&fresh));
            prop_assert_eq!(reader.schema().extension_text(), schema.extension_text());
            for filter in FILTERS {
                prop_assert_eq!(found(&reader, filter, false), found(&fresh, filter, false), "{}", filter);
            }
        }
    }
}
