use std::collections::BTreeMap;

use dirless_model::snapshot::{Document, ObjectKind};

use crate::ledger::kind_text;

/// An object that hosts will not see as it is, for a source that is named earlier has its name or
/// number too.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Hidden {
    /// User or group.
    pub kind: ObjectKind,
    /// Its name on hosts.
    pub name: String,
    /// The source it comes from.
    pub source: String,
    /// The source that wins.
    pub by: String,
    /// The number that both have, when it is that and not the name.
    pub number: Option<u32>,
}

impl std::fmt::Display for Hidden {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, source, by, .. } = self;
        let kind = kind_text(self.kind);
        match self.number {
            None => write!(
                formatter,
                "{kind} {name} of {source} is hidden by the {kind} of that name of {by}"
            ),
            Some(number) => write!(
                formatter,
                "{kind} {name} of {source} has number {number}, which {by} gives to another {kind}"
            ),
        }
    }
}

/// What of `documents`, each with its source's name and in the order of precedence, is hidden by one
/// before it. Pure.
#[must_use]
pub fn overlap(documents: &[(&str, &Document)]) -> Vec<Hidden> {
    let mut hidden = Vec::new();
    let mut names: BTreeMap<(ObjectKind, &str), &str> = BTreeMap::new();
    let mut numbers: BTreeMap<(ObjectKind, u32), &str> = BTreeMap::new();
    for &(source, document) in documents {
        let users = document.users.iter();
        let users = users.map(|user| (ObjectKind::User, user.name.as_str(), user.uid.number()));
        let groups = document.groups.iter();
        let groups = groups.map(|group| (ObjectKind::Group, group.name.as_str(), group.gid.number()));
        for (kind, name, number) in users.chain(groups) {
            let mut note = |by: &str, number| {
                hidden.push(Hidden {
                    kind,
                    name: name.to_owned(),
                    source: source.to_owned(),
                    by: by.to_owned(),
                    number,
                });
            };
            match names.get(&(kind, name)) {
                Some(by) if *by != source => note(by, None),
                _ => {
                    if let Some(by) = numbers.get(&(kind, number)).filter(|by| **by != source) {
                        note(by, Some(number));
                    }
                }
            }
            names.entry((kind, name)).or_insert(source);
            numbers.entry((kind, number)).or_insert(source);
        }
    }
    hidden
}

#[cfg(test)]
mod tests {
    use dirless_model::{Gecos, Gid, Group, HostPath, Name, Uid, User};
    use proptest::prelude::*;

    use super::*;

    fn document(users: &[(&str, u32)], groups: &[(&str, u32)]) -> Document {
        Document {
            users: users
                .iter()
                .map(|(name, number)| User {
                    name: Name::parse(name).unwrap(),
                    uid: Uid::parse(*number).unwrap(),
                    gid: Gid::parse(*number).unwrap(),
                    gecos: Gecos::sanitise(""),
                    home: HostPath::parse("/h").unwrap(),
                    shell: HostPath::parse("/s").unwrap(),
                    id: None,
                })
                .collect(),
            groups: groups
                .iter()
                .map(|(name, number)| Group {
                    name: Name::parse(name).unwrap(),
                    gid: Gid::parse(*number).unwrap(),
                    members: Vec::new(),
                    id: None,
                })
                .collect(),
            ..Document::default()
        }
    }

    #[test]
    fn the_earlier_source_wins_by_name_and_by_number() {
        let first = document(&[("alice", 2001)], &[("ops", 3001)]);
        let second = document(&[("alice", 2002), ("bob", 2001)], &[("alice", 3001)]);
        let hidden = overlap(&[("git", &first), ("ad", &second)]);
        let said: Vec<_> = hidden.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "user alice of ad is hidden by the user of that name of git",
                "user bob of ad has number 2001, which git gives to another user",
                "group alice of ad has number 3001, which git gives to another group",
            ]
        );
    }

    proptest! {
        /// One source hides nothing of itself, and what is hidden is in a later source.
        #[test]
        fn only_earlier_sources_hide(
            first in proptest::collection::btree_map("[a-c]", 2000u32..2004, 0..4),
            second in proptest::collection::btree_map("[a-c]", 2000u32..2004, 0..4),
        ) {
            let make = |map: &BTreeMap<String, u32>| {
                document(&map.iter().map(|(name, number)| (name.as_str(), *number)).collect::<Vec<_>>(), &[])
            };
            let (one, two) = (make(&first), make(&second));
            prop_assert!(overlap(&[("one", &one)]).is_empty());
            for hidden in overlap(&[("one", &one), ("two", &two)]) {
                prop_assert_eq!(hidden.source.as_str(), "two");
                let shared = first.contains_key(&hidden.name);
                let number = first.values().any(|number| Some(*number) == hidden.number);
                prop_assert!(shared || number);
            }
        }
    }
}
