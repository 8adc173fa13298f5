//! The two kinds of records, taken apart and checked.

use crate::error::Corrupt;
use crate::format::{CHANGED_GROUP_FIXED, GROUP_FIXED, KIND_GONE, KIND_GROUP, USER_FIXED, u16_at, u32_at};

/// A user as stored. Texts are bytes without NUL; a table written by this crate holds UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User<'a> {
    /// The uid.
    pub uid: u32,
    /// The primary gid.
    pub gid: u32,
    /// `name \0 x \0 gecos \0 home \0 shell \0`, ready to be copied.
    pub strings: &'a [u8],
    /// Where gecos, home and shell begin in `strings`; the name begins at 0, the `x` two before gecos.
    pub starts: [usize; 3],
    /// The text of an authorized_keys file, or empty.
    pub keys: &'a [u8],
    gids: &'a [u8],
}

impl<'a> User<'a> {
    /// The login name.
    #[inline]
    pub fn name(&self) -> &'a [u8] {
        let [gecos, _, _] = self.starts;
        slice(self.strings, 0, gecos.saturating_sub(3))
    }

    /// The full name and the like.
    pub fn gecos(&self) -> &'a [u8] {
        let [gecos, home, _] = self.starts;
        slice(self.strings, gecos, home.saturating_sub(1))
    }

    /// The home folder.
    pub fn home(&self) -> &'a [u8] {
        let [_, home, shell] = self.starts;
        slice(self.strings, home, shell.saturating_sub(1))
    }

    /// The login shell.
    pub fn shell(&self) -> &'a [u8] {
        let [_, _, shell] = self.starts;
        slice(self.strings, shell, self.strings.len().saturating_sub(1))
    }

    /// The gids of the groups that list this user, ascending.
    #[inline]
    pub fn gids(&self) -> Gids<'a> {
        Gids { bytes: self.gids }
    }
}

#[inline]
fn slice(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    bytes.get(start..end).unwrap_or_default()
}

/// A list of gids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gids<'a> {
    bytes: &'a [u8],
}

impl<'a> Gids<'a> {
    /// How many.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() / 4
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The gids, ascending.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word))
    }
}

/// A group as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group<'a> {
    /// The gid.
    pub gid: u32,
    /// `name \0 x \0 member \0 member \0 …`, ready to be copied.
    pub strings: &'a [u8],
    /// Where the members begin in `strings`.
    pub members_start: usize,
    /// How many members there are, those of [`Group::kept`] included.
    pub member_count: usize,
    kept: Kept<'a>,
}

/// The members that an overlay leaves in the base's group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept<'a> {
    /// Where each piece begins and ends in `members`, two u32 a piece.
    pub(crate) pieces: &'a [u8],
    /// The members text of the base's group.
    pub(crate) members: &'a [u8],
}

impl<'a> Group<'a> {
    /// The group's name.
    #[inline]
    pub fn name(&self) -> &'a [u8] {
        slice(self.strings, 0, self.members_start.saturating_sub(3))
    }

    /// Further members, `member \0 member \0 …` each, that come before those in `strings`: what an overlay
    /// leaves of a group. None in a group that no overlay changes.
    ///
    /// # Errors
    /// [`Corrupt`] for a piece that is none.
    #[inline]
    pub fn kept(&self) -> impl Iterator<Item = Result<&'a [u8], Corrupt>> + use<'a> {
        let members = self.kept.members;
        self.kept.pieces.as_chunks::<8>().0.iter().map(move |piece| {
            let bounds = u64::from_le_bytes(*piece);
            let text = members.get(bounds as u32 as usize..(bounds >> 32) as usize);
            text.filter(|text| text.last() == Some(&0)).ok_or(Corrupt)
        })
    }

    /// How many bytes [`Group::kept`] gives in all.
    ///
    /// # Errors
    /// [`Corrupt`] as there.
    #[inline]
    pub fn kept_len(&self) -> Result<usize, Corrupt> {
        let mut sum = 0usize;
        for text in self.kept() {
            sum = sum.saturating_add(text?.len());
        }
        Ok(sum)
    }

    /// The members' names in the order written; those who joined in an overlay come last, by name.
    pub fn members(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let joined = slice(self.strings, self.members_start, self.strings.len());
        let texts = self.kept().map(Result::unwrap_or_default).chain([joined]);
        texts
            .flat_map(|text| text.split_inclusive(|byte| *byte == 0))
            .map(|name| slice(name, 0, name.len().saturating_sub(1)))
            .take(self.member_count)
    }

    /// The members text in `strings`.
    #[inline]
    pub(crate) fn own_members(&self) -> &'a [u8] {
        slice(self.strings, self.members_start, self.strings.len())
    }

    /// The pieces of the base's group that are kept.
    pub(crate) fn kept_members(&self) -> Kept<'a> {
        self.kept
    }
}

/// Splits a user record and checks that each string ends where it says. Its kind comes with it.
#[inline]
pub(crate) fn decode_user(record: &[u8]) -> Option<(u8, User<'_>)> {
    let (fixed, rest) = record.split_first_chunk::<USER_FIXED>()?;
    let [name_len, kind] = *fixed.get(16..)?.first_chunk::<2>()?;
    if kind > KIND_GONE {
        return None;
    }
    let (gids, rest) = rest.split_at_checked((u32_at(fixed, 8)? as usize).checked_mul(4)?)?;
    let gecos = usize::from(name_len) + 3;
    let home = gecos + usize::from(u16_at(fixed, 18)?) + 1;
    let shell = home + usize::from(u16_at(fixed, 20)?) + 1;
    let end = shell + usize::from(u16_at(fixed, 22)?) + 1;
    let (strings, rest) = rest.split_at_checked(end)?;
    let ends = [gecos - 3, gecos - 1, home - 1, shell - 1, end - 1];
    if ends.iter().any(|at| strings.get(*at) != Some(&0)) {
        return None;
    }
    let keys = rest.get(..u32_at(fixed, 12)? as usize)?;
    let user = User {
        uid: u32_at(fixed, 0)?,
        gid: u32_at(fixed, 4)?,
        strings,
        starts: [gecos, home, shell],
        keys,
        gids,
    };
    Some((kind, user))
}

/// Splits a group record. The number of members is checked by whoever walks the members text; it
/// cannot pass the text's length, so that nobody reserves room for names that are not there.
#[inline]
pub(crate) fn decode_group(record: &[u8]) -> Option<Group<'_>> {
    let (fixed, rest) = record.split_first_chunk::<GROUP_FIXED>()?;
    decode_members(fixed, rest, Kept::default())
}

/// As [`decode_group`], of a record of an overlay, whose group may keep members of the base's. `base` gives
/// the base's group at a unit offset. The kind comes with it.
#[inline]
pub(crate) fn decode_changed_group<'a>(
    record: &'a [u8],
    base: impl FnOnce(u32) -> Option<Group<'a>>,
) -> Option<(u8, Group<'a>)> {
    let (fixed, rest) = record.split_first_chunk::<CHANGED_GROUP_FIXED>()?;
    let kind = *fixed.get(13)?;
    if kind != KIND_GROUP && kind != KIND_GONE {
        return None;
    }
    let (pieces, rest) = rest.split_at_checked((u32_at(fixed, 20)? as usize).checked_mul(8)?)?;
    let kept = match u32_at(fixed, 16)? {
        0 => Kept::default(),
        offset => Kept {
            pieces,
            members: base(offset)?.own_members(),
        },
    };
    Some((kind, decode_members(fixed, rest, kept)?))
}

#[inline]
fn decode_members<'a>(fixed: &'a [u8], rest: &'a [u8], kept: Kept<'a>) -> Option<Group<'a>> {
    let members_start = usize::from(*fixed.get(12)?) + 3;
    let member_count = u32_at(fixed, 4)? as usize;
    let members_len = u32_at(fixed, 8)? as usize;
    let strings = rest.get(..members_start.checked_add(members_len)?)?;
    let terminated = [members_start - 3, members_start - 1, strings.len() - 1];
    let most = members_len.checked_add(kept.members.len())?;
    if member_count > most || terminated.iter().any(|at| strings.get(*at) != Some(&0)) {
        return None;
    }
    Some(Group {
        gid: u32_at(fixed, 0)?,
        strings,
        members_start,
        member_count,
        kept,
    })
}
