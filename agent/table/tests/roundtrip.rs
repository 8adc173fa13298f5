//! What is written is found again, and nothing else.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{META, small, user};
use dirless_table::{GroupRecord, Table, TableBuilder, UserRecord, WriteError};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn every_question_about_a_small_table() {
    let table = Table::from_bytes(small()).unwrap();
    table.verify().unwrap();
    let alice = table.user_by_name(b"alice").unwrap().unwrap();
    assert_eq!((alice.uid, alice.gid), (60_001, 60_001));
    assert_eq!(alice.strings, b"alice\0x\0Some One\0/home/alice\0/bin/bash\0");
    assert_eq!((alice.name(), alice.gecos()), (&b"alice"[..], &b"Some One"[..]));
    assert_eq!((alice.home(), alice.shell()), (&b"/home/alice"[..], &b"/bin/bash"[..]));
    assert_eq!(alice.gids().iter().collect::<Vec<_>>(), [2000, 2001]);
    assert_eq!(table.user_by_uid(60_001).unwrap().unwrap(), alice);
    let bob = table.user_by_uid(60_002).unwrap().unwrap();
    assert_eq!((bob.name(), bob.gecos(), bob.keys), (&b"bob"[..], &b""[..], &b""[..]));

    let ops = table.group_by_gid(2000).unwrap().unwrap();
    assert_eq!(
        ops.strings, b"ops\0x\0alice\0backup\0",
        "a member listed twice is written once"
    );
    assert_eq!(table.group_by_name(b"ops").unwrap().unwrap(), ops);
    assert_eq!(ops.members().collect::<Vec<_>>(), [&b"alice"[..], b"backup"]);
    let empty = table.group_by_name(b"empty").unwrap().unwrap();
    assert_eq!((empty.member_count, empty.members().count()), (0, 0));

    let keys = table.keys(b"alice").unwrap().unwrap();
    assert!(keys.ends_with(b"BBBB alice:desk\n"));
    assert_eq!(table.keys(b"bob").unwrap(), Some(&b""[..]));
    assert_eq!(table.keys(b"backup").unwrap(), None);

    let stats = table.stats();
    assert_eq!(
        (stats.users, stats.groups, stats.generation, stats.created),
        (2, 3, 7, META.created)
    );
    assert!(stats.enumerate);
    let names: Vec<_> = table.users().map(|user| user.unwrap().name().to_vec()).collect();
    assert_eq!(names, [b"alice".to_vec(), b"bob".to_vec()]);
    assert_eq!(
        table.groups().map(|group| group.unwrap().gid).collect::<Vec<_>>(),
        [2001, 2000, 2002]
    );
}

#[test]
fn absent_is_absent() {
    let table = Table::from_bytes(small()).unwrap();
    for name in [
        &b""[..],
        b"alic",
        b"alice\0",
        b"alice2",
        b"ALICE",
        b"eng",
        &[b'a'; 4096],
    ] {
        assert_eq!(table.user_by_name(name).unwrap(), None);
        assert_eq!(table.initgroups(name).unwrap(), None);
    }
    assert_eq!(table.group_by_name(b"alice").unwrap(), None);
    for id in [0, 1, 2001, u32::MAX] {
        assert_eq!(table.user_by_uid(id).unwrap(), None);
    }
    assert_eq!(table.group_by_gid(60_001).unwrap(), None);
    assert_eq!(table.user_at_position(2).unwrap(), None);
    assert_eq!(table.group_at_position(u32::MAX).unwrap(), None);
}

#[test]
fn local_member_of_a_directory_group_has_groups_but_is_no_user() {
    let table = Table::from_bytes(small()).unwrap();
    assert_eq!(
        table.initgroups(b"backup").unwrap().unwrap().iter().collect::<Vec<_>>(),
        [2000]
    );
    assert_eq!(table.user_by_name(b"backup").unwrap(), None);
    assert_eq!(table.user_by_uid(u32::MAX).unwrap(), None);
    assert_eq!(table.stats().users, 2);
}

#[test]
fn an_empty_table_answers() {
    let (out, stats) = TableBuilder::in_memory(META).unwrap().finish().unwrap();
    let table = Table::from_bytes(out.into_inner()).unwrap();
    assert_eq!((stats, table.stats().users), (table.stats(), 0));
    assert_eq!(table.user_by_name(b"alice").unwrap(), None);
    assert_eq!(table.group_by_gid(0).unwrap(), None);
    assert_eq!(table.users().count() + table.groups().count(), 0);
}

#[test]
fn texts_that_would_break_a_line_are_refused_and_leave_no_trace() {
    let mut builder = TableBuilder::in_memory(META).unwrap();
    for bad in ["", "a:b", "a\nb", "a\0b", "a,b", &"n".repeat(256)] {
        let refused = builder.add_group(&GroupRecord { name: bad, gid: 5 }, []).unwrap_err();
        assert!(refused.concerns_one_record(), "{refused}");
        let members = ["alice", "carol", bad];
        assert!(
            builder
                .add_group(&GroupRecord { name: "eng", gid: 5 }, members)
                .is_err()
        );
    }
    builder
        .add_group(&GroupRecord { name: "eng", gid: 5 }, ["alice"])
        .unwrap();
    for bad in ["", "a:b", "a\nb", "a\0b", "a,b", &"n".repeat(256)] {
        assert!(builder.add_user(&user(bad, 1, "/")).unwrap_err().concerns_one_record());
    }
    for bad in ["a:b", "a\nb", "a\0b", &"n".repeat(65_536)] {
        assert!(
            builder
                .add_user(&UserRecord {
                    gecos: bad,
                    ..user("alice", 1, "/")
                })
                .is_err()
        );
        assert!(builder.add_user(&user("alice", 1, bad)).is_err());
        assert!(
            builder
                .add_user(&UserRecord {
                    shell: bad,
                    ..user("alice", 1, "/")
                })
                .is_err()
        );
    }
    assert!(
        builder
            .add_user(&UserRecord {
                keys: "a\0b",
                ..user("alice", 1, "/")
            })
            .is_err()
    );
    builder.add_user(&user("alice", 1, "/")).unwrap();
    let (out, _) = builder.finish().unwrap();

    let mut clean = TableBuilder::in_memory(META).unwrap();
    clean
        .add_group(&GroupRecord { name: "eng", gid: 5 }, ["alice"])
        .unwrap();
    clean.add_user(&user("alice", 1, "/")).unwrap();
    assert_eq!(out.into_inner(), clean.finish().unwrap().0.into_inner());
}

#[test]
fn duplicates_and_late_groups_are_refused() {
    let mut builder = TableBuilder::in_memory(META).unwrap();
    builder.add_group(&GroupRecord { name: "eng", gid: 5 }, []).unwrap();
    let same_name = builder.add_group(&GroupRecord { name: "eng", gid: 6 }, []);
    assert!(matches!(same_name, Err(WriteError::DuplicateName)));
    let same_gid = builder.add_group(&GroupRecord { name: "ops", gid: 5 }, []);
    assert!(matches!(same_gid, Err(WriteError::DuplicateId { id: 5 })));
    builder.add_user(&user("eng", 5, "/")).unwrap();
    assert!(matches!(
        builder.add_user(&user("eng", 6, "/")),
        Err(WriteError::DuplicateName)
    ));
    assert!(matches!(
        builder.add_user(&user("bob", 5, "/")),
        Err(WriteError::DuplicateId { id: 5 })
    ));
    let late = builder.add_group(&GroupRecord { name: "late", gid: 9 }, []);
    assert!(matches!(late, Err(WriteError::GroupAfterUser)));
    let (_, stats) = builder.finish().unwrap();
    assert_eq!((stats.users, stats.groups), (1, 1));
}

#[test]
fn longest_texts_survive() {
    let (name, home) = ("n".repeat(255), "h".repeat(65_535));
    let mut builder = TableBuilder::in_memory(META).unwrap();
    builder.add_user(&user(&name, u32::MAX, &home)).unwrap();
    let table = Table::from_bytes(builder.finish().unwrap().0.into_inner()).unwrap();
    let found = table.user_by_name(name.as_bytes()).unwrap().unwrap();
    assert_eq!((found.home().len(), found.uid), (65_535, u32::MAX));
    assert_eq!(table.user_by_uid(u32::MAX).unwrap(), Some(found));
}

/// A realistic directory: private groups for all, five shared groups each, in at most 250 bytes a user.
#[test]
fn a_hundred_thousand_users_take_at_most_250_bytes_each() {
    const USERS: u32 = 100_000;
    let names: Vec<String> = (0..USERS).map(|n| format!("user{n:06}")).collect();
    let mut builder = TableBuilder::in_memory(META).unwrap();
    for group in 0..1000u32 {
        let members = (0..USERS / 200).map(|n| names[((group * 97 + n * 211) % USERS) as usize].as_str());
        builder
            .add_group(
                &GroupRecord {
                    name: &format!("team-{group}"),
                    gid: 5000 + group,
                },
                members,
            )
            .unwrap();
    }
    for n in 0..USERS {
        builder
            .add_group(
                &GroupRecord {
                    name: &names[n as usize],
                    gid: 100_000 + n,
                },
                [],
            )
            .unwrap();
    }
    for n in 0..USERS {
        let name = &names[n as usize];
        let (gecos, home) = (format!("First Last {n}"), format!("/home/{name}"));
        let record = UserRecord {
            gecos: &gecos,
            ..user(name, 100_000 + n, &home)
        };
        builder.add_user(&record).unwrap();
    }
    let (out, stats) = builder.finish().unwrap();
    let each = stats.bytes / u64::from(USERS);
    assert!(each <= 250, "{each} bytes per user");
    let table = Table::from_bytes(out.into_inner()).unwrap();
    table.verify().unwrap();
    for n in (0..USERS).step_by(997) {
        let found = table.user_by_name(names[n as usize].as_bytes()).unwrap().unwrap();
        assert_eq!(found.uid, 100_000 + n);
        assert_eq!(table.user_by_uid(100_000 + n).unwrap(), Some(found));
        assert_eq!(table.group_by_gid(100_000 + n).unwrap().unwrap().name(), found.name());
    }
}

#[test]
fn one_group_with_a_hundred_thousand_members_is_whole() {
    let names: Vec<String> = (0..100_000).map(|n| format!("member{n}")).collect();
    let mut builder = TableBuilder::in_memory(META).unwrap();
    builder
        .add_group(&GroupRecord { name: "all", gid: 9 }, names.iter().map(String::as_str))
        .unwrap();
    let table = Table::from_bytes(builder.finish().unwrap().0.into_inner()).unwrap();
    let all = table.group_by_name(b"all").unwrap().unwrap();
    assert_eq!(all.member_count, 100_000);
    assert!(all.members().zip(&names).all(|(found, name)| found == name.as_bytes()));
    assert_eq!(
        table
            .initgroups(b"member99999")
            .unwrap()
            .unwrap()
            .iter()
            .collect::<Vec<_>>(),
        [9]
    );
}

fn text(max: usize) -> impl Strategy<Value = String> {
    let letter = any::<char>().prop_filter("breaks a line", |c| !matches!(c, '\0' | ':' | '\n' | ','));
    prop::collection::vec(letter, 0..max).prop_map(|letters| letters.into_iter().collect())
}

prop_compose! {
    fn directory()(
        users in prop::collection::btree_map("[a-e][a-z0-9]{0,20}", (text(20), text(20), text(9), text(60)), 0..60),
        groups in prop::collection::btree_map("[a-e][a-z0-9]{0,9}", prop::collection::vec(any::<prop::sample::Index>(), 0..80), 0..20),
        strangers in prop::collection::btree_set("[f-k][a-z]{0,5}", 1..5),
    ) -> (BTreeMap<String, (String, String, String, String)>, BTreeMap<String, Vec<String>>) {
        let known: Vec<&String> = users.keys().chain(&strangers).collect();
        let groups = groups.iter().map(|(name, members)| {
            (name.clone(), members.iter().map(|index| (*index.get(&known)).clone()).collect())
        }).collect();
        (users.clone(), groups)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_written_is_found((users, groups) in directory(), enumerate: bool) {
        let build = || {
            let mut builder = TableBuilder::in_memory(dirless_table::TableMeta { enumerate, ..META }).unwrap();
            for (gid, (name, members)) in groups.iter().enumerate() {
                let record = GroupRecord { name, gid: gid as u32 * 77 };
                builder.add_group(&record, members.iter().map(String::as_str)).unwrap();
            }
            for (uid, (name, (gecos, home, shell, keys))) in users.iter().enumerate() {
                let uid = uid as u32 * 3;
                builder.add_user(&UserRecord { name, uid, gid: 1, gecos, home, shell, keys }).unwrap();
            }
            builder.finish().unwrap().0.into_inner()
        };
        let bytes = build();
        prop_assert_eq!(&bytes, &build(), "same input, same bytes");
        let table = Table::from_bytes(bytes).unwrap();
        table.verify().unwrap();
        prop_assert_eq!(table.stats().enumerate, enumerate);
        for (uid, (name, (gecos, home, shell, keys))) in users.iter().enumerate() {
            let found = table.user_by_name(name.as_bytes()).unwrap().unwrap();
            prop_assert_eq!(table.user_by_uid(uid as u32 * 3).unwrap(), Some(found));
            let fields = [found.name(), found.gecos(), found.home(), found.shell(), found.keys];
            prop_assert_eq!(fields, [name, gecos, home, shell, keys].map(String::as_bytes));
        }
        let mut wanted: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        for (gid, (name, members)) in groups.iter().enumerate() {
            let gid = gid as u32 * 77;
            let found = table.group_by_gid(gid).unwrap().unwrap();
            prop_assert_eq!(found.name(), name.as_bytes());
            prop_assert_eq!(table.group_by_name(name.as_bytes()).unwrap(), Some(found));
            let stored: BTreeSet<&[u8]> = found.members().collect();
            prop_assert_eq!(stored.len(), found.member_count);
            prop_assert_eq!(stored, members.iter().map(String::as_bytes).collect());
            members.iter().for_each(|member| { wanted.entry(member).or_default().insert(gid); });
        }
        for (member, gids) in wanted {
            let found = table.initgroups(member.as_bytes()).unwrap().unwrap();
            prop_assert_eq!(found.len(), gids.len());
            prop_assert!(found.iter().eq(gids));
        }
        prop_assert_eq!(table.user_by_name(b"zz").unwrap(), None);
    }
}

#[test]
fn numbers_of_members_are_those_of_the_names_given() {
    let mut builder = TableBuilder::in_memory(META).unwrap();
    assert!(matches!(
        builder.name_members(["alice", "alice"]),
        Err(WriteError::DuplicateName)
    ));
    let mut builder = TableBuilder::in_memory(META).unwrap();
    assert!(builder.name_members(["a:b"]).is_err());
    builder.name_members(["alice", "bob"]).unwrap();
    let refused = builder
        .add_group_of(&GroupRecord { name: "eng", gid: 5 }, &[0, 2])
        .unwrap_err();
    assert!(refused.concerns_one_record(), "{refused}");
    builder
        .add_group_of(&GroupRecord { name: "eng", gid: 5 }, &[1, 0, 1])
        .unwrap();
    let (out, _) = builder.finish().unwrap();
    let table = Table::from_bytes(out.into_inner()).unwrap();
    table.verify().unwrap();
    let eng = table.group_by_name(b"eng").unwrap().unwrap();
    assert_eq!(eng.members().collect::<Vec<_>>(), [&b"bob"[..], b"alice"]);
    assert_eq!(
        table.initgroups(b"alice").unwrap().unwrap().iter().collect::<Vec<_>>(),
        [5]
    );
}
