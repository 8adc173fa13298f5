//! What a few changed records change of what a host publishes, without a run over all of them.
//!
//! The stages of a run (see [`super`]) look at each user and each group by itself, but for a few things: two records of
//! one name or number, memberships, and private groups of those who share a gid with nobody. So a run over the changed
//! records and all that these have to do with, before and after, ends for each of their names as a run over everything
//! does, and the difference between the two is the difference of the whole. [`widen`] finds what has to do with them;
//! [`effect`] runs twice and compares. Where that is much of the directory ([`PartialError::Wide`]), or a record is of a
//! form that nobody expects, a whole run is asked for.
//!
//! A test makes directories and changes by the thousand and compares with whole runs.

mod content;
mod effect;
mod facts;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod widen;

use std::collections::BTreeSet;

use dirless_model::snapshot::Part;

pub(crate) use effect::{Effect, GroupChange, Person, Shown, effect, seen};
pub(crate) use store::{Store, StoreError};
pub(crate) use tree::{TreeChange, TreeRules};

use facts::{Facts, Record};

/// Most users, and most groups, that a partial run takes up: beyond it a whole one costs little more.
const MOST: usize = 4096;

/// A change cannot be followed by itself: run over everything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartialError {
    /// The records.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too much has to do with the change.
    #[error("the change has to do with more than {MOST} users or groups")]
    Wide,
    /// The runs over a part ended otherwise than by deciding.
    #[error("a part of the directory cannot be judged by itself: {0}")]
    Unfit(String),
}

/// A record of a source as it is from now on.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Place of the source in the order of precedence.
    pub(crate) source: u8,
    /// What it is.
    pub(crate) part: Part,
    /// Its key.
    pub(crate) key: Vec<u8>,
    /// Its bytes; none when it is gone.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// The records that changed, as they were and as they are.
#[derive(Debug, Default)]
struct Changed {
    old: Vec<Record>,
    new: Vec<Record>,
    /// Where they are.
    places: BTreeSet<(u8, Part, Vec<u8>)>,
    /// Names that the records before or after have, or that joined or left a group of them.
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
    /// Groups of which more than members changed.
    renewed: BTreeSet<String>,
    uids: BTreeSet<u32>,
    gids: BTreeSet<u32>,
}

impl Changed {
    /// Puts `changes` into the store, and keeps what was there.
    fn replace(store: &Store, changes: Vec<Change>) -> Result<Self, StoreError> {
        let mut changed = Self::default();
        for change in changes {
            let Change {
                source,
                part,
                key,
                bytes,
            } = change;
            let record = |bytes: Vec<u8>| -> Result<Record, StoreError> {
                let facts = store.facts(source, part, &key, &bytes)?;
                Ok(Record {
                    source,
                    part,
                    key: key.clone(),
                    bytes,
                    facts,
                })
            };
            let old = store.get(source, part, &key)?.map(record).transpose()?;
            let new = bytes.map(record).transpose()?;
            match &new {
                Some(new) => store.put(source, part, &key, &new.bytes)?,
                None => old.iter().try_for_each(|old| store.remove(old))?,
            }
            changed.note(old.as_ref(), new.as_ref());
            if let (Some(Facts::Group(was)), Some(new)) = (old.as_ref().map(|old| &old.facts), &new)
                && let Facts::Group(is) = &new.facts
            {
                store.set_members(new, &was.members, &is.members)?;
            }
            changed.places.insert((source, part, key));
            changed.old.extend(old);
            changed.new.extend(new);
        }
        Ok(changed)
    }

    fn note(&mut self, old: Option<&Record>, new: Option<&Record>) {
        fn stub(record: Option<&Record>) -> Option<&[u8]> {
            match record.map(|record| &record.facts) {
                Some(Facts::Group(group)) => Some(&group.stub),
                _ => None,
            }
        }
        for record in [old, new].into_iter().flatten() {
            match &record.facts {
                Facts::User(user) => {
                    self.users.extend(user.name.clone());
                    self.uids.extend(user.uid);
                    self.gids.extend(user.gid);
                }
                Facts::Group(group) => {
                    self.groups.extend(group.name.clone());
                    self.gids.extend(group.gid);
                    if stub(old) != stub(new) {
                        self.renewed.extend(group.name.clone());
                    }
                }
                Facts::Keys(name) => self.users.extend(name.clone()),
                Facts::Entry(_) | Facts::Nothing => {}
            }
        }
        let members = |record: Option<&Record>| match record.map(|record| &record.facts) {
            Some(Facts::Group(group)) => group.members.iter().map(|(name, _)| name.clone()).collect(),
            _ => BTreeSet::new(),
        };
        let (was, is) = (members(old), members(new));
        self.users.extend(was.symmetric_difference(&is).cloned());
    }
}
