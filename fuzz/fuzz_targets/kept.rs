//! What the syncer keeps in its state folder, by the first byte: the list of people who were taken away by hand, what its
//! publisher signed, what was published last, what is held back. Another text is refused; what is read is written back the
//! same, and nobody who is on the list is forgotten.

#![no_main]

use std::fmt::Debug;

use dirless_publish::Book;
use dirless_syncer::revoked::Revocations;
use dirless_syncer::state::{Held, Published, Report};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else {
        return;
    };
    match choice % 5 {
        0 => revoked(text),
        1 => {
            if let Some(book) = same::<Book>(text) {
                let is_whole = |name: &str| !name.is_empty() && !name.contains([' ', '/']);
                let mut published = book.published();
                assert!(
                    published
                        .all(|((source, compartment), _)| is_whole(source.as_str()) && is_whole(compartment.as_str()))
                );
            }
        }
        2 => drop(same::<Published>(text)),
        3 => drop(same::<Held>(text)),
        _ => drop(same::<Report>(text)),
    }
});

fn revoked(text: &[u8]) {
    let Ok(list) = Revocations::parse(text) else { return };
    // Members that nobody reads may hold what is no text.
    let all: Vec<serde::de::IgnoredAny> = serde_json::from_slice(text).expect("it was just read");
    assert_eq!(list.iter().count(), all.len());
    assert_eq!(list.is_empty(), all.is_empty());
    for own in list.iter() {
        assert!(list.has_name(&own.name));
        assert!(own.covers("any", "any", Some(&own.name)));
        assert!(own.identities.iter().all(|one| own.covers(&one.source, &one.id, None)));
    }
    let kept: Vec<_> = list.iter().collect();
    let written = serde_json::to_vec(&kept).expect("it has text keys");
    assert_eq!(Revocations::parse(&written).as_ref(), Ok(&list));
}

/// Reads one kind of file.
fn same<T: DeserializeOwned + Serialize + PartialEq + Debug>(text: &[u8]) -> Option<T> {
    let file: T = serde_json::from_slice(text).ok()?;
    let written = serde_json::to_vec(&file).expect("it has text keys");
    assert_eq!(serde_json::from_slice::<T>(&written).ok().as_ref(), Some(&file));
    Some(file)
}
