//! Damaged and hostile bytes: an answer, "none" or an error, never a panic or a read outside.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::small;
use dirless_table::Table;
use proptest::prelude::*;

/// Asks everything; the answers may be anything.
fn ask_everything(table: &Table) {
    for name in [&b"alice"[..], b"bob", b"backup", b"eng", b"ops", b"nobody", b""] {
        if let Ok(Some(user)) = table.user_by_name(name) {
            let _ = (
                user.name(),
                user.gecos(),
                user.home(),
                user.shell(),
                user.gids().iter().count(),
            );
            assert_eq!(user.strings.last(), Some(&0));
        }
        if let Ok(Some(group)) = table.group_by_name(name) {
            assert!(group.members().count() <= group.strings.len());
            assert_eq!(group.strings.last(), Some(&0));
        }
        let _ = (
            table.initgroups(name).map(|gids| gids.map(|gids| gids.len())),
            table.keys(name),
        );
    }
    for id in [0, 2000, 2001, 60_001, 60_002, u32::MAX] {
        let _ = (table.user_by_uid(id), table.group_by_gid(id));
    }
    let _ = (
        table.users().take(1000).count(),
        table.groups().take(1000).count(),
        table.verify(),
    );
}

#[test]
fn truncated_at_every_length_is_refused() {
    let bytes = small();
    for len in 0..bytes.len() {
        assert!(Table::from_bytes(&bytes[..len]).is_err(), "length {len}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(Table::from_bytes(longer).is_err());
}

#[test]
fn each_flipped_bit_is_survived_and_seen_by_verify() {
    let bytes = small();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let Ok(table) = Table::from_bytes(damaged) else {
                continue;
            };
            ask_everything(&table);
            assert_eq!(table.verify().is_err(), at >= 256, "byte {at}");
        }
    }
}

#[test]
fn offsets_and_lengths_replaced_by_extremes_are_survived() {
    let bytes = small();
    for at in (256..bytes.len() - 3).step_by(2) {
        for word in [0, 1, 0x3f, 0x40, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX] {
            let mut damaged = bytes.clone();
            damaged[at..at + 4].copy_from_slice(&word.to_le_bytes());
            ask_everything(&Table::from_bytes(damaged).unwrap());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_after_a_valid_header_are_survived(body in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut bytes = small();
        let len = bytes.len() - 256;
        for (place, byte) in bytes[256..].iter_mut().zip(body.iter().cycle().take(len)) {
            *place = *byte;
        }
        ask_everything(&Table::from_bytes(bytes).unwrap());
    }

    #[test]
    fn any_bytes_at_all_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(table) = Table::from_bytes(bytes) {
            ask_everything(&table);
        }
    }

    #[test]
    fn scattered_damage_is_survived(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut bytes = small();
        let len = bytes.len();
        for (index, byte) in changes {
            bytes[index.index(len)] = byte;
        }
        if let Ok(table) = Table::from_bytes(bytes) {
            ask_everything(&table);
        }
    }
}
