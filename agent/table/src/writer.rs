//! Writing a table as a stream: groups first, then users, then `finish`. What stays in memory is the
//! names, 8 bytes per membership and some 20 bytes per record for the indexes; the records go out.

use crate::check::{check_keys, check_name, check_text, push_text, put};
use crate::error::WriteError;
use crate::format::{FLAG_ENUMERATE, Header, KIND_MEMBER, KIND_USER, hash_id, hash_name};
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
    record: Vec<u8>,
    /// Members of groups and users alike.
    names: Names,
    /// Per name: the last group that listed it, counted by `attempts`, or [`IS_USER`].
    marks: Vec<u32>,
    attempts: u32,
    group_names: Names,
    gids: Ids,
    uids: Ids,
    /// `name number << 32 | gid`; sorted once the groups are complete.
    memberships: Vec<u64>,
    sorted: bool,
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

fn entry(hash: u32, offset: u32) -> u64 {
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
            out: Out::new(out)?,
            header: Header {
                flags,
                generation: meta.generation,
                created: meta.created,
                ..Header::default()
            },
            record: Vec::new(),
            names: Names::default(),
            marks: Vec::new(),
            attempts: 0,
            group_names: Names::default(),
            gids: Ids::default(),
            uids: Ids::default(),
            memberships: Vec::new(),
            sorted: false,
            groups: Entries::default(),
            users: Entries::default(),
        })
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
        if self.sorted {
            return Err(WriteError::GroupAfterUser);
        }
        check_name("group name", group.name)?;
        if self.group_names.find(group.name.as_bytes()).is_some() {
            return Err(WriteError::DuplicateName);
        }
        if self.gids.contains(group.gid) {
            return Err(WriteError::DuplicateId { id: group.gid });
        }
        let before = self.memberships.len();
        if let Err(error) = self.encode_group(group, members) {
            self.memberships.truncate(before);
            return Err(error);
        }
        let number = self.group_names.intern(group.name.as_bytes())?;
        debug_assert_eq!(number as usize, self.groups.offsets.len());
        self.gids.insert(group.gid);
        let offset = self.out.write_record(&self.record)?;
        self.groups.push(offset, group.name, group.gid);
        Ok(())
    }

    fn encode_group<'m>(
        &mut self,
        group: &GroupRecord<'_>,
        members: impl IntoIterator<Item = &'m str>,
    ) -> Result<(), WriteError> {
        self.attempts = self
            .attempts
            .checked_add(1)
            .filter(|count| *count < IS_USER)
            .ok_or(WriteError::TooLarge)?;
        self.record.clear();
        self.record.extend(group.gid.to_le_bytes());
        self.record.extend([0; 8]);
        self.record.extend([group.name.len() as u8, 0, 0, 0]);
        push_text(&mut self.record, group.name);
        push_text(&mut self.record, "x");
        let start = self.record.len();
        let mut count = 0u32;
        for member in members {
            check_name("member", member)?;
            let number = self.number(member)?;
            let mark = self.marks.get_mut(number as usize).ok_or(WriteError::TooLarge)?;
            if std::mem::replace(mark, self.attempts) == self.attempts {
                continue;
            }
            self.memberships.push(entry(number, group.gid));
            push_text(&mut self.record, member);
            count += 1;
        }
        let len = u32::try_from(self.record.len() - start).map_err(|_| WriteError::TooLarge)?;
        put(&mut self.record, 4, count);
        put(&mut self.record, 8, len);
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
        let number = self.number(user.name)?;
        let mark = self.marks.get_mut(number as usize).ok_or(WriteError::TooLarge)?;
        if std::mem::replace(mark, IS_USER) == IS_USER {
            return Err(WriteError::DuplicateName);
        }
        self.uids.insert(user.uid);
        self.complete_groups();
        self.encode_user(number, KIND_USER, user);
        let offset = self.out.write_record(&self.record)?;
        self.users.push(offset, user.name, user.uid);
        Ok(())
    }

    fn encode_user(&mut self, number: u32, kind: u8, user: &UserRecord<'_>) {
        let first = self
            .memberships
            .partition_point(|membership| *membership < entry(number, 0));
        let own = self.memberships.get(first..).unwrap_or_default();
        let own = own
            .iter()
            .take_while(|membership| (**membership >> 32) as u32 == number);
        self.record.clear();
        for value in [user.uid, user.gid, 0, user.keys.len() as u32] {
            self.record.extend(value.to_le_bytes());
        }
        self.record.extend([user.name.len() as u8, kind]);
        for text in [user.gecos, user.home, user.shell] {
            self.record.extend((text.len() as u16).to_le_bytes());
        }
        let mut gids = 0u32;
        for membership in own {
            self.record.extend((*membership as u32).to_le_bytes());
            gids += 1;
        }
        put(&mut self.record, 8, gids);
        for text in [user.name, "x", user.gecos, user.home, user.shell] {
            push_text(&mut self.record, text);
        }
        self.record.extend(user.keys.as_bytes());
    }

    /// The number of a member's or user's name.
    fn number(&mut self, name: &str) -> Result<u32, WriteError> {
        let number = self.names.intern(name.as_bytes())?;
        if self.marks.len() < self.names.len() {
            self.marks.push(0);
        }
        Ok(number)
    }

    fn complete_groups(&mut self) {
        if !self.sorted {
            self.memberships.sort_unstable();
            self.sorted = true;
        }
    }

    /// Writes members who are no users, lists, indexes and at last the header. Returns what was
    /// written to, flushed but not synced.
    ///
    /// # Errors
    /// When `out` cannot be written or the table is too large.
    pub fn finish(mut self) -> Result<(W, TableStats), WriteError> {
        self.complete_groups();
        self.write_strangers()?;
        self.header.groups = self.out.write_list(&self.groups.offsets)?;
        self.header.users = self.out.write_list(&self.users.offsets)?;
        self.header.user_by_name = self.out.write_index(&mut self.users.by_name)?;
        self.header.user_by_uid = self.out.write_index(&mut self.users.by_id)?;
        self.header.group_by_name = self.out.write_index(&mut self.groups.by_name)?;
        self.header.group_by_gid = self.out.write_index(&mut self.groups.by_id)?;
        self.header.file_len = self.out.at;
        self.header.body_checksum = self.out.sum.value();
        let stats = TableStats {
            users: self.header.users.count,
            groups: self.header.groups.count,
            generation: self.header.generation,
            created: self.header.created,
            bytes: self.header.file_len,
            enumerate: self.header.flags & FLAG_ENUMERATE != 0,
        };
        Ok((self.out.finish(&self.header)?, stats))
    }

    /// Records that answer `initgroups` for members who are no users of this table.
    fn write_strangers(&mut self) -> Result<(), WriteError> {
        let mut position = 0;
        while let Some(membership) = self.memberships.get(position) {
            let number = (*membership >> 32) as u32;
            position += self
                .memberships
                .get(position..)
                .unwrap_or_default()
                .partition_point(|other| (*other >> 32) as u32 == number);
            if self.marks.get(number as usize) == Some(&IS_USER) {
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
            self.encode_user(number, KIND_MEMBER, &stranger);
            let offset = self.out.write_record(&self.record)?;
            self.users.by_name.push(entry(hash_name(name.as_bytes()), offset));
        }
        Ok(())
    }
}
