//! Damaged and hostile overlays: refused, or an answer, "none" or an error; never a panic or a read outside.

use crate::model::{change, small};
use dirless_table::{GroupRecord, Table, publish_bytes};
use proptest::prelude::*;
use std::sync::LazyLock;

/// A table, and an overlay that has every kind of record.
static BOTH: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let folder = crate::model::folder();
    let path = folder.path().join("table");
    publish_bytes(&path, &small().bytes()).unwrap();
    let _ = change(&path, |draft| {
        draft.put_user(&crate::common::user("alice", 7, "/"))?;
        draft.put_user(&crate::common::user("carol", 8, "/"))?;
        draft.drop_user("bob");
        draft.change_members("eng", ["carol", "local"], ["bob"])?;
        draft.put_group(&GroupRecord { name: "new", gid: 9 }, ["carol"])?;
        draft.drop_group("ops");
        Ok(())
    })
    .unwrap();
    let overlay = std::fs::read(folder.path().join("table.overlay.00000001")).unwrap();
    (std::fs::read(&path).unwrap(), overlay)
});

/// The checksums made good, as whoever means harm would.
fn repaired(mut overlay: Vec<u8>) -> Vec<u8> {
    dirless_table::overlay::repair(&mut overlay);
    overlay
}

fn ask_everything(overlay: Vec<u8>) {
    let table = Table::from_bytes(BOTH.0.clone()).unwrap();
    let Ok(table) = table.with_overlay(overlay) else {
        return;
    };
    for name in [
        &b"alice"[..],
        b"bob",
        b"carol",
        b"backup",
        b"eng",
        b"ops",
        b"new",
        b"nobody",
        b"",
    ] {
        if let Ok(Some(user)) = table.user_by_name(name) {
            assert_eq!((user.name(), user.strings.last()), (name, Some(&0)));
            let _ = (user.gecos(), user.home(), user.shell(), user.gids().iter().count());
        }
        if let Ok(Some(group)) = table.group_by_name(name) {
            let kept: usize = group.kept().flatten().map(<[u8]>::len).sum();
            assert!(group.members().count() <= group.strings.len() + kept);
            assert!(group.kept().flatten().all(|text| text.last() == Some(&0)));
        }
        let _ = (
            table.initgroups(name).map(|gids| gids.map(|gids| gids.len())),
            table.keys(name),
        );
    }
    for id in [0, 7, 8, 9, 2000, 2001, 60_001, 60_002, u32::MAX] {
        let _ = (table.user_by_uid(id), table.group_by_gid(id));
    }
    let _ = (table.users().take(1000).count(), table.groups().take(1000).count());
}

#[test]
fn cut_or_changed_anywhere_it_is_refused() {
    let (base, overlay) = &*BOTH;
    let opens = |bytes: Vec<u8>| Table::from_bytes(base.clone()).unwrap().with_overlay(bytes).is_ok();
    assert!(opens(overlay.clone()));
    assert!((0..overlay.len()).all(|len| !opens(overlay[..len].to_vec())));
    for at in 0..overlay.len() {
        let mut damaged = overlay.clone();
        damaged[at] ^= 0x11;
        assert!(!opens(damaged), "byte {at}");
    }
    assert!(
        Table::from_bytes(crate::common::small())
            .unwrap()
            .with_overlay(overlay.clone())
            .is_err()
    );
    assert!(
        Table::from_bytes(base.clone())
            .unwrap()
            .with_overlay(base.clone())
            .is_err()
    );
}

#[test]
fn offsets_and_lengths_replaced_by_extremes_are_survived() {
    let overlay = &BOTH.1;
    for at in (12..overlay.len() - 3).step_by(2) {
        for word in [0, 1, 0x3f, 0x40, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX] {
            let mut damaged = overlay.clone();
            damaged[at..at + 4].copy_from_slice(&u32::to_le_bytes(word));
            ask_everything(repaired(damaged));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn scattered_damage_is_survived(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut bytes = BOTH.1.clone();
        let len = bytes.len();
        for (index, byte) in changes {
            bytes[index.index(len)] = byte;
        }
        ask_everything(repaired(bytes));
    }

    #[test]
    fn any_bytes_at_all_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..900)) {
        ask_everything(bytes.clone());
        ask_everything(repaired(bytes));
    }
}
