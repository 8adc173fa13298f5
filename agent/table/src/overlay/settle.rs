//! What a draft comes to: which names, numbers and groups differ from the table in the end.

use super::draft::{Changed, Draft, Person, names_in};
use crate::error::{Corrupt, WriteError};
use crate::format::{KIND_USER, hash_id, hash_name};
use crate::record::{Group, User};
use std::collections::{BTreeMap, BTreeSet};

/// All that differs.
#[derive(Debug)]
pub(super) struct Settled<'d> {
    /// In the order of names.
    pub(super) names: Vec<Named<'d>>,
    /// Uids of the table that nobody has any more.
    pub(super) uids_gone: Vec<u32>,
    /// Positions of the table's users that differ, ascending.
    pub(super) users_differ: Vec<u32>,
    /// In the order of names.
    pub(super) groups: Vec<Regrouped<'d>>,
    /// Gids of the table that no group has any more.
    pub(super) gids_gone: Vec<u32>,
    /// Positions of the table's groups that differ, ascending.
    pub(super) groups_differ: Vec<u32>,
}

/// A name that is another user, no user any more, or in other groups.
#[derive(Debug)]
pub(super) struct Named<'d> {
    pub(super) name: &'d [u8],
    pub(super) person: Option<Person<'d>>,
    /// Ascending.
    pub(super) gids: Vec<u32>,
    /// The uid in the table.
    before: Option<u32>,
}

/// A group that differs, and the table's group of its name.
#[derive(Debug)]
pub(super) struct Regrouped<'d> {
    pub(super) name: &'d [u8],
    pub(super) now: Option<&'d Changed<'d>>,
    pub(super) before: Option<Before<'d>>,
}

/// A group of the table.
#[derive(Debug)]
pub(super) struct Before<'d> {
    pub(super) group: Group<'d>,
    /// Unit offset of its record.
    pub(super) offset: u32,
    position: u32,
}

impl Settled<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.groups.is_empty()
    }
}

impl Draft<'_> {
    /// Works out what differs, unless more than `most` names do.
    pub(super) fn settle(&self, most: usize) -> Result<Settled<'_>, WriteError> {
        let groups = self.groups_that_differ()?;
        let (gids_gone, mut groups_differ) = self.numbers_of_groups(&groups)?;
        let names = self.names_that_differ(&groups, most)?;
        let (uids_gone, mut users_differ) = self.numbers_of_users(&names)?;
        groups_differ.sort_unstable();
        users_differ.sort_unstable();
        Ok(Settled {
            names,
            uids_gone,
            users_differ,
            groups,
            gids_gone,
            groups_differ,
        })
    }

    fn groups_that_differ(&self) -> Result<Vec<Regrouped<'_>>, Corrupt> {
        let mut groups = Vec::new();
        for (name, now) in &self.groups {
            let base = &self.table.base;
            let before = match base.place_of_group(name)? {
                Some((offset, position)) => Some(Before {
                    group: base.group_at(offset)?,
                    offset,
                    position,
                }),
                None => None,
            };
            let same = match (now, &before) {
                (Some(now), Some(before)) => {
                    now.gid == before.group.gid && now.left.is_empty() && now.joined.is_empty()
                }
                (None, None) => true,
                _ => false,
            };
            if !same {
                let now = now.as_ref();
                groups.push(Regrouped { name, now, before });
            }
        }
        Ok(groups)
    }

    /// Gids without a group, and positions in the table. No gid is given twice.
    fn numbers_of_groups(&self, groups: &[Regrouped<'_>]) -> Result<(Vec<u32>, Vec<u32>), WriteError> {
        let mut gids = BTreeSet::new();
        for gid in groups.iter().filter_map(|group| group.now.map(|now| now.gid)) {
            let holder = self.table.base.group_by_gid(hash_id(gid), gid)?;
            let held = |holder: Group<'_>| groups.binary_search_by(|group| group.name.cmp(holder.name())).is_err();
            if !gids.insert(gid) || holder.is_some_and(held) {
                return Err(WriteError::DuplicateId { id: gid });
            }
        }
        let before = groups.iter().filter_map(|group| group.before.as_ref());
        let gone = before
            .clone()
            .map(|before| before.group.gid)
            .filter(|gid| !gids.contains(gid));
        Ok((gone.collect(), before.map(|before| before.position).collect()))
    }

    /// Everybody who is another user, or is in other groups because groups differ.
    fn names_that_differ<'d>(&'d self, groups: &[Regrouped<'d>], most: usize) -> Result<Vec<Named<'d>>, WriteError> {
        let concerned = self.concerned(groups);
        if concerned.len() > most {
            return Err(WriteError::WholeTable { why: TOO_MANY });
        }
        let by_gid: BTreeMap<u32, &Regrouped<'d>> = groups
            .iter()
            .filter_map(|group| Some((group.before.as_ref()?.group.gid, group)))
            .collect();
        let mut names = Vec::new();
        for (name, mut gids) in concerned {
            let entry = self.table.base.named(hash_name(name), name)?;
            let before = entry
                .filter(|(kind, _)| *kind == KIND_USER)
                .map(|(_, user)| Person::of(&user));
            let old: Vec<u32> = entry.map(|(_, user)| user.gids().iter().collect()).unwrap_or_default();
            gids.extend(old.iter().filter_map(|gid| match by_gid.get(gid) {
                None => Some(*gid),
                Some(group) => group.now.filter(|now| !now.left.contains_key(name)).map(|now| now.gid),
            }));
            gids.sort_unstable();
            let person = match self.users.get(name) {
                Some(person) => person.as_ref().map(Person::borrowed),
                None => before.clone(),
            };
            if person != before || gids != old {
                let before = before.map(|before| before.uid);
                names.push(Named {
                    name,
                    person,
                    gids,
                    before,
                });
            }
        }
        Ok(names)
    }

    /// The names to look at, with the gids of the groups that they joined.
    fn concerned<'d>(&'d self, groups: &[Regrouped<'d>]) -> BTreeMap<&'d [u8], Vec<u32>> {
        let mut names: BTreeMap<&[u8], Vec<u32>> = BTreeMap::new();
        names.extend(self.users.keys().map(|name| (&**name, Vec::new())));
        for group in groups {
            let before = group.before.as_ref().map(|before| before.group);
            let same_gid = before.map(|before| before.gid) == group.now.map(|now| now.gid);
            if let Some(before) = before.filter(|_| !same_gid) {
                let text = before.own_members();
                for (name, _) in names_in(text, 0..text.len()) {
                    names.entry(name).or_default();
                }
            }
            let Some(now) = group.now else { continue };
            for name in now.left.keys() {
                names.entry(name).or_default();
            }
            for name in &now.joined {
                names.entry(name).or_default().push(now.gid);
            }
        }
        names
    }

    /// Uids without a user, and positions in the table. No uid is given twice.
    fn numbers_of_users(&self, names: &[Named<'_>]) -> Result<(Vec<u32>, Vec<u32>), WriteError> {
        let base = &self.table.base;
        let mut uids = BTreeSet::new();
        for uid in names
            .iter()
            .filter_map(|name| name.person.as_ref().map(|person| person.uid))
        {
            let holder = base.user_by_uid(hash_id(uid), uid)?;
            let held = |holder: User<'_>| names.binary_search_by(|name| name.name.cmp(holder.name())).is_err();
            if !uids.insert(uid) || holder.is_some_and(held) {
                return Err(WriteError::DuplicateId { id: uid });
            }
        }
        let before = names.iter().filter_map(|name| name.before);
        let gone = before.clone().filter(|uid| !uids.contains(uid)).collect();
        let positions = before.map(|uid| base.position_of_user(uid)?.ok_or(Corrupt));
        Ok((gone, positions.collect::<Result<_, _>>()?))
    }
}

pub(super) const TOO_MANY: &str = "too much differs from it";
