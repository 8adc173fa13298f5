use std::collections::{BTreeMap, BTreeSet};

use dirless_model::{NameKind, NameRule};

use crate::guard::Difference;
use crate::shape::Shape;

/// Who is on hosts at one time, in which groups, and which rules let them in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub(super) people: BTreeMap<String, Person>,
    pub(super) rules: Rules,
}

/// A person on hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) groups: BTreeSet<String>,
}

/// The access rules, groups as hosts call them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub(super) enforced: bool,
    pub(super) by_group: BTreeMap<String, BTreeSet<String>>,
}

impl Rules {
    /// These rules, each a group and a host. Rules whose group cannot be on hosts let nobody in.
    pub fn new<'a>(enforced: bool, rules: impl IntoIterator<Item = (&'a str, &'a str)>, names: &NameRule) -> Self {
        let mut by_group: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (group, host) in rules {
            if let Ok(group) = names.apply(NameKind::Group, group.trim()) {
                by_group.entry(group.to_string()).or_default().insert(host.to_owned());
            }
        }
        Self { enforced, by_group }
    }

    /// All hosts that a rule names.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &String> {
        self.by_group.values().flatten()
    }
}

impl View {
    /// What hosts make of `sources`, the first of which wins where two have one name.
    #[must_use]
    pub fn new<'a>(sources: impl IntoIterator<Item = (&'a str, &'a Shape)>, rules: Rules) -> Self {
        let mut people: BTreeMap<String, Person> = BTreeMap::new();
        let mut keys: BTreeMap<&str, String> = BTreeMap::new();
        let mut groups: BTreeMap<&str, (&Shape, &BTreeSet<String>)> = BTreeMap::new();
        for (source, shape) in sources {
            for (key, user) in &shape.users {
                if let std::collections::btree_map::Entry::Vacant(free) = keys.entry(&user.name) {
                    let key = free.insert(format!("{source} {key}")).clone();
                    let (name, groups) = (user.name.clone(), BTreeSet::new());
                    people.insert(key, Person { name, groups });
                }
            }
            for group in shape.groups.values() {
                groups.entry(&group.name).or_insert((shape, &group.members));
            }
        }
        for (name, (shape, members)) in groups {
            let members = members.iter().filter_map(|member| shape.users.get(member));
            for member in members {
                let person = keys.get(member.name.as_str()).and_then(|key| people.get_mut(key));
                person.into_iter().for_each(|person| {
                    person.groups.insert(name.to_owned());
                });
            }
        }
        Self { people, rules }
    }

    /// The members of each group: their keys and names.
    pub(super) fn members(&self) -> BTreeMap<&String, BTreeMap<&String, &String>> {
        let mut members: BTreeMap<&String, BTreeMap<&String, &String>> = BTreeMap::new();
        for (key, person) in &self.people {
            for group in &person.groups {
                members.entry(group).or_default().insert(key, &person.name);
            }
        }
        members
    }
}

/// The views before and after: `sources` has the name of each source, what is published of it, and what
/// would be. What deployed syncers published has no ids and is compared by name.
#[must_use]
pub fn views(sources: &[(&str, Option<&Shape>, &Shape)], before: Rules, after: Rules) -> (View, View) {
    let mut old: Vec<(&str, Shape)> = Vec::new();
    let mut new: Vec<(&str, Shape)> = Vec::new();
    for (source, was, will_be) in sources {
        if let Some(was) = was {
            old.push((source, (*was).clone()));
        }
        let by_name = was.is_some_and(Difference::compares_names);
        new.push((
            source,
            if by_name {
                will_be.keyed_by_name()
            } else {
                (*will_be).clone()
            },
        ));
    }
    let view = |all: &[(&str, Shape)], rules| View::new(all.iter().map(|(source, shape)| (*source, shape)), rules);
    (view(&old, before), view(&new, after))
}
