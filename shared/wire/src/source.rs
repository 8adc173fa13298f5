use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text::checked_text;

/// Names that are routes of their own under `/v1/snapshot/`, or are kept free for such routes.
pub const RESERVED_SOURCE_NAMES: &[&str] = &[
    "authz-config",
    "ca-public-key",
    "duplicates",
    "head",
    "health",
    "metrics",
    "policy",
    "public-key",
    "settings",
];

/// Where a snapshot comes from: `aws-identity-center`, `local`, or any other
/// `[a-z0-9][a-z0-9-]{0,63}` that is not a route's own name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 64, pattern = "^[a-z0-9][a-z0-9-]{0,63}$")]
pub struct SourceName(String);

impl SourceName {
    /// The source deployed syncers write.
    pub const AWS_IDENTITY_CENTER: &'static str = "aws-identity-center";
    /// The source people write, through a portal or `dirless-syncer local`.
    pub const LOCAL: &'static str = "local";

    /// Checks a source name.
    ///
    /// # Errors
    /// When it breaks the grammar or names a route.
    pub fn new(text: &str) -> Result<Self, SourceNameError> {
        Self::check(text).map(|name| Self(name.to_owned()))
    }

    /// The name itself when it is a source name, without allocating.
    ///
    /// # Errors
    /// As [`SourceName::new`].
    pub fn check(text: &str) -> Result<&str, SourceNameError> {
        let mut bytes = text.bytes();
        let first = bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let rest = bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !first || !rest || text.len() > 64 {
            return Err(SourceNameError::Grammar);
        }
        if RESERVED_SOURCE_NAMES.contains(&text) {
            Err(SourceNameError::Reserved)
        } else {
            Ok(text)
        }
    }

    /// The source deployed syncers write.
    #[must_use]
    pub fn aws_identity_center() -> Self {
        Self(Self::AWS_IDENTITY_CENTER.to_owned())
    }

    /// The source people write.
    #[must_use]
    pub fn local() -> Self {
        Self(Self::LOCAL.to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceName({})", self.0)
    }
}

checked_text!(SourceName, SourceNameError);

/// Why a text is not a source name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SourceNameError {
    /// Outside `[a-z0-9][a-z0-9-]{0,63}`.
    #[error("a source name is 1 to 64 of a-z, 0-9 and '-', and does not begin with '-'")]
    Grammar,
    /// One of [`RESERVED_SOURCE_NAMES`].
    #[error("this source name is kept for a route of the server; choose another")]
    Reserved,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_are_taken() {
        for text in ["aws-identity-center", "local", "a", "0", "ad-2", &"x".repeat(64)] {
            assert_eq!(SourceName::new(text).unwrap().as_str(), text);
        }
        assert_eq!(SourceName::new("local").unwrap(), SourceName::local());
        assert_eq!(
            SourceName::new("aws-identity-center").unwrap(),
            SourceName::aws_identity_center()
        );
    }

    #[test]
    fn malformed_names_are_refused() {
        for text in ["", "-a", "A", "a_b", "a/b", "a b", "a.b", "é", &"x".repeat(65)] {
            assert_eq!(SourceName::new(text), Err(SourceNameError::Grammar), "{text:?}");
        }
    }

    #[test]
    fn no_reserved_name_gets_through_and_each_is_well_formed() {
        for text in RESERVED_SOURCE_NAMES {
            assert_eq!(SourceName::new(text), Err(SourceNameError::Reserved), "{text}");
        }
        for route in ["public-key", "authz-config", "duplicates", "ca-public-key"] {
            assert!(RESERVED_SOURCE_NAMES.contains(&route), "{route}");
        }
    }

    #[test]
    fn json_goes_through_the_same_check() {
        assert!(serde_json::from_str::<SourceName>("\"local\"").is_ok());
        assert!(serde_json::from_str::<SourceName>("\"public-key\"").is_err());
    }
}
