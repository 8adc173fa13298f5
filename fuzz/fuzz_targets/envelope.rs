//! The sealed envelope: base64, age header, gzip. No body may cost more than its limits.

#![no_main]

use std::io::Read;
use std::sync::OnceLock;

use dirless_seal::{Identity, Limits, open};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    header: 8 * 1024,
    stanzas: 16,
    plaintext: 1 << 20,
};

fuzz_target!(|data: &[u8]| {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    let identity = IDENTITY.get_or_init(Identity::generate);
    if let Ok(mut opened) = open(identity, data, LIMITS) {
        let copied = std::io::copy(&mut opened.by_ref().take((1 << 20) + 1), &mut std::io::sink());
        assert!(copied.is_err() || copied.is_ok_and(|bytes| bytes <= 1 << 20));
    }
});
