//! Merging what several sources say into one directory.
//!
//! Pure and deterministic: the outcome depends on what the sources hold and on their order of
//! precedence, never on the order of records inside one.
//!
//! - **Inside a source**, two records of one name, or two names with one id, are all refused: nobody
//!   can tell which is meant.
//! - **Between sources** the earlier one wins. A user replaces the later source's user of that name.
//!   Groups of one name become one, with the earlier gid and the members of both, the earlier
//!   source's first. A user's keys are those of the earliest source that has an entry for the name,
//!   be it an empty one. An id that an earlier source uses under another name is refused to the later.
//! - **A refused record still speaks**: a name that an earlier source names but gets wrong is not
//!   taken from a later one. A broken override must not bring back what it overrode.
//! - Members and keys of users that nobody has are dropped and counted.

mod part;
mod people;
mod teams;

use crate::texts::{Span, Symbol, Texts};
use crate::{Gid, Uid};

pub use part::{GroupEntry, KeyEntry, Part, UserEntry};

/// The merged directory. Users and groups are in the order of their names.
#[derive(Debug, Default)]
pub struct Directory {
    /// Every user.
    pub users: Vec<MergedUser>,
    /// Every group.
    pub groups: Vec<MergedGroup>,
    members: Vec<u32>,
}

/// A user of the merged directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedUser {
    /// Login name.
    pub name: Symbol,
    /// User id.
    pub uid: Uid,
    /// Primary group.
    pub gid: Gid,
    /// Login shell.
    pub shell: Symbol,
    /// Comment.
    pub gecos: Span,
    /// Home directory.
    pub home: Span,
    /// authorized_keys lines; empty for none.
    pub keys: Span,
    /// Place of the user's source in the order of precedence.
    pub source: u8,
}

/// A group of the merged directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedGroup {
    /// Group name.
    pub name: Symbol,
    /// Group id.
    pub gid: Gid,
    /// Place of the source that gave the gid in the order of precedence.
    pub source: u8,
    start: u32,
    end: u32,
}

impl Directory {
    /// The members of `group` as places among [`Directory::users`].
    #[must_use]
    pub fn members(&self, group: &MergedGroup) -> &[u32] {
        self.members
            .get(group.start as usize..group.end as usize)
            .unwrap_or_default()
    }

    /// The place of the user called `name`.
    #[must_use]
    pub fn user(&self, texts: &Texts, name: &str) -> Option<usize> {
        self.users.binary_search_by(|user| texts.name(user.name).cmp(name)).ok()
    }

    /// The place of the group called `name`.
    #[must_use]
    pub fn group(&self, texts: &Texts, name: &str) -> Option<usize> {
        self.groups
            .binary_search_by(|group| texts.name(group.name).cmp(name))
            .ok()
    }

    /// Keeps the users for which `keep` holds, also in the lists of members. Groups stay.
    pub fn retain_users(&mut self, mut keep: impl FnMut(usize, &MergedUser) -> bool) {
        const GONE: u32 = u32::MAX;
        let mut moved = Vec::with_capacity(self.users.len());
        let mut next = 0;
        let mut place = 0;
        self.users.retain(|user| {
            let kept = keep(place, user);
            place += 1;
            moved.push(if kept { next } else { GONE });
            next += u32::from(kept);
            kept
        });
        if moved.len() == self.users.len() {
            return;
        }
        let mut write = 0;
        for group in &mut self.groups {
            let start = write;
            for read in group.start..group.end {
                let old = self.members.get(read as usize).copied().unwrap_or(GONE);
                let new = moved.get(old as usize).copied().unwrap_or(GONE);
                if new != GONE
                    && let Some(place) = self.members.get_mut(write as usize)
                {
                    *place = new;
                    write += 1;
                }
            }
            (group.start, group.end) = (start, write);
        }
        self.members.truncate(write as usize);
    }

    /// Keeps the groups for which `keep` holds.
    pub fn retain_groups(&mut self, mut keep: impl FnMut(&mut MergedGroup) -> bool) {
        self.groups.retain_mut(|group| keep(group));
    }
}

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A user.
    User(Symbol),
    /// A group.
    Group(Symbol),
    /// A user's keys.
    Keys(Symbol),
}

/// Why the merge left an entry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Several records of the source have this name (after the name rule); all are refused.
    SameName,
    /// Another name of the same source has this id; all are refused.
    SameId {
        /// The uid or gid.
        id: u32,
        /// One of the other names.
        other: Symbol,
    },
    /// An earlier source has this id under another name.
    IdTaken {
        /// The uid or gid.
        id: u32,
        /// The name that has it.
        by: Symbol,
        /// Place of that source.
        source: u8,
    },
    /// An earlier source has a record of this name that was refused, and it still decides.
    Shadowed {
        /// Place of that source.
        source: u8,
    },
}

/// An entry that the merge left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Place of the source.
    pub source: u8,
    /// The entry.
    pub entry: Entry,
    /// The name as the source spells it.
    pub raw: Symbol,
    /// Why.
    pub cause: Cause,
}

/// What a merge gives.
#[derive(Debug, Default)]
pub struct Merged {
    /// The directory.
    pub directory: Directory,
    /// What was left out.
    pub refusals: Vec<Refusal>,
    /// Usernames that more than one source has, in order.
    pub duplicates: Vec<Symbol>,
    /// Memberships of users that nobody has.
    pub unknown_members: usize,
    /// Keys for users that nobody has.
    pub unknown_keys: usize,
}

/// Merges `parts`, the first of which has the highest precedence. At most 255 parts are looked at.
#[must_use]
pub fn merge(texts: &Texts, parts: Vec<Part>) -> Merged {
    let ranks = texts.ranks();
    let mut merged = Merged::default();
    people::merge(texts, &ranks, &parts, &mut merged);
    teams::merge(texts, &ranks, &parts, &mut merged);
    merged.refusals.sort_by_key(|refusal| {
        let (kind, name) = match refusal.entry {
            Entry::User(name) => (0, name),
            Entry::Group(name) => (1, name),
            Entry::Keys(name) => (2, name),
        };
        (kind, rank(&ranks, name), refusal.source, rank(&ranks, refusal.raw))
    });
    merged
}

/// The rank of `symbol`.
fn rank(ranks: &[u32], symbol: Symbol) -> u32 {
    ranks.get(symbol.index()).copied().unwrap_or(u32::MAX)
}

/// Which source a name belongs to, for every symbol.
struct Owners(Vec<u8>);

impl Owners {
    const NOBODY: u8 = u8::MAX;

    fn new(texts: &Texts) -> Self {
        Self(vec![Self::NOBODY; texts.symbols()])
    }

    fn of(&self, symbol: Symbol) -> Option<u8> {
        self.0
            .get(symbol.index())
            .copied()
            .filter(|owner| *owner != Self::NOBODY)
    }

    fn claim(&mut self, symbol: Symbol, source: u8) {
        if let Some(owner) = self.0.get_mut(symbol.index())
            && *owner == Self::NOBODY
        {
            *owner = source;
        }
    }
}

#[cfg(test)]
mod tests;
