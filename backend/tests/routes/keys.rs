//! Keys as the tenant's own programs have them. The server's tests make their own: nothing that signs is among what the
//! server is built with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// An Ed25519 key with the name of a signed note's.
pub(crate) struct SigningKey {
    name: String,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl SigningKey {
    pub(crate) fn generate(name: &str) -> Self {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).unwrap();
        Self::of(name, seed)
    }

    fn of(name: &str, seed: [u8; 32]) -> Self {
        Self {
            name: name.to_owned(),
            seed,
            pair: Ed25519KeyPair::from_seed_unchecked(&seed).unwrap(),
        }
    }

    /// The same key under another name.
    pub(crate) fn renamed(&self, name: &str) -> Self {
        Self::of(name, self.seed)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The first four bytes of the digest of name, newline, 1 and public key.
    pub(crate) fn hash(&self) -> String {
        let named = [self.name.as_bytes(), b"\n\x01", self.public()].concat();
        sha256_hex(&named)[..8].to_owned()
    }

    /// `NAME+HASH+BASE64`.
    pub(crate) fn text(&self) -> String {
        let typed = [&[1], self.public()].concat();
        format!("{}+{}+{}", self.name, self.hash(), STANDARD.encode(typed))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}
