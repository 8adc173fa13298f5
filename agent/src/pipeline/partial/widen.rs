//! What has to do with a change.

use std::collections::BTreeSet;

use super::facts::{Facts, GroupFacts, Plain, Record, UserFacts};
use super::store::{Store, StoreError};
use super::{Changed, MOST, PartialError};

/// Names that a partial run is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub users: BTreeSet<String>,
    pub groups: BTreeSet<String>,
}

impl Names {
    fn check(&self) -> Result<(), PartialError> {
        if self.users.len() > MOST || self.groups.len() > MOST {
            return Err(PartialError::Wide);
        }
        Ok(())
    }
}

/// The records as they were and as they are, together: what leads from one to another in either state.
pub(super) struct Both<'a> {
    pub store: &'a Store,
    pub changed: &'a Changed,
}

impl Both<'_> {
    fn old_users(&self) -> impl Iterator<Item = &UserFacts> {
        self.changed.old.iter().filter_map(|record| match &record.facts {
            Facts::User(user) => Some(user),
            _ => None,
        })
    }

    fn old_groups(&self) -> impl Iterator<Item = &GroupFacts> {
        self.changed.old.iter().filter_map(|record| match &record.facts {
            Facts::Group(group) => Some(group),
            _ => None,
        })
    }

    /// Names of users with a uid.
    fn users_numbered(&self, uid: u32) -> Result<Vec<String>, StoreError> {
        let mut names = self.store.users_numbered(uid)?;
        let old = self.old_users().filter(|user| user.uid == Some(uid));
        names.extend(old.filter_map(|user| user.name.clone()));
        Ok(names)
    }

    /// Names of users with a primary group.
    pub(super) fn users_of_gid(&self, gid: u32) -> Result<Vec<String>, StoreError> {
        let mut names = self.store.users_of_gid(gid, MOST)?;
        let old = self.old_users().filter(|user| user.gid == Some(gid));
        names.extend(old.filter_map(|user| user.name.clone()));
        Ok(names)
    }

    /// Members of the groups of a name.
    pub(super) fn members_of(&self, group: &str) -> Result<BTreeSet<String>, StoreError> {
        let mut names = self.store.members_of(group)?;
        let old = self.old_groups().filter(|old| old.name.as_deref() == Some(group));
        names.extend(old.flat_map(|old| old.members.iter().map(|(name, _)| name.clone())));
        Ok(names)
    }

    /// Groups that share a name or a number with one that changed, and so on: a record of one of them may count that did
    /// not, or the other way round.
    pub(super) fn renewed(&self) -> Result<BTreeSet<String>, PartialError> {
        let mut names = Names {
            groups: self.changed.renewed.clone(),
            ..Names::default()
        };
        self.widen_groups(&mut names, &mut BTreeSet::new())?;
        Ok(names.groups)
    }

    /// Adds the groups that share a gid with one of `names`, until nothing more does; `gids` are those that are seen to.
    fn widen_groups(&self, names: &mut Names, gids: &mut BTreeSet<u32>) -> Result<(), PartialError> {
        let mut seen = BTreeSet::new();
        loop {
            names.check()?;
            let groups: Vec<String> = names.groups.difference(&seen).cloned().collect();
            if groups.is_empty() {
                return Ok(());
            }
            for name in groups {
                let old = self.old_groups().filter(|group| group.name.as_deref() == Some(&name));
                let numbers = old.map(|group| group.gid);
                for gid in self.store.group_numbers(&name)?.into_iter().chain(numbers).flatten() {
                    if gids.insert(gid) {
                        names.groups.extend(self.groups_numbered(gid)?);
                    }
                }
                seen.insert(name);
            }
        }
    }

    /// Names of groups with a gid.
    fn groups_numbered(&self, gid: u32) -> Result<Vec<String>, StoreError> {
        let mut names = self.store.groups_numbered(gid)?;
        let old = self.old_groups().filter(|group| group.gid == Some(gid));
        names.extend(old.filter_map(|group| group.name.clone()));
        Ok(names)
    }

    /// Adds to `names` all that shares a name, a number or a membership with one of them, until nothing more does.
    pub(super) fn widen(&self, names: &mut Names) -> Result<(), PartialError> {
        let mut seen = BTreeSet::new();
        let mut uids = BTreeSet::new();
        let mut gids = BTreeSet::new();
        let mut more_uids: Vec<u32> = self.changed.uids.iter().copied().collect();
        let mut more_gids: Vec<u32> = self.changed.gids.iter().copied().collect();
        loop {
            let users: Vec<String> = names.users.difference(&seen).cloned().collect();
            for name in users {
                let (of_uid, of_gid) = self.store.user_numbers(&name)?;
                more_uids.extend(of_uid);
                more_gids.extend(of_gid);
                for old in self.old_users().filter(|user| user.name.as_deref() == Some(&name)) {
                    more_uids.extend(old.uid);
                    more_gids.extend(old.gid);
                }
                names.groups.extend(self.store.groups_of(&name)?);
                let listing = self.old_groups().filter(|group| group.lists(&name));
                names.groups.extend(listing.filter_map(|group| group.name.clone()));
                // It may keep the user from a private group.
                names.groups.insert(name.clone());
                seen.insert(name);
            }
            for gid in std::mem::take(&mut more_gids) {
                if gids.insert(gid) {
                    names.groups.extend(self.groups_numbered(gid)?);
                }
            }
            self.widen_groups(names, &mut gids)?;
            for uid in std::mem::take(&mut more_uids) {
                if uids.insert(uid) {
                    names.users.extend(self.users_numbered(uid)?);
                }
            }
            names.check()?;
            if names.users.len() == seen.len() && more_gids.is_empty() {
                return Ok(());
            }
        }
    }

    /// The records of `names` as they were, and as they are.
    pub(super) fn records(&self, names: &Names) -> Result<(Vec<Plain>, Vec<Plain>), StoreError> {
        let mut same = Vec::new();
        for name in &names.users {
            same.extend(self.store.of_user(name)?);
        }
        for name in &names.groups {
            same.extend(self.store.groups_within(name, &names.users)?);
        }
        same.retain(|record| {
            let place = (record.source, record.part, record.key.clone());
            !self.changed.places.contains(&place)
        });
        let with = |changed: &[Record]| {
            let changed = changed.iter().filter_map(|record| within(record, names));
            same.iter().cloned().chain(changed).collect()
        };
        Ok((with(&self.changed.old), with(&self.changed.new)))
    }
}

/// A record with those members alone that `names` has, and those that have no name.
fn within(record: &Record, names: &Names) -> Option<Plain> {
    let bytes = match &record.facts {
        Facts::User(_) | Facts::Keys(_) => record.bytes.clone(),
        Facts::Group(group) => {
            let members = group.members.iter().filter(|(name, _)| names.users.contains(name));
            let members = members.map(|(_, raw)| raw).chain(&group.nameless);
            group.with(members.cloned())
        }
        Facts::Entry(_) | Facts::Nothing => return None,
    };
    Some(Plain {
        source: record.source,
        part: record.part,
        key: record.key.clone(),
        bytes,
    })
}
