//! The bytes of an overlay.
//!
//! As in a table, integers are little-endian, and offsets are counted from the start of the file in units of
//! four bytes; lists, indexes and user records are the same.
//!
//! ```text
//! header   256 bytes, below
//! users    one record per name that differs: kind 0 a user, 1 a member only, 2 none any more
//! ids      one record without a name of kind 2 per uid that nobody has any more
//! groups   likewise
//! lists    unit offsets of the users (kind 0) and of the groups, by name; positions in the table's lists
//!          of those that differ, ascending
//! indexes  user by name, user by uid, group by name, group by gid
//!
//! header                                      group record
//!   0  magic "dirover\0"                        0  gid u32
//!   8  version u32 (1)                          4  number of all members u32
//!  12  number u32                               8  length of the text of those who joined u32
//!  16  file length u64                         12  length of the name u8
//!  24  generation u64                          13  kind u8 (0 group, 2 none any more), 2 x zero
//!  32  created, seconds since 1970 u64         16  unit offset of the table's group u32, or 0
//!  40  quick checksum of the bytes from 256 on  20  number of pieces u32
//!  48  identity of the table u64               24  pieces of the members text there that are kept:
//!  56  list of users: offset, count                start, end, u32 each
//!  64  list of groups: offset, count            .  name \0 x \0 member \0 member \0 ...
//!  72  users that differ: offset, count         .  padding to a unit
//!  80  groups that differ: offset, count
//!  88  user by name:  offset, home, total
//! 100  user by uid:   offset, home, total
//! 112  group by name: offset, home, total
//! 124  group by gid:  offset, home, total
//! 136  zero
//! 248  checksum of the bytes 0 to 247 u64
//! ```
//!
//! A name that is in an index of the overlay is not looked for in the table; so with numbers. The members of
//! a group are the kept pieces of the table's group of the same name, then those who joined: one member more
//! in a group of everybody takes bytes and not a megabyte.

use crate::checksum::Checksum;
use crate::error::OpenError;
use crate::format::{HEADER_LEN, Index, List, check_sections, index_at, list_at, push_sections, u32_at, u64_at};

const MAGIC: [u8; 8] = *b"dirover\0";
const VERSION: u32 = 1;
const HEADER_CHECKSUM_AT: usize = 248;
/// `.overlay.` and the number.
const SUFFIX: &[u8; 9] = b".overlay.";
pub(crate) const SUFFIX_LEN: usize = SUFFIX.len() + 8;

/// The header without its checksum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) number: u32,
    pub(crate) file_len: u64,
    pub(crate) generation: u64,
    pub(crate) created: u64,
    pub(crate) body_checksum: u64,
    pub(crate) base: u64,
    pub(crate) users: List,
    pub(crate) groups: List,
    pub(crate) users_differ: List,
    pub(crate) groups_differ: List,
    pub(crate) user_by_name: Index,
    pub(crate) user_by_uid: Index,
    pub(crate) group_by_name: Index,
    pub(crate) group_by_gid: Index,
}

impl Header {
    #[inline]
    fn lists(&self) -> [List; 4] {
        [self.users, self.groups, self.users_differ, self.groups_differ]
    }

    #[inline]
    fn indexes(&self) -> [Index; 4] {
        [
            self.user_by_name,
            self.user_by_uid,
            self.group_by_name,
            self.group_by_gid,
        ]
    }

    /// How many users there are over a table with so many.
    #[inline]
    pub(crate) fn users_over(&self, base: u32) -> u32 {
        base.saturating_sub(self.users_differ.count)
            .saturating_add(self.users.count)
    }

    /// How many groups there are over a table with so many.
    #[inline]
    pub(crate) fn groups_over(&self, base: u32) -> u32 {
        base.saturating_sub(self.groups_differ.count)
            .saturating_add(self.groups.count)
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        let values = [
            self.file_len,
            self.generation,
            self.created,
            self.body_checksum,
            self.base,
        ];
        for value in values {
            bytes.extend(value.to_le_bytes());
        }
        push_sections(&mut bytes, &self.lists(), &self.indexes());
        bytes.resize(HEADER_CHECKSUM_AT, 0);
        let sum = Checksum::of(&bytes);
        bytes.extend(sum.to_le_bytes());
        let mut header = [0; HEADER_LEN];
        header.copy_from_slice(&bytes);
        header
    }

    /// Reads a header and checks it against the length of the file and the table; every section it names
    /// lies inside the file.
    #[inline]
    pub(crate) fn decode(bytes: &[u8; HEADER_LEN], len: u64, base: u64) -> Result<Self, OpenError> {
        let damaged = |what| OpenError::Damaged { what };
        if bytes.get(..MAGIC.len()) != Some(&MAGIC[..]) {
            return Err(damaged("overlay does not begin like one"));
        }
        let version = u32_at(bytes, 8).unwrap_or_default();
        if version != VERSION {
            return Err(OpenError::Version { found: version });
        }
        let checked = bytes.get(..HEADER_CHECKSUM_AT).unwrap_or_default();
        if u64_at(bytes, HEADER_CHECKSUM_AT) != Some(Checksum::of(checked)) {
            return Err(damaged("overlay's header checksum"));
        }
        let header = Self::fields(bytes).ok_or(damaged("overlay's header"))?;
        if header.file_len != len {
            return Err(OpenError::Length {
                expected: header.file_len,
                found: len,
            });
        }
        if header.base != base {
            return Err(damaged("overlay of another table"));
        }
        check_sections(&header.lists(), &header.indexes(), len)?;
        Ok(header)
    }

    /// What the fields say, unchecked.
    #[inline]
    pub(crate) fn fields(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        Some(Self {
            number: u32_at(bytes, 12)?,
            file_len: u64_at(bytes, 16)?,
            generation: u64_at(bytes, 24)?,
            created: u64_at(bytes, 32)?,
            body_checksum: u64_at(bytes, 40)?,
            base: u64_at(bytes, 48)?,
            users: list_at(bytes, 56)?,
            groups: list_at(bytes, 64)?,
            users_differ: list_at(bytes, 72)?,
            groups_differ: list_at(bytes, 80)?,
            user_by_name: index_at(bytes, 88)?,
            user_by_uid: index_at(bytes, 100)?,
            group_by_name: index_at(bytes, 112)?,
            group_by_gid: index_at(bytes, 124)?,
        })
    }
}

/// What is appended to a table's name for its overlay of that number.
#[inline]
pub(crate) fn suffix(number: u32) -> [u8; SUFFIX_LEN] {
    let mut text = [0; SUFFIX_LEN];
    let digits = (0..8).rev().map(|place| match (number >> (place * 4)) as u8 & 15 {
        digit @ 0..=9 => b'0' + digit,
        digit => b'a' - 10 + digit,
    });
    for (place, byte) in text.iter_mut().zip(SUFFIX.iter().copied().chain(digits)) {
        *place = byte;
    }
    text
}

/// The number in what is appended to a table's name, if it is an overlay's.
pub(crate) fn number_in(name: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(name.strip_prefix(SUFFIX)?).ok()?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    (suffix(number) == *name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_one_spelling() {
        assert_eq!(&suffix(0x00ab_0019), b".overlay.00ab0019");
        for number in [0, 1, 9, 10, 0xdead_beef, u32::MAX] {
            assert_eq!(number_in(&suffix(number)), Some(number));
        }
        for other in [
            &b".overlay.1"[..],
            b".overlay.0000000A",
            b".overlay.+0000001",
            b".new",
            b"",
        ] {
            assert_eq!(number_in(other), None);
        }
    }

    #[test]
    fn header_round_trip_and_each_byte_matters() {
        let at = |offset| Index {
            offset,
            home: 3,
            total: 4,
        };
        let list = |offset| List { offset, count: 2 };
        let header = Header {
            number: 3,
            file_len: 1024,
            generation: 9,
            created: 1_700_000_000,
            body_checksum: 5,
            base: 77,
            users: list(64),
            groups: list(66),
            users_differ: list(68),
            groups_differ: list(70),
            user_by_name: at(80),
            user_by_uid: at(90),
            group_by_name: at(100),
            group_by_gid: at(110),
        };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes, 1024, 77).unwrap(), header);
        assert!(Header::decode(&bytes, 1023, 77).is_err());
        assert!(Header::decode(&bytes, 1024, 78).is_err());
        for at in 0..HEADER_LEN {
            let mut other = bytes;
            other[at] ^= 0x10;
            assert!(Header::decode(&other, 1024, 77).is_err(), "byte {at}");
        }
    }
}
