//! Every object of the verified protocol: what is read is printed as it was, byte for byte, so that a digest
//! of the text names one meaning alone.
//!
//! The input is a note, or a bare text such as a wrap's.

#![no_main]

use dirless_seal::Note;
use dirless_seal::trust::{
    Head, JoinRequest, Manifest, Memory, NodeList, Object, Policy, Receipt, Succession, Wrap, print, read,
};
use libfuzzer_sys::fuzz_target;

/// Reads `text` as one kind of object; each has its own context line, so it is none or one of them.
fn one<T: Object>(text: &str) -> usize {
    let Ok(object) = read::<T>(text) else { return 0 };
    assert_eq!(print(&object).as_deref(), Ok(text));
    1
}

fuzz_target!(|data: &[u8]| {
    let note = Note::parse(data, 64 * 1024);
    let text = match &note {
        Ok(note) => note.text(),
        Err(_) => match std::str::from_utf8(data) {
            Ok(text) => text,
            Err(_) => return,
        },
    };
    let read = one::<Policy>(text)
        + one::<Head>(text)
        + one::<Manifest>(text)
        + one::<Succession>(text)
        + one::<NodeList>(text)
        + one::<Receipt>(text)
        + one::<JoinRequest>(text)
        + one::<Memory>(text)
        + one::<Wrap>(text);
    assert!(read <= 1, "one text, two meanings");
});
