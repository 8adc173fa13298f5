//! Looking things up. No function here panics, allocates or loops without bound, whatever the bytes.

use crate::base::Base;
use crate::error::{Corrupt, OpenError};
use crate::format::{FLAG_ENUMERATE, Header, KIND_GONE, KIND_USER, hash_id, hash_name};
use crate::map::{EINVAL, Mark};
use crate::overlay::Overlay;
use crate::record::{Gids, Group, User};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The answer to a lookup: there is one, there is certainly none, or the table is damaged.
pub type Lookup<T> = Result<Option<T>, Corrupt>;

/// One opened lookup table, and the overlay that lies over it.
#[derive(Debug)]
pub struct Table {
    pub(crate) base: Base,
    pub(crate) overlay: Option<Overlay>,
    /// The mark of a table in place that has this overlay.
    mark: Mark,
}

/// What `status` and `why` tell about a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableStats {
    /// Number of users.
    pub users: u32,
    /// Number of groups.
    pub groups: u32,
    /// The generation number its writer gave it; its overlay's, if there is one.
    pub generation: u64,
    /// When it was written, or its overlay, seconds since 1970.
    pub created: u64,
    /// Length of the file in bytes, its overlay's included.
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

/// How often a table and its overlay are looked for when they are replaced between one look and the next.
const ATTEMPTS: u32 = 16;

impl Table {
    /// Opens and maps a table and its overlay. The files must be regular, belong to `owner` and be
    /// writable by nobody else; symbolic links are not followed. The descriptors are closed before this
    /// returns.
    ///
    /// # Errors
    /// Everything that makes the files unusable; nothing about them is then known. A table whose overlay
    /// is lost or damaged is not used without it: somebody whom the overlay removed would be back.
    pub fn open(path: &Path, owner: u32) -> Result<Self, OpenError> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| OpenError::System { errno: EINVAL })?;
        Self::open_c(&path, owner)
    }

    /// As [`Table::open`], without an allocation.
    ///
    /// # Errors
    /// As [`Table::open`].
    #[inline]
    pub fn open_c(path: &CStr, owner: u32) -> Result<Self, OpenError> {
        let mut failed = OpenError::Damaged { what: "overlay" };
        for _ in 0..ATTEMPTS {
            let (base, mark) = Base::open_c(path, owner)?;
            let overlay = match mark.overlay() {
                0 => Ok(None),
                number => Overlay::open_c(path, number, base.identity, owner).map(Some),
            };
            match overlay {
                Ok(overlay) => {
                    let mark = mark.in_place();
                    return Ok(Self { base, overlay, mark });
                }
                Err(error) => failed = error,
            }
            // A publisher removes an overlay only after the mark says that another one took its place, or
            // that another table did; then there is another one to open.
            if base.mark() == mark && !mark.superseded() {
                break;
            }
        }
        Err(failed)
    }

    /// A table from bytes in memory.
    ///
    /// # Errors
    /// As [`Table::open`], as far as bytes can show it.
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Result<Self, OpenError> {
        Ok(Self {
            base: Base::from_bytes(bytes.into())?,
            overlay: None,
            mark: Mark::NONE,
        })
    }

    /// The same table under an overlay from bytes in memory.
    ///
    /// # Errors
    /// When the bytes are no overlay of this table.
    pub fn with_overlay(self, bytes: impl Into<Box<[u8]>>) -> Result<Self, OpenError> {
        let overlay = Overlay::from_bytes(bytes.into(), self.base.identity)?;
        Ok(Self {
            overlay: Some(overlay),
            ..self
        })
    }

    /// Whether a newer table or overlay was published over this one. One atomic load, no system call.
    #[inline]
    pub fn superseded(&self) -> bool {
        self.base.mark() != self.mark
    }

    /// Whether the table itself is marked as replaced. A publisher may have died before it did replace it.
    #[inline]
    pub fn marked(&self) -> bool {
        self.base.mark().superseded()
    }

    /// Whether both were opened from the same written table and overlay.
    #[inline]
    pub fn same_as(&self, other: &Self) -> bool {
        let overlay = self.overlay.as_ref().map(Overlay::header);
        self.base.header == other.base.header && overlay == other.overlay.as_ref().map(Overlay::header)
    }

    /// Counts, generation and age.
    #[inline]
    pub fn stats(&self) -> TableStats {
        let base = TableStats::of(&self.base.header);
        let Some(overlay) = self.overlay.as_ref().map(Overlay::header) else {
            return base;
        };
        TableStats {
            users: overlay.users_over(base.users),
            groups: overlay.groups_over(base.groups),
            generation: overlay.generation,
            created: overlay.created,
            bytes: base.bytes.saturating_add(overlay.file_len),
            enumerate: base.enumerate,
        }
    }

    /// Reads the whole table and compares it with the checksum it was written with. Lookups do not
    /// need this: they check what they touch. An overlay was read whole when it was opened.
    ///
    /// # Errors
    /// When a byte differs.
    pub fn verify(&self) -> Result<(), Corrupt> {
        self.base.verify()
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
        let hash = hash_id(uid);
        if let Some(overlay) = &self.overlay
            && let Some((kind, user)) = overlay.user_by_uid(hash, uid)?
        {
            return Ok((kind == KIND_USER).then_some(user));
        }
        self.base.user_by_uid(hash, uid)
    }

    /// The group of that name.
    ///
    /// # Errors
    /// [`Corrupt`].
    #[inline]
    pub fn group_by_name(&self, name: &[u8]) -> Lookup<Group<'_>> {
        let hash = hash_name(name);
        if let Some(overlay) = &self.overlay
            && let Some((kind, group)) = overlay.group_by_name(&self.base, hash, name)?
        {
            return Ok((kind != KIND_GONE).then_some(group));
        }
        self.base.group_by_name(hash, name)
    }

    /// The group of that gid.
    ///
    /// # Errors
    /// [`Corrupt`].
    #[inline]
    pub fn group_by_gid(&self, gid: u32) -> Lookup<Group<'_>> {
        let hash = hash_id(gid);
        if let Some(overlay) = &self.overlay
            && let Some((kind, group)) = overlay.group_by_gid(&self.base, hash, gid)?
        {
            return Ok((kind != KIND_GONE).then_some(group));
        }
        self.base.group_by_gid(hash, gid)
    }

    /// The gids of all groups that list this name, also for names that are no users of this table
    /// (a local user in a directory group).
    ///
    /// # Errors
    /// [`Corrupt`].
    #[inline]
    pub fn initgroups(&self, name: &[u8]) -> Lookup<Gids<'_>> {
        let found = self.named(name)?;
        Ok(found
            .filter(|(kind, _)| *kind != KIND_GONE)
            .map(|(_, user)| user.gids()))
    }

    /// The authorized_keys text of that user; empty when there are no keys.
    ///
    /// # Errors
    /// [`Corrupt`].
    pub fn keys(&self, name: &[u8]) -> Lookup<&[u8]> {
        Ok(self.user_by_name(name)?.map(|user| user.keys))
    }

    /// The user at a position; `None` past the end. First come those of the table that its overlay leaves
    /// as they are, in the order written, then those of the overlay by name.
    ///
    /// # Errors
    /// [`Corrupt`].
    #[inline]
    pub fn user_at_position(&self, position: u32) -> Lookup<User<'_>> {
        match &self.overlay {
            None => self.base.user_at_position(position),
            Some(overlay) => overlay.user_at_position(&self.base, position),
        }
    }

    /// The group at a position, as [`Table::user_at_position`].
    ///
    /// # Errors
    /// [`Corrupt`].
    #[inline]
    pub fn group_at_position(&self, position: u32) -> Lookup<Group<'_>> {
        match &self.overlay {
            None => self.base.group_at_position(position),
            Some(overlay) => overlay.group_at_position(&self.base, position),
        }
    }

    /// All users in the order of [`Table::user_at_position`].
    pub fn users(&self) -> impl Iterator<Item = Result<User<'_>, Corrupt>> {
        (0..self.stats().users).map_while(|position| self.user_at_position(position).transpose())
    }

    /// All groups in the order of [`Table::group_at_position`].
    pub fn groups(&self) -> impl Iterator<Item = Result<Group<'_>, Corrupt>> {
        (0..self.stats().groups).map_while(|position| self.group_at_position(position).transpose())
    }

    #[inline]
    fn named(&self, name: &[u8]) -> Lookup<(u8, User<'_>)> {
        let hash = hash_name(name);
        if let Some(overlay) = &self.overlay
            && let Some(found) = overlay.named(hash, name)?
        {
            return Ok(Some(found));
        }
        self.base.named(hash, name)
    }
}
