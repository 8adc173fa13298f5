//! What is to differ from a table: an overlay on its way.

use crate::check::{check_keys, check_name, check_text, push_text};
use crate::error::{Corrupt, WriteError};
use crate::format::{KIND_GONE, KIND_USER, hash_name};
use crate::reader::Table;
use crate::record::{Group, User};
use crate::writer::{GroupRecord, UserRecord};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Changes to a table, beginning with those that its overlay has already. Who is in which groups follows from
/// the groups; whatever comes out as the table has it is left out in the end.
#[derive(Debug)]
pub struct Draft<'t> {
    pub(super) table: &'t Table,
    /// By name; `None` is no user. Names that are in other groups only are not here.
    pub(super) users: BTreeMap<Cow<'t, [u8]>, Option<Person<'t>>>,
    /// By name; `None` is no group.
    pub(super) groups: BTreeMap<Cow<'t, [u8]>, Option<Changed<'t>>>,
}

/// A user without her groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person<'t> {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// As in [`User`].
    pub(super) strings: Cow<'t, [u8]>,
    pub(super) starts: [usize; 3],
    pub(super) keys: Cow<'t, [u8]>,
}

/// A group, by how it differs from the table's of the same name, or from an empty one.
#[derive(Debug, Clone)]
pub(super) struct Changed<'t> {
    pub(super) gid: u32,
    /// Where their names begin in the members text of the table's group.
    pub(super) left: BTreeMap<Cow<'t, [u8]>, u32>,
    pub(super) joined: BTreeSet<Cow<'t, [u8]>>,
}

impl<'t> Draft<'t> {
    pub(super) fn of(table: &'t Table) -> Result<Self, Corrupt> {
        let mut draft = Self {
            table,
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
        };
        let Some(overlay) = &table.overlay else {
            return Ok(draft);
        };
        for offset in overlay.body().indexed(overlay.header().user_by_name)? {
            let (kind, user) = overlay.user_at(offset)?;
            let person = (kind == KIND_USER).then(|| Person::of(&user));
            draft.users.insert(user.name().into(), person);
        }
        for offset in overlay.body().indexed(overlay.header().group_by_name)? {
            let (kind, group) = overlay.group_at(&table.base, offset)?;
            let changed = if kind == KIND_GONE {
                None
            } else {
                Some(Changed::of(&group)?)
            };
            draft.groups.insert(group.name().into(), changed);
        }
        Ok(draft)
    }

    /// The state so far in place: the table under its overlay, without what this draft was given.
    pub fn table(&self) -> &'t Table {
        self.table
    }

    /// Adds a user, or replaces the one of that name. Her groups are those that list her.
    ///
    /// # Errors
    /// A refused record leaves the draft as it was ([`WriteError::concerns_one_record`]). A uid that another
    /// user has is found out at the end, when all changes are known.
    pub fn put_user(&mut self, user: &UserRecord<'_>) -> Result<(), WriteError> {
        check_name("user name", user.name)?;
        for (field, text) in [("gecos", user.gecos), ("home", user.home), ("shell", user.shell)] {
            check_text(field, text)?;
        }
        check_keys(user.keys)?;
        let person = Person::new(
            user.uid,
            user.gid,
            [user.name, user.gecos, user.home, user.shell],
            user.keys,
        );
        self.users.insert(owned(user.name), Some(person));
        Ok(())
    }

    /// Removes the user of that name, if there is one. Groups that list her keep doing so, as they list a
    /// local user.
    pub fn drop_user(&mut self, name: &str) {
        self.users.insert(owned(name), None);
    }

    /// Adds a group with these members, or replaces the one of that name. Members stay where the table has
    /// them and others come last: their order is not that of `members`.
    ///
    /// # Errors
    /// As [`Draft::put_user`]; and [`WriteError::WholeTable`] when the table is damaged.
    pub fn put_group<'m>(
        &mut self,
        group: &GroupRecord<'_>,
        members: impl IntoIterator<Item = &'m str>,
    ) -> Result<(), WriteError> {
        check_name("group name", group.name)?;
        let mut new = HashSet::new();
        for member in members {
            check_name("member", member)?;
            new.insert(member.as_bytes());
        }
        let mut left = BTreeMap::new();
        if let Some(base) = self.base_group(group.name)? {
            let text = base.own_members();
            left.extend(names_in(text, 0..text.len()).filter(|(name, _)| !new.remove(name)));
        }
        let joined = new.into_iter().map(|name| Cow::Owned(name.to_vec())).collect();
        let changed = Changed {
            gid: group.gid,
            left: left.into_iter().map(|(name, at)| (Cow::Borrowed(name), at)).collect(),
            joined,
        };
        self.groups.insert(owned(group.name), Some(changed));
        Ok(())
    }

    /// Lets members join and leave a group, at a cost that does not follow its size. Who is a member already
    /// or was none is no mistake.
    ///
    /// # Errors
    /// [`WriteError::NoSuchGroup`], or a name that is none; the draft is then as it was. And
    /// [`WriteError::WholeTable`] when the table is damaged.
    pub fn change_members<'m>(
        &mut self,
        group: &str,
        joining: impl IntoIterator<Item = &'m str>,
        leaving: impl IntoIterator<Item = &'m str>,
    ) -> Result<(), WriteError> {
        let base = self.base_group(group)?;
        let mut changed = match (self.groups.get(group.as_bytes()), &base) {
            (Some(Some(changed)), _) => changed.clone(),
            (None, Some(base)) => Changed {
                gid: base.gid,
                left: BTreeMap::new(),
                joined: BTreeSet::new(),
            },
            (Some(None), _) | (None, None) => return Err(WriteError::NoSuchGroup),
        };
        for name in joining {
            check_name("member", name)?;
            let back = changed.left.remove(name.as_bytes()).is_some();
            if !back && !self.in_base(base.as_ref(), name)? {
                changed.joined.insert(owned(name));
            }
        }
        for name in leaving {
            let joined = changed.joined.remove(name.as_bytes());
            if !joined && !changed.left.contains_key(name.as_bytes()) && self.in_base(base.as_ref(), name)? {
                let text = base.as_ref().map(Group::own_members).unwrap_or_default();
                changed.left.insert(owned(name), place_of(text, name).ok_or(Corrupt)?);
            }
        }
        self.groups.insert(owned(group), Some(changed));
        Ok(())
    }

    /// Removes the group of that name, if there is one.
    pub fn drop_group(&mut self, name: &str) {
        self.groups.insert(owned(name), None);
    }

    fn base_group(&self, name: &str) -> Result<Option<Group<'t>>, Corrupt> {
        self.table
            .base
            .group_by_name(hash_name(name.as_bytes()), name.as_bytes())
    }

    /// Whether the table's group lists the name. Asked of the name, which is in few groups.
    fn in_base(&self, group: Option<&Group<'_>>, name: &str) -> Result<bool, Corrupt> {
        let found = self.table.base.named(hash_name(name.as_bytes()), name.as_bytes())?;
        let listed = |gid| found.is_some_and(|(_, user)| user.gids().iter().any(|own| own == gid));
        Ok(group.is_some_and(|group| listed(group.gid)))
    }
}

impl<'t> Person<'t> {
    pub(super) fn new(uid: u32, gid: u32, texts: [&str; 4], keys: &str) -> Self {
        let [name, gecos, home, shell] = texts;
        let mut strings = Vec::with_capacity(name.len() + gecos.len() + home.len() + shell.len() + 6);
        let mut starts = [0; 3];
        push_text(&mut strings, name.as_bytes());
        push_text(&mut strings, b"x");
        for (start, text) in starts.iter_mut().zip([gecos, home, shell]) {
            *start = strings.len();
            push_text(&mut strings, text.as_bytes());
        }
        Self {
            uid,
            gid,
            strings: strings.into(),
            starts,
            keys: Cow::Owned(keys.into()),
        }
    }

    pub(super) fn of(user: &User<'t>) -> Self {
        Self {
            uid: user.uid,
            gid: user.gid,
            strings: user.strings.into(),
            starts: user.starts,
            keys: user.keys.into(),
        }
    }

    /// The same, borrowed.
    pub(super) fn borrowed(&self) -> Person<'_> {
        Person {
            strings: Cow::Borrowed(&self.strings),
            keys: Cow::Borrowed(&self.keys),
            ..*self
        }
    }
}

impl<'t> Changed<'t> {
    /// As an overlay has it.
    fn of(group: &Group<'t>) -> Result<Self, Corrupt> {
        let own = group.own_members();
        let kept = group.kept_members();
        let mut left = BTreeMap::new();
        let mut after = 0;
        let end = kept.members.len() as u64;
        // A piece that begins and ends where the text does closes the last gap.
        let pieces = kept
            .pieces
            .as_chunks::<8>()
            .0
            .iter()
            .map(|piece| u64::from_le_bytes(*piece));
        for piece in pieces.chain([end | end << 32]) {
            let start = piece as u32 as usize;
            let gap = names_in(kept.members, after..start);
            left.extend(gap.map(|(name, at)| (Cow::Borrowed(name), at)));
            after = (piece >> 32) as usize;
        }
        let joined = names_in(own, 0..own.len()).map(|(name, _)| name.into()).collect();
        Ok(Self {
            gid: group.gid,
            left,
            joined,
        })
    }
}

fn owned<'t>(name: &str) -> Cow<'t, [u8]> {
    Cow::Owned(name.as_bytes().to_vec())
}

/// The names in a part of a members text, with where each begins in the whole.
pub(super) fn names_in(text: &[u8], part: std::ops::Range<usize>) -> impl Iterator<Item = (&[u8], u32)> {
    let mut at = part.start;
    let names = text.get(part).unwrap_or_default().split_inclusive(|byte| *byte == 0);
    names.map(move |name| {
        let start = at;
        at += name.len();
        (name.strip_suffix(&[0]).unwrap_or(name), start as u32)
    })
}

/// Where a name begins in a members text. The text of a group of everybody is long: it is searched as one
/// string, not name by name.
fn place_of(text: &[u8], name: &str) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    let between = format!("\0{name}\0");
    if text.get(..=name.len()) == between.get(1..) {
        return Some(0);
    }
    text.find(&between).map(|before| before as u32 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whole_and_wherever_they_stand() {
        let text = b"annabel\0anna\0bo\0bob\0b\0";
        for name in ["annabel", "anna", "bo", "bob", "b"] {
            let place = names_in(text, 0..text.len()).find(|(found, _)| *found == name.as_bytes());
            assert_eq!(place_of(text, name), place.map(|(_, at)| at), "{name}");
            assert!(place.is_some());
        }
        for name in ["ann", "nna", "bel", "ob", ""] {
            assert_eq!(place_of(text, name), None, "{name}");
        }
        assert_eq!(
            names_in(text, 8..16).collect::<Vec<_>>(),
            [(&b"anna"[..], 8), (b"bo", 13)]
        );
        assert_eq!(names_in(text, 40..50).count(), 0);
    }
}
