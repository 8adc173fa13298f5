//! A table with any changes over it in overlays answers everything as a table written anew.

use crate::common::META;
use crate::model::{Directory, Person, Questions, Team, change, me, meta, small};
use dirless_table::overlay::{self, Draft, Published};
use dirless_table::{GroupRecord, Table, WriteError, publish_bytes};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Debug, Clone)]
enum Change {
    PutUser(usize, u32, u8),
    DropUser(usize),
    PutGroup(usize, u32, BTreeSet<usize>),
    Rearrange(usize, BTreeSet<usize>, BTreeSet<usize>),
    DropGroup(usize),
}

/// Few names and numbers, some beginning like others, so that changes meet.
const NAMES: [&str; 10] = [
    "ann", "anna", "annabel", "b", "bo", "bob", "zoe", "eng", "ops", "backup",
];
const IDS: std::ops::Range<u32> = 2000..2012;

fn changes() -> impl Strategy<Value = Change> {
    let name = || 0..NAMES.len();
    let some = || prop::collection::btree_set(0..NAMES.len(), 0..5);
    prop_oneof![
        3 => (name(), IDS, 0..3u8).prop_map(|(name, uid, home)| Change::PutUser(name, uid, home)),
        2 => name().prop_map(Change::DropUser),
        2 => (name(), IDS, some()).prop_map(|(name, gid, members)| Change::PutGroup(name, gid, members)),
        4 => (name(), some(), some()).prop_map(|(name, join, leave)| Change::Rearrange(name, join, leave)),
        1 => name().prop_map(Change::DropGroup),
    ]
}

fn named(numbers: &BTreeSet<usize>) -> impl Iterator<Item = &'static str> {
    numbers.iter().map(|number| NAMES[*number])
}

impl Change {
    /// Changes the model; numbers that somebody has already are looked for from the wanted one up.
    fn apply(&self, directory: &mut Directory) {
        match self {
            Self::PutUser(name, uid, home) => {
                let name = NAMES[*name];
                directory.users.remove(name);
                let taken = |uid: &u32| directory.users.values().any(|person| person.uid == *uid);
                let uid = (*uid..).find(|uid| !taken(uid)).unwrap();
                let (home, keys) = (format!("/home/{home}"), "k\n".repeat(usize::from(*home)));
                directory.users.insert(name.into(), Person { uid, home, keys });
            }
            Self::DropUser(name) => {
                directory.users.remove(NAMES[*name]);
            }
            Self::PutGroup(name, gid, members) => {
                directory.groups.remove(NAMES[*name]);
                let taken = |gid: &u32| directory.groups.values().any(|team| team.gid == *gid);
                let gid = (*gid..).find(|gid| !taken(gid)).unwrap();
                let members = named(members).map(str::to_owned).collect();
                directory.groups.insert(NAMES[*name].into(), Team { gid, members });
            }
            Self::Rearrange(name, joining, leaving) => {
                if let Some(team) = directory.groups.get_mut(NAMES[*name]) {
                    team.members.extend(named(joining).map(str::to_owned));
                    named(leaving).for_each(|name| {
                        team.members.remove(name);
                    });
                }
            }
            Self::DropGroup(name) => {
                directory.groups.remove(NAMES[*name]);
            }
        }
    }

    /// The same in a draft; `after` is the model after it.
    fn draft(&self, draft: &mut Draft<'_>, after: &Directory) -> Result<(), WriteError> {
        match self {
            Self::PutUser(name, ..) => draft.put_user(&after.users[NAMES[*name]].record(NAMES[*name])),
            Self::DropUser(name) => {
                draft.drop_user(NAMES[*name]);
                Ok(())
            }
            Self::PutGroup(name, ..) => {
                let (name, team) = (NAMES[*name], &after.groups[NAMES[*name]]);
                let group = GroupRecord { name, gid: team.gid };
                draft.put_group(&group, team.members.iter().map(String::as_str))
            }
            Self::Rearrange(name, joining, leaving) => {
                let changed = draft.change_members(NAMES[*name], named(joining), named(leaving));
                match changed {
                    Err(WriteError::NoSuchGroup) if !after.groups.contains_key(NAMES[*name]) => Ok(()),
                    other => other,
                }
            }
            Self::DropGroup(name) => {
                draft.drop_group(NAMES[*name]);
                Ok(())
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn changes_through_overlays_are_a_table_written_anew(
        first in prop::collection::vec(changes(), 0..25),
        rounds in prop::collection::vec(prop::collection::vec(changes(), 0..6), 1..5),
    ) {
        let folder = crate::model::folder();
        let path = folder.path().join("table");
        let mut directory = Directory::default();
        first.iter().for_each(|change| change.apply(&mut directory));
        let base = directory.clone();
        publish_bytes(&path, &base.bytes()).unwrap();
        let mut last = 0;
        for round in rounds {
            let before = directory.clone();
            let published = change(&path, |draft| {
                round.iter().try_for_each(|change| {
                    change.apply(&mut directory);
                    change.draft(draft, &directory)
                })
            }).unwrap();
            match published {
                Published::Unchanged => prop_assert_eq!(&before, &directory),
                Published::Overlay(stats) => {
                    prop_assert!(before != directory, "nothing changed");
                    prop_assert_eq!(stats.number, last + 1);
                    last = stats.number;
                }
            }
            let table = Table::open(&path, me()).unwrap();
            let anew = Table::from_bytes(directory.bytes()).unwrap();
            let questions = Questions::about(&[&base, &before, &directory]);
            prop_assert_eq!(questions.ask(&table), questions.ask(&anew));
            // The table and one overlay, which says nothing when all is as it was.
            let files = std::fs::read_dir(folder.path()).unwrap().count();
            prop_assert_eq!(files, 1 + usize::from(last > 0));
            if directory == base && last > 0 {
                let overlay = folder.path().join(format!("table.overlay.{last:08x}"));
                prop_assert!(std::fs::metadata(overlay).unwrap().len() < 500);
            }
        }
    }
}

fn names<'t>(entries: impl Iterator<Item = &'t [u8]>) -> Vec<String> {
    entries.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

#[test]
fn the_order_is_the_tables_and_then_by_name() {
    let folder = crate::model::folder();
    let path = folder.path().join("table");
    let mut builder = dirless_table::TableBuilder::in_memory(META).unwrap();
    let eng = GroupRecord { name: "eng", gid: 1 };
    builder.add_group(&eng, ["zoe", "mia", "ann", "leo"]).unwrap();
    builder.add_group(&GroupRecord { name: "any", gid: 2 }, []).unwrap();
    for (uid, name) in [(1, "zoe"), (2, "mia"), (3, "ann"), (4, "leo")] {
        builder.add_user(&crate::common::user(name, uid, "/")).unwrap();
    }
    publish_bytes(&path, &builder.finish().unwrap().0.into_inner()).unwrap();
    let _ = change(&path, |draft| {
        draft.change_members("eng", ["bob", "abe"], ["mia"])?;
        draft.put_user(&crate::common::user("eve", 9, "/"))?;
        draft.put_user(&crate::common::user("ann", 3, "/new"))
    })
    .unwrap();
    let table = Table::open(&path, me()).unwrap();
    let eng = table.group_by_gid(1).unwrap().unwrap();
    assert_eq!(names(eng.members()), ["zoe", "ann", "leo", "abe", "bob"]);
    let users = table.users().map(|user| user.unwrap().name());
    assert_eq!(names(users), ["zoe", "leo", "ann", "eve", "mia"]);
    let groups = table.groups().map(|group| group.unwrap().name());
    assert_eq!(names(groups), ["any", "eng"]);
    assert_eq!(
        table.initgroups(b"abe").unwrap().unwrap().iter().collect::<Vec<_>>(),
        [1]
    );
    assert!(table.initgroups(b"mia").unwrap().unwrap().is_empty());
}

#[test]
fn numbers_may_change_hands_but_nobody_shares_one() {
    let folder = crate::model::folder();
    let path = folder.path().join("table");
    let mut directory = small();
    publish_bytes(&path, &directory.bytes()).unwrap();
    let base = directory.clone();
    let shared = change(&path, |draft| draft.put_user(&base.users["alice"].record("carol")));
    assert!(
        matches!(shared, Err(WriteError::DuplicateId { id: 60_001 })),
        "{shared:?}"
    );
    let shared = change(&path, |draft| {
        draft.put_group(&GroupRecord { name: "new", gid: 2001 }, [])
    });
    assert!(
        matches!(shared, Err(WriteError::DuplicateId { id: 2001 })),
        "{shared:?}"
    );
    let twice = change(&path, |draft| {
        draft.put_user(&crate::common::user("carol", 5, "/"))?;
        draft.put_user(&crate::common::user("dave", 5, "/"))
    });
    assert!(matches!(twice, Err(WriteError::DuplicateId { id: 5 })), "{twice:?}");

    directory.put("alice", 60_002);
    directory.put("bob", 60_001);
    directory.group("eng", 2000, &["alice", "bob"]);
    directory.group("ops", 2001, &["alice", "backup"]);
    let _ = change(&path, |draft| {
        for name in ["alice", "bob"] {
            draft.put_user(&directory.users[name].record(name))?;
        }
        for name in ["eng", "ops"] {
            let team = &directory.groups[name];
            let group = GroupRecord { name, gid: team.gid };
            draft.put_group(&group, team.members.iter().map(String::as_str))?;
        }
        Ok(())
    })
    .unwrap();
    let questions = Questions::about(&[&directory]);
    let table = Table::open(&path, me()).unwrap();
    assert_eq!(
        questions.ask(&table),
        questions.ask(&Table::from_bytes(directory.bytes()).unwrap())
    );
    assert_eq!(table.user_by_uid(60_001).unwrap().unwrap().name(), b"bob");
}

#[test]
fn refused_records_leave_no_trace() {
    let folder = crate::model::folder();
    let path = folder.path().join("table");
    publish_bytes(&path, &small().bytes()).unwrap();
    let refused = change(&path, |draft| {
        for bad in ["", "a:b", "a\nb", "a\0b", "a,b", &"n".repeat(256)] {
            let errors = [
                draft.put_user(&crate::common::user(bad, 1, "/")),
                draft.put_group(&GroupRecord { name: bad, gid: 5 }, []),
                draft.put_group(&GroupRecord { name: "eng", gid: 5 }, ["carol", bad]),
                draft.change_members("eng", ["carol", bad], []),
                draft.change_members(bad, ["carol"], []),
            ];
            for error in errors {
                let error = error.unwrap_err();
                assert!(error.concerns_one_record(), "{error}");
            }
        }
        draft.put_user(&crate::common::user("alice", 1, "/a:b")).unwrap_err();
        draft.change_members("nowhere", ["alice"], []).unwrap_err();
        draft.change_members("eng", ["alice"], ["carol", "backup"])
    });
    assert_eq!(refused.unwrap(), Published::Unchanged);
}

/// One more or one less in a group of everybody is told in a few bytes, time and again.
#[test]
fn a_change_in_a_huge_group_is_small() {
    let folder = crate::model::folder();
    let path = folder.path().join("table");
    let mut directory = small();
    let everybody: Vec<String> = (0..20_000).map(|n| format!("user{n:05}")).collect();
    let all: Vec<&str> = everybody.iter().map(String::as_str).collect();
    directory.group("all", 7, &all);
    publish_bytes(&path, &directory.bytes()).unwrap();
    for (round, (joins, leaves)) in [
        ("alice", "user00000"),
        ("bob", "user19999"),
        ("user00000", "user10000"),
        ("x", "alice"),
    ]
    .into_iter()
    .enumerate()
    {
        let published = overlay::publish(&path, me(), meta(round as u64), 4000, |draft| {
            draft.change_members("all", [joins], [leaves])
        });
        let Published::Overlay(stats) = published.unwrap_or_else(|error: WriteError| panic!("{error}")) else {
            panic!("nothing changed");
        };
        assert!(stats.bytes < 1500, "{} bytes", stats.bytes);
        let members = &mut directory.groups.get_mut("all").unwrap().members;
        members.insert(joins.into());
        members.remove(leaves);
        let questions = Questions {
            names: [
                "all",
                "alice",
                "bob",
                "x",
                "user00000",
                "user10000",
                "user19999",
                "user10001",
            ]
            .map(str::to_owned)
            .into(),
            ids: vec![7],
        };
        let anew = Table::from_bytes(directory.bytes()).unwrap();
        assert_eq!(questions.ask(&Table::open(&path, me()).unwrap()), questions.ask(&anew));
    }
}
