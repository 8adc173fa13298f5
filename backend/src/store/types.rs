//! The small values the store speaks in.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dirless_program::Secret;
use dirless_wire::ETag;
use dirless_wire::trust::KeyRole;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;
use subtle::ConstantTimeEq as _;

use super::StoreError;

/// Bytes in a SHA-256 digest.
pub(crate) const DIGEST: usize = 32;

/// Name of a realm: 1 to 63 characters of `a-z`, `0-9` and `-`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RealmName(Arc<str>);

/// Why a text is no realm name.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no realm name: use 1 to 63 characters of a-z, 0-9 and -, beginning with a letter or digit")]
pub struct BadRealmName(String);

impl RealmName {
    /// Parses a realm name.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(text: &str) -> Result<Self, BadRealmName> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ok = (1..=63).contains(&text.len())
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|byte| plain(byte) || byte == b'-');
        if ok {
            Ok(Self(text.into()))
        } else {
            Err(BadRealmName(text.chars().take(80).collect()))
        }
    }

    /// The realm of the classic shared secret, which is there from the first start.
    #[must_use]
    pub fn default_realm() -> Self {
        Self("default".into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RealmName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::str::FromStr for RealmName {
    type Err = BadRealmName;

    fn from_str(text: &str) -> Result<Self, BadRealmName> {
        Self::parse(text)
    }
}

/// Whether a realm's credentials may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RealmState {
    /// In use.
    Active,
    /// Its credentials are recognised and answered with 403.
    Suspended,
}

impl RealmState {
    /// The word in the database, the logs and the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        match text {
            "active" => Ok(Self::Active),
            "suspended" => Ok(Self::Suspended),
            other => Err(StoreError::corrupt(format!("realm state {other:?}"))),
        }
    }
}

/// SHA-256 of a bearer secret: the only form in which the store knows one. Compared in constant
/// time; `Debug` shows nothing.
#[derive(Clone, Copy, Eq)]
pub struct SecretHash(pub(crate) [u8; DIGEST]);

impl SecretHash {
    /// The hash of a bearer as it came from the wire.
    #[must_use]
    pub fn of(bearer: &[u8]) -> Self {
        Self(sha256(bearer))
    }

    /// Of a hash that came instead of its secret.
    #[must_use]
    pub fn from_digest(digest: [u8; DIGEST]) -> Self {
        Self(digest)
    }

    pub(crate) fn from_column(bytes: &[u8]) -> Result<Self, StoreError> {
        Ok(Self(digest_column(bytes)?))
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::hash::Hash for SecretHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretHash(..)")
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; DIGEST] {
    let mut out = [0; DIGEST];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

pub(crate) fn digest_column(bytes: &[u8]) -> Result<[u8; DIGEST], StoreError> {
    bytes
        .try_into()
        .map_err(|_wrong| StoreError::corrupt("a digest that is not 32 bytes long"))
}

/// Makes a 256-bit secret: 43 characters of unpadded URL-safe base64.
///
/// # Errors
/// When the system's random source fails.
pub fn generate_secret(random: &dyn SecureRandom) -> Result<Secret, StoreError> {
    let mut bytes = zeroize::Zeroizing::new([0u8; 32]);
    random
        .fill(bytes.as_mut_slice())
        .map_err(|_unspecified| StoreError::NoRandomness)?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}

/// Number of a snapshot within its (tenant, source): 1 for the first, one more for each that
/// follows, deletions included; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The strong entity tag of a body (RFC 9110 section 8.8.3): the unpadded URL-safe base64 of its
/// SHA-256, 45 characters with the quotes.
pub(crate) fn etag_of_digest(digest: &[u8; DIGEST]) -> ETag {
    ETag::strong(&URL_SAFE_NO_PAD.encode(digest)).expect("43 letters, digits, - and _ are a legal tag")
}

/// The strong entity tag the store gives to `body`.
#[must_use]
pub fn etag_of(body: &[u8]) -> ETag {
    etag_of_digest(&sha256(body))
}

/// What a caller may do, which decides what the audit log says about who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The one shared secret of a realm, as deployed components use it.
    Classic,
    /// An operator's token.
    Operator,
    /// Someone at the server's own console.
    Console,
    /// The owner of a publisher's key.
    Publisher,
    /// The owner of a node's key.
    Node,
    /// A host with a join code.
    Joining,
}

impl From<KeyRole> for Role {
    fn from(role: KeyRole) -> Self {
        match role {
            KeyRole::Publisher => Self::Publisher,
            KeyRole::Node => Self::Node,
        }
    }
}

impl Role {
    /// The word in the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Operator => "operator",
            Self::Console => "console",
            Self::Publisher => "publisher",
            Self::Node => "node",
            Self::Joining => "joining",
        }
    }
}

/// Where a write came from, for the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(pub(crate) Option<IpAddr>);

impl Origin {
    /// A caller on the network, by the address the server trusts.
    #[must_use]
    pub fn network(address: IpAddr) -> Self {
        Self(Some(address))
    }

    /// The program itself or its command line.
    #[must_use]
    pub fn console() -> Self {
        Self(None)
    }
}

/// What an operator token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Scope {
    /// The full view of `/v1/health`.
    Health,
    /// `/metrics`.
    Metrics,
    /// Reading the audit log.
    Audit,
    /// Making tenants of the verified protocol, registering their publishers, and reading what they store.
    Tenants,
    /// Everything an operator can do over HTTP.
    Admin,
}

impl Scope {
    /// The word in the database and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Metrics => "metrics",
            Self::Audit => "audit",
            Self::Tenants => "tenants",
            Self::Admin => "admin",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        [Self::Health, Self::Metrics, Self::Audit, Self::Tenants, Self::Admin]
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| StoreError::corrupt(format!("token scope {text:?}")))
    }
}

/// Public name of an operator token: 16 lower-case hex digits. Not a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub(crate) Arc<str>);

impl TokenId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Milliseconds since 1970, as the database keeps times.
pub(crate) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// How far the clocks of backends may be apart, milliseconds.
pub(crate) const CLOCKS_APART: i64 = 10_000;

/// Up to when stored times are believed. Later ones were written by a clock that was ahead, and give way to what comes now.
pub(crate) fn believed_until(now: Timestamp) -> i64 {
    millis(now).saturating_add(CLOCKS_APART)
}

pub(crate) fn timestamp(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|_range| StoreError::corrupt(format!("time {millis}")))
}

/// A count or length for the database, which knows signed numbers only.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_negative| StoreError::corrupt(format!("negative count {number}")))
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    #[test]
    fn realm_names_have_one_grammar() {
        for good in ["default", "a", "acme-1", "0x", &"r".repeat(63)] {
            assert_eq!(RealmName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "A", "a b", "a_b", "ä", "a\n", &"r".repeat(64)] {
            assert!(RealmName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hashes_and_tags_are_those_of_sha_256() {
        // FIPS 180-2 appendix B.1: "abc".
        assert_eq!(
            etag_of(b"abc").header(),
            "\"ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0\""
        );
        assert_eq!(SecretHash::of(b"abc"), SecretHash::of(b"abc"));
        assert_ne!(SecretHash::of(b"abc"), SecretHash::of(b"abd"));
        assert_eq!(format!("{:?}", SecretHash::of(b"abc")), "SecretHash(..)");
    }

    #[test]
    fn generated_secrets_have_256_bits_and_differ() {
        let random = SystemRandom::new();
        let (one, two) = (generate_secret(&random).unwrap(), generate_secret(&random).unwrap());
        assert_eq!(one.expose().len(), 43);
        assert_ne!(one.expose(), two.expose());
    }

    #[test]
    fn words_of_the_database_are_read_back() {
        for scope in [
            Scope::Health,
            Scope::Metrics,
            Scope::Audit,
            Scope::Tenants,
            Scope::Admin,
        ] {
            assert_eq!(Scope::parse(scope.as_str()).unwrap(), scope);
        }
        for state in [RealmState::Active, RealmState::Suspended] {
            assert_eq!(RealmState::parse(state.as_str()).unwrap(), state);
        }
        assert!(Scope::parse("root").is_err());
        assert!(RealmState::parse("").is_err());
    }
}
