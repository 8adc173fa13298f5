//! Tables to test with.

use dirless_table::{GroupRecord, TableBuilder, TableMeta, UserRecord};

pub(crate) const META: TableMeta = TableMeta {
    generation: 1,
    created: 1_763_000_000,
    enumerate: true,
};

pub(crate) fn user<'a>(name: &'a str, uid: u32) -> UserRecord<'a> {
    UserRecord {
        name,
        uid,
        gid: uid,
        gecos: "Some One",
        home: "/home/x",
        shell: "/bin/sh",
        keys: "",
    }
}

/// alice (60001) in eng (2001) and ops (2000), bob (60002) in eng; `count` further users.
pub(crate) fn table(meta: TableMeta, count: u32) -> Vec<u8> {
    let mut builder = TableBuilder::in_memory(meta).unwrap();
    builder
        .add_group(&GroupRecord { name: "eng", gid: 2001 }, ["alice", "bob"])
        .unwrap();
    builder
        .add_group(&GroupRecord { name: "ops", gid: 2000 }, ["alice"])
        .unwrap();
    builder
        .add_group(
            &GroupRecord {
                name: "nobodys",
                gid: 2002,
            },
            [],
        )
        .unwrap();
    builder.add_user(&user("alice", 60_001)).unwrap();
    builder.add_user(&user("bob", 60_002)).unwrap();
    for n in 0..count {
        builder.add_user(&user(&format!("user{n}"), 100_000 + n)).unwrap();
    }
    builder.finish().unwrap().0.into_inner()
}
