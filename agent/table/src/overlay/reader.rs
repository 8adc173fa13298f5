//! An opened overlay: what it says of names and numbers, and its part of an enumeration.

use super::MOST_BYTES;
use super::format::{Header, SUFFIX_LEN, suffix};
use crate::base::Base;
use crate::body::{Body, Storage};
use crate::checksum::Checksum;
use crate::error::{Corrupt, OpenError};
use crate::format::{HEADER_LEN, List};
use crate::map::map_checked;
use crate::reader::Lookup;
use crate::record::{Group, User, decode_changed_group, decode_user};
use std::ffi::CStr;

/// Room for the path of an overlay on the stack of whoever looks something up.
const LONGEST_PATH: usize = 1024;

/// One overlay, of a table that is known.
#[derive(Debug)]
pub(crate) struct Overlay {
    header: Header,
    storage: Storage,
}

impl Overlay {
    /// Opens and maps the overlay of that number of the table at `table`, and reads it whole.
    #[inline]
    pub(crate) fn open_c(table: &CStr, number: u32, base: u64, owner: u32) -> Result<Self, OpenError> {
        const ENAMETOOLONG: i32 = 36;
        let mut zeros = [0; LONGEST_PATH];
        let path = path_in(&mut zeros, table, number).ok_or(OpenError::System { errno: ENAMETOOLONG })?;
        let (mapping, len) = map_checked(path, owner).map_err(|error| match error {
            OpenError::Missing => OpenError::Damaged {
                what: "overlay is missing",
            },
            error => error,
        })?;
        let header = mapping.header();
        let overlay = Self::checked(&header, len, base, Storage::Mapped(mapping))?;
        if overlay.header.number == number {
            Ok(overlay)
        } else {
            Err(OpenError::Damaged {
                what: "overlay's number",
            })
        }
    }

    /// An overlay from bytes in memory.
    pub(crate) fn from_bytes(bytes: Box<[u8]>, base: u64) -> Result<Self, OpenError> {
        let len = bytes.len() as u64;
        let header = *bytes
            .first_chunk::<HEADER_LEN>()
            .ok_or(OpenError::Size { found: len })?;
        Self::checked(&header, len, base, Storage::Owned(bytes))
    }

    /// Read to its end, unlike a table: a damaged index would have lookups go on to what the table has.
    #[inline]
    fn checked(header: &[u8; HEADER_LEN], len: u64, base: u64, storage: Storage) -> Result<Self, OpenError> {
        if len > MOST_BYTES {
            return Err(OpenError::Size { found: len });
        }
        let header = Header::decode(header, len, base)?;
        if Checksum::quick(storage.body().0) != header.body_checksum {
            return Err(OpenError::Damaged {
                what: "overlay's checksum",
            });
        }
        Ok(Self { header, storage })
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    #[inline]
    pub(crate) fn body(&self) -> Body<'_> {
        self.storage.body()
    }

    /// What is said of a name: the kind of its entry, and the entry.
    #[inline]
    pub(crate) fn named(&self, hash: u32, name: &[u8]) -> Lookup<(u8, User<'_>)> {
        self.body().search(self.header.user_by_name, hash, |offset| {
            let (kind, user) = self.user_at(offset)?;
            Ok((user.name() == name).then_some((kind, user)))
        })
    }

    /// What is said of a uid.
    #[inline]
    pub(crate) fn user_by_uid(&self, hash: u32, uid: u32) -> Lookup<(u8, User<'_>)> {
        self.body().search(self.header.user_by_uid, hash, |offset| {
            let (kind, user) = self.user_at(offset)?;
            Ok((user.uid == uid).then_some((kind, user)))
        })
    }

    /// What is said of a group's name. Groups keep members of `base`.
    #[inline]
    pub(crate) fn group_by_name<'a>(&'a self, base: &'a Base, hash: u32, name: &[u8]) -> Lookup<(u8, Group<'a>)> {
        self.body().search(self.header.group_by_name, hash, |offset| {
            let (kind, group) = self.group_at(base, offset)?;
            Ok((group.name() == name).then_some((kind, group)))
        })
    }

    /// What is said of a gid.
    #[inline]
    pub(crate) fn group_by_gid<'a>(&'a self, base: &'a Base, hash: u32, gid: u32) -> Lookup<(u8, Group<'a>)> {
        self.body().search(self.header.group_by_gid, hash, |offset| {
            let (kind, group) = self.group_at(base, offset)?;
            Ok((group.gid == gid).then_some((kind, group)))
        })
    }

    /// The user at a position: those of `base` that do not differ, then all of the overlay.
    #[inline]
    pub(crate) fn user_at_position<'a>(&'a self, base: &'a Base, position: u32) -> Lookup<User<'a>> {
        match self.place(self.header.users_differ, base.header.users, position)? {
            Place::Base(position) => base.user_at_position(position),
            Place::Overlay(position) => match self.body().listed(self.header.users, position)? {
                Some(offset) => self.user_at(offset).map(|(_, user)| Some(user)),
                None => Ok(None),
            },
        }
    }

    /// The group at a position, as [`Overlay::user_at_position`].
    #[inline]
    pub(crate) fn group_at_position<'a>(&'a self, base: &'a Base, position: u32) -> Lookup<Group<'a>> {
        match self.place(self.header.groups_differ, base.header.groups, position)? {
            Place::Base(position) => base.group_at_position(position),
            Place::Overlay(position) => match self.body().listed(self.header.groups, position)? {
                Some(offset) => self.group_at(base, offset).map(|(_, group)| Some(group)),
                None => Ok(None),
            },
        }
    }

    /// Where the entry at a position is, if the positions `differ` of the list `all` are left out.
    #[inline]
    fn place(&self, differ: List, all: List, position: u32) -> Result<Place, Corrupt> {
        let left = all.count.saturating_sub(differ.count);
        if position >= left {
            return Ok(Place::Overlay(position - left));
        }
        // The entry before which `n` are left out stands `n` places later; of those left out, the one at `n`
        // in their list comes after `place - n` others that are not.
        let before = self
            .body()
            .partition(differ, |n, place| place.saturating_sub(n) <= position)?;
        Ok(Place::Base(position.saturating_add(before)))
    }

    #[inline]
    pub(crate) fn user_at(&self, offset: u32) -> Result<(u8, User<'_>), Corrupt> {
        decode_user(self.body().record(offset)?).ok_or(Corrupt)
    }

    #[inline]
    pub(crate) fn group_at<'a>(&'a self, base: &'a Base, offset: u32) -> Result<(u8, Group<'a>), Corrupt> {
        let kept_of = |offset| base.group_at(offset).ok();
        decode_changed_group(self.body().record(offset)?, kept_of).ok_or(Corrupt)
    }
}

/// In which of the two lists an entry is, and where there.
enum Place {
    Base(u32),
    Overlay(u32),
}

/// The path of a table's overlay with the NUL byte that ends it, laid into zeros.
#[inline]
fn path_in<'b>(zeros: &'b mut [u8; LONGEST_PATH], table: &CStr, number: u32) -> Option<&'b [u8]> {
    let table = table.to_bytes();
    let path = zeros.get_mut(..table.len() + SUFFIX_LEN + 1)?;
    let text = table.iter().copied().chain(suffix(number));
    for (place, byte) in path.iter_mut().zip(text) {
        *place = byte;
    }
    Some(path)
}
