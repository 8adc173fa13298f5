use std::collections::BTreeMap;

use dirless_model::IdRange;
use proptest::prelude::*;

use super::*;

const SOURCE: &str = "aws-identity-center";

type Live = BTreeMap<(ObjectKind, ObjectId), String>;

fn key(kind: ObjectKind, id: &str) -> (ObjectKind, ObjectId) {
    (kind, ObjectId::parse(id).unwrap())
}

fn live(entries: &[(ObjectKind, &str, &str)]) -> Live {
    entries
        .iter()
        .map(|(kind, id, name)| (key(*kind, id), (*name).to_owned()))
        .collect()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn temporary() -> (tempfile::TempDir, Ledger) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("state/ledger.db")).unwrap();
    (folder, ledger)
}

fn allocator() -> Allocator {
    Allocator::new(IdRange::ASSIGNED).unwrap()
}

use ObjectKind::{Group, User};

#[test]
fn numbers_stay_through_absence_rename_and_restart() {
    let (folder, mut ledger) = temporary();
    let first = live(&[(User, "u1", "alice"), (User, "u2", "bob"), (Group, "g1", "eng")]);
    let before = ledger.settle(SOURCE, &first, &allocator(), at(1)).unwrap();
    assert_eq!((before.assigned, before.returned, before.retired), (3, 0, 0));
    let without = live(&[(User, "u2", "robert"), (User, "u3", "carol")]);
    let middle = ledger.settle(SOURCE, &without, &allocator(), at(2)).unwrap();
    assert_eq!((middle.assigned, middle.retired), (1, 2));
    assert_eq!(middle.numbers[&key(User, "u2")], before.numbers[&key(User, "u2")]);
    assert!(
        !before
            .numbers
            .values()
            .any(|number| *number == middle.numbers[&key(User, "u3")])
    );
    drop(ledger);
    let mut ledger = Ledger::open(&folder.path().join("state/ledger.db")).unwrap();
    let after = ledger.settle(SOURCE, &first, &allocator(), at(3)).unwrap();
    assert_eq!(after.numbers, before.numbers);
    assert_eq!((after.assigned, after.returned, after.retired), (0, 2, 1));
    let entries = ledger.entries().unwrap();
    let bob = entries.iter().find(|entry| entry.object.id.as_str() == "u2").unwrap();
    assert_eq!((bob.first_name.as_str(), bob.last_name.as_str()), ("bob", "bob"));
    assert!(entries.iter().any(|entry| entry.first_name == "carol" && entry.retired));
}

#[test]
fn the_same_id_in_another_kind_or_source_is_another_object() {
    let (_folder, mut ledger) = temporary();
    let both = live(&[(User, "x", "x"), (Group, "x", "x")]);
    let here = ledger.settle("a", &both, &allocator(), at(1)).unwrap();
    let there = ledger.settle("b", &both, &allocator(), at(1)).unwrap();
    let mut numbers: Vec<_> = here.numbers.values().chain(there.numbers.values()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 4);
    assert_eq!(there.retired, 0, "a source never retires another's objects");
}

#[test]
fn the_database_refuses_to_change_or_forget() {
    let (_folder, mut ledger) = temporary();
    ledger
        .settle(SOURCE, &live(&[(User, "u1", "alice")]), &allocator(), at(1))
        .unwrap();
    ledger.settle(SOURCE, &Live::new(), &allocator(), at(2)).unwrap();
    for attack in [
        "UPDATE assignments SET number = 5",
        "UPDATE assignments SET object_id = 'u2'",
        "DELETE FROM assignments",
        "UPDATE events SET what = 'returned'",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO assignments SELECT number, source, kind, 'u9', first_name, assigned_at, origin, NULL, \
         NULL FROM assignments",
    ] {
        assert!(ledger.connection().execute(attack, []).is_err(), "{attack}");
    }
    assert_eq!(ledger.entries().unwrap().len(), 1);
}

#[test]
fn a_used_up_range_gives_nothing_out_at_all() {
    let (_folder, mut ledger) = temporary();
    let small = Allocator::new("2000-2001".parse().unwrap()).unwrap();
    let three = live(&[(User, "u1", "a"), (User, "u2", "b"), (User, "u3", "c")]);
    assert!(matches!(
        ledger.settle(SOURCE, &three, &small, at(1)),
        Err(LedgerError::Exhausted(_))
    ));
    assert!(ledger.is_empty().unwrap());
    let two = live(&[(User, "u1", "a"), (User, "u2", "b")]);
    ledger.settle(SOURCE, &two, &small, at(1)).unwrap();
    // Deleted people keep their numbers, so that a successor still gets none.
    let other = live(&[(User, "u9", "z")]);
    assert!(matches!(
        ledger.settle(SOURCE, &other, &small, at(2)),
        Err(LedgerError::Exhausted(_))
    ));
}

#[test]
fn two_writers_are_one_too_many_but_readers_may_look() {
    let (folder, mut ledger) = temporary();
    let path = folder.path().join("state/ledger.db");
    ledger
        .settle(SOURCE, &live(&[(User, "u1", "a")]), &allocator(), at(1))
        .unwrap();
    assert!(matches!(Ledger::open(&path), Err(LedgerError::Locked { .. })));
    assert_eq!(Ledger::open_to_read(&path).unwrap().entries().unwrap().len(), 1);
    drop(ledger);
    Ledger::open(&path).unwrap();
    assert!(matches!(
        Ledger::open_to_read(&folder.path().join("none.db")),
        Err(LedgerError::Missing { .. })
    ));
}

#[test]
fn the_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, _ledger) = temporary();
    for entry in std::fs::read_dir(folder.path().join("state")).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[test]
fn a_full_disk_is_an_error_and_nothing_is_given_out() {
    let (_folder, mut ledger) = temporary();
    ledger
        .settle(SOURCE, &live(&[(User, "u1", "a")]), &allocator(), at(1))
        .unwrap();
    let pages: i64 = ledger
        .connection()
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    ledger
        .connection()
        .pragma_update(None, "max_page_count", pages)
        .unwrap();
    let many: Live = (0..5_000)
        .map(|n| (key(User, &format!("u{n}")), format!("user{n}")))
        .collect();
    let error = ledger.settle(SOURCE, &many, &allocator(), at(2)).unwrap_err();
    assert!(
        matches!(error, LedgerError::Database { .. }) && error.to_string().contains("full"),
        "{error}"
    );
    assert_eq!(ledger.entries().unwrap().len(), 1);
    ledger
        .connection()
        .pragma_update(None, "max_page_count", 1_000_000)
        .unwrap();
    assert_eq!(
        ledger.settle(SOURCE, &many, &allocator(), at(3)).unwrap().numbers.len(),
        5_000
    );
}

#[test]
fn what_is_taken_over_is_checked_against_what_is_there() {
    let (_folder, mut ledger) = temporary();
    let line = |number, id: &str, retired| Entry {
        number,
        object: Object {
            source: SOURCE.to_owned(),
            kind: User,
            id: ObjectId::parse(id).unwrap(),
        },
        first_name: id.to_owned(),
        last_name: id.to_owned(),
        assigned_at: at(1),
        origin: Origin::Imported,
        subids: Some((100_000, 65_536)),
        retired,
    };
    assert_eq!(
        ledger
            .take_over(&[line(60_001, "u1", false), line(60_002, "u2", true)], at(1))
            .unwrap(),
        2
    );
    assert_eq!(ledger.take_over(&[line(60_001, "u1", false)], at(1)).unwrap(), 0);
    for bad in [line(60_001, "u9", false), line(60_009, "u1", false)] {
        let outcome = ledger.take_over(&[line(60_005, "u5", false), bad], at(1));
        assert!(matches!(outcome, Err(LedgerError::Conflict { .. })), "{outcome:?}");
    }
    let entries = ledger.entries().unwrap();
    assert_eq!(entries.len(), 2);
    assert!(entries[1].retired && entries[0].subids == Some((100_000, 65_536)));
    let settled = ledger
        .settle(
            SOURCE,
            &live(&[(User, "u2", "u2"), (User, "u3", "u3")]),
            &allocator(),
            at(2),
        )
        .unwrap();
    assert_eq!(settled.numbers[&key(User, "u2")], 60_002);
    assert_eq!(settled.numbers[&key(User, "u3")], IdRange::ASSIGNED.first());
}

/// One step of a directory's life.
#[derive(Clone, Debug)]
enum Step {
    Add(ObjectKind, u8),
    Remove(ObjectKind, u8),
    Rename(ObjectKind, u8, u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = || prop_oneof![Just(User), Just(Group)];
    prop_oneof![
        4 => (kind(), 0..24_u8).prop_map(|(kind, id)| Step::Add(kind, id)),
        3 => (kind(), 0..24_u8).prop_map(|(kind, id)| Step::Remove(kind, id)),
        2 => (kind(), 0..24_u8, 0..24_u8).prop_map(|(kind, id, name)| Step::Rename(kind, id, name)),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Over any sequence of adds, removes, renames, returns and restarts no number moves and none
    /// is used twice.
    #[test]
    fn no_number_moves_and_none_is_reused(steps in proptest::collection::vec(step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut ledger = Ledger::open(&path).unwrap();
        let mut directory = Live::new();
        let mut ever: BTreeMap<(ObjectKind, ObjectId), u32> = BTreeMap::new();
        for (second, step) in steps.into_iter().enumerate() {
            match step {
                Step::Add(kind, id) => {
                    directory.entry(key(kind, &format!("id-{id}"))).or_insert_with(|| format!("name{id}"));
                }
                Step::Remove(kind, id) => {
                    directory.remove(&key(kind, &format!("id-{id}")));
                }
                Step::Rename(kind, id, name) => {
                    if let Some(current) = directory.get_mut(&key(kind, &format!("id-{id}"))) {
                        *current = format!("name{name}");
                    }
                }
                Step::Restart => {
                    drop(ledger);
                    ledger = Ledger::open(&path).unwrap();
                }
            }
            let now = at(i64::try_from(second).unwrap());
            let settled = ledger.settle(SOURCE, &directory, &allocator(), now).unwrap();
            prop_assert_eq!(settled.numbers.len(), directory.len());
            for (object, number) in settled.numbers {
                let held = *ever.entry(object.clone()).or_insert(number);
                prop_assert_eq!(held, number, "{:?} moved", object);
            }
            let mut numbers: Vec<_> = ever.values().collect();
            numbers.sort_unstable();
            numbers.dedup();
            prop_assert_eq!(numbers.len(), ever.len(), "a number was given to two objects");
            let entries = ledger.entries().unwrap();
            prop_assert_eq!(entries.len(), ever.len());
            for entry in entries {
                let key = (entry.object.kind, entry.object.id);
                prop_assert_eq!(entry.retired, !directory.contains_key(&key));
                if let Some(name) = directory.get(&key) {
                    prop_assert_eq!(&entry.last_name, name);
                }
            }
        }
    }
}
