//! Any bytes as a lookup table: an answer, "none" or an error. The header is repaired first, for
//! otherwise its checksum would keep nearly every input out; its damage is the property tests' part.
#![no_main]

use dirless_table::{GroupRecord, Table, TableBuilder, TableMeta, UserRecord};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static SMALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let meta = TableMeta {
        generation: 1,
        created: 0,
        enumerate: true,
    };
    let mut builder = TableBuilder::in_memory(meta).expect("memory can be written");
    let group = |name, gid| GroupRecord { name, gid };
    builder
        .add_group(&group("eng", 2001), ["alice", "bob"])
        .expect("a valid group");
    builder
        .add_group(&group("ops", 2000), ["alice", "local"])
        .expect("a valid group");
    for (name, uid) in [("alice", 1), ("bob", 2)] {
        let user = UserRecord {
            name,
            uid,
            gid: uid,
            gecos: "",
            home: "/",
            shell: "/bin/sh",
            keys: "key\n",
        };
        builder.add_user(&user).expect("a valid user");
    }
    let (out, _) = builder.finish().expect("memory can be written");
    out.into_inner()
});

fuzz_target!(|data: &[u8]| {
    let _ = Table::from_bytes(data).map(|table| ask_everything(&table));
    let mut bytes = SMALL.clone();
    // Pairs of place and byte, so that small inputs make small changes anywhere.
    for change in data.chunks_exact(3) {
        let [high, low, byte] = change else { continue };
        let at = 256 + usize::from(u16::from_be_bytes([*high, *low])) % (bytes.len() - 256);
        if let Some(place) = bytes.get_mut(at) {
            *place = *byte;
        }
    }
    let table = Table::from_bytes(bytes).expect("the header is whole");
    ask_everything(&table);
});

fn ask_everything(table: &Table) {
    for name in [&b"alice"[..], b"bob", b"local", b"eng", b"ops", b"x"] {
        if let Ok(Some(user)) = table.user_by_name(name) {
            assert_eq!(user.name(), name);
            assert_eq!(user.strings.last(), Some(&0));
            let _ = (user.gecos(), user.home(), user.shell(), user.gids().iter().count());
        }
        if let Ok(Some(group)) = table.group_by_name(name) {
            assert_eq!(group.name(), name);
            assert!(group.members().count() <= group.strings.len());
        }
        let _ = (table.initgroups(name), table.keys(name));
    }
    for id in [0, 1, 2, 2000, 2001, u32::MAX] {
        let _ = (table.user_by_uid(id), table.group_by_gid(id));
    }
    let _ = (
        table.users().take(100).count(),
        table.groups().take(100).count(),
        table.verify(),
    );
}
