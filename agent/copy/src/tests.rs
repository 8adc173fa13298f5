//! Generations written and read back, against a model of them in memory.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dirless_directory::encoded::encode;
use dirless_directory::filter::Truth;
use dirless_directory::{AttributeName, Dn, DnKey, Entry, Filter, Schema, Value};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn copy(&self) -> PathBuf {
        self.0.path().join("copy.db")
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.copy(), Schema::standard()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn entry(dn: &str, attributes: &[(&str, &str)]) -> Entry {
    let mut entry = Entry::new(Dn::parse(dn).unwrap());
    for (name, value) in attributes {
        entry.add(AttributeName::parse(name).unwrap(), Value::from(*value));
    }
    entry
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// Publishes entries, each with its identity.
fn publish(path: &Path, second: i64, entries: &[(u8, Entry)]) -> Summary {
    let schema = Schema::standard();
    let mut keyed: Vec<_> = entries
        .iter()
        .map(|(identity, entry)| (schema.dn_key(entry.dn()).unwrap(), *identity, entry))
        .collect();
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    let mut draft = Draft::begin(path, schema.clone(), "series", at(second), false).unwrap();
    for (key, identity, entry) in &keyed {
        draft
            .put(&Record {
                key,
                dn: &entry.dn().to_string(),
                uuid: [*identity; 16],
                attributes: &encode(&schema, entry),
                canonical: false,
            })
            .unwrap();
    }
    draft.finish(&format!("content-{second}")).unwrap()
}

fn found(reader: &Reader, base: &str, scope: Scope, filter: &str) -> Vec<String> {
    let schema = reader.schema();
    let base = schema.dn_key(&Dn::parse(base).unwrap()).unwrap();
    let filter = Filter::parse(filter).unwrap();
    let matcher = dirless_directory::encoded::Matcher::new(schema, &filter);
    let mut names = Vec::new();
    // In steps of two, as a server that answers in batches does.
    let mut after: Option<Vec<u8>> = None;
    loop {
        let mut shown = 0;
        reader
            .candidates(&base, scope, &filter, after.clone().as_deref(), &mut |row| {
                let subject = dirless_directory::encoded::Subject {
                    dn: row.dn,
                    key: row.key,
                    attributes: row.attributes,
                };
                let matches = matcher.matches(schema, subject) == Truth::True;
                assert!(matches || !row.exact, "{} is not what {filter} asks for", row.dn);
                if matches {
                    names.push(row.dn.to_owned());
                }
                assert!(after.as_deref().is_none_or(|after| row.key > after), "out of order");
                after = Some(row.key.to_vec());
                shown += 1;
                if shown == 2 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .unwrap();
        if shown < 2 {
            return names;
        }
    }
}

fn value(reader: &Reader, dn: &str, name: &str) -> Option<String> {
    let key = reader.schema().dn_key(&Dn::parse(dn).unwrap()).unwrap();
    let mut text = None;
    reader
        .lookup(key.as_bytes(), &mut |row| {
            row.attributes.verify().unwrap();
            let mut values = row.attributes.attribute(name).map(|found| found.values);
            text = values
                .as_mut()
                .and_then(Iterator::next)
                .map(|value| String::from_utf8(value.to_vec()).unwrap());
        })
        .unwrap();
    text
}

fn small() -> Vec<(u8, Entry)> {
    vec![
        (1, entry("dc=x", &[("objectClass", "domain"), ("dc", "x")])),
        (
            2,
            entry(
                "ou=users,dc=x",
                &[("objectClass", "organizationalUnit"), ("ou", "users")],
            ),
        ),
        (
            3,
            entry(
                "uid=alice,ou=users,dc=x",
                &[("objectClass", "person"), ("uid", "alice"), ("cn", "Alice")],
            ),
        ),
        (
            4,
            entry(
                "uid=bob,ou=users,dc=x",
                &[("objectClass", "person"), ("uid", "bob"), ("cn", "Bob")],
            ),
        ),
    ]
}

#[test]
fn a_generation_is_read_back_with_what_every_entry_has() {
    let folder = Folder::new();
    assert_eq!(Draft::content(&folder.copy()), None);
    let summary = publish(&folder.copy(), 0, &small());
    assert_eq!((summary.entries, summary.added, summary.number), (4, 4, 4));
    assert_eq!(Draft::content(&folder.copy()).as_deref(), Some("content-0"));
    assert_eq!(folder.names(), ["copy.db", "copy.db.entries-1"]);
    for name in folder.names() {
        let mode = std::fs::metadata(folder.0.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o640);
    }
    let reader = folder.reader();
    assert_eq!(reader.topmost().unwrap(), ["dc=x"]);
    let of = |dn, name| value(&reader, dn, name);
    assert_eq!(of("uid=ALICE,ou=users,dc=x", "cn").as_deref(), Some("Alice"));
    assert_eq!(
        of("uid=alice,ou=users,dc=x", "hasSubordinates").as_deref(),
        Some("FALSE")
    );
    assert_eq!(of("ou=users,dc=x", "hasSubordinates").as_deref(), Some("TRUE"));
    assert_eq!(
        of("uid=bob,ou=users,dc=x", "entryUUID").as_deref(),
        Some("04040404-0404-0404-0404-040404040404")
    );
    assert_eq!(of("dc=x", "modifyTimestamp").as_deref(), Some("20270115080000Z"));
    assert_eq!(
        of("dc=x", "entryCSN").as_deref(),
        Some("20270115080000.000000Z#000001#000#000000")
    );
    assert_eq!(of("uid=carol,ou=users,dc=x", "cn"), None);
}

#[test]
fn only_what_changes_has_new_stamps_and_is_told() {
    let folder = Folder::new();
    publish(&folder.copy(), 0, &small());
    let mut entries = small();
    entries[3]
        .1
        .add(AttributeName::parse("mail").unwrap(), Value::from("bob@x"));
    entries.push((
        5,
        entry(
            "uid=carol,ou=users,dc=x",
            &[("objectClass", "person"), ("uid", "carol")],
        ),
    ));
    entries.remove(2);
    let summary = publish(&folder.copy(), 60, &entries);
    assert_eq!(
        (summary.added, summary.changed, summary.deleted, summary.number),
        (1, 1, 1, 7)
    );
    let reader = folder.reader();
    assert_eq!(
        value(&reader, "dc=x", "modifyTimestamp").as_deref(),
        Some("20270115080000Z")
    );
    assert_eq!(
        value(&reader, "uid=bob,ou=users,dc=x", "modifyTimestamp").as_deref(),
        Some("20270115080100Z")
    );
    assert_eq!(
        value(&reader, "uid=bob,ou=users,dc=x", "createTimestamp").as_deref(),
        Some("20270115080000Z")
    );
    assert_eq!(
        found(&reader, "dc=x", Scope::Subtree, "(mail=BOB@x)"),
        ["uid=bob,ou=users,dc=x"]
    );
    assert!(found(&reader, "dc=x", Scope::Subtree, "(uid=alice)").is_empty());
    let changes = reader.changes(4).unwrap().unwrap();
    let told: Vec<_> = changes.iter().map(|change| (change.uuid[0], change.kind)).collect();
    assert_eq!(told, [(3, Kind::Deleted), (4, Kind::Modified), (5, Kind::Added)]);
    assert!(reader.changes(7).unwrap().unwrap().is_empty());
    assert!(reader.changes(8).unwrap().is_none(), "nobody can be ahead");
    assert_eq!(
        reader.changes(0).unwrap().unwrap().len(),
        4,
        "what came and went in between is not told"
    );
}

#[test]
fn a_new_name_is_a_change_and_no_new_entry() {
    let folder = Folder::new();
    publish(&folder.copy(), 0, &small());
    for (second, name) in [(60, "zoe"), (120, "aaron")] {
        let mut entries = small();
        let dn = format!("uid={name},ou=users,dc=x");
        entries[2] = (3, entry(&dn, &[("objectClass", "person"), ("uid", name)]));
        let summary = publish(&folder.copy(), second, &entries);
        assert_eq!((summary.added, summary.changed, summary.deleted), (0, 1, 0), "{name}");
        let reader = folder.reader();
        assert_eq!(
            value(&reader, &dn, "createTimestamp").as_deref(),
            Some("20270115080000Z")
        );
        let last = reader.changes(reader.position().number - 1).unwrap().unwrap();
        assert!(
            last.iter()
                .all(|change| change.kind == Kind::Modified && change.dn == dn),
            "{last:?}"
        );
        assert!(found(&reader, "dc=x", Scope::Subtree, "(uid=alice)").is_empty());
    }
}

#[test]
fn readers_keep_their_generation_and_the_writer_leaves_it_alone() {
    let folder = Folder::new();
    publish(&folder.copy(), 0, &small());
    let first = folder.reader();
    let mut entries = small();
    for (second, name) in [(1, "b1"), (2, "b2"), (3, "b3"), (4, "b4")] {
        entries[3]
            .1
            .set(AttributeName::parse("cn").unwrap(), vec![Value::from(name)]);
        publish(&folder.copy(), second, &entries);
        assert_eq!(
            value(&folder.reader(), "uid=bob,ou=users,dc=x", "cn").as_deref(),
            Some(name)
        );
        assert_eq!(value(&first, "uid=bob,ou=users,dc=x", "cn").as_deref(), Some("Bob"));
    }
    assert!(!first.is_current() && folder.reader().is_current());
    assert!(first.again().unwrap().is_none());
    assert_eq!(folder.names(), ["copy.db", "copy.db.entries-1", "copy.db.spare"]);
}

#[test]
fn a_killed_writer_leaves_the_old_generation() {
    let folder = Folder::new();
    publish(&folder.copy(), 0, &small());
    publish(&folder.copy(), 1, &small()[..3]);
    // In the middle of a draft; between link and rename.
    std::fs::write(folder.0.path().join("copy.db.new"), b"half").unwrap();
    std::fs::remove_file(folder.0.path().join("copy.db.spare")).unwrap();
    std::fs::hard_link(folder.copy(), folder.0.path().join("copy.db.spare")).unwrap();
    assert!(found(&folder.reader(), "dc=x", Scope::Subtree, "(uid=bob)").is_empty());
    publish(&folder.copy(), 2, &small());
    assert_eq!(found(&folder.reader(), "dc=x", Scope::Subtree, "(uid=bob)").len(), 1);
    assert_eq!(folder.names(), ["copy.db", "copy.db.entries-1", "copy.db.spare"]);
}

#[test]
fn a_dropped_draft_leaves_no_trace() {
    let folder = Folder::new();
    publish(&folder.copy(), 0, &small());
    let draft = Draft::begin(&folder.copy(), Schema::standard(), "x", at(1), false).unwrap();
    drop(draft);
    assert_eq!(folder.names(), ["copy.db", "copy.db.entries-1"]);
    assert_eq!(folder.reader().position().number, 4);
}

#[test]
fn entries_out_of_order_are_refused() {
    let folder = Folder::new();
    let schema = Schema::standard();
    let mut draft = Draft::begin(&folder.copy(), schema.clone(), "x", at(0), false).unwrap();
    let mut put = |dn: &str| {
        let key = schema.dn_key(&Dn::parse(dn).unwrap()).unwrap();
        let attributes = encode(&schema, &entry(dn, &[("cn", "a")]));
        draft.put(&Record {
            key: &key,
            dn,
            uuid: [7; 16],
            attributes: &attributes,
            canonical: true,
        })
    };
    put("cn=b").unwrap();
    assert!(matches!(put("cn=a"), Err(CopyError::Order(_))));
}

#[test]
fn what_is_no_copy_is_made_anew() {
    let folder = Folder::new();
    std::fs::write(
        folder.copy(),
        b"this is no database at all, and long enough to be looked at as one",
    )
    .unwrap();
    assert!(Reader::open(&folder.copy(), Schema::standard()).is_err());
    let summary = publish(&folder.copy(), 0, &small());
    assert_eq!(summary.added, 4);
    assert_eq!(
        found(&folder.reader(), "dc=x", Scope::OneLevel, "(objectClass=*)"),
        ["ou=users,dc=x"]
    );
}

#[test]
fn the_tree_of_users_and_groups_follows_the_schema() {
    let folder = Folder::new();
    let schema = Schema::standard();
    let mut posix = Posix::new(schema.clone(), Dn::parse("dc=dirless").unwrap()).unwrap();
    let mut draft = Draft::begin(&folder.copy(), schema.clone(), "x", at(0), false).unwrap();
    posix.begin(&mut draft).unwrap();
    posix
        .group(
            &mut draft,
            Group {
                name: "alice",
                gid: 2001,
            },
            std::iter::empty(),
        )
        .unwrap();
    posix
        .group(
            &mut draft,
            Group { name: "eng", gid: 3000 },
            ["alice", "bob.b-c_d"].into_iter(),
        )
        .unwrap();
    posix.users(&mut draft).unwrap();
    for (name, uid) in [("alice", 2001), ("bob.b-c_d", 2002)] {
        let user = User {
            name,
            uid,
            gid: uid,
            gecos: "Alice Example,,,",
            home: "/home/x",
            shell: "/bin/sh",
            keys: "ssh-ed25519 AAAA a\nssh-ed25519 BBBB b\n",
        };
        posix.user(&mut draft, user, ["eng"].into_iter()).unwrap();
    }
    draft.finish("").unwrap();
    let reader = folder.reader();
    let mut seen = 0;
    let root = DnKey::from(Vec::new());
    reader
        .candidates(&root, Scope::Subtree, &Filter::And(Vec::new()), None, &mut |row| {
            let dn = Dn::parse(row.dn).unwrap();
            assert_eq!(schema.dn_key(&dn).unwrap().as_bytes(), row.key, "{dn}");
            let entry = row.attributes.entry(dn).unwrap();
            let again = encode(&schema, &entry);
            let again = dirless_directory::encoded::Attributes::new(&again).unwrap();
            assert_eq!(again.user(), row.attributes.user(), "in the order of encode");
            let violations = schema.check(&entry);
            assert!(violations.is_ok(), "{} {violations:?}", row.dn);
            seen += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, 7);
    for (filter, expected) in [
        (
            "(&(objectClass=posixGroup)(|(memberUid=alice)(member=uid=alice,ou=users,dc=dirless)))",
            vec!["cn=eng,ou=groups,dc=dirless"],
        ),
        (
            "(&(uid=alice)(objectclass=posixAccount)(uid=*)(&(uidNumber=*)(!(uidNumber=0))))",
            vec!["uid=alice,ou=users,dc=dirless"],
        ),
        (
            "(memberOf=cn=eng,ou=groups,dc=dirless)",
            vec!["uid=alice,ou=users,dc=dirless", "uid=bob.b-c_d,ou=users,dc=dirless"],
        ),
        ("(gidNumber=3000)", vec!["cn=eng,ou=groups,dc=dirless"]),
        (
            "(cn=alice ex*)",
            vec!["uid=alice,ou=users,dc=dirless", "uid=bob.b-c_d,ou=users,dc=dirless"],
        ),
        (
            "(&(objectClass=person)(loginShell=/bin/sh)(!(uid=alice)))",
            vec!["uid=bob.b-c_d,ou=users,dc=dirless"],
        ),
    ] {
        assert_eq!(
            found(&reader, "dc=dirless", Scope::Subtree, filter),
            expected,
            "{filter}"
        );
    }
}

/// A directory as proptest makes it: identity → (place, name, mail values).
type Model = BTreeMap<u8, (u8, Vec<u8>)>;

fn entries_of(model: &Model) -> Vec<(u8, Entry)> {
    let mut entries = vec![(200, entry("dc=x", &[("objectClass", "domain"), ("dc", "x")]))];
    let mut taken = std::collections::BTreeSet::new();
    for (identity, (place, values)) in model {
        if !taken.insert(*place) {
            continue;
        }
        let mut one = entry(
            &format!("uid=u{place},dc=x"),
            &[("uid", &format!("u{place}")), ("objectClass", "person")],
        );
        for value in values {
            // Spellings that match: what is taken away in one may stay in another.
            let text = if value % 2 == 0 {
                format!("m{}", value / 2)
            } else {
                format!("M{}", value / 2)
            };
            one.add(AttributeName::parse("mail").unwrap(), Value::from(text));
        }
        entries.push((*identity, one));
    }
    entries
}

fn models() -> impl Strategy<Value = Vec<Model>> {
    let one = prop::collection::btree_map(0..8_u8, (0..8_u8, prop::collection::btree_set(0..8_u8, 0..4)), 0..8);
    let model = one.prop_map(|model| {
        model
            .into_iter()
            .map(|(identity, (place, values))| (identity, (place, values.into_iter().collect())))
            .collect()
    });
    prop::collection::vec(model, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_generation_says_what_was_put_and_followers_arrive_at_it(series in models()) {
        let folder = Folder::new();
        // A follower keeps names by identity and learns of changes only.
        let mut follower: BTreeMap<u8, String> = BTreeMap::new();
        let mut known = 0;
        let mut last: Option<Reader> = None;
        for (second, model) in (0..).zip(&series) {
            let entries = entries_of(model);
            publish(&folder.copy(), second, &entries);
            let mut reader = folder.reader();
            // It goes by values in memory, which come from those before whenever they can.
            let brought = match &last {
                Some(old) => old.hot.as_ref().and_then(|hot| hot.brought_to(old, &reader).unwrap()),
                None => None,
            };
            let hot = match brought {
                Some(hot) => Some(hot),
                None => Hot::read(&reader).unwrap(),
            };
            reader.go_by(hot.map(Arc::new));
            let mut expected: Vec<String> = entries.iter().map(|(_, entry)| entry.dn().to_string()).collect();
            expected.sort();
            prop_assert_eq!(found(&reader, "", Scope::Subtree, "(objectClass=*)"), expected);
            for value in 0..4 {
                let text = format!("m{value}");
                let mut expected: Vec<String> = entries.iter().filter(|(_, entry)| {
                    entry.values(&AttributeName::parse("mail").unwrap()).iter().any(|held| held.as_str().unwrap().eq_ignore_ascii_case(&text))
                }).map(|(_, entry)| entry.dn().to_string()).collect();
                expected.sort();
                prop_assert_eq!(found(&reader, "dc=x", Scope::Subtree, &format!("(mail={text})")), expected);
            }
            for change in reader.changes(known).unwrap().unwrap() {
                match change.kind {
                    Kind::Deleted => { follower.remove(&change.uuid[0]); }
                    Kind::Added | Kind::Modified => { follower.insert(change.uuid[0], change.dn); }
                }
            }
            known = reader.position().number;
            let truth: BTreeMap<u8, String> = entries.iter().map(|(identity, entry)| (*identity, entry.dn().to_string())).collect();
            prop_assert_eq!(&follower, &truth);
            last = Some(reader);
        }
    }
}
