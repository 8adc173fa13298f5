//! The blast radius of a change: who gains and who loses which hosts, groups and sudo. Pure.
//!
//! [`radius`] compares two [`View`]s of what hosts would make of snapshots and access rules. Nothing
//! changes, no radius; the radius from B to A is that from A to B with gains and losses swapped.

mod config;
mod hosts;
mod say;
mod view;

use std::collections::{BTreeMap, BTreeSet};

pub use config::PlanConfig;
pub use hosts::{HostSet, Hosts};
pub use view::{Rules, View, views};

/// Everything that a change does to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Radius {
    /// Who loses hosts.
    pub lose: Vec<Stroke>,
    /// Who gains hosts.
    pub gain: Vec<Stroke>,
    /// Who loses sudo, and where.
    pub lose_sudo: Vec<Stroke>,
    /// Who gains sudo, and where.
    pub gain_sudo: Vec<Stroke>,
    /// Groups whose members change.
    pub groups: Vec<GroupChange>,
}

/// People whom a change does the same to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Stroke {
    /// Their names on hosts, in order.
    pub people: Vec<String>,
    /// The hosts.
    #[serde(flatten)]
    pub hosts: HostSet,
    /// The hosts in a word.
    pub said: String,
}

/// A group whose members change.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct GroupChange {
    /// Its name on hosts.
    pub group: String,
    /// Who joins.
    pub gained: Vec<String>,
    /// Who leaves.
    pub lost: Vec<String>,
    /// Do hosts map it to a privileged group?
    pub sudo: bool,
}

impl Radius {
    /// Does the change do nothing to anybody?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same the other way round.
    #[must_use]
    pub fn mirrored(self) -> Self {
        let groups = self.groups.into_iter().map(|change| GroupChange {
            gained: change.lost,
            lost: change.gained,
            ..change
        });
        Self {
            lose: self.gain,
            gain: self.lose,
            lose_sudo: self.gain_sudo,
            gain_sudo: self.lose_sudo,
            groups: groups.collect(),
        }
    }
}

/// What leads from `before` to `after` does, on the hosts that are known.
#[must_use]
pub fn radius(before: &View, after: &View, hosts: &Hosts) -> Radius {
    let everywhere = hosts.with(before.rules.hosts().chain(after.rules.hosts()));
    let reaches = [Reaches::new(before, &everywhere), Reaches::new(after, &everywhere)];
    let mut sums = [Sum::default(), Sum::default(), Sum::default(), Sum::default()];
    let keys: BTreeSet<&String> = before.people.keys().chain(after.people.keys()).collect();
    let same_rules = before.rules == after.rules;
    let mut cache = [BTreeMap::new(), BTreeMap::new()];
    for key in keys {
        let people = [before.people.get(key), after.people.get(key)];
        if let [Some(old), Some(new)] = people
            && same_rules
            && old.groups == new.groups
        {
            continue;
        }
        let mut reach = |at: usize| match people.get(at).copied().flatten() {
            None => Reach::default(),
            Some(person) => match (cache.get_mut(at), reaches.get(at)) {
                (Some(cache), Some(reaches)) => {
                    let known = cache
                        .entry(&person.groups)
                        .or_insert_with(|| reaches.of(&person.groups));
                    known.clone()
                }
                _ => Reach::default(),
            },
        };
        let (old, new) = (reach(0), reach(1));
        let name = |at: usize| people.get(at).copied().flatten().map(|person| person.name.clone());
        let (old_name, new_name) = (name(0).or(name(1)), name(1).or(name(0)));
        let [lose, gain, lose_sudo, gain_sudo] = &mut sums;
        lose.add(old_name.as_ref(), old.hosts.without(&new.hosts));
        gain.add(new_name.as_ref(), new.hosts.without(&old.hosts));
        lose_sudo.add(old_name.as_ref(), old.sudo.without(&new.sudo));
        gain_sudo.add(new_name.as_ref(), new.sudo.without(&old.sudo));
    }
    let [lose, gain, lose_sudo, gain_sudo] = sums.map(|sum| sum.strokes(&everywhere));
    Radius {
        lose,
        gain,
        lose_sudo,
        gain_sudo,
        groups: groups(before, after, hosts),
    }
}

/// Where a person may be, and where as root.
#[derive(Clone, Debug, Default)]
struct Reach {
    hosts: HostSet,
    sudo: HostSet,
}

struct Reaches<'a> {
    view: &'a View,
    hosts: &'a Hosts,
}

impl<'a> Reaches<'a> {
    fn new(view: &'a View, hosts: &'a Hosts) -> Self {
        Self { view, hosts }
    }

    fn of(&self, groups: &BTreeSet<String>) -> Reach {
        let hosts = if self.view.rules.enforced {
            let ruled = groups.iter().filter_map(|group| self.view.rules.by_group.get(group));
            HostSet::of(ruled.flatten().cloned())
        } else {
            self.hosts.all()
        };
        let patterns = groups.iter().filter_map(|group| self.hosts.sudo.get(group)).flatten();
        let sudo = hosts.matching(patterns);
        Reach { hosts, sudo }
    }
}

/// People by what happens to them.
#[derive(Default)]
struct Sum(BTreeMap<HostSet, BTreeSet<String>>);

impl Sum {
    fn add(&mut self, name: Option<&String>, hosts: HostSet) {
        if let Some(name) = name
            && !hosts.is_empty()
        {
            self.0.entry(hosts).or_default().insert(name.clone());
        }
    }

    /// Most people first.
    fn strokes(self, hosts: &Hosts) -> Vec<Stroke> {
        let stroke = |(set, people): (HostSet, BTreeSet<String>)| Stroke {
            said: hosts.said(&set),
            people: people.into_iter().collect(),
            hosts: set,
        };
        let mut strokes: Vec<Stroke> = self.0.into_iter().map(stroke).collect();
        strokes.sort_by(|one, other| {
            other
                .people
                .len()
                .cmp(&one.people.len())
                .then(one.people.cmp(&other.people))
        });
        strokes
    }
}

fn groups(before: &View, after: &View, hosts: &Hosts) -> Vec<GroupChange> {
    let (old, new) = (before.members(), after.members());
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).copied().collect();
    let none = BTreeMap::new();
    let change = |group: &String| {
        let (old, new) = (old.get(group).unwrap_or(&none), new.get(group).unwrap_or(&none));
        let only = |these: &BTreeMap<&String, &String>, those: &BTreeMap<&String, &String>| {
            let mut names: Vec<String> = these
                .iter()
                .filter(|(key, _)| !those.contains_key(*key))
                .map(|(_, name)| (*name).clone())
                .collect();
            names.sort();
            names
        };
        let (gained, lost) = (only(new, old), only(old, new));
        (!gained.is_empty() || !lost.is_empty()).then(|| GroupChange {
            sudo: hosts.sudo.contains_key(group),
            group: group.clone(),
            gained,
            lost,
        })
    };
    names.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests;
