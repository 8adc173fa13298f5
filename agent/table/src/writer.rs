//! Writing a table as a stream: groups first, then users, then `finish`. What stays in memory is the
//! names, 8 bytes per membership and some 20 bytes per record for the indexes; the records go out.

use crate::check::{UserShape, check_keys, check_name, check_text, push_text, push_user_fixed, put};
use crate::error::WriteError;
use crate::format::{FLAG_ENUMERATE, Header, KIND_MEMBER, KIND_USER, hash_id, hash_name};
use crate::memberships::Memberships;
use crate::names::{Ids, Names};
use crate::out::Out;
use crate::reader::TableStats;
use std::io::{Cursor, Seek, Write};

/// What a table says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableMeta {
    /// A number that grows with each published table.
    pub generation: u64,
    /// The time of writing, seconds since 1970.
    pub created: u64,
    /// Whether `getpwent` and `getgrent` list its entries.
    pub enumerate: bool,
}

/// A user to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserRecord<'a> {
    /// Login name: 1 to 255 bytes without NUL, `:`, `,` or line break.
    pub name: &'a str,
    /// The uid, as it is; limits are the caller's affair.
    pub uid: u32,
    /// The primary gid.
    pub gid: u32,
    /// Full name and the like; up to 65,535 bytes without NUL, `:` or line break, as home and shell.
    pub gecos: &'a str,
    /// Home folder.
    pub home: &'a str,
    /// Login shell.
    pub shell: &'a str,
    /// The text of an authorized_keys file, may be empty; no NUL.
    pub keys: &'a str,
}

/// A group to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupRecord<'a> {
    /// Group name, as a login name.
    pub name: &'a str,
    /// The gid, as it is.
    pub gid: u32,
}

/// Writes one table. The same calls in the same order give the same bytes.
#[derive(Debug)]
pub struct TableBuilder<W> {
    out: Out<W>,
    header: Header,
    /// Members of groups and users alike.
    names: Names,
    /// Per name: the last group that listed it, counted by `attempts`, or [`IS_USER`].
    marks: Vec<u32>,
    attempts: u32,
    /// Members of the group at hand.
    members: Vec<u32>,
    group_names: Names,
    gids: Ids,
    uids: Ids,
    memberships: Memberships,
    groups: Entries,
    users: Entries,
}

const IS_USER: u32 = u32::MAX;

/// What the lists and indexes need: unit offsets, and `hash << 32 | offset` by name and by id.
#[derive(Debug, Default)]
struct Entries {
    offsets: Vec<u32>,
    by_name: Vec<u64>,
    by_id: Vec<u64>,
}

impl Entries {
    fn push(&mut self, offset: u32, name: &str, id: u32) {
        self.offsets.push(offset);
        self.by_name.push(entry(hash_name(name.as_bytes()), offset));
        self.by_id.push(entry(hash_id(id), offset));
    }
}

/// Hash and unit offset, for an index.
pub(crate) fn entry(hash: u32, offset: u32) -> u64 {
    (u64::from(hash) << 32) | u64::from(offset)
}

impl TableBuilder<Cursor<Vec<u8>>> {
    /// A builder that keeps the table in memory.
    ///
    /// # Errors
    /// None in practice: memory can be written.
    pub fn in_memory(meta: TableMeta) -> Result<Self, WriteError> {
        Self::new(Cursor::new(Vec::new()), meta)
    }
}

impl<W: Write + Seek> TableBuilder<W> {
    /// Starts a table at the current end of `out`, which must be empty.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn new(out: W, meta: TableMeta) -> Result<Self, WriteError> {
        let flags = if meta.enumerate { FLAG_ENUMERATE } else { 0 };
        Ok(Self {
            out: Out::new(out),
            header: Header {
                flags,
                generation: meta.generation,
                created: meta.created,
                ..Header::default()
            },
            names: Names::default(),
            marks: Vec::new(),
            attempts: 0,
            members: Vec::new(),
            group_names: Names::default(),
            gids: Ids::default(),
            uids: Ids::default(),
            memberships: Memberships::default(),
            groups: Entries::default(),
            users: Entries::default(),
        })
    }

    /// Numbers names from 0 up in the order given, for [`TableBuilder::add_group_of`]. The first thing
    /// to do with a builder, if at all. It is fastest when they are those of the users to come, in
    /// their order.
    ///
    /// # Errors
    /// When a name is no login name or is given twice, or others were given before.
    pub fn name_members<'m>(&mut self, names: impl IntoIterator<Item = &'m str>) -> Result<(), WriteError> {
        for (wanted, name) in names.into_iter().enumerate() {
            check_name("member", name)?;
            if self.number(name)? as usize != wanted {
                return Err(WriteError::DuplicateName);
            }
        }
        Ok(())
    }

    /// Adds a group and its members' names. A member listed twice is written once; a member who is no
    /// user of this table is kept, and `initgroups` answers for that name too.
    ///
    /// # Errors
    /// A refused record leaves the builder as it was ([`WriteError::concerns_one_record`]).
    pub fn add_group<'m>(
        &mut self,
        group: &GroupRecord<'_>,
        members: impl IntoIterator<Item = &'m str>,
    ) -> Result<(), WriteError> {
        let mut numbers = std::mem::take(&mut self.members);
        numbers.clear();
        for member in members {
            check_name("member", member)?;
            numbers.push(self.number(member)?);
        }
        let added = self.add_group_of(group, &numbers);
        self.members = numbers;
        added
    }

    /// As [`TableBuilder::add_group`], with the numbers that [`TableBuilder::name_members`] gave.
    ///
    /// # Errors
    /// As there; a number that no name has is [`WriteError::NoSuchMember`].
    pub fn add_group_of(&mut self, group: &GroupRecord<'_>, members: &[u32]) -> Result<(), WriteError> {
        check_name("group name", group.name)?;
        if self.group_names.find(group.name.as_bytes()).is_some() {
            return Err(WriteError::DuplicateName);
        }
        if self.gids.contains(group.gid) {
            return Err(WriteError::DuplicateId { id: group.gid });
        }
        if self.memberships.complete() {
            return Err(WriteError::GroupAfterUser);
        }
        self.attempts = self
            .attempts
            .checked_add(1)
            .filter(|count| *count < IS_USER)
            .ok_or(WriteError::TooLarge)?;
        let before = self.memberships.len();
        let offset = self.out.write_record(|record| {
            let start = record.len();
            record.extend(group.gid.to_le_bytes());
            record.extend([0; 8]);
            record.extend([group.name.len() as u8, 0, 0, 0]);
            push_text(record, group.name.as_bytes());
            push_text(record, b"x");
            let texts = record.len();
            let mut count = 0u32;
            for number in members {
                let mark = self.marks.get_mut(*number as usize).ok_or(WriteError::NoSuchMember)?;
                if std::mem::replace(mark, self.attempts) == self.attempts {
                    continue;
                }
                self.memberships.push(*number, group.gid);
                push_text(record, self.names.name(*number));
                count += 1;
            }
            let len = u32::try_from(record.len() - texts).map_err(|_| WriteError::TooLarge)?;
            put(record, start + 4, count);
            put(record, start + 8, len);
            Ok(())
        });
        if offset.is_err() {
            self.memberships.truncate(before);
        }
        let offset = offset?;
        self.group_names.intern(group.name.as_bytes())?;
        self.gids.insert(group.gid);
        self.groups.push(offset, group.name, group.gid);
        Ok(())
    }

    /// Adds a user. Supplementary gids come from the groups added before.
    ///
    /// # Errors
    /// A refused record leaves the builder as it was ([`WriteError::concerns_one_record`]).
    pub fn add_user(&mut self, user: &UserRecord<'_>) -> Result<(), WriteError> {
        check_name("user name", user.name)?;
        for (field, text) in [("gecos", user.gecos), ("home", user.home), ("shell", user.shell)] {
            check_text(field, text)?;
        }
        check_keys(user.keys)?;
        if self.uids.contains(user.uid) {
            return Err(WriteError::DuplicateId { id: user.uid });
        }
        let number = self.number_of_user(user.name)?;
        let mark = self.marks.get_mut(number as usize).ok_or(WriteError::TooLarge)?;
        if std::mem::replace(mark, IS_USER) == IS_USER {
            return Err(WriteError::DuplicateName);
        }
        self.uids.insert(user.uid);
        let offset = self.write_user(number, KIND_USER, user)?;
        self.users.push(offset, user.name, user.uid);
        Ok(())
    }

    fn write_user(&mut self, number: u32, kind: u8, user: &UserRecord<'_>) -> Result<u32, WriteError> {
        let gids = self.memberships.of(number);
        self.out.write_record(|record| {
            let shape = UserShape {
                uid: user.uid,
                gid: user.gid,
                kind,
                name: user.name.len(),
                texts: [user.gecos.len(), user.home.len(), user.shell.len()],
                keys: user.keys.len(),
            };
            push_user_fixed(record, &shape, gids);
            for text in [user.name, "x", user.gecos, user.home, user.shell] {
                push_text(record, text.as_bytes());
            }
            record.extend(user.keys.as_bytes());
            Ok(())
        })
    }

    /// The number of a member's or user's name.
    fn number(&mut self, name: &str) -> Result<u32, WriteError> {
        let number = self.names.intern(name.as_bytes())?;
        if self.marks.len() < self.names.len() {
            self.marks.push(0);
        }
        Ok(number)
    }

    /// As [`Self::number`]. Users mostly come in the order in which their names were numbered, and are
    /// found by comparing one name.
    fn number_of_user(&mut self, name: &str) -> Result<u32, WriteError> {
        let next = self.users.offsets.len() as u32;
        if !name.is_empty() && self.names.name(next) == name.as_bytes() {
            return Ok(next);
        }
        self.number(name)
    }

    /// Writes members who are no users, lists, indexes and at last the header. Returns what was
    /// written to, flushed but not synced.
    ///
    /// # Errors
    /// When `out` cannot be written or the table is too large.
    pub fn finish(mut self) -> Result<(W, TableStats), WriteError> {
        self.write_strangers()?;
        self.header.groups = self.out.write_list(&self.groups.offsets)?;
        self.header.users = self.out.write_list(&self.users.offsets)?;
        self.header.user_by_name = self.out.write_index(&mut self.users.by_name)?;
        self.header.user_by_uid = self.out.write_index(&mut self.users.by_id)?;
        self.header.group_by_name = self.out.write_index(&mut self.groups.by_name)?;
        self.header.group_by_gid = self.out.write_index(&mut self.groups.by_id)?;
        let (out, header) = self.out.finish(self.header)?;
        Ok((out, TableStats::of(&header)))
    }

    /// Records that answer `initgroups` for members who are no users of this table.
    fn write_strangers(&mut self) -> Result<(), WriteError> {
        for number in 0..self.names.len() as u32 {
            if self.marks.get(number as usize) == Some(&IS_USER) || self.memberships.of(number).is_empty() {
                continue;
            }
            let name = String::from_utf8_lossy(self.names.name(number)).into_owned();
            let stranger = UserRecord {
                name: &name,
                uid: u32::MAX,
                gid: u32::MAX,
                gecos: "",
                home: "",
                shell: "",
                keys: "",
            };
            let offset = self.write_user(number, KIND_MEMBER, &stranger)?;
            self.users.by_name.push(entry(hash_name(name.as_bytes()), offset));
        }
        Ok(())
    }
}
