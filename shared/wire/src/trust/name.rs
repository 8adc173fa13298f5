use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text::checked_text;

/// A short word that names a key, a source, a compartment or a join code: `[a-z0-9][a-z0-9._-]{0,63}`. The
/// backend sees labels; they should say nothing that it must not know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 64, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
pub struct Label(String);

impl Label {
    /// Checks a label.
    ///
    /// # Errors
    /// When it breaks the grammar.
    pub fn new(text: &str) -> Result<Self, LabelError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = text.len() <= 64
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|byte| plain(byte) || b"-_.".contains(&byte));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(LabelError)
        }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

checked_text!(Label, LabelError);

/// The text is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a label is 1 to 64 lower-case letters, digits, '-', '_' and '.', beginning with a letter or digit")]
pub struct LabelError;

/// Number of an object among those of its kind: 1 to 2^53, counting up; written in decimal without leading zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "u64", into = "u64")]
#[schema(value_type = u64, minimum = 1, maximum = 9007199254740992_u64)]
pub struct Version(u64);

impl Version {
    /// The largest: what every JSON reader still reads exactly.
    pub const MAX: u64 = 1 << 53;

    /// Checks a version.
    ///
    /// # Errors
    /// When it is 0 or over [`Version::MAX`].
    pub fn new(number: u64) -> Result<Self, VersionError> {
        if (1..=Self::MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(VersionError)
        }
    }

    /// As a number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let number = digits.then(|| text.parse().ok()).flatten();
        Self::new(number.ok_or(VersionError)?)
    }
}

impl TryFrom<u64> for Version {
    type Error = VersionError;

    fn try_from(number: u64) -> Result<Self, VersionError> {
        Self::new(number)
    }
}

impl From<Version> for u64 {
    fn from(version: Version) -> Self {
        version.0
    }
}

/// The text or number is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version is 1 to 9007199254740992, in decimal without leading zeros")]
pub struct VersionError;

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 64, max_length = 64, pattern = "^[0-9a-f]{64}$")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of the digest's bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The value of a `Content-Digest` header (RFC 9530) for a body with this digest.
    #[must_use]
    pub fn content_digest(&self) -> String {
        format!("sha-256=:{}:", STANDARD.encode(self.0))
    }

    /// Reads a `Content-Digest` header that has nothing but a SHA-256.
    ///
    /// # Errors
    /// When it has another form.
    pub fn from_content_digest(value: &str) -> Result<Self, DigestError> {
        let encoded = value.strip_prefix("sha-256=:").and_then(|rest| rest.strip_suffix(':'));
        let bytes = STANDARD.decode(encoded.ok_or(DigestError)?).map_err(|_| DigestError)?;
        bytes.try_into().map(Self).map_err(|_| DigestError)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(f, &self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        bytes_of_hexadecimal(text).map(Self).ok_or(DigestError)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// The text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 lower-case hexadecimal digits")]
pub struct DigestError;

pub(super) fn hexadecimal(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Exactly `N` bytes in lower-case hexadecimal digits.
pub(super) fn bytes_of_hexadecimal<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut bytes = [0; N];
    if !rest.is_empty() || pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_labels_and_nothing_else_is() {
        for text in ["all", "web.eu_1", "7", "nabc0123456789def", &"a".repeat(64)] {
            assert_eq!(Label::new(text).unwrap().as_str(), text);
        }
        for text in [
            "",
            "-a",
            ".",
            "..",
            "a/b",
            "a b",
            "a+b",
            "A",
            "ä",
            "a\n",
            "a%2f",
            &"a".repeat(65),
        ] {
            assert_eq!(Label::new(text), Err(LabelError), "{text:?}");
        }
    }

    #[test]
    fn versions_have_one_spelling_and_an_end() {
        assert_eq!("9007199254740992".parse::<Version>().unwrap().get(), Version::MAX);
        for text in [
            "",
            "0",
            "01",
            "+1",
            "-1",
            " 1",
            "1.0",
            "9007199254740993",
            "99999999999999999999",
            "١",
        ] {
            assert_eq!(text.parse::<Version>(), Err(VersionError), "{text:?}");
        }
        assert_eq!(serde_json::from_str::<Version>("7").unwrap().get(), 7);
        assert!(serde_json::from_str::<Version>("0").is_err());
    }

    #[test]
    fn digests_have_one_spelling() {
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest: Digest = text.parse().unwrap();
        assert_eq!(digest.to_string(), text);
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{text}\""));
        // RFC 9530 section 2 has this form.
        let header = digest.content_digest();
        assert_eq!(header, "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:");
        assert_eq!(Digest::from_content_digest(&header), Ok(digest));
        for wrong in [
            &text[1..],
            &text.to_uppercase(),
            "",
            &format!("{text}00"),
            &text.replace('a', "g"),
        ] {
            assert_eq!(wrong.parse::<Digest>(), Err(DigestError), "{wrong:?}");
        }
        for wrong in [
            "",
            "sha-256=::",
            "sha-256=:AAAA:",
            "sha-512=:AAAA:",
            &header.replace("=:", "=: "),
        ] {
            assert_eq!(Digest::from_content_digest(wrong), Err(DigestError), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_prints_as_it_was(text in "[a-z0-9._-]{0,70}|[0-9]{0,20}|[0-9a-f]{62,66}|.{0,10}") {
            if let Ok(label) = Label::new(&text) { prop_assert_eq!(label.as_str(), &text); }
            if let Ok(version) = text.parse::<Version>() { prop_assert_eq!(version.to_string(), text.clone()); }
            if let Ok(digest) = text.parse::<Digest>() { prop_assert_eq!(digest.to_string(), text); }
        }

        #[test]
        fn every_digest_survives_both_texts(bytes in any::<[u8; 32]>()) {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            prop_assert_eq!(Digest::from_content_digest(&digest.content_digest()), Ok(digest));
        }
    }
}
