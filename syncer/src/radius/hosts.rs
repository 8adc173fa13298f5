use std::collections::{BTreeMap, BTreeSet};

use dirless_model::pattern;

/// The hosts that are known, by what names, and what they map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// All that are known.
    pub known: BTreeSet<String>,
    /// Hosts by the names of groups of hosts.
    pub groups: BTreeMap<String, BTreeSet<String>>,
    /// Groups that hosts' limits map to a privileged group, with the patterns of those hosts.
    pub sudo: BTreeMap<String, BTreeSet<String>>,
}

/// A set of hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct HostSet {
    /// Those that are known.
    pub hosts: BTreeSet<String>,
    /// Patterns of those that are not known: `*` is every other host.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub beyond: BTreeSet<String>,
}

impl HostSet {
    /// These hosts and no others.
    #[must_use]
    pub fn of(hosts: impl IntoIterator<Item = String>) -> Self {
        Self {
            hosts: hosts.into_iter().collect(),
            beyond: BTreeSet::new(),
        }
    }

    /// Is it none at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.beyond.is_empty()
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self {
            hosts: self.hosts.difference(&other.hosts).cloned().collect(),
            beyond: self.beyond.difference(&other.beyond).cloned().collect(),
        }
    }

    /// What of this set any of `patterns` fits.
    #[must_use]
    pub fn matching<'p>(&self, patterns: impl Iterator<Item = &'p String> + Clone) -> Self {
        let fits = |host: &&String| patterns.clone().any(|one| pattern::fits(one, host));
        // Nothing is known beyond but that it is everything.
        let beyond = if self.beyond.is_empty() {
            BTreeSet::new()
        } else {
            patterns
                .clone()
                .filter(|pattern| pattern.contains('*'))
                .cloned()
                .collect()
        };
        Self {
            hosts: self.hosts.iter().filter(fits).cloned().collect(),
            beyond,
        }
    }
}

impl Hosts {
    /// The same with those that rules and groups of hosts name.
    #[must_use]
    pub(super) fn with<'a>(&self, ruled: impl Iterator<Item = &'a String>) -> Self {
        let mut all = self.clone();
        all.known.extend(ruled.cloned());
        all.known.extend(self.groups.values().flatten().cloned());
        all
    }

    /// Every host, known or not.
    #[must_use]
    pub(super) fn all(&self) -> HostSet {
        HostSet {
            hosts: self.known.clone(),
            beyond: BTreeSet::from(["*".to_owned()]),
        }
    }

    /// A set in a word: `every host`, `db-*`, `host group web`, `web-1 and web-2`, `214 hosts`.
    #[must_use]
    pub fn said(&self, set: &HostSet) -> String {
        let count = set.hosts.len();
        if set.beyond.contains("*") {
            return match self.known.difference(&set.hosts).count() {
                0 => "every host".to_owned(),
                others => format!("every host but {others}"),
            };
        }
        if !set.beyond.is_empty() {
            return listed(set.beyond.iter());
        }
        if let Some((name, _)) = self.groups.iter().find(|(_, hosts)| **hosts == set.hosts) {
            return format!("{} ({name})", hosts(count));
        }
        match (count, self.pattern(&set.hosts)) {
            (0..=3, _) => listed(set.hosts.iter()),
            (_, Some(pattern)) => format!("{} ({pattern})", hosts(count)),
            _ => hosts(count),
        }
    }

    /// A pattern `PREFIX*` that fits these hosts and no others.
    fn pattern(&self, set: &BTreeSet<String>) -> Option<String> {
        let (first, last) = (set.first()?, set.last()?);
        // What the first and the last have in common all have: they are sorted.
        let common = first
            .chars()
            .zip(last.chars())
            .take_while(|(one, other)| one == other)
            .count();
        let prefix: String = first.chars().take(common).collect();
        let prefix = prefix.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let fitting = self.known.iter().filter(|host| host.starts_with(prefix)).count();
        (!prefix.is_empty() && fitting == set.len()).then(|| format!("{prefix}*"))
    }
}

fn hosts(count: usize) -> String {
    match count {
        1 => "1 host".to_owned(),
        count => format!("{count} hosts"),
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    match names.as_slice() {
        [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(hosts: &[&str]) -> BTreeSet<String> {
        hosts.iter().map(|host| (*host).to_owned()).collect()
    }

    #[test]
    fn sets_are_said_in_the_shortest_true_way() {
        let hosts = Hosts {
            known: set(&["db-1", "db-2", "db-3", "db-4", "web-1", "web-2", "x"]),
            groups: BTreeMap::from([("front".to_owned(), set(&["web-1", "web-2"]))]),
            sudo: BTreeMap::new(),
        };
        let said = |names: &[&str]| hosts.said(&HostSet::of(set(names)));
        assert_eq!(said(&["db-1", "db-2", "db-3", "db-4"]), "4 hosts (db-*)");
        assert_eq!(said(&["db-1", "db-2", "db-3", "x"]), "4 hosts");
        assert_eq!(said(&["web-1", "web-2"]), "2 hosts (front)");
        assert_eq!(said(&["db-1", "x"]), "db-1 and x");
        assert_eq!(hosts.said(&hosts.all()), "every host");
        assert_eq!(
            hosts.said(&hosts.all().without(&HostSet::of(set(&["x"])))),
            "every host but 1"
        );
        assert_eq!(
            hosts.said(&hosts.all().matching([&"db-*".to_owned()].into_iter())),
            "db-*"
        );
    }
}
