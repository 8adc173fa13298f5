//! Tables to test with.

use dirless_table::{GroupRecord, TableBuilder, TableMeta, UserRecord};

pub(crate) const META: TableMeta = TableMeta {
    generation: 7,
    created: 1_763_000_000,
    enumerate: true,
};

pub(crate) fn user<'a>(name: &'a str, uid: u32, home: &'a str) -> UserRecord<'a> {
    UserRecord {
        name,
        uid,
        gid: uid,
        gecos: "Some One",
        home,
        shell: "/bin/bash",
        keys: "",
    }
}

/// alice and bob, `eng` with both, `ops` with alice and the local user `backup`, and an empty group.
pub(crate) fn small() -> Vec<u8> {
    let mut builder = TableBuilder::in_memory(META).unwrap();
    builder
        .add_group(&GroupRecord { name: "eng", gid: 2001 }, ["alice", "bob"])
        .unwrap();
    builder
        .add_group(&GroupRecord { name: "ops", gid: 2000 }, ["alice", "backup", "alice"])
        .unwrap();
    builder
        .add_group(
            &GroupRecord {
                name: "empty",
                gid: 2002,
            },
            [],
        )
        .unwrap();
    let keys = "ssh-ed25519 AAAA alice@laptop\nssh-ed25519 BBBB alice:desk\n";
    builder
        .add_user(&UserRecord {
            keys,
            ..user("alice", 60_001, "/home/alice")
        })
        .unwrap();
    builder
        .add_user(&UserRecord {
            gecos: "",
            ..user("bob", 60_002, "/home/bob")
        })
        .unwrap();
    let (out, _) = builder.finish().unwrap();
    out.into_inner()
}
