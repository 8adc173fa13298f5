//! What the syncer takes ids over from: snapshots, passwd and group files, all written by others.
//! The first byte chooses. The sources are taken in by path: the syncer as a whole would bring the
//! AWS SDK into an instrumented build.

#![no_main]

use std::collections::BTreeSet;

use dirless_model::NameRule;
use dirless_model::snapshot::ObjectKind;
use libfuzzer_sys::fuzz_target;

#[path = "../../syncer/src/import/parse.rs"]
mod parse;
#[expect(dead_code, reason = "the rest of the file serves the syncer")]
#[path = "../../syncer/src/shape.rs"]
mod shape;

use parse::{Format, parse};

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let formats = [Format::Auto, Format::Snapshot, Format::Passwd, Format::Group];
    if let Some(format) = formats.get(usize::from(choice % 5)) {
        for record in parse(text, *format).unwrap_or_default() {
            assert!(*format != Format::Group || record.kind == ObjectKind::Group);
            assert!(record.primary != Some(record.number));
        }
    } else if let Ok(back) = shape::Shape::read(text.as_bytes(), &NameRule::default()) {
        // Who is a member is a user.
        let users: BTreeSet<_> = back.shape.users.keys().collect();
        assert!(
            back.shape
                .groups
                .values()
                .flat_map(|group| &group.members)
                .all(|member| users.contains(member))
        );
    }
});
