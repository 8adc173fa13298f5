//! What is in a record of a log: what is read has no other spelling, and applying it to anything ends well or with an
//! error. The difference of two snapshots, once sealed bytes and back, makes one of the other.
//!
//! The input is an open record, and as lines also two snapshots: a user under the first byte of each, `-` before one
//! that only the first has, `+` before one that only the second has.

#![no_main]

use std::collections::BTreeMap;

use dirless_seal::trust::log::{Changes, diff, split, tile};
use dirless_seal::{Digest, RecordKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(records) = split(data) {
        assert_eq!(tile(records), data);
    }
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    for line in data.split(|byte| *byte == b'\n') {
        let (mark, line) = line.split_at_checked(1).unwrap_or_default();
        let place = (RecordKind::User, line.get(..1).unwrap_or_default().to_vec());
        if mark != b"+" {
            before.insert(place.clone(), line.to_vec());
        }
        if mark != b"-" {
            after.insert(place, [line, mark].concat());
        }
    }
    if let Ok(changes) = Changes::decode(data) {
        assert_eq!(changes.encode().as_deref(), Ok(data));
        let _ = changes.apply(&mut before.clone());
    }
    let changes = diff(&before, &after, Digest::of(data)).expect("a small change");
    let bytes = changes.encode().expect("a small change");
    assert_eq!(Changes::decode(&bytes).as_ref(), Ok(&changes));
    assert!(changes.apply(&mut before).is_ok());
    assert_eq!(before, after);
});
