//! Join codes and keys, as operators type and paste them: one spelling each, but for white space around.

#![no_main]

use dirless_seal::trust::{JoinCode, read};
use dirless_seal::{SigningKey, VerifyingKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(code) = JoinCode::parse(text) {
        assert_eq!(code.expose().expect("it was read").as_str(), text.trim());
    }
    // Behind the checksum that a fuzzer does not find.
    if let Ok(code) = read::<JoinCode>(text) {
        let typed = code.expose().expect("it was read");
        let again = JoinCode::parse(&typed).expect("it was just printed");
        assert_eq!(
            (again.url, again.tenant, again.roots),
            (code.url, code.tenant, code.roots)
        );
    }
    if let Ok(key) = text.parse::<VerifyingKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = SigningKey::parse(text) {
        assert_eq!(key.expose().as_str(), text.trim());
    }
});
