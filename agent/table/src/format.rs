//! The bytes of a table: constants, the header, and the hash that places names and ids.
//!
//! All integers are little-endian. Offsets to records and sections are counted from the start of the
//! file in units of [`UNIT`] bytes, so that 32 bits reach 16 GiB.
//!
//! ```text
//! header   256 bytes, below
//! groups   one record per group, in the order given
//! users    one record per user, then one per member who is no user of this table
//! lists    unit offsets of all groups, then of all users: enumeration by position
//! indexes  user by name, user by uid, group by name, group by gid
//!
//! header                                      user record
//!   0  magic "dirless\0"                        0  uid u32
//!   8  version u32 (1)                          4  primary gid u32
//!  12  flags u32 (1 = enumerate)                8  number of supplementary gids u32
//!  16  file length u64                         12  length of the keys text u32
//!  24  generation u64                          16  length of the name u8
//!  32  created, seconds since 1970 u64         17  kind u8 (0 user, 1 member only)
//!  40  checksum of the bytes from 256 on u64   18  lengths of gecos, home, shell 3 x u16
//!  48  list of users: offset, count            24  gids, u32 each, ascending
//!  56  list of groups: offset, count            .  name \0 x \0 gecos \0 home \0 shell \0
//!  64  user by name:  offset, home, total       .  keys text, padding to a unit
//!  76  user by uid:   offset, home, total
//!  88  group by name: offset, home, total     group record
//! 100  group by gid:  offset, home, total       0  gid u32
//! 112  zero                                     4  number of members u32
//! 120  checksum of the bytes 0 to 119 u64       8  length of the members text u32
//! 128  zero                                    12  length of the name u8, 3 x zero
//! 192  superseded u32 (not 0 = replaced)       16  name \0 x \0 member \0 member \0 ...
//! 196  zero                                     .  padding to a unit
//! ```
//!
//! An index is an array of `total` slots of 8 bytes: hash, unit offset of the record; offset 0 is an
//! empty slot. An entry's first choice is slot `hash * home >> 32`; the entries stand in ascending
//! order of their hashes, each in its first choice or the next free slot after it. A search therefore
//! ends at the first empty slot or larger hash, so that a miss costs no more than a hit.

use crate::checksum::Checksum;
use crate::error::OpenError;

pub(crate) const MAGIC: [u8; 8] = *b"dirless\0";
pub(crate) const VERSION: u32 = 1;
pub(crate) const HEADER_LEN: usize = 256;
pub(crate) const SUPERSEDED_AT: usize = 192;
pub(crate) const OVERLAY_AT: usize = 196;
pub(crate) const UNIT: usize = 4;
pub(crate) const USER_FIXED: usize = 24;
pub(crate) const GROUP_FIXED: usize = 16;
/// As [`GROUP_FIXED`], in an overlay.
pub(crate) const CHANGED_GROUP_FIXED: usize = 24;
pub(crate) const SLOT: usize = 8;
pub(crate) const FLAG_ENUMERATE: u32 = 1;
pub(crate) const KIND_USER: u8 = 0;
pub(crate) const KIND_GROUP: u8 = 0;
pub(crate) const KIND_MEMBER: u8 = 1;
/// Only in an overlay: the base's entry of that name or number is gone.
pub(crate) const KIND_GONE: u8 = 2;
/// 32-bit offsets in units of four bytes.
pub(crate) const MAX_LEN: u64 = (u32::MAX as u64) * (UNIT as u64);

const HEADER_CHECKSUM_AT: usize = 120;
const K1: u64 = 0x9E37_79B9_7F4A_7C15;
/// Where hash and checksum begin.
pub(crate) const K2: u64 = 0xD6E8_FEB8_6659_FD93;

/// One step of the hash and of the checksum. For a fixed `word` it is a bijection of `state`, so one
/// changed word always changes the result.
#[inline]
pub(crate) fn mix(state: u64, word: u64) -> u64 {
    let product = (state ^ word).wrapping_mul(K1);
    product ^ (product >> 32)
}

#[inline]
fn finish(state: u64) -> u32 {
    (state.wrapping_mul(K2) >> 32) as u32
}

/// The hash of a name: its length, then its bytes as zero-padded 8-byte words.
#[inline]
pub(crate) fn hash_name(name: &[u8]) -> u32 {
    let mut state = mix(K2, name.len() as u64);
    let (words, rest) = name.as_chunks::<8>();
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let last = rest
            .iter()
            .rev()
            .fold(0u64, |word, byte| (word << 8) | u64::from(*byte));
        state = mix(state, last);
    }
    finish(state)
}

/// The hash of a uid or gid.
#[inline]
pub(crate) fn hash_id(id: u32) -> u32 {
    finish(mix(K2, u64::from(id)))
}

/// The slot an entry would like best.
#[inline]
pub(crate) fn first_choice(hash: u32, home: u32) -> usize {
    ((u64::from(hash) * u64::from(home)) >> 32) as usize
}

/// A list of unit offsets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) offset: u32,
    pub(crate) count: u32,
}

/// A hashed index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) offset: u32,
    pub(crate) home: u32,
    pub(crate) total: u32,
}

/// The header without its checksum and the superseded word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) flags: u32,
    pub(crate) file_len: u64,
    pub(crate) generation: u64,
    pub(crate) created: u64,
    pub(crate) body_checksum: u64,
    pub(crate) users: List,
    pub(crate) groups: List,
    pub(crate) user_by_name: Index,
    pub(crate) user_by_uid: Index,
    pub(crate) group_by_name: Index,
    pub(crate) group_by_gid: Index,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        for value in [self.file_len, self.generation, self.created, self.body_checksum] {
            bytes.extend(value.to_le_bytes());
        }
        let indexes = [
            self.user_by_name,
            self.user_by_uid,
            self.group_by_name,
            self.group_by_gid,
        ];
        push_sections(&mut bytes, &[self.users, self.groups], &indexes);
        bytes.resize(HEADER_CHECKSUM_AT, 0);
        let sum = Checksum::of(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes.resize(HEADER_LEN, 0);
        let mut header = [0; HEADER_LEN];
        header.copy_from_slice(&bytes);
        header
    }

    /// Reads a header and checks it against the length of the file; every section it names lies
    /// inside the file.
    #[inline]
    pub(crate) fn decode(bytes: &[u8; HEADER_LEN], len: u64) -> Result<Self, OpenError> {
        if bytes.get(..MAGIC.len()) != Some(&MAGIC[..]) {
            return Err(OpenError::NotATable);
        }
        let version = u32_at(bytes, 8).unwrap_or_default();
        if version != VERSION {
            return Err(OpenError::Version { found: version });
        }
        let checked = bytes.get(..HEADER_CHECKSUM_AT).unwrap_or_default();
        if u64_at(bytes, HEADER_CHECKSUM_AT) != Some(Checksum::of(checked)) {
            return Err(OpenError::Damaged {
                what: "header checksum",
            });
        }
        let header = Self::fields(bytes).ok_or(OpenError::Damaged { what: "header" })?;
        if header.file_len != len {
            return Err(OpenError::Length {
                expected: header.file_len,
                found: len,
            });
        }
        let indexes = [
            header.user_by_name,
            header.user_by_uid,
            header.group_by_name,
            header.group_by_gid,
        ];
        check_sections(&[header.users, header.groups], &indexes, len)?;
        Ok(header)
    }

    /// What overlays call the table by: its header's checksum, which covers its generation and, by the
    /// checksum of the rest, every byte.
    #[inline]
    pub(crate) fn identity(bytes: &[u8; HEADER_LEN]) -> u64 {
        u64_at(bytes, HEADER_CHECKSUM_AT).unwrap_or_default()
    }

    #[inline]
    fn fields(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let list = |at| list_at(bytes, at);
        let index = |at| index_at(bytes, at);
        Some(Self {
            flags: u32_at(bytes, 12)?,
            file_len: u64_at(bytes, 16)?,
            generation: u64_at(bytes, 24)?,
            created: u64_at(bytes, 32)?,
            body_checksum: u64_at(bytes, 40)?,
            users: list(48)?,
            groups: list(56)?,
            user_by_name: index(64)?,
            user_by_uid: index(76)?,
            group_by_name: index(88)?,
            group_by_gid: index(100)?,
        })
    }
}

/// Whether all sections lie inside a file of `len` bytes, behind its header.
#[inline]
pub(crate) fn check_sections(lists: &[List], indexes: &[Index], len: u64) -> Result<(), OpenError> {
    let lists = lists
        .iter()
        .map(|list| (list.offset, u64::from(list.count) * UNIT as u64));
    let indexes = indexes
        .iter()
        .map(|index| (index.offset, u64::from(index.total) * SLOT as u64));
    for (offset, size) in lists.chain(indexes) {
        let start = u64::from(offset) * UNIT as u64;
        if start < HEADER_LEN as u64 || start.checked_add(size).is_none_or(|end| end > len) {
            return Err(OpenError::Damaged { what: "section bounds" });
        }
    }
    Ok(())
}

#[inline]
pub(crate) fn list_at(bytes: &[u8], at: usize) -> Option<List> {
    Some(List {
        offset: u32_at(bytes, at)?,
        count: u32_at(bytes, at + 4)?,
    })
}

#[inline]
pub(crate) fn index_at(bytes: &[u8], at: usize) -> Option<Index> {
    Some(Index {
        offset: u32_at(bytes, at)?,
        home: u32_at(bytes, at + 4)?,
        total: u32_at(bytes, at + 8)?,
    })
}

/// Appends the fields of lists, then of indexes.
pub(crate) fn push_sections(bytes: &mut Vec<u8>, lists: &[List], indexes: &[Index]) {
    for list in lists {
        bytes.extend(list.offset.to_le_bytes());
        bytes.extend(list.count.to_le_bytes());
    }
    for index in indexes {
        for value in [index.offset, index.home, index.total] {
            bytes.extend(value.to_le_bytes());
        }
    }
}

/// The u32 at a byte offset, if it lies inside.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk::<4>()
        .map(|word| u32::from_le_bytes(*word))
}

#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk::<2>()
        .map(|word| u16::from_le_bytes(*word))
}

#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk::<8>()
        .map(|word| u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_part_of_the_format_and_never_change() {
        let seen = [
            hash_name(b"alice"),
            hash_name(b"a-name-longer-than-8"),
            hash_id(60_001),
            hash_id(0),
        ];
        assert_eq!(seen, VECTORS);
        assert_ne!(hash_name(b"a"), hash_name(b"a\0"));
    }

    const VECTORS: [u32; 4] = [1_707_411_132, 2_810_451_965, 699_664_423, 2_269_014_088];

    #[test]
    fn first_choices_rise_with_the_hash_and_stay_inside() {
        let mut last = 0;
        for step in 0..=1000u32 {
            let choice = first_choice(step * (u32::MAX / 1000), 77);
            assert!(choice >= last && choice < 77);
            last = choice;
        }
    }

    #[test]
    fn header_round_trip_and_each_checked_byte_matters() {
        let at = |offset| Index {
            offset,
            home: 3,
            total: 4,
        };
        let header = Header {
            flags: FLAG_ENUMERATE,
            file_len: 1024,
            generation: 9,
            created: 1_700_000_000,
            body_checksum: 5,
            users: List { offset: 64, count: 2 },
            groups: List { offset: 70, count: 1 },
            user_by_name: at(80),
            user_by_uid: at(90),
            group_by_name: at(100),
            group_by_gid: at(110),
        };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes, 1024).unwrap(), header);
        assert!(Header::decode(&bytes, 1023).is_err());
        for at in 0..128 {
            let mut other = bytes;
            other[at] ^= 0x10;
            assert!(Header::decode(&other, 1024).is_err(), "byte {at}");
        }
    }
}
