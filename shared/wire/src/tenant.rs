use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text::checked_text;

/// What some deployed tools put before a derived tenant id; taken off at the edge, once.
pub const TENANT_PREFIX: &str = "aws___";

/// Longest accepted tenant id, after the prefix is taken off.
const MAX_LENGTH: usize = 128;

/// The name of a tenant: 64 lower-case hexadecimal digits when derived from an AWS account,
/// otherwise a string handed out by a portal (1 to 128 of `A-Z a-z 0-9 _ . : -`).
///
/// `aws___X` and `X` are the same tenant, so the prefix never survives construction.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 134, pattern = "^(aws___)?[A-Za-z0-9_.:-]{1,128}$")]
pub struct TenantId(String);

impl TenantId {
    /// Checks and normalises a tenant id as found in a header or body.
    ///
    /// # Errors
    /// When nothing is left after the prefix, when it is too long, has a character outside the
    /// grammar, or carries the prefix twice (then "the same tenant" would have no end).
    pub fn new(text: &str) -> Result<Self, TenantIdError> {
        Self::normalise(text).map(|bare| Self(bare.to_owned()))
    }

    /// The bare form of `text`, borrowed: what [`TenantId::new`] would hold, without allocating.
    ///
    /// # Errors
    /// As [`TenantId::new`].
    pub fn normalise(text: &str) -> Result<&str, TenantIdError> {
        let bare = text.strip_prefix(TENANT_PREFIX).unwrap_or(text);
        if bare.is_empty() {
            return Err(TenantIdError::Empty);
        }
        if bare.len() > MAX_LENGTH {
            return Err(TenantIdError::TooLong { length: bare.len() });
        }
        if bare.starts_with(TENANT_PREFIX) {
            return Err(TenantIdError::PrefixTwice);
        }
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(byte);
        if bare.as_bytes().iter().all(allowed) {
            Ok(bare)
        } else {
            Err(TenantIdError::Character)
        }
    }

    /// The bare id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has the form derived from an AWS account (64 lower-case hexadecimal digits).
    #[must_use]
    pub fn is_derived(&self) -> bool {
        self.0.len() == 64 && self.0.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({})", self.0)
    }
}

checked_text!(TenantId, TenantIdError);

/// Why a text is not a tenant id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TenantIdError {
    /// Nothing there, or nothing after the prefix.
    #[error("the tenant id is empty")]
    Empty,
    /// Over 128 characters.
    #[error("the tenant id has {length} characters, at most 128 are allowed")]
    TooLong {
        /// Characters seen, without the prefix.
        length: usize,
    },
    /// Something outside `A-Z a-z 0-9 _ . : -`.
    #[error("the tenant id has a character other than letters, digits, '_', '.', ':' and '-'")]
    Character,
    /// `aws___aws___…`.
    #[error("the tenant id carries the prefix aws___ twice")]
    PrefixTwice,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "615d1286d91a88073425f44e10dca43f4d0ec96a8c2581c7b582ad240178afac";

    #[test]
    fn both_spellings_are_one_tenant() {
        let bare = TenantId::new(HEX).unwrap();
        let prefixed = TenantId::new(&format!("aws___{HEX}")).unwrap();
        assert_eq!(bare, prefixed);
        assert_eq!(prefixed.as_str(), HEX);
        assert!(bare.is_derived());
    }

    #[test]
    fn portal_strings_are_taken() {
        for text in ["acme", "cust_01:prod.eu-1", "A", &"x".repeat(128)] {
            assert_eq!(TenantId::new(text).unwrap().as_str(), text);
            assert!(!TenantId::new(text).unwrap().is_derived());
        }
        assert!(!TenantId::new(&HEX.to_uppercase()).unwrap().is_derived());
    }

    #[test]
    fn malformed_ids_are_refused_each_with_its_reason() {
        assert_eq!(TenantId::new(""), Err(TenantIdError::Empty));
        assert_eq!(TenantId::new("aws___"), Err(TenantIdError::Empty));
        assert_eq!(TenantId::new("aws___aws___x"), Err(TenantIdError::PrefixTwice));
        assert_eq!(
            TenantId::new(&"x".repeat(129)),
            Err(TenantIdError::TooLong { length: 129 })
        );
        for text in ["a b", "a/b", "a\n", "é", "a\0", "a%2f", "..\\"] {
            assert_eq!(TenantId::new(text), Err(TenantIdError::Character), "{text:?}");
        }
    }

    #[test]
    fn json_goes_through_the_same_check() {
        let tenant: TenantId = serde_json::from_str("\"aws___acme\"").unwrap();
        assert_eq!(serde_json::to_string(&tenant).unwrap(), "\"acme\"");
        assert!(serde_json::from_str::<TenantId>("\"a b\"").is_err());
    }

    proptest! {
        #[test]
        fn normalising_is_idempotent_and_prefix_blind(text in ".{0,140}") {
            if let Ok(tenant) = TenantId::new(&text) {
                prop_assert_eq!(TenantId::new(tenant.as_str()).unwrap(), tenant.clone());
                prop_assert_eq!(TenantId::new(&format!("aws___{tenant}")).unwrap(), tenant.clone());
                prop_assert!(!tenant.as_str().starts_with(TENANT_PREFIX));
            }
        }
    }
}
