//! What a publisher may say.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::Label;

/// Most sources, ranges or patterns of one publisher.
const MOST: usize = 64;

/// A part of a scope cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// No range of ids.
    #[error("{0:?} is no range of ids such as 10000-19999, within 1-2147483647")]
    Range(String),
    /// No pattern for names.
    #[error("{0:?} is no pattern for names: the characters of names, and * for any of them")]
    Pattern(String),
    /// No right.
    #[error("{0:?} is no right: users, groups, keys, access or entries")]
    Right(String),
    /// A list is out of order, doubled or too long.
    #[error("a list must ascend, name each thing once, and have at most {MOST} parts")]
    List,
    /// A label in it is none.
    #[error(transparent)]
    Label(#[from] crate::label::NoLabel),
}

/// A kind of fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Access rules: who may use which hosts.
    Access,
    /// Entries of the tree beyond users and groups.
    Entries,
    /// Groups.
    Groups,
    /// SSH keys of its users.
    Keys,
    /// Users.
    Users,
}

impl Right {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 5] = [Self::Access, Self::Entries, Self::Groups, Self::Keys, Self::Users];

    fn word(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Entries => "entries",
            Self::Groups => "groups",
            Self::Keys => "keys",
            Self::Users => "users",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

impl FromStr for Right {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        Self::ALL
            .into_iter()
            .find(|right| right.word() == text)
            .ok_or_else(|| ScopeError::Right(text.to_owned()))
    }
}

/// A closed range of user and group ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdRange {
    low: u32,
    high: u32,
}

impl IdRange {
    /// From `low` to `high`, both included: 1 to 2147483647.
    ///
    /// # Errors
    /// When it is empty or reaches out of those.
    pub fn new(low: u32, high: u32) -> Result<Self, ScopeError> {
        if 0 < low && low <= high && high <= i32::MAX.unsigned_abs() {
            Ok(Self { low, high })
        } else {
            Err(ScopeError::Range(format!("{low}-{high}")))
        }
    }

    fn contains(self, id: u32) -> bool {
        (self.low..=self.high).contains(&id)
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.low, self.high)
    }
}

impl FromStr for IdRange {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let numbers = text
            .split_once('-')
            .and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
        let (low, high) = numbers.ok_or_else(|| ScopeError::Range(text.to_owned()))?;
        Self::new(low, high)
    }
}

/// A pattern for names of users and groups, where `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamePattern(Box<str>);

impl NamePattern {
    /// Does it cover `name`, all of it?
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        dirless_model::pattern::fits(&self.0, name)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for NamePattern {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let of_names = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-*".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(of_names) {
            Ok(Self(text.into()))
        } else {
            Err(ScopeError::Pattern(text.chars().take(80).collect()))
        }
    }
}

/// What a publisher may say: about which sources, ids and names, and which kinds of facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its sources.
    pub sources: BTreeSet<Label>,
    /// Ids of the users and groups that it may name.
    pub ids: Vec<IdRange>,
    /// Names of the users and groups that it may name.
    pub names: Vec<NamePattern>,
    /// Kinds of facts.
    pub may: BTreeSet<Right>,
}

impl Scope {
    /// May it say anything of this source?
    #[must_use]
    pub fn covers_source(&self, source: &Label) -> bool {
        self.sources.contains(source)
    }

    /// May it use this number?
    #[must_use]
    pub fn covers_id(&self, id: u32) -> bool {
        self.ids.iter().any(|range| range.contains(id))
    }

    /// May it use this name?
    #[must_use]
    pub fn covers_name(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| pattern.covers(name))
    }

    /// May it state such facts?
    #[must_use]
    pub fn may(&self, right: Right) -> bool {
        self.may.contains(&right)
    }
}

/// A list as a word: parts separated by commas, `-` for none.
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T: fmt::Display> fmt::Display for List<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("-");
        }
        for (at, part) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(formatter, "{comma}{part}")?;
        }
        Ok(())
    }
}

impl<T: FromStr<Err: Into<ScopeError>> + Ord> FromStr for List<T> {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        if text == "-" {
            return Ok(Self(Vec::new()));
        }
        let parts = text
            .split(',')
            .take(MOST + 1)
            .map(|part| part.parse().map_err(Into::into));
        let parts: Vec<T> = parts.collect::<Result<_, ScopeError>>()?;
        if parts.len() <= MOST && parts.is_sorted_by(|left, right| left < right) {
            Ok(Self(parts))
        } else {
            Err(ScopeError::List)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> NamePattern {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_cover_whole_names() {
        for (text, name, covered) in [
            ("*", "alice", true),
            ("alice", "alice", true),
            ("alice", "alice2", false),
            ("app-*", "app-db", true),
            ("app-*", "my-app-db", false),
            ("*-svc", "db-svc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("*a*", "bab", true),
        ] {
            assert_eq!(pattern(text).covers(name), covered, "{text} {name}");
        }
        for text in ["", "A*", "a b", "a,b", "ä"] {
            assert!(text.parse::<NamePattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn root_is_in_no_range() {
        for text in ["0-5", "5-4", "1-2147483648", "1", "a-b", "-1-5", ""] {
            assert!(text.parse::<IdRange>().is_err(), "{text:?}");
        }
        let range: IdRange = "10000-19999".parse().unwrap();
        assert!(range.contains(10_000) && range.contains(19_999) && !range.contains(20_000));
    }

    #[test]
    fn lists_have_one_order() {
        assert_eq!("-".parse::<List<Right>>().unwrap().0, []);
        assert_eq!(
            "access,keys".parse::<List<Right>>().unwrap().0,
            [Right::Access, Right::Keys]
        );
        for text in ["", "keys,access", "keys,keys", "sudo", "keys,"] {
            assert!(text.parse::<List<Right>>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_covers_what_it_was_made_from(parts in proptest::collection::vec("[a-c]{0,3}", 1..5), filler in "[a-z]{0,4}") {
            prop_assume!(!parts.join("*").is_empty());
            prop_assert!(pattern(&parts.join("*")).covers(&parts.join(&filler)));
        }
    }
}
