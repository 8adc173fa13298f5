//! Attribute descriptions (RFC 4512 section 2.5): a short name or an OID, with options, compared
//! without regard to case.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Longest attribute description in bytes.
const LONGEST: usize = 256;

/// An attribute description such as `uidNumber`, `2.5.4.3` or `userCertificate;binary`.
///
/// It keeps the spelling it was given; comparison, order and hash go by the lower-case form.
#[derive(Clone)]
pub struct AttributeName(Box<str>);

/// Why a text is no [`AttributeName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no attribute name: write letters, digits and hyphens after a letter, or a dotted OID; options follow after ;"
)]
pub struct AttributeNameError(String);

impl AttributeName {
    /// Parses `text`.
    ///
    /// # Errors
    /// When it is neither a `descr` nor a `numericoid`, or has malformed options.
    pub fn parse(text: &str) -> Result<Self, AttributeNameError> {
        let error = || AttributeNameError(text.chars().take(LONGEST).collect());
        if text.len() > LONGEST {
            return Err(error());
        }
        let mut parts = text.split(';');
        let kind = parts.next().unwrap_or_default();
        if !(is_descr(kind) || is_numeric_oid(kind)) || !parts.all(is_option) {
            return Err(error());
        }
        Ok(Self(text.into()))
    }

    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the options.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.0.split(';').next().unwrap_or(&self.0)
    }

    /// The lower-case form, the key under which stores and indexes keep the attribute.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// `keystring` of RFC 4512: a letter, then letters, digits and hyphens. Underscores are taken too, for
/// Active Directory and others have them.
pub(crate) fn is_descr(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// `numericoid` of RFC 4512, also with a single arc.
pub(crate) fn is_numeric_oid(text: &str) -> bool {
    !text.is_empty()
        && text.split('.').all(|arc| {
            !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit()) && (arc == "0" || !arc.starts_with('0'))
        })
}

fn is_option(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'='))
}

impl PartialEq for AttributeName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for AttributeName {}

impl PartialOrd for AttributeName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for AttributeName {
    fn cmp(&self, other: &Self) -> Ordering {
        let lower = |byte: u8| byte.to_ascii_lowercase();
        self.0.bytes().map(lower).cmp(other.0.bytes().map(lower))
    }
}

impl Hash for AttributeName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
        state.write_u8(0xff);
    }
}

impl fmt::Display for AttributeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for AttributeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}

impl std::str::FromStr for AttributeName {
    type Err = AttributeNameError;

    fn from_str(text: &str) -> Result<Self, AttributeNameError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;

    fn name(text: &str) -> AttributeName {
        AttributeName::parse(text).unwrap()
    }

    #[test]
    fn names_follow_the_grammar() {
        for good in [
            "cn",
            "uidNumber",
            "2.5.4.3",
            "0.9.2342.19200300.100.1.1",
            "userCertificate;binary",
            "msDS-User_x",
            "cn;lang-de;x-1",
        ] {
            assert_eq!(name(good).as_str(), good);
        }
        for bad in [
            "",
            "1cn",
            "-cn",
            "c n",
            "2.5..4",
            "2.05",
            "cn;",
            "cn;a b",
            ";x",
            "cn=",
            &"a".repeat(300),
        ] {
            assert!(AttributeName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn case_does_not_matter_for_any_comparison() {
        assert_eq!(name("UIDNumber"), name("uidnumber"));
        assert_eq!(BTreeSet::from([name("CN"), name("cn"), name("Sn")]).len(), 2);
        assert_eq!(HashSet::from([name("CN"), name("cn"), name("Sn")]).len(), 2);
        assert_eq!(name("userCertificate;binary").kind(), "userCertificate");
        assert_eq!(name("userCertificate;binary").key(), "usercertificate;binary");
    }
}
