//! The lookup table: no bytes, whatever they are, may make a lookup panic, read outside the file or
//! run for ever. The first byte of the input chooses: raw bytes as a table, or changes to a good one
//! (three bytes each: where, where, what), which get past the checks of the header.

#![no_main]

use std::sync::OnceLock;

use dirless_table::{GroupRecord, Table, TableBuilder, TableMeta, UserRecord};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    if kind % 2 == 0 {
        ask(rest.to_vec());
    } else {
        let mut bytes = good().clone();
        for change in rest.chunks_exact(3) {
            let place = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
            bytes[place] = change[2];
        }
        ask(bytes);
    }
});

fn ask(bytes: Vec<u8>) {
    let Ok(table) = Table::from_bytes(bytes) else { return };
    let sound = table.verify().is_ok();
    let _ = table.stats();
    for name in [&b"alice"[..], b"bob", b"eng", b"", b"a-name-that-is-not-in-it", &[0xff; 300]] {
        let _ = table.user_by_name(name);
        let _ = table.group_by_name(name);
        let _ = table.keys(name);
        let _ = table.initgroups(name);
    }
    for id in [0, 2000, 2001, 60_001, 60_002, u32::MAX] {
        let _ = table.user_by_uid(id);
        let _ = table.group_by_gid(id);
    }
    let users = table.users().take(1000).filter(Result::is_ok).count();
    let groups = table.groups().take(1000).filter(Result::is_ok).count();
    // What verify calls sound can be listed without an error.
    if sound {
        assert_eq!(users, table.users().take(1000).count());
        assert_eq!(groups, table.groups().take(1000).count());
    }
}

fn good() -> &'static Vec<u8> {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let meta = TableMeta { generation: 7, created: 1_763_000_000, enumerate: true };
        let mut builder = TableBuilder::in_memory(meta).expect("memory takes a header");
        builder.add_group(&GroupRecord { name: "eng", gid: 2001 }, ["alice", "bob"]).expect("a good group");
        builder.add_group(&GroupRecord { name: "ops", gid: 2000 }, ["alice"]).expect("a good group");
        for (name, uid, keys) in [("alice", 60_001, "ssh-ed25519 AAAA alice@laptop\n"), ("bob", 60_002, "")] {
            let (gecos, home, shell) = ("Some One", "/home/someone", "/bin/bash");
            let user = UserRecord { name, uid, gid: uid, gecos, home, shell, keys };
            builder.add_user(&user).expect("a good user");
        }
        builder.finish().expect("memory takes a table").0.into_inner()
    })
}
