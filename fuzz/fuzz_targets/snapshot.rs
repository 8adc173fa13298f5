//! The snapshot reader: whatever a publisher sealed, it ends with records or an error, and a record
//! that is let through keeps what its type promises. A publisher, who steps over what the snapshot before
//! said already, finds the records that are found without it.
//!
//! The input is a snapshot; behind a zero byte, the next one.

#![no_main]

use std::collections::HashMap;
use std::ops::Range;

use dirless_model::NameRule;
use dirless_model::snapshot::{
    Caps, Listener, Part, Place, RawEntry, RawGroup, RawUser, Sink, read, read_records, read_unknown,
};
use libfuzzer_sys::fuzz_target;

const CAPS: Caps = Caps {
    users: 1000,
    groups: 1000,
    entries: 1000,
};

struct Checked;

impl Sink for Checked {
    fn user(&mut self, user: RawUser<'_>) {
        let _ = user.label();
        if let Ok(user) = user.check(&NameRule::default()) {
            let shown = format!("{user:?}");
            assert!(!shown.contains('\n'), "a field with a line end became a user: {shown}");
        }
    }

    fn group(&mut self, group: RawGroup<'_>) {
        let _ = group.label();
        let _ = group.check(&NameRule::default()).is_ok();
    }

    fn keys(&mut self, _username: &str, _lines: &str) {}

    fn entry(&mut self, entry: RawEntry) {
        let _ = entry.label();
        let _ = entry.check().is_ok();
    }
}

type Record = (Part, Vec<u8>);

/// Steps over what it knows, and learns the rest.
#[derive(Default)]
struct Reader<'a> {
    text: &'a [u8],
    known: HashMap<(u8, &'a [u8]), Record>,
    found: Vec<Record>,
    learnt: Vec<((u8, &'a [u8]), Record)>,
}

impl Listener for Reader<'_> {
    fn known(&mut self, place: Place, text: &[u8]) -> Option<usize> {
        let mut all = self.known.iter();
        let ((_, span), record) = all.find(|((of, span), _)| *of == place as u8 && text.starts_with(span))?;
        self.found.push(record.clone());
        Some(span.len())
    }

    fn record(&mut self, place: Place, span: Range<usize>, bytes: &[u8]) {
        let record = (place.part(), bytes.to_vec());
        self.found.push(record.clone());
        let span = &self.text[span];
        if let [.., b'}' | b']' | b'"'] = span {
            self.learnt.push(((place as u8, span), record));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut texts = data.splitn(2, |byte| *byte == 0);
    let before = texts.next().unwrap_or_default();
    let after = texts.next().unwrap_or(before);
    let _ = read(after, CAPS, &mut Checked);
    let mut first = Reader {
        text: before,
        ..Reader::default()
    };
    if read_unknown(before, CAPS, &mut first).is_err() {
        return;
    }
    let mut stepping = Reader {
        text: after,
        known: first.learnt.into_iter().collect(),
        ..Reader::default()
    };
    let stepped = read_unknown(after, CAPS, &mut stepping);
    let mut whole = Vec::new();
    let read = read_records(after, CAPS, &mut (), &mut |part, bytes| {
        whole.push((part, bytes.to_vec()))
    });
    assert_eq!(read.is_ok(), stepped.is_ok());
    if read.is_ok() {
        assert_eq!(whole, stepping.found);
    }
});
