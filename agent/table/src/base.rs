//! One table file on its own, without its overlay.

use crate::body::{Body, Storage};
use crate::checksum::Checksum;
use crate::error::{Corrupt, OpenError};
use crate::format::{HEADER_LEN, Header, KIND_MEMBER, List, MAX_LEN, hash_id, hash_name};
use crate::map::{Mark, map_checked};
use crate::reader::Lookup;
use crate::record::{Group, User, decode_group, decode_user};
use std::ffi::CStr;

/// One opened table file.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) header: Header,
    /// What its overlays call it by.
    pub(crate) identity: u64,
    storage: Storage,
}

impl Base {
    /// Opens and maps a table, and reads its mark.
    #[inline]
    pub(crate) fn open_c(path: &CStr, owner: u32) -> Result<(Self, Mark), OpenError> {
        let (mapping, len) = map_checked(path.to_bytes_with_nul(), owner)?;
        let bytes = mapping.header();
        let mark = mapping.mark();
        let base = Self {
            header: Header::decode(&bytes, len)?,
            identity: Header::identity(&bytes),
            storage: Storage::Mapped(mapping),
        };
        Ok((base, mark))
    }

    /// A table from bytes in memory.
    pub(crate) fn from_bytes(bytes: Box<[u8]>) -> Result<Self, OpenError> {
        let len = bytes.len() as u64;
        let start = bytes
            .first_chunk::<HEADER_LEN>()
            .filter(|_| len <= MAX_LEN)
            .ok_or(OpenError::Size { found: len })?;
        Ok(Self {
            header: Header::decode(start, len)?,
            identity: Header::identity(start),
            storage: Storage::Owned(bytes),
        })
    }

    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        self.storage.mark()
    }

    #[inline]
    pub(crate) fn body(&self) -> Body<'_> {
        self.storage.body()
    }

    pub(crate) fn verify(&self) -> Result<(), Corrupt> {
        if Checksum::of(self.body().0) == self.header.body_checksum {
            Ok(())
        } else {
            Err(Corrupt)
        }
    }

    /// The user or mere member of that name, and which of the two.
    #[inline]
    pub(crate) fn named(&self, hash: u32, name: &[u8]) -> Lookup<(u8, User<'_>)> {
        self.body().search(self.header.user_by_name, hash, |offset| {
            let (kind, user) = self.user_at(offset)?;
            Ok((user.name() == name).then_some((kind, user)))
        })
    }

    #[inline]
    pub(crate) fn user_by_uid(&self, hash: u32, uid: u32) -> Lookup<User<'_>> {
        self.body().search(self.header.user_by_uid, hash, |offset| {
            let (_, user) = self.user_at(offset)?;
            Ok((user.uid == uid).then_some(user))
        })
    }

    #[inline]
    pub(crate) fn group_by_name(&self, hash: u32, name: &[u8]) -> Lookup<Group<'_>> {
        self.body().search(self.header.group_by_name, hash, |offset| {
            let group = self.group_at(offset)?;
            Ok((group.name() == name).then_some(group))
        })
    }

    #[inline]
    pub(crate) fn group_by_gid(&self, hash: u32, gid: u32) -> Lookup<Group<'_>> {
        self.body().search(self.header.group_by_gid, hash, |offset| {
            let group = self.group_at(offset)?;
            Ok((group.gid == gid).then_some(group))
        })
    }

    #[inline]
    pub(crate) fn user_at_position(&self, position: u32) -> Lookup<User<'_>> {
        let Some(offset) = self.body().listed(self.header.users, position)? else {
            return Ok(None);
        };
        self.user_at(offset).map(|(_, user)| Some(user))
    }

    #[inline]
    pub(crate) fn group_at_position(&self, position: u32) -> Lookup<Group<'_>> {
        let Some(offset) = self.body().listed(self.header.groups, position)? else {
            return Ok(None);
        };
        self.group_at(offset).map(Some)
    }

    #[inline]
    fn user_at(&self, offset: u32) -> Result<(u8, User<'_>), Corrupt> {
        let found = decode_user(self.body().record(offset)?);
        found.filter(|(kind, _)| *kind <= KIND_MEMBER).ok_or(Corrupt)
    }

    #[inline]
    pub(crate) fn group_at(&self, offset: u32) -> Result<Group<'_>, Corrupt> {
        decode_group(self.body().record(offset)?).ok_or(Corrupt)
    }

    /// At which position the user of that uid is listed.
    pub(crate) fn position_of_user(&self, uid: u32) -> Lookup<u32> {
        let offset = self.body().search(self.header.user_by_uid, hash_id(uid), |offset| {
            let (_, user) = self.user_at(offset)?;
            Ok((user.uid == uid).then_some(offset))
        });
        self.position(self.header.users, offset?)
    }

    /// The unit offset of a group's record, and at which position it is listed.
    pub(crate) fn place_of_group(&self, name: &[u8]) -> Lookup<(u32, u32)> {
        let offset = self
            .body()
            .search(self.header.group_by_name, hash_name(name), |offset| {
                Ok((self.group_at(offset)?.name() == name).then_some(offset))
            })?;
        let position = self.position(self.header.groups, offset)?;
        Ok(offset.zip(position))
    }

    /// Records are listed in the order in which they were written, so that a list ascends.
    fn position(&self, list: List, offset: Option<u32>) -> Lookup<u32> {
        let Some(offset) = offset else {
            return Ok(None);
        };
        let position = self.body().partition(list, |_, listed| listed < offset)?;
        if self.body().listed(list, position)? == Some(offset) {
            Ok(Some(position))
        } else {
            Err(Corrupt)
        }
    }
}
