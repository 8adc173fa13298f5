//! Sealing and opening, signing and verifying, and the digests that are derived from a tenant's secret.
//!
//! The only crate that names age or a keyed digest, and the only one that signs; nothing here knows HTTP, storage or what a
//! snapshot holds. What always holds: an [`Identity`] never prints itself; a reader from [`open`]
//! ends without an error only when the last byte was authenticated, so whoever reads it to its end
//! before using anything has read what was sealed, whole.
//!
//! The envelope is the one that deployed Dirless programs speak:
//! `base64(age(gzip(JSON)))`, age v1 binary format (<https://age-encryption.org/v1>) to one X25519
//! recipient, standard base64 alphabet (RFC 4648 section 4) with padding and without line breaks.

#![forbid(unsafe_code)]

mod content;
mod digest;
mod envelope;
mod key;
mod label;
mod note;
mod passphrase;
mod signing;
mod tenant;
pub mod trust;

pub use content::{Content, ContentStore, KeptError, RecordKind, update as update_content};
pub use digest::{Digest, Digester, NoDigest};
pub use envelope::{Limits, OpenError, Opened, open, open_file, seal, seal_file};
pub use key::{Identity, KeyError, Recipient};
pub use label::{Label, NoLabel};
pub use note::{Note, NoteError};
pub use passphrase::{UnlockError, WorkFactor, lock, unlock};
pub use signing::{KeyHash, SigningKey, SigningKeyError, VerifyingKey};
pub use tenant::{fingerprint, sha256_hex, tenant_id};
