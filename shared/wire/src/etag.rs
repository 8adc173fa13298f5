use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An entity tag (RFC 9110 section 8.8.3): an opaque text and whether it is weak.
///
/// Our own server sends strong tags only; the type reads weak ones because a front may weaken them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "\"5d41402abc4b2a76\"")]
pub struct ETag(String);

impl ETag {
    /// A strong tag around `opaque`.
    ///
    /// # Errors
    /// When `opaque` has a quote, a blank or a control character, or more than 128 characters.
    pub fn strong(opaque: &str) -> Result<Self, ETagError> {
        let legal = opaque.bytes().all(|byte| byte == 0x21 || (0x23..=0x7e).contains(&byte));
        if legal && opaque.len() <= 128 {
            Ok(Self(format!("\"{opaque}\"")))
        } else {
            Err(ETagError)
        }
    }

    /// Reads one tag in header form: `"text"` or `W/"text"`.
    ///
    /// # Errors
    /// When it is anything else, a list and `*` included.
    pub fn parse(text: &str) -> Result<Self, ETagError> {
        let quoted = text.strip_prefix("W/").unwrap_or(text);
        let opaque = quoted
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .ok_or(ETagError)?;
        Self::strong(opaque).map(|_| Self(text.to_owned()))
    }

    /// The header form, quotes and `W/` included.
    #[must_use]
    pub fn header(&self) -> &str {
        &self.0
    }

    /// The text between the quotes.
    #[must_use]
    pub fn opaque(&self) -> &str {
        self.0.strip_prefix("W/").unwrap_or(&self.0).trim_matches('"')
    }

    /// Whether it is a weak tag.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.0.starts_with("W/")
    }

    /// Weak comparison (RFC 9110 section 8.8.3.2): the same text, weak or not.
    #[must_use]
    pub fn weakly_equals(&self, other: &Self) -> bool {
        self.opaque() == other.opaque()
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ETag {
    type Error = ETagError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<ETag> for String {
    fn from(tag: ETag) -> Self {
        tag.0
    }
}

/// The text is not an entity tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entity tag is \"text\" or W/\"text\" without blanks or quotes inside")]
pub struct ETagError;

/// Whether an `If-None-Match` value (RFC 9110 section 13.1.2) names `current`: `*`, or a list with
/// a weakly equal member. Allocates nothing. What is malformed from some point on matches nothing
/// from there on, so that a broken client gets the whole body.
#[must_use]
pub fn if_none_match(header: &[u8], current: &ETag) -> bool {
    let current = current.opaque().as_bytes();
    let mut rest = trim_start(header);
    if rest.trim_ascii() == b"*" {
        return true;
    }
    while !rest.is_empty() {
        let tag = rest.strip_prefix(b"W/").unwrap_or(rest);
        let Some(open) = tag.strip_prefix(b"\"") else {
            return false;
        };
        let Some(end) = open.iter().position(|byte| *byte == b'"') else {
            return false;
        };
        let (opaque, after) = open.split_at(end);
        if opaque == current {
            return true;
        }
        let after = trim_start(after.get(1..).unwrap_or_default());
        match after.strip_prefix(b",") {
            // RFC 9110 section 5.6.1: empty list members are to be ignored.
            Some(next) => rest = skip_commas(next),
            None => return false,
        }
    }
    false
}

fn trim_start(text: &[u8]) -> &[u8] {
    text.trim_ascii_start()
}

fn skip_commas(mut text: &[u8]) -> &[u8] {
    loop {
        text = trim_start(text);
        match text.strip_prefix(b",") {
            Some(next) => text = next,
            None => return text,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn header_form_is_read_and_written() {
        let strong = ETag::strong("abc").unwrap();
        assert_eq!(
            (strong.header(), strong.opaque(), strong.is_weak()),
            ("\"abc\"", "abc", false)
        );
        let weak = ETag::parse("W/\"abc\"").unwrap();
        assert_eq!((weak.opaque(), weak.is_weak()), ("abc", true));
        assert!(weak.weakly_equals(&strong) && weak != strong);
        for text in [
            "",
            "abc",
            "\"abc",
            "abc\"",
            "\"a b\"",
            "\"a\"b\"",
            "w/\"abc\"",
            "*",
            "\"a\", \"b\"",
            "\"",
        ] {
            assert_eq!(ETag::parse(text), Err(ETagError), "{text:?}");
        }
        assert!(ETag::strong(&"x".repeat(129)).is_err());
    }

    #[test]
    fn lists_stars_and_weak_tags_match() {
        let current = ETag::strong("abc").unwrap();
        for header in [
            "\"abc\"",
            "W/\"abc\"",
            "*",
            " * ",
            "\"x\", \"abc\"",
            "\"x\",W/\"abc\"",
            "\"x\" ,, ,\"abc\" ",
        ] {
            assert!(if_none_match(header.as_bytes(), &current), "{header:?}");
        }
        for header in [
            "",
            "abc",
            "\"ABC\"",
            "\"x\"",
            "\"abc",
            "\"x\" \"abc\"",
            "garbage, \"abc\"",
            "**",
            "\"*\"",
        ] {
            assert!(!if_none_match(header.as_bytes(), &current), "{header:?}");
        }
    }

    #[test]
    fn a_comma_inside_a_tag_does_not_split_it() {
        let current = ETag::strong("b").unwrap();
        assert!(!if_none_match(b"\"a,b\"", &current));
        assert!(if_none_match(b"\"a,b\", \"b\"", &current));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(header in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = if_none_match(&header, &ETag::strong("abc").unwrap());
        }

        #[test]
        fn a_list_matches_exactly_its_members(tags in proptest::collection::vec("[a-z,]{0,4}", 0..5), wanted in "[a-z,]{0,4}") {
            let header = tags.iter().map(|tag| format!("\"{tag}\"")).collect::<Vec<_>>().join(", ");
            let current = ETag::strong(&wanted).unwrap();
            prop_assert_eq!(if_none_match(header.as_bytes(), &current), tags.contains(&wanted));
        }
    }
}
