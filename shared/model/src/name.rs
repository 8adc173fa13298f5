//! Names of users and groups: one strict grammar, and the rule that maps a source's names onto it.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::fmt;

/// Longest name in bytes, as utmp(5) and useradd(8) have it.
const LONGEST: usize = 32;

/// Name of a user or a group on a host: `[a-z_][a-z0-9_.-]{0,31}` without a trailing dot.
///
/// Names are compared byte for byte; there is no second way to spell one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Name(Box<str>);

/// Why a text is no [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is nothing left of it.
    #[error("is empty")]
    Empty,
    /// More than 32 bytes.
    #[error("is longer than 32 characters")]
    TooLong,
    /// The first character may only be a lower-case letter or `_`.
    #[error("starts with {0:?}; a name starts with a lower-case letter or _")]
    First(char),
    /// A character outside `a-z 0-9 _ . -`.
    #[error("holds {0:?}; a name holds only a-z, 0-9, _, . and -")]
    Character(char),
    /// A dot at the end.
    #[error("ends with a dot")]
    TrailingDot,
}

impl Name {
    /// Parses `text` as it stands.
    ///
    /// # Errors
    /// When `text` does not follow the grammar.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(text)?;
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes `text`, which [`check`] passed.
    pub(crate) fn checked(text: &str) -> Self {
        debug_assert_eq!(check(text), Ok(()));
        Self(text.into())
    }
}

/// The grammar of [`Name`] on borrowed text, for readers that keep names in an arena.
pub(crate) fn check(text: &str) -> Result<(), NameError> {
    let first = text.chars().next().ok_or(NameError::Empty)?;
    if !(first.is_ascii_lowercase() || first == '_') {
        return Err(NameError::First(first));
    }
    if let Some(bad) = text.chars().find(|c| !is_name_character(*c)) {
        return Err(NameError::Character(bad));
    }
    if text.len() > LONGEST {
        return Err(NameError::TooLong);
    }
    if text.ends_with('.') {
        return Err(NameError::TrailingDot);
    }
    Ok(())
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '-')
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|error| serde::de::Error::custom(format_args!("name {text:?} {error}")))
    }
}

/// Which of the two rules of a [`NameRule`] applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A user's name.
    User,
    /// A group's name.
    Group,
}

/// How a source's names become [`Name`]s. The steps, in order: the explicit map, lower-casing,
/// cutting an `@domain`, replacing what the grammar refuses, the prefix.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NameRule {
    /// Exact source names and what they become; the other steps are left out for them.
    pub map: BTreeMap<String, Name>,
    /// Lower-case ASCII letters.
    pub lowercase: bool,
    /// Cut user names at the first `@`.
    pub strip_domain: bool,
    /// In group names, a run of characters outside the grammar becomes one `-`.
    pub replace_in_groups: bool,
    /// Put in front of every user and group name.
    pub prefix: String,
}

impl Default for NameRule {
    fn default() -> Self {
        Self {
            map: BTreeMap::new(),
            lowercase: true,
            strip_domain: true,
            replace_in_groups: true,
            prefix: String::new(),
        }
    }
}

impl NameRule {
    /// The name that the source's `raw` name gets on hosts.
    ///
    /// # Errors
    /// When the mapped text is still no [`Name`].
    pub fn apply(&self, kind: NameKind, raw: &str) -> Result<Name, NameError> {
        self.apply_text(kind, raw).map(|name| Name(name.into()))
    }

    /// As [`NameRule::apply`]; a name that stays as it is is not copied.
    ///
    /// # Errors
    /// As there.
    pub fn apply_text<'a>(&'a self, kind: NameKind, raw: &'a str) -> Result<Cow<'a, str>, NameError> {
        if let Some(mapped) = self.map.get(raw) {
            return Ok(mapped.as_str().into());
        }
        // Most names are names already, and no step changes one of them but for a dash at its end.
        if self.prefix.is_empty() && !raw.ends_with('-') && check(raw).is_ok() {
            return Ok(raw.into());
        }
        let mut text = raw.to_owned();
        if self.lowercase {
            text.make_ascii_lowercase();
        }
        match kind {
            NameKind::User if self.strip_domain => {
                if let Some(at) = text.find('@') {
                    text.truncate(at);
                }
            }
            NameKind::Group if self.replace_in_groups => text = replace_refused(&text),
            NameKind::User | NameKind::Group => {}
        }
        text.insert_str(0, &self.prefix);
        check(&text)?;
        Ok(text.into())
    }
}

/// Runs of refused characters become one `-`; none at either end. Control characters stay, and
/// make the name an error: a line break in a name is an attack, not a spelling.
fn replace_refused(text: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    for c in text.trim().chars() {
        if is_name_character(c) || c.is_control() || c == ':' {
            replaced.push(c);
        } else if !replaced.ends_with('-') {
            replaced.push('-');
        }
    }
    replaced.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_grammar_holds_at_its_edges() {
        for good in ["a", "_", "alice", "a.b-c_9", &"a".repeat(32)] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        let bad = [
            ("", NameError::Empty),
            ("9a", NameError::First('9')),
            ("-a", NameError::First('-')),
            (".a", NameError::First('.')),
            ("Alice", NameError::First('A')),
            ("aLice", NameError::Character('L')),
            ("a:b", NameError::Character(':')),
            ("a\nb", NameError::Character('\n')),
            ("a b", NameError::Character(' ')),
            ("änne", NameError::First('ä')),
            ("a.", NameError::TrailingDot),
        ];
        for (text, error) in bad {
            assert_eq!(Name::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Name::parse(&"a".repeat(33)), Err(NameError::TooLong));
    }

    #[test]
    fn the_default_rule_maps_what_identity_center_sends() {
        let rule = NameRule::default();
        let user = |raw| rule.apply(NameKind::User, raw).map(|name| name.to_string());
        let group = |raw| rule.apply(NameKind::Group, raw).map(|name| name.to_string());
        assert_eq!(user("Alice@corp.example").unwrap(), "alice");
        assert_eq!(group("Engineering Team").unwrap(), "engineering-team");
        assert_eq!(group("R&D (EMEA)").unwrap(), "r-d-emea");
        assert_eq!(user("a b"), Err(NameError::Character(' ')));
        assert_eq!(user("@corp"), Err(NameError::Empty));
        assert_eq!(group("a:0:root"), Err(NameError::Character(':')));
        assert_eq!(group("a\nroot:x:0:"), Err(NameError::Character('\n')));
    }

    #[test]
    fn a_map_wins_and_a_prefix_is_put_in_front() {
        let rule = NameRule {
            map: [("J. Doe".to_owned(), Name::parse("jdoe").unwrap())].into(),
            prefix: "corp-".into(),
            ..NameRule::default()
        };
        assert_eq!(rule.apply(NameKind::User, "J. Doe").unwrap().as_str(), "jdoe");
        assert_eq!(rule.apply(NameKind::Group, "Ops").unwrap().as_str(), "corp-ops");
    }

    proptest! {
        #[test]
        fn what_the_rule_yields_follows_the_grammar_and_maps_to_itself(raw in ".{0,40}") {
            let rule = NameRule::default();
            for kind in [NameKind::User, NameKind::Group] {
                if let Ok(name) = rule.apply(kind, &raw) {
                    prop_assert!(Name::parse(name.as_str()).is_ok());
                    prop_assert_eq!(rule.apply(kind, name.as_str()), Ok(name));
                }
            }
        }
    }
}
