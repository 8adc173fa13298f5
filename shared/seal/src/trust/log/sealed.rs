//! Records of the log as they travel: ChaCha20-Poly1305 (RFC 8439) under a key that HKDF (RFC 5869) makes of an epoch's.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};

use super::LONGEST_RECORD;
use super::changes::Changes;
use super::codec::ChangesError;
use super::tile::LogFile;
use crate::trust::Manifest;
use crate::{Digest, Identity, Label};

/// Says what the key is for.
const SALT: &[u8] = b"dirless/log-key/v1";

/// Which log it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose it is.
    pub tenant: Digest,
    /// Name of the publisher's key.
    pub publisher: Label,
    /// The source.
    pub source: Label,
    /// The compartment.
    pub compartment: Label,
    /// The epoch.
    pub epoch: u64,
    /// Version of the base's manifest.
    pub version: u64,
    /// Digest of that manifest.
    pub manifest: Digest,
}

impl Place {
    /// The log beside `manifest`, which has this digest.
    #[must_use]
    pub fn of(manifest: &Manifest, digest: Digest) -> Self {
        Self {
            tenant: manifest.tenant,
            publisher: manifest.publisher.clone(),
            source: manifest.source.clone(),
            compartment: manifest.compartment.clone(),
            epoch: manifest.epoch,
            version: manifest.version,
            manifest: digest,
        }
    }

    /// The path of its files below the tenant's.
    #[must_use]
    pub fn folder(&self) -> String {
        let Self {
            publisher,
            source,
            compartment,
            version,
            ..
        } = self;
        format!("log/{publisher}/{source}/{compartment}/{version}")
    }

    /// The path of `file`.
    #[must_use]
    pub fn path(&self, file: LogFile) -> String {
        format!("{}/{file}", self.folder())
    }

    /// What a key or a record is bound to.
    fn text(&self) -> String {
        let Self {
            tenant,
            publisher,
            source,
            compartment,
            epoch,
            version,
            manifest,
        } = self;
        format!("dirless/log/v1\n{tenant}\n{publisher}\n{source}\n{compartment}\n{epoch}\n{version}\n{manifest}\n")
    }
}

/// A sealed record cannot be made, or is none of this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is not what was sealed under this number of this log.
    #[error("record {0} of the log does not open: it is damaged, or one of another log")]
    Sealed(u64),
    /// It opens, but what is in it are no changes.
    #[error("record {number} of the log opens, but cannot be read: {error}")]
    Changes {
        /// Its number.
        number: u64,
        /// What is wrong.
        error: ChangesError,
    },
    /// The random source failed.
    #[error("the random source failed")]
    Random,
}

/// What seals and opens the records of one log.
pub struct LogKey {
    key: LessSafeKey,
    bound_to: String,
}

impl LogKey {
    /// The key of the log at `place`, made of its epoch's.
    #[must_use]
    pub fn new(epoch: &Identity, place: &Place) -> Self {
        let bound_to = place.text();
        let secret = epoch.expose();
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(secret.as_bytes());
        let info = [bound_to.as_bytes()];
        let key = derived
            .expand(&info, &CHACHA20_POLY1305)
            .expect("32 bytes are fewer than HKDF can give");
        Self {
            key: LessSafeKey::new(UnboundKey::from(key)),
            bound_to,
        }
    }

    fn associated(&self, number: u64) -> Aad<String> {
        Aad::from(format!("{}{number}\n", self.bound_to))
    }

    /// Seals `changes` as record `number`: a nonce, then ciphertext and tag. The nonce is random and not the number, for
    /// a state that is put back from a backup seals a second record under the same number.
    ///
    /// # Errors
    /// When they are longer than a record may be.
    pub fn seal(&self, number: u64, changes: &Changes) -> Result<Vec<u8>, RecordError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| RecordError::Random)?;
        let mut bytes = changes
            .encode()
            .map_err(|error| RecordError::Changes { number, error })?;
        let whole = NONCE_LEN + bytes.len() + CHACHA20_POLY1305.tag_len();
        if whole > LONGEST_RECORD {
            let error = ChangesError::TooLong;
            return Err(RecordError::Changes { number, error });
        }
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), self.associated(number), &mut bytes)
            .map_err(|_| RecordError::Sealed(number))?;
        let mut sealed = Vec::with_capacity(whole);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&bytes);
        Ok(sealed)
    }

    /// Opens record `number`.
    ///
    /// # Errors
    /// When it was not sealed as that, or is nothing that [`LogKey::seal`] seals.
    pub fn open(&self, number: u64, sealed: &[u8]) -> Result<Changes, RecordError> {
        let refused = RecordError::Sealed(number);
        if sealed.len() > LONGEST_RECORD {
            return Err(refused);
        }
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(refused)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| refused)?;
        let mut bytes = sealed.to_vec();
        let open = self
            .key
            .open_in_place(nonce, self.associated(number), &mut bytes)
            .map_err(|_| refused)?;
        Changes::decode(open).map_err(|error| RecordError::Changes { number, error })
    }
}

impl std::fmt::Debug for LogKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("LogKey")
    }
}
