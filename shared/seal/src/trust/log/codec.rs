//! The one spelling of [`Changes`].
//!
//! ```text
//! content    32 bytes
//! change*    tag, key; put: bytes; splice: count, count × (skip, removed, bytes); drop: nothing
//! end        0
//! padding    zeros
//! ```
//!
//! A tag is `1 + 4 × (0 put, 1 splice, 2 drop) + (0 user, 1 group, 2 entry, 3 other)`. A key and bytes are a number and as many
//! bytes. A number is a LEB128 of at most 32 bits without needless zeros. Changes stand in ascending order of kind and key.

use std::collections::BTreeMap;

use super::LONGEST_RECORD;
use super::changes::{Change, Changes, Hunk};
use crate::{Digest, RecordKind};

/// What an open record is padded to at least: most changes of one user are as long as each other.
const SMALLEST: usize = 160;
/// Up to here there are two more lengths: half of this, and this. Who appears with a longer name, or in one more group, is not
/// told apart from others.
const COARSE: usize = 1024;
/// The kinds, by the last two bits of a tag less one.
const KINDS: [RecordKind; 4] = [
    RecordKind::User,
    RecordKind::Group,
    RecordKind::Entry,
    RecordKind::Other,
];

/// The bytes are no changes, or the changes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangesError {
    /// They end too early.
    #[error("it ends too early")]
    Short,
    /// Something in them means nothing.
    #[error("it means nothing at byte {0}")]
    Meaningless(usize),
    /// They mean something, but are spelled differently from the one way.
    #[error("it is spelled differently at byte {0}")]
    Spelling(usize),
    /// They would be longer than any record.
    #[error("it is longer than a record of the log may be")]
    TooLong,
}

/// How long the record is whose changes take `length` bytes.
fn padded(length: usize) -> usize {
    if length <= SMALLEST {
        return SMALLEST;
    }
    if length <= COARSE {
        return length.next_multiple_of(COARSE / 2);
    }
    // No more than an eighth on top of a long one.
    let step = (length / 8).checked_ilog2().map_or(1, |bits| 1 << bits);
    length.next_multiple_of(step)
}

impl Changes {
    /// Their bytes, with the padding.
    ///
    /// # Errors
    /// When they are longer than a record may be, or no reader would take them.
    pub fn encode(&self) -> Result<Vec<u8>, ChangesError> {
        let mut out = self.content.as_bytes().to_vec();
        for ((kind, key), change) in &self.changes {
            encode_change(&mut out, *kind, key, change)?;
            if out.len() > LONGEST_RECORD {
                return Err(ChangesError::TooLong);
            }
        }
        out.push(0);
        out.resize(padded(out.len()), 0);
        if out.len() > LONGEST_RECORD {
            return Err(ChangesError::TooLong);
        }
        Ok(out)
    }

    /// Reads what [`Changes::encode`] wrote.
    ///
    /// # Errors
    /// When it is anything else, be it by a bit.
    pub fn decode(bytes: &[u8]) -> Result<Self, ChangesError> {
        let mut reader = Reader { bytes, at: 0 };
        let content = reader.take(32)?.try_into().map_err(|_| ChangesError::Short)?;
        let mut changes = BTreeMap::new();
        let mut last = None;
        loop {
            let at = reader.at;
            let tag = usize::from(reader.byte()?);
            let Some(tag) = tag.checked_sub(1) else { break };
            let kind = KINDS.get(tag % 4).ok_or(ChangesError::Meaningless(at))?;
            let key = (*kind, reader.text()?.to_vec());
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(ChangesError::Spelling(at));
            }
            last = Some(key.clone());
            let change = match tag / 4 {
                0 => Change::Put(reader.text()?.to_vec()),
                1 => Change::Splice(reader.hunks()?),
                2 => Change::Drop,
                _ => return Err(ChangesError::Meaningless(at)),
            };
            changes.insert(key, change);
        }
        let rest = bytes.get(reader.at..).unwrap_or_default();
        if bytes.len() != padded(reader.at) || rest.iter().any(|byte| *byte != 0) {
            return Err(ChangesError::Spelling(reader.at));
        }
        Ok(Self {
            content: Digest::from_bytes(content),
            changes,
        })
    }
}

/// How many bytes `change` takes beside its key.
pub(super) fn cost(change: &Change) -> usize {
    let mut out = Vec::new();
    match change {
        Change::Put(bytes) => bytes.len().saturating_add(5),
        Change::Splice(_) | Change::Drop => match encode_change(&mut out, RecordKind::User, &[], change) {
            Ok(()) => out.len(),
            Err(_) => usize::MAX,
        },
    }
}

fn encode_change(out: &mut Vec<u8>, kind: RecordKind, key: &[u8], change: &Change) -> Result<(), ChangesError> {
    let kind = KINDS.iter().position(|other| *other == kind).unwrap_or_default();
    let operation = match change {
        Change::Put(_) => 0,
        Change::Splice(_) => 1,
        Change::Drop => 2,
    };
    out.push(u8::try_from(1 + 4 * operation + kind).unwrap_or_default());
    text(out, key)?;
    match change {
        Change::Put(bytes) => text(out, bytes)?,
        Change::Splice(hunks) => {
            number(out, hunks.len())?;
            for (at, hunk) in hunks.iter().enumerate() {
                if !is_hunk(hunk, at == 0) {
                    return Err(ChangesError::Meaningless(out.len()));
                }
                leb128(out, hunk.skip);
                leb128(out, hunk.removed);
                text(out, &hunk.bytes)?;
            }
            if hunks.is_empty() {
                return Err(ChangesError::Meaningless(out.len()));
            }
        }
        Change::Drop => {}
    }
    Ok(())
}

/// A hunk changes something, and two that touch are one.
fn is_hunk(hunk: &Hunk, first: bool) -> bool {
    (hunk.removed > 0 || !hunk.bytes.is_empty()) && (first || hunk.skip > 0)
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ChangesError> {
    number(out, bytes.len())?;
    out.extend_from_slice(bytes);
    Ok(())
}

fn number(out: &mut Vec<u8>, number: usize) -> Result<(), ChangesError> {
    leb128(out, u32::try_from(number).map_err(|_| ChangesError::TooLong)?);
    Ok(())
}

fn leb128(out: &mut Vec<u8>, mut number: u32) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ChangesError> {
        let end = self.at.checked_add(count).ok_or(ChangesError::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(ChangesError::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, ChangesError> {
        self.take(1)?.first().copied().ok_or(ChangesError::Short)
    }

    fn number(&mut self) -> Result<u32, ChangesError> {
        let start = self.at;
        let mut number = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(ChangesError::Spelling(start));
                }
                return u32::try_from(number).map_err(|_| ChangesError::Meaningless(start));
            }
        }
        Err(ChangesError::Meaningless(start))
    }

    fn text(&mut self) -> Result<&'a [u8], ChangesError> {
        let length = self.number()?;
        self.take(usize::try_from(length).map_err(|_| ChangesError::Short)?)
    }

    fn hunks(&mut self) -> Result<Vec<Hunk>, ChangesError> {
        let start = self.at;
        let count = self.number()?;
        let mut hunks = Vec::new();
        for at in 0..count {
            let hunk = Hunk {
                skip: self.number()?,
                removed: self.number()?,
                bytes: self.text()?.to_vec(),
            };
            if !is_hunk(&hunk, at == 0) {
                return Err(ChangesError::Meaningless(start));
            }
            hunks.push(hunk);
        }
        if hunks.is_empty() {
            return Err(ChangesError::Meaningless(start));
        }
        Ok(hunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_hides_small_sizes_and_costs_little_of_large_ones() {
        for (length, whole) in [
            (33, 160),
            (160, 160),
            (161, 512),
            (512, 512),
            (513, 1024),
            (1025, 1152),
            (1_000_001, 1_048_576),
        ] {
            assert_eq!(padded(length), whole, "{length}");
        }
        for length in (200..100_000).step_by(37) {
            let whole = padded(length);
            let most = if length <= COARSE { COARSE / 2 } else { length / 8 };
            assert!(whole >= length && whole <= length + most, "{length} {whole}");
            assert_eq!(padded(whole), whole);
        }
    }

    #[test]
    fn numbers_have_one_spelling() {
        for (number, bytes) in [
            (0, &[0_u8] as &[u8]),
            (127, &[127]),
            (128, &[128, 1]),
            (u32::MAX, &[255, 255, 255, 255, 15]),
        ] {
            let mut out = Vec::new();
            leb128(&mut out, number);
            assert_eq!(out, bytes);
            assert_eq!(Reader { bytes, at: 0 }.number(), Ok(number));
        }
        for (bytes, error) in [
            (&[] as &[u8], ChangesError::Short),
            (&[128], ChangesError::Short),
            (&[128, 0], ChangesError::Spelling(0)),
            (&[255, 255, 255, 255, 16], ChangesError::Meaningless(0)),
            (&[255, 255, 255, 255, 255, 1], ChangesError::Meaningless(0)),
        ] {
            assert_eq!(Reader { bytes, at: 0 }.number(), Err(error), "{bytes:?}");
        }
    }
}
