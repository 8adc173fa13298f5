//! Passwords against stored hashes (RFC 2307 section 5.3 and its successors in use).

use std::num::NonZeroU32;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::{digest, pbkdf2};
use subtle::ConstantTimeEq;

/// Rounds of PBKDF2 at most: a stored number must not hold a thread for minutes.
const MOST_ROUNDS: u32 = 10_000_000;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

/// Rounds for new hashes: a tenth of a second, and the number that OWASP names for this function.
const ROUNDS: NonZeroU32 = NonZeroU32::new(210_000).expect("not zero");

/// Schemes of stored values, those that [`verify`] knows and others in use.
const SCHEMES: [&str; 14] = [
    "SHA",
    "SSHA",
    "SHA256",
    "SSHA256",
    "SHA384",
    "SSHA384",
    "SHA512",
    "SSHA512",
    "PBKDF2",
    "PBKDF2-SHA1",
    "PBKDF2-SHA256",
    "PBKDF2-SHA512",
    "CRYPT",
    "ARGON2",
];

/// A new value of `userPassword` for a password, `{PBKDF2-SHA512}…`.
#[must_use]
pub fn hash(password: &[u8], salt: &[u8; 16]) -> String {
    let mut hash = [0; 64];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, ROUNDS, salt, password, &mut hash);
    // As OpenLDAP's pw-pbkdf2 writes base64.
    let text = |bytes: &[u8]| BASE64.encode(bytes).replace('+', ".").replace('=', "");
    format!("{{PBKDF2-SHA512}}{ROUNDS}${}${}", text(salt), text(&hash))
}

/// Is it a stored value rather than a plain password?
#[must_use]
pub fn is_hashed(value: &[u8]) -> bool {
    scheme(value).is_some_and(|(name, _)| SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(name)))
}

/// Does the password have this stored value of `userPassword`?
///
/// Known are `{SHA}`, `{SSHA}` and their forms with 256, 384 and 512, `{PBKDF2}`, `{PBKDF2-SHA1}`,
/// `{PBKDF2-SHA256}`, `{PBKDF2-SHA512}` and values without a scheme, which are the password itself.
/// Any other scheme is no match.
#[must_use]
pub fn verify(stored: &[u8], password: &[u8]) -> bool {
    let Some((scheme, rest)) = scheme(stored) else {
        return !stored.is_empty() && bool::from(stored.ct_eq(password));
    };
    let (algorithm, salted) = match scheme.to_ascii_uppercase().as_str() {
        "SHA" => (&digest::SHA1_FOR_LEGACY_USE_ONLY, false),
        "SSHA" => (&digest::SHA1_FOR_LEGACY_USE_ONLY, true),
        "SHA256" => (&digest::SHA256, false),
        "SSHA256" => (&digest::SHA256, true),
        "SHA384" => (&digest::SHA384, false),
        "SSHA384" => (&digest::SHA384, true),
        "SHA512" => (&digest::SHA512, false),
        "SSHA512" => (&digest::SHA512, true),
        "PBKDF2" | "PBKDF2-SHA1" => return iterated(pbkdf2::PBKDF2_HMAC_SHA1, 20, rest, password),
        "PBKDF2-SHA256" => return iterated(pbkdf2::PBKDF2_HMAC_SHA256, 32, rest, password),
        "PBKDF2-SHA512" => return iterated(pbkdf2::PBKDF2_HMAC_SHA512, 64, rest, password),
        _ => return false,
    };
    digested(algorithm, salted, rest, password)
}

/// Is a password held against this value in microseconds? All but the iterated ones are.
#[must_use]
pub(crate) fn is_quick(stored: &[u8]) -> bool {
    scheme(stored).is_none_or(|(name, _)| !name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("PBKDF2")))
}

/// `{SCHEME}` and what follows it; none when the value does not start so.
fn scheme(stored: &[u8]) -> Option<(&str, &[u8])> {
    let rest = stored.strip_prefix(b"{")?;
    let end = rest.iter().position(|byte| *byte == b'}')?;
    let (name, rest) = rest.split_at_checked(end)?;
    Some((std::str::from_utf8(name).ok()?, rest.get(1..)?))
}

/// Base64 of the digest of password and salt, then the salt.
fn digested(algorithm: &'static digest::Algorithm, salted: bool, rest: &[u8], password: &[u8]) -> bool {
    let Ok(bytes) = BASE64.decode(rest) else {
        return false;
    };
    let Some((held, salt)) = bytes.split_at_checked(algorithm.output_len()) else {
        return false;
    };
    if salted == salt.is_empty() {
        return false;
    }
    let mut context = digest::Context::new(algorithm);
    context.update(password);
    context.update(salt);
    bool::from(context.finish().as_ref().ct_eq(held))
}

/// `rounds$salt$hash`, salt and hash in base64 with `.` for `+`, as OpenLDAP's pw-pbkdf2 writes them: the hash is as long as
/// its function's, `length` bytes. A longer one would cost the rounds many times over, and in a short one many passwords are one.
fn iterated(algorithm: pbkdf2::Algorithm, length: usize, rest: &[u8], password: &[u8]) -> bool {
    let parts = || {
        let text = std::str::from_utf8(rest).ok()?;
        let mut parts = text.splitn(3, '$');
        let rounds = parts.next()?.parse().ok().filter(|rounds| *rounds <= MOST_ROUNDS)?;
        let decode = |part: &str| BASE64.decode(part.replace('.', "+")).ok();
        Some((NonZeroU32::new(rounds)?, decode(parts.next()?)?, decode(parts.next()?)?))
    };
    parts().is_some_and(|(rounds, salt, hash)| {
        hash.len() == length && pbkdf2::verify(algorithm, rounds, &salt, password, &hash).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `slappasswd` and Python's hashlib; the password is `secret` everywhere.
    const STORED: [&str; 4] = [
        "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        "{sha256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=",
        "secret",
        "{SHA512}vSsar3708Jvp9Szi2NWZZ02Bqp1qRCFpbcTZPdBhnWgs5WtNZKnvCXdhztmeD2cmW192CF5bDufKRpayrW/isg==",
    ];

    fn salted(algorithm: &'static digest::Algorithm, name: &str) -> String {
        let mut bytes = digest::digest(algorithm, b"secretsalt").as_ref().to_vec();
        bytes.extend_from_slice(b"salt");
        format!("{{{name}}}{}", BASE64.encode(bytes))
    }

    #[test]
    fn every_scheme_takes_its_password_and_no_other() {
        let mut stored: Vec<String> = STORED.iter().map(ToString::to_string).collect();
        stored.push(salted(&digest::SHA1_FOR_LEGACY_USE_ONLY, "SSHA"));
        stored.push(salted(&digest::SHA256, "SSHA256"));
        stored.push(salted(&digest::SHA384, "SSHA384"));
        stored.push(salted(&digest::SHA512, "ssha512"));
        assert!(stored.iter().all(|digest| is_quick(digest.as_bytes())));
        for (algorithm, name, length) in [
            (pbkdf2::PBKDF2_HMAC_SHA1, "PBKDF2", 20),
            (pbkdf2::PBKDF2_HMAC_SHA256, "PBKDF2-SHA256", 32),
            (pbkdf2::PBKDF2_HMAC_SHA512, "PBKDF2-SHA512", 64),
        ] {
            let value = |length: usize| {
                let mut hash = vec![0; length];
                pbkdf2::derive(algorithm, NonZeroU32::new(3).unwrap(), b"salt?>", b"secret", &mut hash);
                let ab64 = |bytes: &[u8]| BASE64.encode(bytes).replace('+', ".").replace('=', "");
                format!("{{{name}}}3${}${}", ab64(b"salt?>"), ab64(&hash))
            };
            for other in [1, length - 1, length + 1, 100_000] {
                assert!(!verify(value(other).as_bytes(), b"secret"), "{name} with {other} bytes");
            }
            stored.push(value(length));
            assert!(stored.last().is_some_and(|iterated| !is_quick(iterated.as_bytes())));
        }
        for stored in stored {
            assert!(verify(stored.as_bytes(), b"secret"), "{stored}");
            assert!(!verify(stored.as_bytes(), b"Secret"), "{stored}");
            assert!(!verify(stored.as_bytes(), b""), "{stored}");
        }
    }

    #[test]
    fn a_new_hash_takes_its_password_and_tells_itself_from_plain_ones() {
        let stored = hash(b"secret", &[7; 16]);
        assert!(verify(stored.as_bytes(), b"secret") && !verify(stored.as_bytes(), b"Secret"));
        assert_ne!(stored, hash(b"secret", &[8; 16]));
        for hashed in [stored.as_str(), "{ssha}x", "{CRYPT}$6$x"] {
            assert!(is_hashed(hashed.as_bytes()), "{hashed}");
        }
        for plain in ["", "secret", "{", "{}x", "{mine}secret"] {
            assert!(!is_hashed(plain.as_bytes()), "{plain}");
        }
    }

    #[test]
    fn what_is_malformed_or_unknown_matches_nothing() {
        for stored in [
            "",
            "{SSHA}",
            "{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
            "{SHA}HaP2",
            "{SHA}!!!",
            "{CRYPT}$6$x$y",
            "{PBKDF2}0$c2FsdA$AAAA",
            "{PBKDF2}99999999$c2FsdA$AAAA",
            "{PBKDF2}1$c2FsdA$",
            "{PBKDF2}x",
            "{}secret",
        ] {
            assert!(!verify(stored.as_bytes(), b"secret"), "{stored}");
            assert!(!verify(stored.as_bytes(), b""), "{stored}");
        }
    }
}
