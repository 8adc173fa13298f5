//! Ed25519 keys (RFC 8032) with a name, in the text forms of signed notes
//! (<https://c2sp.org/signed-note>).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::{Digester, Label};

/// The signature type of Ed25519 in signed notes.
const ED25519_TYPE: u8 = 1;
/// What a secret key's text begins with.
const SECRET_PREFIX: &str = "PRIVATE+KEY+";

/// The first four bytes of the SHA-256 digest of name, newline, signature type and public key. A hint that
/// picks the key, no proof of anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub(crate) [u8; 4]);

impl fmt::Display for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyHash({self})")
    }
}

/// Why a text is no signing or verifying key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// It has not the form.
    #[error("it is no {0} key of signed notes (NAME+HASH+KEY)")]
    Form(&'static str),
    /// Its name is no label.
    #[error("its name is wrong: {0}")]
    Name(#[from] crate::label::NoLabel),
    /// Hash and key do not belong together.
    #[error("its hash does not belong to its name and key: a part of it was changed or mistyped")]
    Hash,
    /// Its algorithm is another.
    #[error("its algorithm is {0}, not Ed25519 (1)")]
    Algorithm(u8),
}

/// The public half: checks signatures. Written `NAME+HASH+BASE64`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifyingKey {
    name: Label,
    bytes: [u8; 32],
}

impl VerifyingKey {
    /// The key's name. Two keys may share one; nothing is decided by a name alone.
    #[must_use]
    pub fn name(&self) -> &Label {
        &self.name
    }

    /// The raw public key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The hint that signatures carry.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        let mut digester = Digester::default();
        digester.update(self.name.as_str().as_bytes());
        digester.update(&[b'\n', ED25519_TYPE]);
        digester.update(&self.bytes);
        let [first, second, third, fourth, ..] = *digester.finish().as_bytes();
        KeyHash([first, second, third, fourth])
    }

    /// Did the owner of this key sign `message`?
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.bytes)
            .verify(message, signature)
            .is_ok()
    }
}

impl FromStr for VerifyingKey {
    type Err = SigningKeyError;

    fn from_str(text: &str) -> Result<Self, SigningKeyError> {
        let (name, hash, bytes) = parts(text, "verifying")?;
        let key = Self { name, bytes: *bytes };
        if key.hash().to_string() == hash {
            Ok(key)
        } else {
            Err(SigningKeyError::Hash)
        }
    }
}

/// Name, hash and 32 bytes of a key's text.
fn parts<'a>(text: &'a str, kind: &'static str) -> Result<(Label, &'a str, Zeroizing<[u8; 32]>), SigningKeyError> {
    let form = || SigningKeyError::Form(kind);
    let (name, rest) = text.split_once('+').ok_or_else(form)?;
    let (hash, encoded) = rest.split_once('+').ok_or_else(form)?;
    let decoded = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| form())?);
    let (algorithm, key) = decoded.split_first().ok_or_else(form)?;
    if *algorithm != ED25519_TYPE {
        return Err(SigningKeyError::Algorithm(*algorithm));
    }
    let key = Zeroizing::new(<[u8; 32]>::try_from(key).map_err(|_| form())?);
    Ok((name.parse()?, hash, key))
}

fn print(formatter: &mut fmt::Formatter<'_>, key: &VerifyingKey) -> fmt::Result {
    let mut typed = vec![ED25519_TYPE];
    typed.extend(key.bytes);
    write!(formatter, "{}+{}+{}", key.name, key.hash(), STANDARD.encode(typed))
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(formatter, self)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VerifyingKey({}+{})", self.name, self.hash())
    }
}

/// The secret half: signs. Its text form is that of other programs for signed notes,
/// `PRIVATE+KEY+NAME+HASH+BASE64`, with the 32 bytes of the seed.
pub struct SigningKey {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
    verifying: VerifyingKey,
}

impl SigningKey {
    /// Makes a new one from the system's random source.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate(name: Label) -> Result<Self, ring::error::Unspecified> {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(seed.as_mut())?;
        Self::from_seed(name, seed)
    }

    fn from_seed(name: Label, seed: Zeroizing<[u8; 32]>) -> Result<Self, ring::error::Unspecified> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).map_err(|_| ring::error::Unspecified)?;
        let bytes = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| ring::error::Unspecified)?;
        Ok(Self {
            seed,
            pair,
            verifying: VerifyingKey { name, bytes },
        })
    }

    /// Reads the text form; white space around it does not matter.
    ///
    /// # Errors
    /// When it is no intact key. The error never shows the text.
    pub fn parse(text: &str) -> Result<Self, SigningKeyError> {
        let form = SigningKeyError::Form("signing");
        let rest = text.trim().strip_prefix(SECRET_PREFIX).ok_or(form.clone())?;
        let (name, hash, seed) = parts(rest, "signing")?;
        let key = Self::from_seed(name, seed).map_err(|_| form)?;
        if key.verifying.hash().to_string() == hash {
            Ok(key)
        } else {
            Err(SigningKeyError::Hash)
        }
    }

    /// The same key under another name.
    ///
    /// # Panics
    /// Never: a seed that made a key makes it again.
    #[must_use]
    pub fn renamed(&self, name: Label) -> Self {
        Self::from_seed(name, self.seed.clone()).expect("a seed that made a key makes it again")
    }

    /// The public half.
    #[must_use]
    pub fn verifying(&self) -> &VerifyingKey {
        &self.verifying
    }

    /// Signs `message`: 64 bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// The secret as text, for writing a key file. Wiped when dropped.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let mut typed = Zeroizing::new(Vec::with_capacity(33));
        typed.push(ED25519_TYPE);
        typed.extend_from_slice(self.seed.as_ref());
        let encoded = Zeroizing::new(STANDARD.encode(&typed));
        let (name, hash) = (&self.verifying.name, self.verifying.hash());
        Zeroizing::new(format!("{SECRET_PREFIX}{name}+{hash}+{}", encoded.as_str()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey(of {:?})", self.verifying)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 section 7.1, test 2.
    const SEED: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    fn key(name: &str) -> SigningKey {
        let seed = Zeroizing::new(<[u8; 32]>::try_from(bytes(SEED)).unwrap());
        SigningKey::from_seed(name.parse().unwrap(), seed).unwrap()
    }

    #[test]
    fn it_is_ed25519_as_the_rfc_has_it() {
        let key = key("test");
        assert_eq!(key.verifying().as_bytes().as_slice(), bytes(PUBLIC));
        assert_eq!(key.sign(&[0x72]), bytes(SIGNATURE));
        assert!(key.verifying().verifies(&[0x72], &bytes(SIGNATURE)));
        assert!(!key.verifying().verifies(&[0x73], &bytes(SIGNATURE)));
        assert!(!key.verifying().verifies(&[0x72], &bytes(SIGNATURE)[..63]));
    }

    #[test]
    fn both_halves_survive_their_text() {
        let key = key("syncer-1");
        let again = SigningKey::parse(&format!("{}\n", key.expose().as_str())).unwrap();
        assert_eq!(again.verifying(), key.verifying());
        let public = key.verifying().to_string();
        assert_eq!(public.parse::<VerifyingKey>().unwrap(), *key.verifying());
        assert!(key.expose().starts_with("PRIVATE+KEY+syncer-1+"));
    }

    #[test]
    fn damaged_texts_are_refused_without_showing_them() {
        let good = key("a").expose();
        let public = key("a").verifying().to_string();
        assert_eq!(
            public.replace("a+", "b+").parse::<VerifyingKey>(),
            Err(SigningKeyError::Hash)
        );
        assert_eq!(
            SigningKey::parse(&public).unwrap_err(),
            SigningKeyError::Form("signing")
        );
        assert_eq!(good.parse::<VerifyingKey>(), Err(SigningKeyError::Form("verifying")));
        for wrong in [
            "",
            "PRIVATE+KEY+",
            "PRIVATE+KEY+a+00000000+AQ==",
            &good[..good.len() - 4],
        ] {
            let error = SigningKey::parse(wrong).unwrap_err().to_string();
            assert!(!error.contains("AQ=="), "{error}");
        }
        let other = good.replace("+a+", "+b+");
        assert_eq!(SigningKey::parse(&other).unwrap_err(), SigningKeyError::Hash);
        assert_eq!(
            "a+00000000+AgAA".parse::<VerifyingKey>(),
            Err(SigningKeyError::Algorithm(2))
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = key("a");
        let shown = format!("{key:?}");
        assert!(
            !shown.contains("PRIVATE") && shown.contains(&key.verifying().hash().to_string()),
            "{shown}"
        );
    }
}
