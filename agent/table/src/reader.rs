//! Looking things up. No function here panics, allocates or loops without bound, whatever the bytes.

use crate::checksum::Checksum;
use crate::error::{Corrupt, OpenError};
use crate::format::{
    FLAG_ENUMERATE, HEADER_LEN, Header, Index, KIND_USER, List, MAX_LEN, SLOT, UNIT, first_choice, hash_id, hash_name,
    u32_at,
};
use crate::map::{Mapping, map_checked};
use crate::record::{Gids, Group, User, decode_group, decode_user};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The answer to a lookup: there is one, there is certainly none, or the table is damaged.
pub type Lookup<T> = Result<Option<T>, Corrupt>;

/// One opened lookup table.
#[derive(Debug)]
pub struct Table {
    header: Header,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    Mapped(Mapping),
    Owned(Box<[u8]>),
}

/// What `status` and `why` tell about a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableStats {
    /// Number of users.
    pub users: u32,
    /// Number of groups.
    pub groups: u32,
    /// The generation number its writer gave it.
    pub generation: u64,
    /// When it was written, seconds since 1970.
    pub created: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Whether `getpwent` and `getgrent` list its entries.
    pub enumerate: bool,
}

impl TableStats {
    #[inline]
    pub(crate) fn of(header: &Header) -> Self {
        Self {
            users: header.users.count,
            groups: header.groups.count,
            generation: header.generation,
            created: header.created,
            bytes: header.file_len,
            enumerate: header.flags & FLAG_ENUMERATE != 0,
        }
    }
}

impl Table {
    /// Opens and maps a table. The file must be regular, belong to `owner` and be writable by nobody
    /// else; symbolic links are not followed. The descriptor is closed before this returns.
    ///
    /// # Errors
    /// Everything that makes the file unusable; nothing about it is then known.
    pub fn open(path: &Path, owner: u32) -> Result<Self, OpenError> {
        const EINVAL: i32 = 22;
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| OpenError::System { errno: EINVAL })?;
        Self::open_c(&path, owner)
    }

    /// As [`Table::open`], without an allocation.
    ///
    /// # Errors
    /// As [`Table::open`].
    #[inline]
    pub fn open_c(path: &CStr, owner: u32) -> Result<Self, OpenError> {
        let (mapping, len) = map_checked(path, owner)?;
        let header = Header::decode(&mapping.header(), len)?;
        Ok(Self {
            header,
            storage: Storage::Mapped(mapping),
        })
    }

    /// A table from bytes in memory.
    ///
    /// # Errors
    /// As [`Table::open`], as far as bytes can show it.
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Result<Self, OpenError> {
        let bytes = bytes.into();
        let len = bytes.len() as u64;
        let start = bytes
            .first_chunk::<HEADER_LEN>()
            .filter(|_| len <= MAX_LEN)
            .ok_or(OpenError::Size { found: len })?;
        let header = Header::decode(start, len)?;
        Ok(Self {
            header,
            storage: Storage::Owned(bytes),
        })
    }

    /// Whether a newer table was published over this one. One atomic load, no system call.
    #[inline]
    pub fn superseded(&self) -> bool {
        match &self.storage {
            Storage::Mapped(mapping) => mapping.superseded(),
            Storage::Owned(_) => false,
        }
    }

    /// Whether both were opened from the same written table.
    #[inline]
    pub fn same_as(&self, other: &Self) -> bool {
        self.header == other.header
    }

    /// Counts, generation and age.
    #[inline]
    pub fn stats(&self) -> TableStats {
        TableStats::of(&self.header)
    }

    /// Reads the whole table and compares it with the checksum it was written with. Lookups do not
    /// need this: they check what they touch.
    ///
    /// # Errors
    /// When a byte differs.
    pub fn verify(&self) -> Result<(), Corrupt> {
        if Checksum::of(self.body()) == self.header.body_checksum {
            Ok(())
        } else {
            Err(Corrupt)
        }
    }

    /// The user of that name.
    ///
    /// # Errors
    /// [`Corrupt`] when the table is damaged; the same holds for all lookups.
    #[inline]
    pub fn user_by_name(&self, name: &[u8]) -> Lookup<User<'_>> {
        let found = self.named(name)?;
        Ok(found.filter(|(kind, _)| *kind == KIND_USER).map(|(_, user)| user))
    }

    /// The user of that uid.
    ///
    /// # Errors
    /// [`Corrupt`].
    #[inline]
    pub fn user_by_uid(&self, uid: u32) -> Lookup<User<'_>> {
        self.search(self.header.user_by_uid, hash_id(uid), |offset| {
            let (_, user) = self.user_at(offset)?;
            Ok((user.uid == uid).then_some(user))
        })
    }

    /// The group of that name.
    ///
    /// # Errors
    /// [`Corrupt`].
    #[inline]
    pub fn group_by_name(&self, name: &[u8]) -> Lookup<Group<'_>> {
        self.search(self.header.group_by_name, hash_name(name), |offset| {
            let group = self.group_at(offset)?;
            Ok((group.name() == name).then_some(group))
        })
    }

    /// The group of that gid.
    ///
    /// # Errors
    /// [`Corrupt`].
    #[inline]
    pub fn group_by_gid(&self, gid: u32) -> Lookup<Group<'_>> {
        self.search(self.header.group_by_gid, hash_id(gid), |offset| {
            let group = self.group_at(offset)?;
            Ok((group.gid == gid).then_some(group))
        })
    }

    /// The gids of all groups that list this name, also for names that are no users of this table
    /// (a local user in a directory group).
    ///
    /// # Errors
    /// [`Corrupt`].
    #[inline]
    pub fn initgroups(&self, name: &[u8]) -> Lookup<Gids<'_>> {
        Ok(self.named(name)?.map(|(_, user)| user.gids()))
    }

    /// The authorized_keys text of that user; empty when there are no keys.
    ///
    /// # Errors
    /// [`Corrupt`].
    pub fn keys(&self, name: &[u8]) -> Lookup<&[u8]> {
        Ok(self.user_by_name(name)?.map(|user| user.keys))
    }

    /// The user at a position, in the order written; `None` past the end.
    ///
    /// # Errors
    /// [`Corrupt`].
    #[inline]
    pub fn user_at_position(&self, position: u32) -> Lookup<User<'_>> {
        let Some(offset) = self.listed(self.header.users, position)? else {
            return Ok(None);
        };
        self.user_at(offset).map(|(_, user)| Some(user))
    }

    /// The group at a position, in the order written; `None` past the end.
    ///
    /// # Errors
    /// [`Corrupt`].
    #[inline]
    pub fn group_at_position(&self, position: u32) -> Lookup<Group<'_>> {
        let Some(offset) = self.listed(self.header.groups, position)? else {
            return Ok(None);
        };
        self.group_at(offset).map(Some)
    }

    /// All users in the order written.
    pub fn users(&self) -> impl Iterator<Item = Result<User<'_>, Corrupt>> {
        (0..self.header.users.count).map_while(|position| self.user_at_position(position).transpose())
    }

    /// All groups in the order written.
    pub fn groups(&self) -> impl Iterator<Item = Result<Group<'_>, Corrupt>> {
        (0..self.header.groups.count).map_while(|position| self.group_at_position(position).transpose())
    }

    #[inline]
    fn named(&self, name: &[u8]) -> Lookup<(u8, User<'_>)> {
        self.search(self.header.user_by_name, hash_name(name), |offset| {
            let (kind, user) = self.user_at(offset)?;
            Ok((user.name() == name).then_some((kind, user)))
        })
    }

    #[inline]
    fn listed(&self, list: List, position: u32) -> Lookup<u32> {
        if position >= list.count {
            return Ok(None);
        }
        let start = (list.offset as usize) * UNIT - HEADER_LEN;
        u32_at(self.body(), start + (position as usize) * UNIT)
            .map(Some)
            .ok_or(Corrupt)
    }

    /// The bytes after the header. The header page holds the superseded word, which another process
    /// writes; no slice covers it.
    #[inline]
    fn body(&self) -> &[u8] {
        match &self.storage {
            Storage::Mapped(mapping) => mapping.body(),
            Storage::Owned(bytes) => bytes.get(HEADER_LEN..).unwrap_or_default(),
        }
    }

    #[inline]
    fn search<T>(&self, index: Index, hash: u32, mut check: impl FnMut(u32) -> Lookup<T>) -> Lookup<T> {
        let start = (index.offset as usize) * UNIT - HEADER_LEN;
        let slots = self
            .body()
            .get(start..start + (index.total as usize) * SLOT)
            .ok_or(Corrupt)?;
        let (slots, _) = slots.as_chunks::<SLOT>();
        for slot in slots.get(first_choice(hash, index.home)..).unwrap_or_default() {
            let word = u64::from_le_bytes(*slot);
            let (stored, offset) = (word as u32, (word >> 32) as u32);
            if offset == 0 || stored > hash {
                return Ok(None);
            }
            if stored == hash
                && let Some(found) = check(offset)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    #[inline]
    fn record(&self, offset: u32) -> Result<&[u8], Corrupt> {
        let start = (offset as usize) * UNIT;
        self.body()
            .get(start.checked_sub(HEADER_LEN).ok_or(Corrupt)?..)
            .ok_or(Corrupt)
    }

    #[inline]
    fn user_at(&self, offset: u32) -> Result<(u8, User<'_>), Corrupt> {
        decode_user(self.record(offset)?).ok_or(Corrupt)
    }

    #[inline]
    fn group_at(&self, offset: u32) -> Result<Group<'_>, Corrupt> {
        decode_group(self.record(offset)?).ok_or(Corrupt)
    }
}
