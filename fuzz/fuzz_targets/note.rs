//! Signed notes: what is read prints to what reads the same, and never counts a signature of nobody.

#![no_main]

use std::sync::LazyLock;

use dirless_seal::{Note, SigningKey};
use libfuzzer_sys::fuzz_target;

const MOST: usize = 4096;
static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate("root-1".parse().expect("a label")).expect("the system has random bytes"));

fuzz_target!(|data: &[u8]| {
    let Ok(note) = Note::parse(data, MOST) else { return };
    let printed = note.to_string();
    assert_eq!(
        Note::parse(printed.as_bytes(), 2 * MOST).as_ref(),
        Ok(&note),
        "{printed}"
    );
    assert!(!note.is_signed_by(KEY.verifying()), "a key that was made just now");
    let mut signed = note.clone();
    signed.add(&KEY);
    assert!(signed.is_signed_by(KEY.verifying()));
    assert_eq!(signed.digest(), note.digest());
});
