//! The bytes of a table or an overlay after its header, and how records are found in them.

use crate::error::Corrupt;
use crate::format::{HEADER_LEN, Index, List, SLOT, UNIT, first_choice, u32_at};
use crate::map::{Mapping, Mark};
use crate::reader::Lookup;

/// Where the bytes are.
#[derive(Debug)]
pub(crate) enum Storage {
    Mapped(Mapping),
    Owned(Box<[u8]>),
}

impl Storage {
    /// The bytes after the header. The header page holds words that another process writes; no slice
    /// covers it.
    #[inline]
    pub(crate) fn body(&self) -> Body<'_> {
        Body(match self {
            Self::Mapped(mapping) => mapping.body(),
            Self::Owned(bytes) => bytes.get(HEADER_LEN..).unwrap_or_default(),
        })
    }

    /// What the publisher has written into the header since.
    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        match self {
            Self::Mapped(mapping) => mapping.mark(),
            Self::Owned(_) => Mark::NONE,
        }
    }
}

/// The bytes after a header that was checked, and so begins all its sections behind itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body<'a>(pub(crate) &'a [u8]);

impl<'a> Body<'a> {
    /// The first record that `check` takes, of those that the index has under `hash`.
    #[inline]
    pub(crate) fn search<T>(self, index: Index, hash: u32, mut check: impl FnMut(u32) -> Lookup<T>) -> Lookup<T> {
        let slots = self.slots(index)?;
        for slot in slots.get(first_choice(hash, index.home)..).unwrap_or_default() {
            let (stored, offset) = taken_apart(*slot);
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

    /// The unit offsets of all records of an index, in the order of their hashes.
    pub(crate) fn indexed(self, index: Index) -> Result<impl Iterator<Item = u32> + use<'a>, Corrupt> {
        let offsets = self.slots(index)?.iter().map(|slot| taken_apart(*slot).1);
        Ok(offsets.filter(|offset| *offset != 0))
    }

    #[inline]
    fn slots(self, index: Index) -> Result<&'a [[u8; SLOT]], Corrupt> {
        let start = (index.offset as usize) * UNIT - HEADER_LEN;
        let slots = self.0.get(start..start + (index.total as usize) * SLOT);
        Ok(slots.ok_or(Corrupt)?.as_chunks::<SLOT>().0)
    }

    /// The entry of a list at a position; `None` past its end.
    #[inline]
    pub(crate) fn listed(self, list: List, position: u32) -> Lookup<u32> {
        if position >= list.count {
            return Ok(None);
        }
        let start = (list.offset as usize) * UNIT - HEADER_LEN;
        u32_at(self.0, start + (position as usize) * UNIT)
            .map(Some)
            .ok_or(Corrupt)
    }

    /// The bytes from a unit offset on.
    #[inline]
    pub(crate) fn record(self, offset: u32) -> Result<&'a [u8], Corrupt> {
        let start = (offset as usize) * UNIT;
        self.0
            .get(start.checked_sub(HEADER_LEN).ok_or(Corrupt)?..)
            .ok_or(Corrupt)
    }

    /// How many entries of a list that ascends are accepted by `before`, all of which stand at its
    /// beginning; it is given their position and value.
    #[inline]
    pub(crate) fn partition(self, list: List, before: impl Fn(u32, u32) -> bool) -> Result<u32, Corrupt> {
        let (mut low, mut high) = (0, list.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let value = self.listed(list, middle)?.ok_or(Corrupt)?;
            if before(middle, value) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

/// Hash and unit offset in a slot.
#[inline]
fn taken_apart(slot: [u8; SLOT]) -> (u32, u32) {
    let word = u64::from_le_bytes(slot);
    (word as u32, (word >> 32) as u32)
}
