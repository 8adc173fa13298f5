//! What the syncer takes ids over from: snapshots, passwd and group files, all written by others; and the local snapshot, which
//! portals write as well. An edit of that leaves alone what it is not about, and what hosts read. The first byte chooses. The sources are taken in by path: the syncer as a whole would bring the
//! AWS SDK into an instrumented build.

#![no_main]

use std::collections::BTreeSet;

use dirless_model::NameRule;
use dirless_model::snapshot::{Caps, ObjectKind, read};
use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "the rest of the file serves the commands")]
#[path = "../../syncer/src/local/blob.rs"]
mod blob;
#[path = "../../syncer/src/import/parse.rs"]
mod parse;
#[expect(dead_code, reason = "most of it is for what people ask for")]
#[path = "../../syncer/src/local/refusal.rs"]
mod refusal;
#[expect(dead_code, reason = "the rest of the file serves the syncer")]
#[path = "../../syncer/src/shape.rs"]
mod shape;

use blob::Blob;
use parse::{Format, parse};
use refusal::Refusal;

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    if choice % 6 == 5 {
        return local(rest);
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let formats = [Format::Auto, Format::Snapshot, Format::Passwd, Format::Group];
    if let Some(format) = formats.get(usize::from(choice % 6)) {
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

fn local(json: &[u8]) {
    let Ok(blob) = Blob::parse(json) else { return };
    is_still_read(&blob);
    for kind in [ObjectKind::User, ObjectKind::Group] {
        let retired = blob.retired(kind);
        let number = (100_001..)
            .find(|number| !retired.contains_key(number))
            .expect("there are many");
        let mut edited = blob.clone();
        edited.retire(kind, number, "somebody");
        assert_eq!(edited.retired(kind).get(&number), Some(&Some("somebody")));
        assert_eq!(edited.retired(kind).len(), retired.len() + 1);
        is_still_read(&edited);
        edited.revive(kind, number);
        assert_eq!(edited.retired(kind), retired);
        assert_eq!((edited.users(), edited.groups()), (blob.users(), blob.groups()));
    }
    for name in blob.user_names().into_iter().take(8) {
        let mut edited = blob.clone();
        edited.remove_user(name);
        edited.replace_member(name, None);
        edited.set_keys(name, None);
        assert!(edited.user(name).is_none() && edited.keys(name).is_none() && edited.groups_of(name).is_empty());
        let others = |blob: &Blob| -> Vec<_> {
            let users = blob.users().iter();
            users
                .filter(|user| user.get("username").and_then(|own| own.as_str()) != Some(name))
                .cloned()
                .collect()
        };
        assert_eq!(edited.users(), others(&blob));
        assert_eq!(
            edited.all_keys().count(),
            blob.all_keys().filter(|(own, _)| *own != name).count()
        );
        edited.stamp(Some(7), "2026-01-01T00:00:00Z");
        is_still_read(&edited);
        assert_eq!(edited.sequence(), Some(7));
    }
}

fn is_still_read(blob: &Blob) {
    let json = blob.to_json();
    assert_eq!(Blob::parse(&json).as_ref(), Ok(blob));
    assert!(read(json.as_slice(), Caps::default(), &mut ()).is_ok());
}
