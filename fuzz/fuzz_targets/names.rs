//! Distinguished names as text: what is read is printed so that it reads the same, and its key puts it
//! below its parent and nowhere else.

#![no_main]

use std::sync::LazyLock;

use dirless_directory::{Dn, Schema};
use libfuzzer_sys::fuzz_target;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::standard);

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(dn) = Dn::parse(text) else { return };
    let printed = dn.to_string();
    match Dn::parse(&printed) {
        Ok(again) => assert_eq!(again, dn, "{printed}"),
        // Escapes make it longer.
        Err(error) => assert!(printed.len() > 8192, "{printed}: {error}"),
    }
    let Some(key) = SCHEMA.dn_key(&dn) else { return };
    let Some(parent) = dn.parent() else {
        assert!(key.as_bytes().is_empty());
        return;
    };
    let above = SCHEMA.dn_key(&parent).expect("a part of a name that has a key has one");
    assert!(key.is_within(&above) && !above.is_within(&key), "{printed}");
    assert!(key.as_bytes() < above.subtree_end().as_slice() || above.as_bytes().is_empty());
});
