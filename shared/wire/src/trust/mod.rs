//! The verified protocol as the backend sees it: names of what a tenant stores, requests signed by a key,
//! and the bodies of the few calls that are not objects. What objects say is none of the wire's business.
//!
//! What always holds: every value here has one spelling, so that equal values are equal texts. No
//! cryptography: [`SignedRequest::text`] says what is signed, others sign and verify.

mod bodies;
mod key;
mod name;
mod path;
mod request;
mod time;

pub use bodies::{
    CredentialList, CredentialReply, CredentialRequest, HeartbeatReply, JoinCodeReply, JoinCodeRequest, JoinList,
    JoinRequestReply, KeyRole, ReceiptList, ReceiptReply, StoredList, StoredObject,
};
pub use key::{KeyId, PublicKey, PublicKeyError};
pub use name::{Digest, DigestError, Label, LabelError, Version, VersionError};
pub use path::{LogFile, ObjectPath, ObjectPathError};
pub use request::{SCHEME, SignedRequest, SignedRequestError};
pub use time::{Time, TimeError};

/// Longest join request, bytes.
pub const JOIN_REQUEST_MAX: u64 = 16 * 1024;
/// Longest receipt, bytes.
pub const RECEIPT_MAX: u64 = 16 * 1024;
/// Longest body that may come without [`CONTENT_DIGEST`], bytes: it is read before its signature can be checked.
pub const UNANNOUNCED_MAX: u64 = 256 * 1024;
/// RFC 9530: digest of a body, sent ahead of it so that the signature is checked first.
pub const CONTENT_DIGEST: &str = "content-digest";
/// How far the time of a signed request may be from the server's clock, seconds.
pub const CLOCK_TOLERANCE_SECONDS: u64 = 300;
