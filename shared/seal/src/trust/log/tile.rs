//! The files that a log lies in: each record in one of its own, and again, many together, in tiles.

use std::fmt;

use super::{LONGEST_RECORD, LONGEST_TILE, TILE};

/// A file of a log. Written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFile {
    /// The record of this number, counted from 0, as it was sealed.
    Record(u64),
    /// The [`TILE`] records from the number that is [`TILE`] times this on: each with its length in front, four bytes, the
    /// highest first. It is there once all of them are.
    Tile(u64),
}

impl LogFile {
    /// Its most bytes.
    #[must_use]
    pub fn longest(self) -> usize {
        match self {
            Self::Record(_) => LONGEST_RECORD,
            Self::Tile(_) => LONGEST_TILE,
        }
    }
}

impl fmt::Display for LogFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(number) => write!(formatter, "{number}"),
            Self::Tile(number) => write!(formatter, "tile-{number}"),
        }
    }
}

/// For how few records a file each is fetched rather than the tile that has them.
const FEW: u64 = 8;

/// The files that have record `from`, on the way to the first `length` ones: the one to fetch, then the one that it may be in
/// all the same.
pub(super) fn holders(from: u64, length: u64) -> impl Iterator<Item = LogFile> {
    let end = (from / TILE + 1).saturating_mul(TILE);
    let tile = (end <= length).then_some(LogFile::Tile(from / TILE));
    let (first, other) = match tile {
        Some(tile) if end - from > FEW => (tile, Some(LogFile::Record(from))),
        other => (LogFile::Record(from), other),
    };
    [first].into_iter().chain(other)
}

/// The tile that holds `records`.
#[must_use]
pub fn tile<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(record);
    }
    bytes
}

/// The bytes are no tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no sequence of records with their lengths in front")]
pub struct TileError;

/// The records of a tile.
///
/// # Errors
/// When the bytes are no whole number of records.
pub fn split(mut bytes: &[u8]) -> Result<Vec<&[u8]>, TileError> {
    let mut records = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| TileError)?;
        if length > LONGEST_RECORD {
            return Err(TileError);
        }
        let (record, rest) = rest.split_at_checked(length).ok_or(TileError)?;
        records.push(record);
        bytes = rest;
    }
    if bytes.is_empty() { Ok(records) } else { Err(TileError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_tiles_are_fetched_by_those_who_lack_much_of_one() {
        for (from, length, files) in [
            (0, 1, "0"),
            (0, 255, "0"),
            (0, 256, "tile-0 0"),
            (247, 256, "tile-0 247"),
            (248, 256, "248 tile-0"),
            (255, 256, "255 tile-0"),
            (256, 300, "256"),
            (256, 512, "tile-1 256"),
            (300, 10_000, "tile-1 300"),
        ] {
            let found: Vec<String> = holders(from, length).map(|file| file.to_string()).collect();
            assert_eq!(found.join(" "), files, "{from} of {length}");
        }
    }

    #[test]
    fn a_tile_is_its_records() {
        let records: [&[u8]; 3] = [b"one", b"", b"three"];
        let bytes = tile(records);
        assert_eq!(split(&bytes).unwrap(), records);
        assert!(split(&[]).unwrap().is_empty());
        for end in [1, 3, 5, bytes.len() - 1] {
            assert_eq!(split(&bytes[..end]), Err(TileError), "{end}");
        }
        assert_eq!(split(&[255, 255, 255, 255]), Err(TileError));
    }
}
