use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::Label;
use super::name::{bytes_of_hexadecimal, hexadecimal};

/// The signature type of Ed25519 in signed notes (<https://c2sp.org/signed-note>).
const ED25519_TYPE: u8 = 1;

/// What a key is called in requests: `NAME+HASH`, the hash being the first four bytes of a digest as eight
/// hexadecimal digits. It finds the key and proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId {
    name: Label,
    hash: [u8; 4],
}

impl KeyId {
    /// Puts both parts together.
    #[must_use]
    pub fn new(name: Label, hash: [u8; 4]) -> Self {
        Self { name, hash }
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &Label {
        &self.name
    }

    /// The key's hash.
    #[must_use]
    pub fn hash(&self) -> [u8; 4] {
        self.hash
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+", self.name)?;
        hexadecimal(f, &self.hash)
    }
}

impl FromStr for KeyId {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let (name, hash) = text.split_once('+').ok_or(PublicKeyError)?;
        let hash = bytes_of_hexadecimal(hash).ok_or(PublicKeyError)?;
        let name = Label::new(name).map_err(|_| PublicKeyError)?;
        Ok(Self { name, hash })
    }
}

impl TryFrom<String> for KeyId {
    type Error = PublicKeyError;

    fn try_from(text: String) -> Result<Self, PublicKeyError> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl ToSchema for KeyId {}

impl PartialSchema for KeyId {
    fn schema() -> RefOr<Schema> {
        text_schema("^[a-z0-9][a-z0-9._-]{0,63}\\+[0-9a-f]{8}$")
    }
}

/// A public Ed25519 key in the text form of signed notes, `NAME+HASH+BASE64`. That the hash belongs to name and
/// key is for those to check who can hash: [`PublicKey::hashed`] says what.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey {
    id: KeyId,
    bytes: [u8; 32],
}

impl PublicKey {
    /// Puts both parts together. Whether they belong together is for those to check who can hash.
    #[must_use]
    pub fn new(id: KeyId, bytes: [u8; 32]) -> Self {
        Self { id, bytes }
    }

    /// Name and hash.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The raw key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The bytes whose SHA-256 begins with the hash.
    #[must_use]
    pub fn hashed(&self) -> Vec<u8> {
        let mut text = self.id.name.as_str().as_bytes().to_vec();
        text.extend([b'\n', ED25519_TYPE]);
        text.extend(self.bytes);
        text
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = vec![ED25519_TYPE];
        typed.extend(self.bytes);
        write!(f, "{}+{}", self.id, STANDARD.encode(typed))
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        // Base64 has '+' too, so from the left.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(PublicKeyError);
        };
        let decoded = STANDARD.decode(encoded).map_err(|_| PublicKeyError)?;
        let Some((&ED25519_TYPE, key)) = decoded.split_first() else {
            return Err(PublicKeyError);
        };
        let id = KeyId {
            name: Label::new(name).map_err(|_| PublicKeyError)?,
            hash: bytes_of_hexadecimal(hash).ok_or(PublicKeyError)?,
        };
        let bytes = key.try_into().map_err(|_| PublicKeyError)?;
        Ok(Self { id, bytes })
    }
}

impl TryFrom<String> for PublicKey {
    type Error = PublicKeyError;

    fn try_from(text: String) -> Result<Self, PublicKeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl ToSchema for PublicKey {}

impl PartialSchema for PublicKey {
    fn schema() -> RefOr<Schema> {
        text_schema("^[a-z0-9][a-z0-9._-]{0,63}\\+[0-9a-f]{8}\\+AQ[A-Za-z0-9+/]{42}$")
    }
}

fn text_schema(pattern: &str) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .into()
}

/// The text is no name of a key or no public key. Never holds the text: it may be a secret one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a public key is NAME+HASH+BASE64 of an Ed25519 key, as in signed notes; its id is NAME+HASH")]
pub struct PublicKeyError;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_read_and_printed_the_same() {
        let encoded = STANDARD.encode([&[1u8][..], &[0x3d; 32]].concat());
        let text = format!("syncer-1+0a1b2c3d+{encoded}");
        let key: PublicKey = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
        assert_eq!(key.id().to_string(), "syncer-1+0a1b2c3d");
        assert_eq!(key.hashed(), [b"syncer-1\n\x01".as_slice(), &[0x3d; 32]].concat());
        let other = STANDARD.encode([&[2u8][..], &[0x3d; 32]].concat());
        for wrong in [
            text.replace(&encoded, &other),
            text.replace("0a1b2c3d", "0A1B2C3D"),
            text.replace("syncer-1", "Syncer"),
            format!("PRIVATE+KEY+{text}"),
            text[..text.len() - 4].to_owned(),
            format!("{text} "),
            encoded.clone(),
        ] {
            assert_eq!(wrong.parse::<PublicKey>(), Err(PublicKeyError), "{wrong:?}");
        }
        for wrong in [
            "a",
            "a+",
            "+00000000",
            "a+0000000",
            "a+000000000",
            "a+0000000g",
            "a+00000000+x",
        ] {
            assert_eq!(wrong.parse::<KeyId>(), Err(PublicKeyError), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_prints_as_it_was(text in "[a-z]{1,3}\\+[0-9a-f]{8}(\\+AQ[A-Za-z0-9+/]{42})?|.{0,120}") {
            if let Ok(id) = text.parse::<KeyId>() { prop_assert_eq!(id.to_string(), text.clone()); }
            if let Ok(key) = text.parse::<PublicKey>() { prop_assert_eq!(key.to_string(), text); }
        }
    }
}
