//! The flat file when something happened to it: whoever reads it is told, and nobody sees another entry's bytes.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::ops::ControlFlow;
use std::path::PathBuf;

use dirless_directory::encoded::encode;
use dirless_directory::{AttributeName, Dn, DnKey, Entry, Filter, Schema, Value};
use jiff::Timestamp;

use super::*;
use crate::appender::Appender;
use crate::{Draft, Edit, Hot, Query, Reader, Record, Scope, Summary};

/// Entries by name: identity, and how long a value of theirs is.
type Model = BTreeMap<&'static str, (u8, usize)>;

struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("copy.db")
    }

    /// The only flat file.
    fn flat(&self) -> PathBuf {
        let all: Vec<PathBuf> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains(".entries-"))
            .collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all.into_iter().next().unwrap()
    }

    fn publish(&self, second: i64, model: &Model, anew: bool) -> Result<Summary, CopyError> {
        let mut draft = Draft::begin(&self.path(), Schema::standard(), "series", at(second), anew)?;
        put_all(&mut draft, model)?;
        draft.finish("")
    }

    fn reader(&self) -> Result<Reader, CopyError> {
        Reader::open(&self.path(), Schema::standard())
    }

    fn connection(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn put_all(target: &mut impl crate::Target, model: &Model) -> Result<(), CopyError> {
    let schema = Schema::standard();
    let mut keyed: Vec<_> = model
        .iter()
        .map(|(dn, held)| (schema.dn_key_of(dn).unwrap(), *dn, *held))
        .collect();
    keyed.sort();
    for (key, dn, (identity, length)) in keyed {
        let mut entry = Entry::new(Dn::parse(dn).unwrap());
        let mut add = |name: &str, value: String| entry.add(AttributeName::parse(name).unwrap(), Value::from(value));
        add("objectClass", "device".to_owned());
        add("cn", dn.to_owned());
        add("description", format!("{dn}|").repeat(length));
        target.put(&Record {
            key: &key,
            dn,
            uuid: [identity; 16],
            attributes: &encode(&schema, &entry),
            canonical: true,
        })?;
    }
    Ok(())
}

fn model() -> Model {
    BTreeMap::from([
        ("cn=a", (1, 1)),
        ("cn=b", (2, 1)),
        ("cn=c", (3, 20_000)),
        ("cn=d", (4, 1)),
    ])
}

/// What every entry is found to be, in both ways of looking; the ones that cannot be read are told as damaged. An
/// entry that says it is another one never comes out.
fn read(reader: &Reader, names: &[&'static str]) -> Vec<&'static str> {
    let mut damaged = Vec::new();
    for dn in names {
        let key = reader.schema().dn_key_of(dn).unwrap();
        let mut shown = 0;
        let looked = reader.lookup(key.as_bytes(), &mut |row| {
            shown += 1;
            assert_eq!(row.dn, *dn);
            row.attributes.verify().unwrap();
            for one in row.attributes.iter().filter(|one| one.name == "description") {
                for value in one.values {
                    assert!(String::from_utf8_lossy(value).starts_with(&format!("{dn}|")));
                }
            }
        });
        match looked {
            Ok(found) => assert_eq!((found, shown), (true, 1), "{dn}"),
            Err(CopyError::Damaged { .. }) => damaged.push(*dn),
            Err(other) => panic!("{other}"),
        }
        // From the file, without being read.
        let filter = Filter::parse(&format!("(cn={dn})")).unwrap();
        let query = Query {
            base: &DnKey::from(Vec::new()),
            scope: Scope::Subtree,
            filter: &filter,
            after: None,
            wants: None,
            apart: true,
        };
        let searched = reader.search(&query, &mut |row| {
            assert_eq!(row.dn, *dn);
            for one in row.apart {
                let mut bytes = vec![0; one.length];
                one.file.read_exact_at(&mut bytes, one.offset).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                assert!(one.name == "description" && text.contains(&format!("{dn}|{dn}|")));
            }
            ControlFlow::Continue(())
        });
        assert_eq!(searched.is_err(), damaged.contains(dn), "{dn}: {searched:?}");
    }
    damaged
}

fn names() -> Vec<&'static str> {
    model().keys().copied().collect()
}

#[test]
fn a_changed_byte_is_noticed_wherever_it_is() {
    let copy = Copy::new();
    copy.publish(0, &model(), false).unwrap();
    let whole = fs::read(copy.flat()).unwrap();
    assert!(read(&copy.reader().unwrap(), &names()).is_empty());
    for at in (0..whole.len())
        .step_by(whole.len() / 97)
        .chain([0, 20, whole.len() - 1])
    {
        let mut torn = whole.clone();
        torn[at] ^= 0x40;
        fs::write(copy.flat(), &torn).unwrap();
        match copy.reader() {
            // Exactly the entry that it belongs to.
            Ok(reader) => assert_eq!(read(&reader, &names()).len(), 1, "byte {at}"),
            Err(error) => assert!(at < 48 && matches!(error, CopyError::Damaged { .. }), "{error}"),
        }
    }
    // A generation that cannot take an entry from it is made without it.
    let mut torn = whole.clone();
    torn[whole.len() / 2] ^= 1;
    fs::write(copy.flat(), &torn).unwrap();
    let mut changed = model();
    changed.insert("cn=c", (3, 19_000));
    assert!(copy.publish(1, &changed, false).is_err());
    assert_eq!(copy.publish(1, &changed, true).unwrap().added, 4);
    assert!(read(&copy.reader().unwrap(), &names()).is_empty());
}

#[test]
fn a_file_that_is_cut_short_or_another_one_is_not_opened() {
    let copy = Copy::new();
    copy.publish(0, &model(), false).unwrap();
    let whole = fs::read(copy.flat()).unwrap();
    for length in [0, 10, 48, whole.len() / 2, whole.len() - 1] {
        fs::write(copy.flat(), &whole[..length]).unwrap();
        assert!(matches!(copy.reader(), Err(CopyError::Damaged { .. })), "{length}");
        assert_eq!(Draft::content(&copy.path()), None);
        assert!(Edit::begin(&copy.path(), Schema::standard(), at(1)).is_err());
    }
    fs::remove_file(copy.flat()).unwrap();
    assert!(matches!(copy.reader(), Err(CopyError::File { .. })));
    // As long as needed, of another copy.
    let other = Copy::new();
    let mut more = model();
    more.insert("cn=e", (5, 9000));
    other.publish(7, &more, false).unwrap();
    fs::copy(other.flat(), copy.0.path().join("copy.db.entries-1")).unwrap();
    assert!(matches!(copy.reader(), Err(CopyError::Damaged { offset: 0, .. })));
    assert_eq!(copy.publish(8, &model(), false).unwrap().added, 4, "it is made anew");
    assert!(read(&copy.reader().unwrap(), &names()).is_empty());
}

#[test]
fn places_that_are_wrong_show_nothing() {
    let copy = Copy::new();
    copy.publish(0, &model(), false).unwrap();
    let places: Vec<i64> = {
        let connection = copy.connection();
        let mut select = connection.prepare("SELECT place FROM entries ORDER BY id").unwrap();
        let places = select.query_map([], |row| row.get(0)).unwrap();
        places.collect::<Result<_, _>>().unwrap()
    };
    let wrong = [
        0,
        1,
        i64::MAX,
        -1,
        places[0] + 1,
        places[0] + (1 << 24),
        places[1],
        places[2] + (1 << 24),
    ];
    for place in wrong {
        let set = "UPDATE entries SET place = ?1 WHERE id = 1";
        copy.connection().execute(set, [place]).unwrap();
        for hot in [false, true] {
            let mut reader = copy.reader().unwrap();
            if hot {
                reader.go_by(Hot::read(&reader).unwrap().map(Arc::new));
            }
            let key = reader.schema().dn_key_of("cn=a").unwrap();
            let looked = reader.lookup(key.as_bytes(), &mut |row| panic!("{} is shown", row.dn));
            // A place of 0 is none in memory.
            assert!(
                matches!(looked, Err(CopyError::Damaged { .. }) | Ok(false)),
                "{place}: {looked:?}"
            );
            let mut others = names();
            others.remove(0);
            assert!(read(&reader, &others).is_empty());
        }
    }
}

#[test]
fn what_a_killed_writer_left_is_written_over_and_readers_never_see_it() {
    let copy = Copy::new();
    copy.publish(0, &model(), false).unwrap();
    let before = fs::read(copy.flat()).unwrap();
    let old = copy.reader().unwrap();
    // Entries are appended and on disk; the writer is gone before the database names them.
    let mut changed = model();
    changed.insert("cn=a", (1, 2));
    let mut draft = Draft::begin(&copy.path(), Schema::standard(), "series", at(1), false).unwrap();
    put_all(&mut draft, &changed).unwrap();
    draft.records.finish(&draft.next).unwrap();
    std::mem::forget(draft);
    assert!(fs::metadata(copy.flat()).unwrap().len() > before.len() as u64);
    assert!(read(&copy.reader().unwrap(), &names()).is_empty());
    // Garbage as of a torn write behind the end.
    let mut file = OpenOptions::new().append(true).open(copy.flat()).unwrap();
    std::io::Write::write_all(&mut file, &[0xa5; 4000]).unwrap();
    changed.insert("cn=b", (2, 3));
    assert_eq!(copy.publish(2, &changed, false).unwrap().changed, 2);
    let after = fs::read(copy.flat()).unwrap();
    assert_eq!(
        after[..before.len()],
        before[..],
        "what a generation names never changes"
    );
    assert!(!after.windows(16).any(|part| part == [0xa5; 16]));
    assert!(read(&copy.reader().unwrap(), &names()).is_empty() && read(&old, &names()).is_empty());
}

#[test]
fn a_dropped_generation_leaves_the_file_as_it_was() {
    let copy = Copy::new();
    copy.publish(0, &model(), false).unwrap();
    let before = fs::read(copy.flat()).unwrap();
    let mut changed = model();
    changed.insert("cn=a", (1, 200_000));
    let mut draft = Draft::begin(&copy.path(), Schema::standard(), "series", at(1), false).unwrap();
    put_all(&mut draft, &changed).unwrap();
    draft.records.finish(&draft.next).unwrap();
    drop(draft);
    assert_eq!(fs::read(copy.flat()).unwrap(), before);
    // A first generation leaves none at all.
    let other = Copy::new();
    drop(Draft::begin(&other.path(), Schema::standard(), "series", at(1), false).unwrap());
    assert_eq!(fs::read_dir(other.0.path()).unwrap().count(), 0);
}

#[test]
fn what_is_of_no_use_goes_when_it_is_more_than_the_rest() {
    let copy = Copy::new();
    copy.publish(0, &model(), false).unwrap();
    let first = copy.flat();
    let old = copy.reader().unwrap();
    let mut moved = false;
    // Each change leaves the megabyte of the one before behind.
    for second in 1..=16 {
        let mut changed = model();
        changed.insert("cn=c", (3, 200_000 + usize::try_from(second).unwrap()));
        assert_eq!(copy.publish(second, &changed, false).unwrap().changed, 1);
        let reader = copy.reader().unwrap();
        assert!(read(&reader, &names()).is_empty());
        moved |= copy.flat() != first;
        let length = fs::metadata(copy.flat()).unwrap().len();
        assert!(length < 2 * 1_000_000 + SLACK + 2_000_000, "{length} bytes");
    }
    assert!(moved, "it moved to a new file");
    assert!(read(&old, &names()).is_empty(), "whoever reads the old one keeps it");
    // The two databases still take turns, and one change costs one change.
    let mut changed = model();
    changed.insert("cn=a", (1, 2));
    assert_eq!(copy.publish(20, &changed, false).unwrap().changed, 2);
    let mut edit = Edit::begin(&copy.path(), Schema::standard(), at(21)).unwrap();
    put_all(&mut edit, &BTreeMap::from([("cn=b", (2, 5))])).unwrap();
    assert_eq!(edit.finish("").unwrap().changed, 1);
    assert!(read(&copy.reader().unwrap(), &names()).is_empty());
}

#[test]
fn values_in_memory_are_read_anew_when_the_file_moved() {
    let copy = Copy::new();
    copy.publish(0, &model(), false).unwrap();
    let mut old = copy.reader().unwrap();
    let hot = Hot::read(&old).unwrap().unwrap();
    let same = copy.publish(1, &model(), false).unwrap();
    assert_eq!(same.changed, 0);
    let new = copy.reader().unwrap();
    assert!(hot.brought_to(&old, &new).unwrap().is_some());
    old.go_by(Some(Arc::new(hot.clone())));
    copy.publish(2, &model(), true).unwrap();
    assert!(hot.brought_to(&new, &copy.reader().unwrap()).unwrap().is_none());
}

#[test]
fn what_was_read_lately_is_the_entry_that_is_asked_for() {
    let copy = Copy::new();
    copy.publish(0, &model(), false).unwrap();
    let records = copy.reader().unwrap().records;
    let entries: Vec<(i64, i64, String)> = {
        let connection = copy.connection();
        let mut select = connection
            .prepare("SELECT id, place, dn FROM entries ORDER BY id")
            .unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    };
    let mut recent = Recent::default();
    // All in one room, so that each finds another one there.
    let mut read = |(id, place, dn): &(i64, i64, String)| {
        let mut lately = recent.take(7);
        let first = lately.first(&records, Place::of_number(*place), *id);
        let read = first.map(|parts| assert_eq!(parts.dn, dn));
        recent.put(7, lately);
        read
    };
    for entry in entries.iter().chain(&entries).chain([&entries[3]]) {
        read(entry).unwrap();
    }
    // What is held needs no file; what was not right is not held.
    let length = fs::metadata(copy.flat()).unwrap().len();
    fs::write(copy.flat(), vec![0; usize::try_from(length).unwrap()]).unwrap();
    read(&entries[3]).unwrap();
    for entry in [&entries[0], &entries[3], &entries[0]] {
        assert!(matches!(read(entry), Err(CopyError::Damaged { .. })));
    }
}

#[test]
fn a_full_disk_leaves_the_generation_before() {
    let copy = Copy::new();
    copy.publish(0, &model(), false).unwrap();
    let before = fs::read(copy.flat()).unwrap();
    let records = copy.reader().unwrap().records;
    let mut full = Appender::after(&records).unwrap();
    // Nothing can be written to it, as when there is no room.
    full.file = File::options().write(true).open("/dev/full").unwrap();
    full.pending = vec![1; 10];
    let error = full.finish(&Connection::open_in_memory().unwrap()).unwrap_err();
    assert!(matches!(error, CopyError::File { doing: "write", .. }), "{error}");
    drop(full);
    assert_eq!(fs::read(copy.flat()).unwrap(), before);
    assert!(read(&copy.reader().unwrap(), &names()).is_empty());
}
