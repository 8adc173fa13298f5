//! What one source says, compactly.

use crate::texts::{Span, Symbol};
use crate::{Gid, Uid};

/// A user of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserEntry {
    /// Login name, after the name rule.
    pub name: Symbol,
    /// The name as the source spells it.
    pub raw: Symbol,
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
}

/// A group of one source. Its members are a stretch of [`Part::members`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// Group name, after the name rule.
    pub name: Symbol,
    /// The name as the source spells it.
    pub raw: Symbol,
    /// Group id.
    pub gid: Gid,
    /// First member.
    pub start: u32,
    /// One past the last member.
    pub end: u32,
}

/// A user's keys in one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// Login name, after the name rule.
    pub name: Symbol,
    /// The name as the source spells it.
    pub raw: Symbol,
    /// authorized_keys lines; empty means "no keys", and says so for later sources too.
    pub keys: Span,
}

/// What one source says, after the name rule.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Users, in any order.
    pub users: Vec<UserEntry>,
    /// Groups, in any order.
    pub groups: Vec<GroupEntry>,
    /// Member names of all groups.
    pub members: Vec<Symbol>,
    /// Keys, in any order.
    pub keys: Vec<KeyEntry>,
    /// Names of user records that were refused while reading.
    pub refused_users: Vec<Symbol>,
    /// Names of group records that were refused while reading.
    pub refused_groups: Vec<Symbol>,
}

impl Part {
    /// The member names of `group`.
    #[must_use]
    pub fn members_of(&self, group: &GroupEntry) -> &[Symbol] {
        self.members
            .get(group.start as usize..group.end as usize)
            .unwrap_or_default()
    }
}
