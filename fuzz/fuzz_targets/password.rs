//! Stored values of `userPassword`, as a directory or whoever may write there hands them over. A value is one password's, a
//! password's own value is known by it, and none costs more than its rounds.
//!
//! The input is a password, a NUL and a stored value; or of the second part a digest is made, in each scheme.

#![no_main]

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dirless_ldap::{is_hashed_password, verify_password};
use libfuzzer_sys::fuzz_target;
use ring::{digest, pbkdf2};

/// Most rounds that are waited for here.
const MOST_ROUNDS: u64 = 100;

fuzz_target!(|data: &[u8]| {
    let place = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (password, rest) = (&data[..place], &data[(place + 1).min(data.len())..]);
    let other = [password, b"x"].concat();
    if !is_long(rest) {
        let is_it = verify_password(rest, password);
        assert!(!is_it || !verify_password(rest, &other), "two passwords");
        if !rest.starts_with(b"{") {
            assert!(!is_hashed_password(rest));
            assert_eq!(is_it, !rest.is_empty() && rest == password);
        }
    }
    for stored in values(password, rest) {
        assert!(is_hashed_password(stored.as_bytes()), "{stored}");
        assert!(verify_password(stored.as_bytes(), password), "{stored}");
        assert!(!verify_password(stored.as_bytes(), &other), "{stored}");
    }
});

/// Would it take more rounds than are waited for? Over ten millions none are begun.
fn is_long(stored: &[u8]) -> bool {
    let Some(at) = stored.iter().position(|byte| *byte == b'}') else {
        return false;
    };
    let digits: Vec<u8> = stored[at + 1..]
        .iter()
        .copied()
        .take_while(|byte| *byte != b'$')
        .collect();
    let rounds = std::str::from_utf8(&digits)
        .ok()
        .and_then(|digits| digits.parse::<u64>().ok());
    rounds.is_some_and(|rounds| (MOST_ROUNDS..=10_000_000).contains(&rounds))
}

/// What is stored for a password with this salt.
fn values(password: &[u8], salt: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    for (name, algorithm) in [
        ("SHA", &digest::SHA1_FOR_LEGACY_USE_ONLY),
        ("SHA256", &digest::SHA256),
        ("sha384", &digest::SHA384),
        ("SHA512", &digest::SHA512),
    ] {
        let mut context = digest::Context::new(algorithm);
        context.update(password);
        let plain = context.clone().finish();
        all.push(format!("{{{name}}}{}", STANDARD.encode(plain.as_ref())));
        if !salt.is_empty() {
            context.update(salt);
            let bytes = [context.finish().as_ref(), salt].concat();
            all.push(format!("{{S{name}}}{}", STANDARD.encode(bytes)));
        }
    }
    for (name, algorithm, length) in [
        ("PBKDF2", pbkdf2::PBKDF2_HMAC_SHA1, 20),
        ("PBKDF2-SHA256", pbkdf2::PBKDF2_HMAC_SHA256, 32),
        ("PBKDF2-SHA512", pbkdf2::PBKDF2_HMAC_SHA512, 64),
    ] {
        let mut hash = vec![0; length];
        pbkdf2::derive(algorithm, NonZeroU32::MIN, salt, password, &mut hash);
        let text = |bytes: &[u8]| STANDARD.encode(bytes).replace('+', ".").replace('=', "");
        all.push(format!("{{{name}}}1${}${}", text(salt), text(&hash)));
    }
    all
}
