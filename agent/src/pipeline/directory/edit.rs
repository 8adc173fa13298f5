//! The copy brought from one state to the next at the cost of what changed.
//!
//! What a whole run puts is put again for the names that a change touches, by the very same code: the records of these
//! accounts, the entries of the tree under these names and under all those above them, and, where an entry stands only
//! because others are below it, the first of those, which it gets its spelling from. All else stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use dirless_copy::{Account, CopyError, Edit, Group, Layered, Overlay, Posix, Reader, Record, Target, User};
use dirless_directory::{Dn, DnKey};
use dirless_model::snapshot::{Joined, Part};

use crate::pipeline::Inputs;
use crate::pipeline::entries;
use crate::pipeline::partial::{Effect, GroupChange, PartialError, Person, Store, TreeChange, seen};

/// A copy that is to be changed.
pub(crate) struct Held<'a> {
    /// Where it begins.
    pub(crate) base: &'a Dn,
    /// What it says.
    pub(crate) reader: Reader,
}

/// What is to be put, and what goes unless it is put.
pub(crate) struct Plan {
    users: BTreeMap<String, Person>,
    groups: BTreeMap<String, (u32, BTreeSet<String>)>,
    overlay: Overlay,
    touched: BTreeSet<DnKey>,
}

/// A group after a change.
enum Team {
    /// As the copy has it, but for these members.
    Kept {
        joined: BTreeSet<String>,
        left: BTreeSet<String>,
    },
    /// This, whatever it was.
    Put(u32, BTreeSet<String>),
    Gone,
}

impl Team {
    fn same() -> Self {
        Self::Kept {
            joined: BTreeSet::new(),
            left: BTreeSet::new(),
        }
    }

    fn then(self, change: &GroupChange) -> Self {
        match (self, change) {
            (_, GroupChange::Drop) => Self::Gone,
            (_, GroupChange::Put(gid, members)) => Self::Put(*gid, members.clone()),
            (Self::Put(gid, mut members), GroupChange::Members { joined, left }) => {
                members.retain(|name| !left.contains(name));
                members.extend(joined.iter().cloned());
                Self::Put(gid, members)
            }
            (
                Self::Kept {
                    joined: mut came,
                    left: mut went,
                },
                GroupChange::Members { joined, left },
            ) => {
                came.retain(|name| !left.contains(name));
                went.retain(|name| !joined.contains(name));
                came.extend(joined.iter().cloned());
                went.extend(left.iter().cloned());
                Self::Kept {
                    joined: came,
                    left: went,
                }
            }
            (Self::Gone, GroupChange::Members { .. }) => Self::Gone,
        }
    }
}

fn unfit(reason: &str) -> PartialError {
    PartialError::Unfit(reason.to_owned())
}

/// What becomes of the copy after `effects` on accounts and `tree` on entries, all of which `store` has; nothing when it
/// stays as it is.
///
/// # Errors
/// When only a run over everything can tell.
pub(crate) fn plan(
    held: &Held<'_>,
    store: &Store,
    inputs: &Inputs,
    effects: &[Effect],
    tree: &TreeChange,
) -> Result<Option<Plan>, FollowCopyError> {
    if store.is_large() {
        return Err(unfit("the entries of the tree take much room").into());
    }
    let posix = posix(held)?;
    let tops = posix.tops().ok_or_else(|| unfit("the base of the copy is no name"))?;
    let (people, teams) = accounts(effects);
    let mut touched = tree.keys.clone();
    touched.extend(people.keys().map(|name| posix.key(Account::User(name))));
    touched.extend(teams.keys().map(|name| posix.key(Account::Group(name))));
    if touched.is_empty() {
        return Ok(None);
    }
    tree.check(store)?;
    let [base, ..] = &tops;
    let mut above = BTreeSet::new();
    for key in &touched {
        let mut next = key.parent();
        while let Some(key) = next.filter(|key| key.is_within(base)) {
            next = key.parent();
            above.insert(key);
        }
    }
    touched.extend(above);
    let overlay = laid(held, store, inputs, &touched, &tops)?;
    let (users, groups) = records(held, &posix, store, inputs, &touched, people, teams)?;
    Ok(Some(Plan {
        users,
        groups,
        overlay,
        touched,
    }))
}

/// A plan cannot be made or carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowCopyError {
    /// Only a run over everything can tell.
    #[error(transparent)]
    Partial(#[from] PartialError),
    /// The copy cannot be read or written.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

impl From<crate::pipeline::partial::StoreError> for FollowCopyError {
    fn from(error: crate::pipeline::partial::StoreError) -> Self {
        Self::Partial(error.into())
    }
}

fn posix(held: &Held<'_>) -> Result<Posix, PartialError> {
    let schema = held.reader.schema().clone();
    Posix::new(schema, held.base.clone()).ok_or_else(|| unfit("the base of the copy is no name"))
}

/// Users and groups of whom anything changed.
fn accounts(effects: &[Effect]) -> (BTreeMap<String, Option<Person>>, BTreeMap<String, Team>) {
    let (mut people, mut teams) = (BTreeMap::new(), BTreeMap::new());
    for effect in effects {
        for (name, person) in &effect.people {
            people.insert(name.clone(), person.clone());
        }
        for (name, change) in &effect.groups {
            let team = teams.remove(name).unwrap_or_else(Team::same).then(change);
            teams.insert(name.clone(), team);
        }
    }
    (people, teams)
}

/// Users and groups under the names that are touched.
#[expect(clippy::type_complexity, reason = "two parts of a plan")]
fn records(
    held: &Held<'_>,
    posix: &Posix,
    store: &Store,
    inputs: &Inputs,
    touched: &BTreeSet<DnKey>,
    mut people: BTreeMap<String, Option<Person>>,
    mut teams: BTreeMap<String, Team>,
) -> Result<(BTreeMap<String, Person>, BTreeMap<String, (u32, BTreeSet<String>)>), FollowCopyError> {
    let mut looked_at = BTreeSet::new();
    for key in touched {
        match posix.account(key) {
            Some(Account::User(name)) if !people.contains_key(name) => {
                looked_at.insert(name.to_owned());
            }
            Some(Account::Group(name)) => {
                teams.entry(name.to_owned()).or_insert_with(Team::same);
            }
            _ => {}
        }
    }
    if !looked_at.is_empty() {
        let seen = seen(store, inputs, &looked_at)?;
        people.extend(seen.into_iter().map(|(name, person)| (name, Some(person))));
    }
    let mut groups = BTreeMap::new();
    for (name, team) in teams {
        let group = match team {
            Team::Gone => None,
            Team::Put(gid, members) => Some((gid, members)),
            Team::Kept { joined, left } => {
                let changes = !joined.is_empty() || !left.is_empty();
                let team = group_in(&held.reader, &posix.key(Account::Group(&name)))?;
                if team.is_none() && changes {
                    return Err(unfit("the copy lacks a group").into());
                }
                team.map(|(gid, mut members)| {
                    members.retain(|name| !left.contains(name));
                    members.extend(joined);
                    (gid, members)
                })
            }
        };
        groups.extend(group.map(|group| (name, group)));
    }
    let users = people.into_iter().filter_map(|(name, person)| Some((name, person?)));
    Ok((users.collect(), groups))
}

/// The group that the copy has under a key. What makes it one is in it as its record has it, whatever is laid over.
fn group_in(copy: &Reader, key: &DnKey) -> Result<Option<(u32, BTreeSet<String>)>, CopyError> {
    let mut found = None;
    copy.lookup(key.as_bytes(), &mut |row| {
        let values = |name: &str| row.attributes.attribute(name).into_iter().flat_map(|one| one.values);
        let text = |value: &[u8]| std::str::from_utf8(value).unwrap_or_default().to_owned();
        if values("objectClass").any(|class| class == b"posixGroup") {
            let gid = values("gidNumber").next().and_then(|gid| text(gid).parse().ok());
            found = gid.map(|gid| (gid, values("memberUid").map(text).collect()));
        }
    })?;
    Ok(found)
}

/// The entries of the tree under the names that are touched, and the first below each that has none.
fn laid(
    held: &Held<'_>,
    store: &Store,
    inputs: &Inputs,
    touched: &BTreeSet<DnKey>,
    tops: &[DnKey],
) -> Result<Overlay, FollowCopyError> {
    let mut of_source: BTreeMap<u8, Joined> = BTreeMap::new();
    let mut take = |key: &DnKey| -> Result<bool, FollowCopyError> {
        let found = store.entries_at(key)?;
        for (source, bytes) in &found {
            of_source.entry(*source).or_default().add(Part::Entry, bytes);
        }
        Ok(!found.is_empty())
    };
    let mut spelling = BTreeSet::new();
    for key in touched.iter().chain(tops.iter().filter(|top| !touched.contains(*top))) {
        take(key)?;
        if !tops.contains(key) {
            spelling.extend(store.first_below(key)?);
        }
    }
    for key in spelling.difference(touched).filter(|key| !tops.contains(key)) {
        take(key)?;
    }
    let schema = held.reader.schema();
    let sources = inputs.directory.iter().flat_map(|directory| &directory.sources);
    let places = (0u8..).skip(inputs.sources.len());
    let mut all = Overlay::default();
    for (place, source) in places.zip(sources) {
        let Some(joined) = of_source.remove(&place) else {
            continue;
        };
        let part = entries::part(&source.name, &joined.finish(), schema, held.base);
        let (overlay, _) = part.map_err(|error| PartialError::Unfit(error.reason))?;
        store.check_identities(overlay.names().filter_map(|named| named.given))?;
        all.append(overlay);
    }
    all.sort();
    Ok(all)
}

/// Notes what it is given.
struct Noted<'e> {
    edit: &'e mut Edit,
    put: BTreeSet<DnKey>,
}

impl Target for Noted<'_> {
    fn put(&mut self, record: &Record<'_>) -> Result<(), CopyError> {
        self.put.insert(record.key.clone());
        self.edit.put(record)
    }
}

impl Plan {
    /// Carries it out in `edit`, which is of the copy `held`.
    ///
    /// # Errors
    /// When the copy cannot be written, or is not what was planned for.
    pub(crate) fn apply(&self, held: &Held<'_>, edit: &mut Edit) -> Result<(), FollowCopyError> {
        let mut posix = posix(held)?;
        let mut noted = Noted {
            edit,
            put: BTreeSet::new(),
        };
        let mut layered = Layered::new(&mut noted, &self.overlay, held.reader.schema());
        posix.begin(&mut layered)?;
        for (name, (gid, members)) in &self.groups {
            let group = Group { name, gid: *gid };
            posix.group(&mut layered, group, members.iter().map(String::as_str))?;
        }
        posix.users(&mut layered)?;
        for (name, Person { shown, groups }) in &self.users {
            let user = User {
                name,
                uid: shown.uid,
                gid: shown.gid,
                gecos: &shown.gecos,
                home: &shown.home,
                shell: &shown.shell,
                keys: &shown.keys,
            };
            posix.user(&mut layered, user, groups.iter().map(String::as_str))?;
        }
        layered.finish()?;
        // What is below goes before what is above.
        let gone = self.touched.iter().rev().filter(|key| !noted.put.contains(*key));
        for key in gone {
            noted.edit.remove(key)?;
        }
        Ok(())
    }
}
