//! The names that signed objects give to keys, sources and compartments.

use std::fmt;
use std::str::FromStr;

/// A short word: lower-case letters, digits, `-`, `_` and `.`, beginning with a letter or digit, at most 64
/// bytes. The backend sees labels; they should say nothing that it must not know.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Box<str>);

/// The text is no label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no label: lower-case letters, digits, '-', '_' and '.', beginning with a letter or digit, at most 64"
)]
pub struct NoLabel(String);

impl Label {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = NoLabel;

    fn from_str(text: &str) -> Result<Self, NoLabel> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = text.len() <= 64
            && text.bytes().next().is_some_and(inner)
            && text.bytes().all(|byte| inner(byte) || b"-_.".contains(&byte));
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(NoLabel(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_labels_and_nothing_else_is() {
        for text in ["all", "aws-identity-center", "web.eu_1", "7", &"a".repeat(64)] {
            assert_eq!(text.parse::<Label>().unwrap().as_str(), text);
        }
        for text in [
            "",
            "-a",
            ".",
            "..",
            "../x",
            "a b",
            "a+b",
            "Web",
            "ä",
            "a\n",
            &"a".repeat(65),
        ] {
            assert!(text.parse::<Label>().is_err(), "{text:?}");
        }
    }
}
