//! Any bytes as an overlay: an answer, "none" or an error. Lengths and checksums are repaired first, for
//! otherwise they would keep nearly every input out. And any changes to a draft: what they come to is opened
//! and says what the last change of each name said.
#![no_main]

use dirless_table::overlay::{self, MOST_BYTES, Published};
use dirless_table::{GroupRecord, Table, TableBuilder, TableMeta, UserRecord, WriteError};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::sync::LazyLock;

#[path = "../folder.rs"]
mod folder;

use folder::Folder;

const META: TableMeta = TableMeta {
    generation: 1,
    created: 0,
    enumerate: true,
};
const NAMES: [&str; 6] = ["alice", "bob", "carol", "local", "eng", "ops"];

fn user(name: &str, uid: u32) -> UserRecord<'_> {
    UserRecord {
        name,
        uid,
        gid: uid,
        gecos: "",
        home: "/",
        shell: "/bin/sh",
        keys: "key\n",
    }
}

fn group(name: &str, gid: u32) -> GroupRecord<'_> {
    GroupRecord { name, gid }
}

/// A table, and an overlay with every kind of record.
static BOTH: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let mut builder = TableBuilder::in_memory(META).expect("memory can be written");
    builder
        .add_group(&group("eng", 2001), ["alice", "bob", "carol"])
        .expect("a valid group");
    builder
        .add_group(&group("ops", 2000), ["alice", "local"])
        .expect("a valid group");
    for (name, uid) in [("alice", 1), ("bob", 2)] {
        builder.add_user(&user(name, uid)).expect("a valid user");
    }
    let (out, _) = builder.finish().expect("memory can be written");
    let base = out.into_inner();
    let changed = published(&base, |draft| {
        draft.put_user(&user("alice", 7))?;
        draft.put_user(&user("carol", 8))?;
        draft.drop_user("bob");
        draft.change_members("eng", ["more"], ["bob"])?;
        draft.put_group(&group("new", 9), ["carol"])?;
        draft.drop_group("ops");
        Ok(())
    });
    (base, changed.expect("valid changes").expect("something changed"))
});

/// The bytes of the overlay that these changes come to.
fn published(
    base: &[u8],
    fill: impl FnOnce(&mut overlay::Draft<'_>) -> Result<(), WriteError>,
) -> Result<Option<Vec<u8>>, WriteError> {
    let folder = Folder::new();
    let path = folder.path().join("table");
    dirless_table::publish_bytes(&path, base)?;
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&path).expect("just written"));
    match overlay::publish(&path, owner, META, MOST_BYTES, fill)? {
        Published::Unchanged => Ok(None),
        Published::Overlay(_) => {
            let bytes = std::fs::read(folder.path().join("table.overlay.00000001"));
            Ok(Some(bytes.expect("just published")))
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let (base, overlay) = &*BOTH;
    let over = |bytes: Vec<u8>| {
        let table = Table::from_bytes(base.clone()).expect("a table");
        table.with_overlay(bytes)
    };
    let _ = over(data.to_vec()).map(|table| ask_everything(&table));
    let mut bytes = overlay.clone();
    // Pairs of place and byte, so that small inputs make small changes anywhere.
    for change in data.chunks_exact(3) {
        let [high, low, byte] = change else { continue };
        let at = usize::from(u16::from_be_bytes([*high, *low])) % bytes.len();
        if let Some(place) = bytes.get_mut(at) {
            *place = *byte;
        }
    }
    overlay::repair(&mut bytes);
    let _ = over(bytes).map(|table| ask_everything(&table));
    change_anything(data.get(..64).unwrap_or(data));
});

fn change_anything(data: &[u8]) {
    let mut users: BTreeMap<&str, Option<u32>> = BTreeMap::new();
    let outcome = published(&BOTH.0, |draft| {
        for (change, number) in data.chunks_exact(3).zip(10_000..) {
            let [what, first, second] = change else { continue };
            let name = |byte: &u8| NAMES[usize::from(*byte) % NAMES.len()];
            match what % 5 {
                0 => {
                    draft.put_user(&user(name(first), number))?;
                    users.insert(name(first), Some(number));
                }
                1 => {
                    draft.drop_user(name(first));
                    users.insert(name(first), None);
                }
                2 => draft.put_group(&group(name(first), number), [name(second), "anybody"])?,
                3 => draft.drop_group(name(first)),
                _ => match draft.change_members(name(first), [name(second)], [name(what)]) {
                    Err(WriteError::NoSuchGroup) => {}
                    other => other?,
                },
            }
        }
        Ok(())
    });
    let table = Table::from_bytes(BOTH.0.clone()).expect("a table");
    let table = match outcome.expect("numbers are given once") {
        Some(overlay) => table.with_overlay(overlay).expect("its overlay"),
        None => table,
    };
    ask_everything(&table);
    for (name, uid) in users {
        let found = table.user_by_name(name.as_bytes()).expect("whole");
        assert_eq!(found.map(|user| user.uid), uid, "{name}");
        let listed = |group: &dirless_table::Group<'_>| group.members().any(|member| member == name.as_bytes());
        let groups = table.groups().map(|group| group.expect("whole")).filter(listed).count();
        assert_eq!(
            table
                .initgroups(name.as_bytes())
                .expect("whole")
                .map_or(0, |gids| gids.len()),
            groups
        );
    }
}

fn ask_everything(table: &Table) {
    for name in [&b"alice"[..], b"bob", b"carol", b"local", b"eng", b"ops", b"new", b"x"] {
        if let Ok(Some(user)) = table.user_by_name(name) {
            assert_eq!(user.name(), name);
            assert_eq!(user.strings.last(), Some(&0));
            let _ = (user.gecos(), user.home(), user.shell(), user.gids().iter().count());
        }
        if let Ok(Some(group)) = table.group_by_name(name) {
            assert_eq!(group.name(), name);
            assert!(group.kept().flatten().all(|text| text.last() == Some(&0)));
            let _ = (group.members().take(1000).count(), group.kept_len());
        }
        let _ = (table.initgroups(name), table.keys(name));
    }
    for id in [0, 1, 2, 7, 8, 9, 2000, 2001, u32::MAX] {
        let _ = (table.user_by_uid(id), table.group_by_gid(id));
    }
    let _ = (table.users().take(100).count(), table.groups().take(100).count());
}
