//! The flat file: entries one after the other, beside the database that says where each begins.
//!
//! It grows and never changes: generations that take turns share it, each with the end up to which it
//! knows it. What lies behind the current generation's end was left by a writer that did not finish, and the
//! next one writes over it. What was written is on disk before the database that names it gets its
//! place. When half of it is of no use any more, what is left moves to a new file ([`crate::appender::Appender::moved`]).

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use crate::CopyError;
use crate::files::Files;
use crate::layout::{self, meta};
use crate::record::{BLOCK, Large, Parts, Place, joined, sum, sum_of_blocks, sum_of_sums};

/// What the file begins with.
pub(crate) const MAGIC: &[u8] = b"dirless entries\n";
/// Bytes that follow: a mark that only this file has, and that the database names.
pub(crate) const MARK: usize = 32;
/// Where the first record begins.
pub(crate) const START: u64 = (MAGIC.len() + MARK) as u64;
/// Bytes that are read at once from a file that is read in order.
const AHEAD: usize = 128 << 10;
/// Records that are held by one reader, and bytes of each at most: those of people are well below one kilobyte.
const RECENT: usize = 4096;
const RECENT_BYTES: usize = 4096;
/// What a buffer keeps of its memory.
const KEPT: usize = 1 << 20;
/// Bytes of no use that are left where they are, whatever else there is.
const SLACK: u64 = 8 << 20;
/// Large attributes of which it is remembered that their checksum holds.
const MOST_VERIFIED: usize = 4096;

/// The flat file of a finished generation.
pub(crate) struct Records {
    pub(crate) file: Arc<File>,
    path: PathBuf,
    number: i64,
    mark: [u8; MARK],
    end: u64,
    /// Bytes of entries that are there.
    live: u64,
}

/// Where records are read from.
pub(crate) trait Source {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), CopyError>;

    /// The error for what lies at `offset`.
    fn damaged(&self, offset: u64) -> CopyError;

    /// The whole entry of that number.
    fn entry(&self, place: Place, id: i64) -> Result<Whole, CopyError> {
        let mut first = vec![0; place.length()];
        self.read_at(&mut first, place.offset())?;
        let parts = Parts::read(&first, id).ok_or_else(|| self.damaged(place.offset()))?;
        let mut large = Vec::new();
        for one in parts.large() {
            large.push((one.operational, self.large(place, &one)?));
        }
        Ok(Whole {
            attributes: joined(parts.small, &large)?,
            secret: parts.secret.to_vec(),
            size: parts.size(),
        })
    }

    /// The bytes of a large attribute of the record at `place`.
    fn large(&self, place: Place, one: &Large<'_>) -> Result<Vec<u8>, CopyError> {
        let at = place.offset().saturating_add(one.at);
        self.within(at, one.length)?;
        let mut bytes = vec![0; one.length];
        self.read_at(&mut bytes, at)?;
        if sum_of_blocks(bytes.chunks(BLOCK)) == one.sum {
            Ok(bytes)
        } else {
            Err(self.damaged(at))
        }
    }

    /// Are there that many bytes at all? It is asked before there is memory for them.
    fn within(&self, at: u64, length: usize) -> Result<(), CopyError>;
}

/// A whole entry.
pub(crate) struct Whole {
    pub(crate) attributes: Vec<u8>,
    pub(crate) secret: Vec<u8>,
    /// Bytes that it takes in the file.
    pub(crate) size: u64,
}

impl Records {
    /// Opens the file that the generation at `copy`, open as `connection`, has its entries in.
    pub(crate) fn open(connection: &Connection, copy: &Path) -> Result<Self, CopyError> {
        let number = layout::number(connection, meta::RECORDS)?;
        let unsigned = |name| layout::number(connection, name).map(|number| u64::try_from(number).unwrap_or(0));
        let path = Files::of(copy).records(number);
        let file = File::open(&path).map_err(CopyError::file("open", &path))?;
        let records = Self {
            file: Arc::new(file),
            number,
            mark: layout::blob(connection, meta::RECORDS_MARK)?
                .try_into()
                .unwrap_or_default(),
            end: unsigned(meta::RECORDS_END)?,
            live: unsigned(meta::RECORDS_LIVE)?,
            path,
        };
        let mut start = [0; MAGIC.len() + MARK];
        let length = records
            .file
            .metadata()
            .map_err(CopyError::file("read", &records.path))?
            .len();
        // The database is of this file, and all that it names is there.
        if length < records.end {
            return Err(records.damaged(records.end));
        }
        records.read_at(&mut start, 0)?;
        if start == *[MAGIC, &records.mark].concat() {
            Ok(records)
        } else {
            Err(records.damaged(0))
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn number(&self) -> i64 {
        self.number
    }

    pub(crate) fn mark(&self) -> [u8; MARK] {
        self.mark
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn live(&self) -> u64 {
        self.live
    }

    /// Do both have their entries in the same file, so that places are the same?
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.mark == other.mark
    }

    /// Is more than half of it of no use any more?
    pub(crate) fn is_wasteful(&self) -> bool {
        self.end > self.live.saturating_mul(2).saturating_add(SLACK)
    }

    /// Does what lies there add up to what was `told`? It is read block by block.
    fn holds(&self, offset: u64, length: usize, told: u64) -> Result<bool, CopyError> {
        let mut block = vec![0; BLOCK.min(length)];
        let (mut at, mut left) = (offset, length);
        let mut failed = None;
        let blocks = std::iter::from_fn(|| {
            let size = left.min(BLOCK);
            let bytes = block.get_mut(..size).filter(|bytes| !bytes.is_empty())?;
            if let Err(error) = self.read_at(bytes, at) {
                failed = Some(error);
                return None;
            }
            (at, left) = (at + size as u64, left - size);
            Some(sum(bytes))
        });
        let found = sum_of_sums(blocks);
        failed.map_or(Ok(found == told), Err)
    }
}

impl Source for Records {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), CopyError> {
        self.within(offset, bytes.len())?;
        self.file
            .read_exact_at(bytes, offset)
            .map_err(CopyError::file("read", &self.path))
    }

    fn damaged(&self, offset: u64) -> CopyError {
        CopyError::Damaged {
            path: self.path.clone(),
            offset,
        }
    }

    fn within(&self, at: u64, length: usize) -> Result<(), CopyError> {
        match at.checked_add(length as u64) {
            Some(end) if end <= self.end => Ok(()),
            _ => Err(self.damaged(at)),
        }
    }
}

/// The piece of the file that was read last, by whoever reads it in order.
#[derive(Default)]
pub(crate) struct Window {
    bytes: Vec<u8>,
    from: u64,
    filled: usize,
}

impl Window {
    /// The first part of a record. What follows is read too: it is asked for next.
    pub(crate) fn first(&mut self, records: &Records, place: Place, id: i64) -> Result<Parts<'_>, CopyError> {
        let (offset, length) = (place.offset(), place.length());
        let start = offset
            .checked_sub(self.from)
            .and_then(|start| usize::try_from(start).ok());
        let held = start.filter(|start| start.saturating_add(length) <= self.filled);
        let start = match held {
            Some(start) => start,
            None => {
                records.within(offset, length)?;
                let left = usize::try_from(records.end - offset).unwrap_or(usize::MAX);
                let wanted = length.max(AHEAD).min(left);
                if self.bytes.len() < wanted || self.bytes.len() > wanted.max(KEPT) {
                    self.bytes.resize(wanted, 0);
                    self.bytes.shrink_to_fit();
                }
                self.filled = 0;
                records.read_at(self.bytes.get_mut(..wanted).unwrap_or_default(), offset)?;
                (self.from, self.filled) = (offset, wanted);
                0
            }
        };
        let bytes = self.bytes.get(start..start + length).unwrap_or_default();
        Parts::read(bytes, id).ok_or_else(|| records.damaged(offset))
    }
}

/// Records that were read lately, one for each remainder of entries' numbers: what is asked for again costs no call to
/// the system.
#[derive(Default)]
pub(crate) struct Recent(Vec<Lately>);

#[derive(Clone, Default)]
pub(crate) struct Lately {
    place: Option<Place>,
    bytes: Vec<u8>,
}

impl Recent {
    /// Takes what is held where the record of that entry would be.
    pub(crate) fn take(&mut self, id: i64) -> Lately {
        let at = usize::try_from(id).unwrap_or(0) % RECENT;
        self.0.get_mut(at).map(std::mem::take).unwrap_or_default()
    }

    /// Holds a record until another one takes its room.
    pub(crate) fn put(&mut self, id: i64, lately: Lately) {
        if lately.bytes.capacity() > RECENT_BYTES {
            return;
        }
        if self.0.is_empty() {
            self.0.resize(RECENT, Lately::default());
        }
        if let Some(held) = self.0.get_mut(usize::try_from(id).unwrap_or(0) % RECENT) {
            *held = lately;
        }
    }
}

impl Lately {
    /// The first part of the record at `place`, read unless it is this one.
    pub(crate) fn first(&mut self, records: &Records, place: Place, id: i64) -> Result<Parts<'_>, CopyError> {
        let damaged = || records.damaged(place.offset());
        if self.place == Some(place) {
            return Parts::read_again(&self.bytes).ok_or_else(damaged);
        }
        self.place = None;
        records.within(place.offset(), place.length())?;
        self.bytes.clear();
        self.bytes.reserve_exact(place.length());
        self.bytes.resize(place.length(), 0);
        records.read_at(&mut self.bytes, place.offset())?;
        let parts = Parts::read(&self.bytes, id).ok_or_else(damaged)?;
        self.place = Some(place);
        Ok(parts)
    }
}

/// Which large attributes were looked at whole. What does not change need not be added up again for everybody
/// who asks.
#[derive(Default)]
pub(crate) struct Verified(HashSet<u64>);

impl Verified {
    /// Where a large attribute lies, once it is known to be the right one.
    pub(crate) fn place_of(&mut self, records: &Records, place: Place, one: &Large<'_>) -> Result<u64, CopyError> {
        let at = place.offset().saturating_add(one.at);
        if self.0.contains(&at) {
            return Ok(at);
        }
        records.within(at, one.length)?;
        if !records.holds(at, one.length, one.sum)? {
            return Err(records.damaged(at));
        }
        if self.0.len() >= MOST_VERIFIED {
            self.0.clear();
        }
        self.0.insert(at);
        Ok(at)
    }
}

#[cfg(test)]
mod tests;
