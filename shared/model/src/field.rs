//! The other fields of a passwd(5) record, and the ids that sources give their objects.

use std::borrow::Cow;
use std::fmt;

/// Longest path or comment in bytes: glibc callers start with buffers of 1 KiB.
const LONGEST: usize = 256;

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $error:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// Parses `text` as it stands.
            ///
            /// # Errors
            /// When `text` may not stand there.
            pub fn parse(text: &str) -> Result<Self, $error> {
                $check(text)?;
                Ok(Self(text.into()))
            }

            /// Checks `text` without keeping it.
            ///
            /// # Errors
            /// As [`Self::parse`].
            pub fn check(text: &str) -> Result<(), $error> {
                $check(text)
            }

            /// Takes `text`, which [`Self::check`] passed.
            pub(crate) fn checked(text: &str) -> Self {
                debug_assert!($check(text).is_ok());
                Self(text.into())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{:?}", self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(|error| serde::de::Error::custom(format_args!("{text:?} {error}")))
            }
        }
    };
}

text_type! {
    /// The comment field of passwd(5): no `:`, no control character, at most 256 bytes; may be empty.
    Gecos, GecosError, check_gecos
}

text_type! {
    /// A home directory or a login shell: an absolute path without `:`, control characters, empty,
    /// `.` or `..` components, at most 256 bytes.
    HostPath, HostPathError, check_path
}

text_type! {
    /// The id that a source gives an object for good, opaque to us: 1 to 256 bytes without control
    /// characters. A renamed object keeps it.
    ObjectId, ObjectIdError, check_object_id
}

/// Why a text is no [`Gecos`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GecosError {
    /// Would end the field or the record.
    #[error("holds {0:?}, which would end the field")]
    Character(char),
    /// Over 256 bytes.
    #[error("is longer than 256 bytes")]
    TooLong,
}

impl Gecos {
    /// Makes a comment of any text: what may not stand there becomes a blank, and the rest is cut
    /// at 256 bytes. A display name never keeps a person out.
    #[must_use]
    pub fn sanitise(text: &str) -> Self {
        Self(Self::sanitise_text(text).into())
    }

    /// As [`Gecos::sanitise`]; a text that may stand there as it is is not copied.
    #[must_use]
    pub fn sanitise_text(text: &str) -> Cow<'_, str> {
        if text.len() <= LONGEST && is_plain(text) {
            return text.trim().into();
        }
        let mut clean = String::with_capacity(text.len().min(LONGEST));
        for c in text.chars() {
            let c = if c.is_control() || c == ':' { ' ' } else { c };
            if clean.len() + c.len_utf8() > LONGEST {
                break;
            }
            clean.push(c);
        }
        clean.trim().to_owned().into()
    }
}

/// Why a text is no [`HostPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPathError {
    /// Does not start with `/`.
    #[error("is no absolute path")]
    Relative,
    /// Would end the field or the record.
    #[error("holds {0:?}, which would end the field")]
    Character(char),
    /// An empty, `.` or `..` component.
    #[error("holds an empty, . or .. component")]
    Component,
    /// Over 256 bytes.
    #[error("is longer than 256 bytes")]
    TooLong,
}

/// Why a text is no [`ObjectId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 256 bytes without control characters")]
pub struct ObjectIdError;

/// Is `text` printable ASCII without a colon? Most is, and bytes are looked through much faster than
/// characters: many at once, as nothing ends the loop early.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~') & (byte != b':'))
}

/// The first character that would end a field or a record of passwd(5).
fn ending(text: &str) -> Option<char> {
    if is_plain(text) {
        return None;
    }
    text.chars().find(|c| c.is_control() || *c == ':')
}

fn check_gecos(text: &str) -> Result<(), GecosError> {
    if let Some(bad) = ending(text) {
        return Err(GecosError::Character(bad));
    }
    if text.len() > LONGEST {
        Err(GecosError::TooLong)
    } else {
        Ok(())
    }
}

fn check_path(text: &str) -> Result<(), HostPathError> {
    let inner = text.strip_prefix('/').ok_or(HostPathError::Relative)?;
    if let Some(bad) = ending(text) {
        return Err(HostPathError::Character(bad));
    }
    if text.len() > LONGEST {
        return Err(HostPathError::TooLong);
    }
    // "/" itself is a path; anything longer has only whole components.
    if !inner.is_empty() && inner.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(HostPathError::Component);
    }
    Ok(())
}

fn check_object_id(text: &str) -> Result<(), ObjectIdError> {
    let good = !text.is_empty() && text.len() <= LONGEST && (is_plain(text) || !text.chars().any(char::is_control));
    if good { Ok(()) } else { Err(ObjectIdError) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_cannot_climb_or_end_a_record() {
        for good in ["/", "/home/alice", "/bin/bash", "/srv/a b/c"] {
            assert!(HostPath::parse(good).is_ok(), "{good}");
        }
        let bad = [
            ("", HostPathError::Relative),
            ("home", HostPathError::Relative),
            ("/home/../etc", HostPathError::Component),
            ("/home//alice", HostPathError::Component),
            ("/home/alice/", HostPathError::Component),
            ("/home/./a", HostPathError::Component),
            ("/home/a:b", HostPathError::Character(':')),
            ("/home/a\nroot::0:0::/:/bin/sh", HostPathError::Character('\n')),
        ];
        for (text, error) in bad {
            assert_eq!(HostPath::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(
            HostPath::parse(&format!("/{}", "a".repeat(256))),
            Err(HostPathError::TooLong)
        );
    }

    #[test]
    fn object_ids_are_opaque_but_bounded() {
        assert!(ObjectId::parse("9067600000-0000-4000-8000-000000000000").is_ok());
        assert!(ObjectId::parse("").is_err());
        assert!(ObjectId::parse("a\0b").is_err());
        assert!(ObjectId::parse(&"x".repeat(257)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_comment(text in ".{0,400}") {
            let gecos = Gecos::sanitise(&text);
            prop_assert!(Gecos::parse(gecos.as_str()).is_ok());
            prop_assert_eq!(Gecos::sanitise(gecos.as_str()), gecos);
        }

        #[test]
        fn plain_text_holds_nothing_that_ends_a_field(text in "[ -~]{0,20}|.{0,20}|[é:\u{7f}\n]{0,3}") {
            let bad = text.chars().find(|c| c.is_control() || *c == ':');
            prop_assert_eq!(ending(&text), bad);
            prop_assert!(!is_plain(&text) || bad.is_none());
        }
    }
}
