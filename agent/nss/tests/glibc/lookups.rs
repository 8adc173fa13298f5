//! What users and programs see.

use crate::namespace::Namespace;
use crate::tables::{META, table, user};
use dirless_table::{GroupRecord, TableBuilder, UserRecord};

#[test]
fn getent_and_id_show_users_groups_and_shadow() {
    let host = Namespace::new(&table(META, 3));
    let alice = "alice:x:60001:60001:Some One:/home/x:/bin/sh\n";
    assert_eq!(host.output("getent passwd alice"), alice);
    assert_eq!(host.output("getent passwd 60001"), alice);
    assert_eq!(host.output("getent group eng"), "eng:x:2001:alice,bob\n");
    assert_eq!(host.output("getent group 2001"), "eng:x:2001:alice,bob\n");
    assert_eq!(
        host.output("getent initgroups alice")
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["alice", "2000", "2001"]
    );
    assert_eq!(host.output("getent shadow alice"), "alice:!:19900:0:99999:7:::\n");
    assert_eq!(
        host.output("id alice"),
        "uid=60001(alice) gid=60001 groups=60001,2000(ops),2001(eng)\n"
    );
    for absent in [
        "getent passwd carol",
        "getent passwd 4711",
        "getent group carol",
        "getent shadow carol",
    ] {
        assert_eq!(host.run(absent).status.code(), Some(2), "{absent}");
    }
    assert_eq!(host.output("getent passwd root").lines().count(), 1);
}

#[test]
fn enumeration_lists_local_and_directory_users() {
    let host = Namespace::new(&table(META, 300));
    let all = host.output("getent passwd");
    assert!(all.starts_with("root:"));
    assert_eq!(
        all.lines().filter(|line| line.starts_with("user")).count(),
        300 + all.matches("\nuser:").count()
    );
    assert!(host.output("getent group").contains("ops:x:2000:alice\n"));
    assert!(host.output("getent shadow").contains("user299:!:"));
}

#[test]
fn services_after_a_return_on_not_found_are_asked_only_without_a_table() {
    let host = Namespace::new(&table(META, 0));
    host.services("passwd: dirless [NOTFOUND=return] files\ngroup: files\n");
    assert_eq!(
        host.run("getent passwd root").status.code(),
        Some(2),
        "the answer is known: nobody"
    );
    assert_eq!(host.output("getent passwd alice").lines().count(), 1);
    std::fs::remove_file(host.table()).unwrap();
    assert!(
        host.output("getent passwd root").starts_with("root:x:0:0:"),
        "nothing is known: go on"
    );
    std::fs::write(host.table(), "cut short").unwrap();
    assert!(host.output("getent passwd root").starts_with("root:x:0:0:"));
}

#[test]
fn merging_adds_directory_members_to_a_local_group() {
    let mut builder = TableBuilder::in_memory(META).unwrap();
    builder
        .add_group(
            &GroupRecord {
                name: "users",
                gid: 100,
            },
            ["alice", "bob"],
        )
        .unwrap();
    builder.add_user(&user("alice", 60_001)).unwrap();
    let host = Namespace::new(&builder.finish().unwrap().0.into_inner());
    host.services("passwd: files dirless\ngroup: files [SUCCESS=merge] dirless\n");
    assert_eq!(host.output("getent group users"), "users:x:100:alice,bob\n");
    assert_eq!(host.output("getent group 100"), "users:x:100:alice,bob\n");
    assert_eq!(
        host.output("getent group daemon"),
        "daemon:x:1:\n",
        "a group of files alone is whole"
    );
    assert_eq!(host.output("id -G alice"), "60001 100\n");
}

#[test]
fn a_local_user_in_a_directory_group_gets_its_gid() {
    let mut builder = TableBuilder::in_memory(META).unwrap();
    builder
        .add_group(&GroupRecord { name: "eng", gid: 2001 }, ["daemon"])
        .unwrap();
    let host = Namespace::new(&builder.finish().unwrap().0.into_inner());
    assert_eq!(host.output("id -G daemon"), "1 2001\n");
    assert_eq!(host.run("getent -s dirless passwd daemon").status.code(), Some(2));
}

#[test]
fn a_group_of_a_hundred_thousand_is_whole_through_glibc() {
    let names: Vec<String> = (0..100_000).map(|n| format!("member{n}")).collect();
    let mut builder = TableBuilder::in_memory(META).unwrap();
    builder
        .add_group(
            &GroupRecord { name: "all", gid: 7777 },
            names.iter().map(String::as_str),
        )
        .unwrap();
    let host = Namespace::new(&builder.finish().unwrap().0.into_inner());
    assert_eq!(host.output("./probe group all 100000"), "ok\n");
    let line = host.output("getent group all");
    assert!(line.starts_with("all:x:7777:member0,member1,") && line.ends_with(",member99999\n"));
    assert_eq!(line.matches(',').count(), 99_999);
}

#[test]
fn a_user_in_a_thousand_groups_has_them_all() {
    let mut builder = TableBuilder::in_memory(META).unwrap();
    for gid in 0..1000 {
        builder
            .add_group(
                &GroupRecord {
                    name: &format!("group{gid}"),
                    gid: 5000 + gid,
                },
                ["alice"],
            )
            .unwrap();
    }
    builder
        .add_user(&UserRecord {
            gid: 5003,
            ..user("alice", 60_001)
        })
        .unwrap();
    let host = Namespace::new(&builder.finish().unwrap().0.into_inner());
    let ids = host.output("id -G alice");
    assert_eq!(ids.split_whitespace().count(), 1000, "the primary one is not repeated");
    assert!(ids.starts_with("5003 5000 "));
}
