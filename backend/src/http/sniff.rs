//! Whether a body is plainly in clear. The server cannot tell sealed bytes from noise and does not
//! try; it only refuses what a misconfigured client would leak. It looks at the first bytes alone.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// How many first bytes are enough for [`plainly`].
pub(crate) const SNIFFED: usize = 64;

/// What is plainly in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InClear {
    /// JSON.
    Json,
    /// gzip (RFC 1952).
    Gzip,
    /// Base64 of JSON.
    Base64Json,
    /// Base64 of gzip.
    Base64Gzip,
    /// Nothing at all.
    Empty,
}

impl InClear {
    /// What to tell the sender.
    pub(crate) fn explain(self) -> &'static str {
        match self {
            Self::Json => "the body is plain JSON",
            Self::Gzip => "the body is gzip and not sealed",
            Self::Base64Json => "the body is base64 of plain JSON",
            Self::Base64Gzip => "the body is base64 of gzip and not sealed",
            Self::Empty => "the body is empty",
        }
    }
}

/// Looks at the first bytes of a body; `start` may be the whole of a short one.
pub(crate) fn plainly(start: &[u8]) -> Option<InClear> {
    let start = start.get(..SNIFFED).unwrap_or(start);
    if start.trim_ascii().is_empty() {
        return Some(InClear::Empty);
    }
    if let Some(raw) = raw_kind(start) {
        return Some(raw);
    }
    match raw_kind(&decode_start(start)) {
        Some(InClear::Json) => Some(InClear::Base64Json),
        Some(InClear::Gzip) => Some(InClear::Base64Gzip),
        _ => None,
    }
}

fn raw_kind(bytes: &[u8]) -> Option<InClear> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    match (text, bytes) {
        ([b'{' | b'[' | b'"', ..], _) => Some(InClear::Json),
        (_, [0x1f, 0x8b, ..]) => Some(InClear::Gzip),
        _ => None,
    }
}

/// The bytes that the first base64 characters stand for: either alphabet, line breaks ignored.
fn decode_start(start: &[u8]) -> Vec<u8> {
    let mut letters: Vec<u8> = start
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte))
        .collect();
    // One letter over a group of four stands for no whole byte, and is an error to the decoder.
    if letters.len() % 4 == 1 {
        letters.pop();
    }
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&STANDARD, lenient)
        .decode(letters)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clear_bodies_are_recognised() {
        let json = br#"{"users":[{"username":"alice"}],"groups":[]}"#;
        let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03";
        assert_eq!(plainly(json), Some(InClear::Json));
        assert_eq!(plainly(b"\xef\xbb\xbf  \n[1]"), Some(InClear::Json));
        assert_eq!(plainly(gzip), Some(InClear::Gzip));
        assert_eq!(plainly(BASE64.encode(json).as_bytes()), Some(InClear::Base64Json));
        assert_eq!(
            plainly(URL_SAFE_NO_PAD.encode(json).as_bytes()),
            Some(InClear::Base64Json)
        );
        assert_eq!(plainly(BASE64.encode(gzip).as_bytes()), Some(InClear::Base64Gzip));
        assert_eq!(
            plainly(b"eyJ1c2\r\nVycyI6W10sImdyb3VwcyI6W119"),
            Some(InClear::Base64Json)
        );
        assert_eq!(plainly(b" \n"), Some(InClear::Empty));
        assert_eq!(plainly(b"e30="), Some(InClear::Base64Json));
    }

    #[test]
    fn sealed_bodies_pass() {
        let sealed = b"age-encryption.org/v1\n-> X25519 unlS2cJavvK9h05DCgwVKqcf2fU+fiYDej4NxCLqO2w\n";
        assert_eq!(plainly(sealed), None);
        assert_eq!(plainly(BASE64.encode(sealed).as_bytes()), None);
        assert_eq!(plainly(b"-----BEGIN AGE ENCRYPTED FILE-----\n"), None);
    }

    proptest! {
        #[test]
        fn every_sealed_body_passes_whatever_follows(rest in proptest::collection::vec(any::<u8>(), 0..200)) {
            let sealed = [b"age-encryption.org/v1\n".as_slice(), &rest].concat();
            prop_assert_eq!(plainly(&sealed), None);
            prop_assert_eq!(plainly(BASE64.encode(&sealed).as_bytes()), None);
        }

        #[test]
        fn every_json_object_is_recognised(rest in proptest::collection::vec(any::<u8>(), 2..200)) {
            let json = [b"{".as_slice(), &rest].concat();
            prop_assert_eq!(plainly(&json), Some(InClear::Json));
            prop_assert_eq!(plainly(BASE64.encode(&json).as_bytes()), Some(InClear::Base64Json));
        }
    }
}
