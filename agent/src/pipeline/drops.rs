//! What a run left out, and why: a few entries in full, all of them counted.

use std::collections::{BTreeMap, BTreeSet};

/// Most entries that are listed in full.
const LISTED: usize = 200;

/// Longest name that is shown, in characters.
const SHOWN: usize = 64;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A user.
    User,
    /// A group.
    Group,
    /// A membership.
    Member,
    /// A user's keys, or one of them.
    Keys,
    /// An entry of the directory tree.
    Entry,
    /// A definition of the tree's schema.
    Definition,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Member => "member",
            Self::Keys => "keys",
            Self::Entry => "entry",
            Self::Definition => "definition",
        })
    }
}

/// One entry that was left out.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Dropped {
    /// Its source.
    pub source: String,
    /// What it is.
    pub kind: Kind,
    /// Its name, fit to be shown: cut, control characters escaped.
    pub name: String,
    /// A short stable word for the reason; `docs/why.md` lists them.
    pub code: String,
    /// Why, in a sentence that follows the name.
    pub reason: String,
    /// What to change.
    pub hint: String,
}

/// Everything that was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Drops {
    /// How many.
    pub total: usize,
    /// How many for each code.
    pub by_code: BTreeMap<String, usize>,
    /// The first of them.
    pub entries: Vec<Dropped>,
    /// Entries about these names are listed however many there are.
    #[serde(skip)]
    watched: BTreeSet<String>,
}

impl Drops {
    /// Lists entries about `name` beyond the usual number.
    #[must_use]
    pub fn watching(name: Option<&str>) -> Self {
        Self {
            watched: name.map(str::to_owned).into_iter().collect(),
            ..Self::default()
        }
    }

    /// Lists entries about `name` too, from now on.
    pub(super) fn watch(&mut self, name: &str) {
        self.watched.insert(name.to_owned());
    }

    /// Counts an entry, and lists it while there is room.
    pub fn add(
        &mut self,
        source: &str,
        kind: Kind,
        name: &str,
        code: &'static str,
        words: impl FnOnce() -> (String, String),
    ) {
        self.total += 1;
        *self.by_code.entry(code.to_owned()).or_default() += 1;
        if self.entries.len() < LISTED || self.watched.contains(name) {
            let (reason, hint) = words();
            self.entries.push(Dropped {
                source: source.to_owned(),
                kind,
                name: shown(name),
                code: code.to_owned(),
                reason,
                hint,
            });
        }
    }

    /// Adds what another list holds.
    pub fn append(&mut self, other: Self) {
        self.total += other.total;
        for (code, count) in other.by_code {
            *self.by_code.entry(code).or_default() += count;
        }
        for entry in other.entries {
            if self.entries.len() < LISTED || self.watched.contains(&entry.name) {
                self.entries.push(entry);
            }
        }
    }
}

/// `name` as it may be shown on a terminal or in a log.
#[must_use]
pub fn shown(name: &str) -> String {
    let mut text: String = name.chars().take(SHOWN).flat_map(escaped).collect();
    if name.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    text
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    // Formatting characters can turn the direction of a line or hide in it.
    let hidden = c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let plain = (!hidden).then_some(c);
    plain.into_iter().chain(c.escape_default().filter(move |_| hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_entries_are_counted_and_a_few_listed() {
        let mut drops = Drops::watching(Some("zoe"));
        for number in 0..1000 {
            drops.add("local", Kind::User, &format!("u{number}"), "name", || {
                (String::new(), String::new())
            });
        }
        drops.add("local", Kind::User, "zoe", "uid-range", || {
            ("why".into(), "hint".into())
        });
        assert_eq!((drops.total, drops.entries.len()), (1001, LISTED + 1));
        assert_eq!(drops.by_code["name"], 1000);
        let mut all = Drops::watching(Some("zoe"));
        all.append(drops.clone());
        all.append(drops);
        assert_eq!((all.total, all.entries.len()), (2002, LISTED + 2));
    }

    #[test]
    fn names_cannot_play_with_the_terminal() {
        assert_eq!(shown("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
        assert_eq!(shown("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(shown("Ännchen"), "Ännchen");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), SHOWN + 1);
    }
}
