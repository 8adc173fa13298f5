//! Records made and read back, and bytes that are none.

use dirless_directory::encoded::encode;
use dirless_directory::{AttributeName, Dn, Entry, Schema, Value};
use proptest::prelude::*;

use super::*;

/// An entry whose `description` takes much room when `large` is, and whose `createTimestamp` is operational.
fn encoded(large: usize) -> Vec<u8> {
    let mut entry = Entry::new(Dn::parse("cn=x").unwrap());
    let mut add = |name: &str, value: &str| entry.add(AttributeName::parse(name).unwrap(), Value::from(value));
    add("cn", "x");
    add("description", &"d".repeat(large));
    add("createTimestamp", &"2".repeat(large));
    add("entryUUID", "u");
    encode(&Schema::standard(), &entry)
}

fn record(id: i64, large: usize) -> (Vec<u8>, usize) {
    let encoded = encoded(large);
    let mut bytes = b"before".to_vec();
    let fields = Fields {
        id,
        classes: 3,
        key: b"cn=x\0",
        dn: "cn=x",
        attributes: Attributes::new(&encoded).unwrap(),
        encoded: &encoded,
        secret: b"secret",
    };
    let first = put(&mut bytes, &fields).unwrap();
    (bytes.split_off(6), first)
}

/// All that a record says, put together again.
fn whole(bytes: &[u8], first: usize, id: i64) -> Option<Vec<u8>> {
    let parts = Parts::read(bytes.get(..first)?, id)?;
    let large = parts.large().map(|one| {
        let start = usize::try_from(one.at).ok()?;
        let held = bytes.get(start..start + one.length)?;
        (sum_of_blocks(held.chunks(BLOCK)) == one.sum).then(|| (one.operational, held.to_vec()))
    });
    joined(parts.small, &large.collect::<Option<Vec<_>>>()?).ok()
}

#[test]
fn a_record_is_read_back() {
    for large in [10, LARGE, 3 * BLOCK] {
        let (bytes, first) = record(7, large);
        let parts = Parts::read(&bytes[..first], 7).unwrap();
        assert_eq!((parts.classes, parts.key, parts.dn), (3, &b"cn=x\0"[..], "cn=x"));
        assert_eq!(parts.secret, b"secret");
        assert_eq!(parts.size(), bytes.len() as u64);
        let names: Vec<_> = parts.large().map(|one| (one.name, one.operational)).collect();
        let expected = [("description", false), ("createTimestamp", true)];
        assert_eq!(names, if large < LARGE { &[][..] } else { &expected[..] });
        let (held, expected) = (whole(&bytes, first, 7).unwrap(), encoded(large));
        let (held, expected) = (Attributes::new(&held).unwrap(), Attributes::new(&expected).unwrap());
        held.verify().unwrap();
        let sorted = |attributes: Attributes<'_>| {
            let mut all: Vec<_> = attributes.iter().map(|one| one.encoded.to_vec()).collect();
            all.sort();
            all
        };
        assert_eq!(sorted(held), sorted(expected));
        assert_eq!(held.user().len(), expected.user().len());
    }
}

#[test]
fn another_entry_s_record_is_none() {
    let (bytes, first) = record(7, 10);
    assert!(Parts::read(&bytes[..first], 8).is_none());
    assert!(Parts::read(&bytes[..first - 1], 7).is_none());
    assert!(Parts::read(&bytes[1..first], 7).is_none());
    assert!(Parts::read(&[bytes[..first].to_vec(), vec![0]].concat(), 7).is_none());
}

#[test]
fn places_hold_what_fits() {
    let place = Place::new(1 << 39, (1 << 24) - 1).unwrap();
    assert_eq!((place.offset(), place.length()), (1 << 39, (1 << 24) - 1));
    assert_eq!(Place::of_number(place.number()), place);
    assert!(Place::new(1 << 40, 1).is_none() && Place::new(1, 1 << 24).is_none());
}

proptest! {
    #[test]
    fn every_changed_bit_is_noticed(large in prop_oneof![Just(10_usize), Just(2000)], at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let (mut bytes, first) = record(7, large);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(whole(&bytes, first, 7).is_none(), "bit {} of byte {}", bit, at);
    }

    #[test]
    fn any_bytes_are_taken_apart_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), right in any::<bool>()) {
        let mut bytes = bytes;
        // With a checksum that holds, the lengths are looked at as well.
        if right && bytes.len() >= HEADER {
            bytes[8..16].copy_from_slice(&7_i64.to_le_bytes());
            for at in [20, 24, 28, 32, 36] {
                bytes[at + 1..at + 4].fill(0);
            }
            let told = sum(&bytes[8..]).to_le_bytes();
            bytes[..8].copy_from_slice(&told);
        }
        if let Some(parts) = Parts::read(&bytes, 7) {
            prop_assert!(parts.large().count() <= bytes.len());
            prop_assert!(parts.size() >= bytes.len() as u64);
        }
    }

    #[test]
    fn the_sum_sees_order_and_length(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let longer = [bytes.as_slice(), &[0]].concat();
        prop_assert_ne!(sum(&bytes), sum(&longer));
        let mut turned = bytes.clone();
        turned.reverse();
        prop_assert_eq!(sum(&bytes) == sum(&turned), bytes == turned);
    }
}
