//! The content root: whatever the order of records, and also after some came and went, it is that of the
//! records that are left.
//!
//! Each line of the input is a record, or, behind a `-`, one that is taken away again.

#![no_main]

use dirless_seal::{Content, RecordKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut content = Content::default();
    let mut left = Vec::new();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        if let Some(record) = line.strip_prefix(b"-") {
            let leaf = RecordKind::User.leaf(record);
            let place = left.iter().position(|other| *other == leaf);
            assert_eq!(content.remove(leaf), place.is_some());
            if let Some(place) = place {
                left.swap_remove(place);
            }
        } else {
            let leaf = RecordKind::User.leaf(line);
            content.add(leaf);
            left.push(leaf);
        }
    }
    let mut backwards = Content::default();
    left.iter().rev().for_each(|leaf| backwards.add(*leaf));
    assert_eq!(backwards.root(), content.root());
    // One record less is another root.
    if let Some(last) = left.pop() {
        let root = content.root();
        assert!(content.remove(last));
        assert_ne!(content.root(), root);
    }
});
