use std::fmt;

use bech32::Bech32;
use bech32::primitives::decode::CheckedHrpstring;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text::checked_text;

/// Length of `age1` + 52 data characters + 6 checksum characters.
const LENGTH: usize = 62;
/// An X25519 public key.
const KEY_BYTES: usize = 32;

/// An age X25519 recipient: `age1…`, bech32 with its checksum verified and 32 bytes inside.
///
/// Lower-case only, as the age tools print and read it, so that equal keys are equal texts.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 62, max_length = 62, pattern = "^age1[02-9ac-hj-np-z]{58}$")]
pub struct AgePublicKey(String);

impl AgePublicKey {
    /// Checks a public key; blanks around it are an error, the caller trims what people typed.
    ///
    /// # Errors
    /// When it is not an `age1…` X25519 recipient. A private key gets its own error, so that the
    /// message can tell what happened; no error carries any part of the text.
    pub fn new(text: &str) -> Result<Self, AgePublicKeyError> {
        if text
            .get(..15)
            .is_some_and(|start| start.eq_ignore_ascii_case("AGE-SECRET-KEY-"))
        {
            return Err(AgePublicKeyError::PrivateKey);
        }
        if !text.starts_with("age1") {
            return Err(AgePublicKeyError::NotAnAgeKey);
        }
        // Upper-case letters are legal in bech32, but age reads and prints lower-case only.
        if text.len() != LENGTH || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(AgePublicKeyError::Form);
        }
        let checked = CheckedHrpstring::new::<Bech32>(text).map_err(|_| AgePublicKeyError::Checksum)?;
        if checked.hrp().as_str() != "age" || checked.byte_iter().count() != KEY_BYTES {
            return Err(AgePublicKeyError::Form);
        }
        // 52 characters hold 260 bits; the four spare ones must be zero, or one key would have 16 texts.
        checked.validate_segwit_padding().map_err(|_| AgePublicKeyError::Form)?;
        Ok(Self(text.to_owned()))
    }

    /// The `age1…` text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AgePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgePublicKey({})", self.0)
    }
}

checked_text!(AgePublicKey, AgePublicKeyError);

/// Why a text is not an age public key. Never holds the text: it may be a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AgePublicKeyError {
    /// Somebody sent `AGE-SECRET-KEY-…`.
    #[error(
        "this is a private age key; send the public one (age1…), and make a new pair, since this one has travelled"
    )]
    PrivateKey,
    /// Does not begin with `age1`.
    #[error("an age public key begins with age1")]
    NotAnAgeKey,
    /// Wrong length, upper-case letters, or another kind of age recipient.
    #[error("an age public key is age1 and 58 lower-case letters and digits (an X25519 recipient)")]
    Form,
    /// The bech32 checksum or alphabet is wrong: a typing or copying error.
    #[error("the checksum of the age public key is wrong; copy it again")]
    Checksum,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: [&str; 2] = [
        "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s",
        "age1sc4gd6wwdn3mfcc9r26lmeh0ze0l67artuy6gjp73ztafn3amensnq6mr6",
    ];

    #[test]
    fn recorded_keys_are_taken() {
        for text in KEYS {
            assert_eq!(AgePublicKey::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn other_texts_are_refused_each_with_its_reason() {
        let identity = "AGE-SECRET-KEY-1QQXTNUSC48NY9JYL8M7TUU7C7HW0EGUCZJ8ZUKU9FAZ5QP08SASS6MXCWJ";
        assert_eq!(AgePublicKey::new(identity), Err(AgePublicKeyError::PrivateKey));
        assert_eq!(
            AgePublicKey::new(&identity.to_lowercase()),
            Err(AgePublicKeyError::PrivateKey)
        );
        assert_eq!(AgePublicKey::new(""), Err(AgePublicKeyError::NotAnAgeKey));
        assert_eq!(
            AgePublicKey::new("ssh-ed25519 AAAA"),
            Err(AgePublicKeyError::NotAnAgeKey)
        );
        assert_eq!(AgePublicKey::new("age1"), Err(AgePublicKeyError::Form));
        assert_eq!(
            AgePublicKey::new(&format!("{} ", KEYS[0])),
            Err(AgePublicKeyError::Form)
        );
        assert_eq!(
            AgePublicKey::new(&KEYS[0].to_uppercase()),
            Err(AgePublicKeyError::NotAnAgeKey)
        );
        assert_eq!(
            AgePublicKey::new(&KEYS[0].replace("age17", "age1b")),
            Err(AgePublicKeyError::Checksum)
        );
    }

    #[test]
    fn errors_never_repeat_the_text() {
        let error = AgePublicKey::new("AGE-SECRET-KEY-1QQXTNUSC48NY9").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("QQXTN"));
    }

    proptest! {
        #[test]
        fn one_changed_character_never_passes(position in 4usize..62, replacement in "[02-9ac-hj-np-z]") {
            let mut text = KEYS[0].to_owned();
            text.replace_range(position..=position, &replacement);
            prop_assert_eq!(AgePublicKey::new(&text).is_ok(), text == KEYS[0]);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "(age1)?.{0,80}") {
            let _ = AgePublicKey::new(&text);
        }
    }
}
