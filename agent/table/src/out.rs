//! Where the writer's bytes go: records, lists and indexes, counted and summed on the way.

use crate::checksum::Checksum;
use crate::error::WriteError;
use crate::format::{HEADER_LEN, Header, Index, List, MAX_LEN, UNIT, first_choice};
use std::io::{Seek, SeekFrom, Write};

const BUFFER: usize = 64 * 1024;

/// The output: counted, summed, and handed on in large pieces.
#[derive(Debug)]
pub(crate) struct Out<W> {
    inner: W,
    buffer: Vec<u8>,
    pub(crate) at: u64,
    pub(crate) sum: Checksum,
}

impl<W: Write + Seek> Out<W> {
    /// Leaves room for the header.
    pub(crate) fn new(inner: W) -> Result<Self, WriteError> {
        let mut out = Self {
            inner,
            buffer: Vec::with_capacity(BUFFER),
            at: 0,
            sum: Checksum::new(),
        };
        out.write_unsummed(&[0; HEADER_LEN])?;
        Ok(out)
    }

    fn write_unsummed(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        self.at += bytes.len() as u64;
        if bytes.len() >= BUFFER {
            return self.inner.write_all(bytes).map_err(WriteError::io("writing the table"));
        }
        self.buffer.extend(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        self.inner
            .write_all(&self.buffer)
            .map_err(WriteError::io("writing the table"))?;
        self.buffer.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.sum.update(bytes);
        self.write_unsummed(bytes)
    }

    /// Where the next section or record starts, in units.
    fn offset(&self) -> Result<u32, WriteError> {
        if self.at >= MAX_LEN {
            Err(WriteError::TooLarge)
        } else {
            Ok((self.at / UNIT as u64) as u32)
        }
    }

    pub(crate) fn write_record(&mut self, record: &[u8]) -> Result<u32, WriteError> {
        let offset = self.offset()?;
        self.write(record)?;
        let padding = [0; UNIT];
        self.write(padding.get(..record.len().wrapping_neg() % UNIT).unwrap_or_default())?;
        Ok(offset)
    }

    pub(crate) fn write_list(&mut self, offsets: &[u32]) -> Result<List, WriteError> {
        let offset = self.offset()?;
        for value in offsets {
            self.write(&value.to_le_bytes())?;
        }
        let count = u32::try_from(offsets.len()).map_err(|_| WriteError::TooLarge)?;
        Ok(List { offset, count })
    }

    /// Slots for `entries` (hash in the high half, offset in the low): three quarters full.
    pub(crate) fn write_index(&mut self, entries: &mut [u64]) -> Result<Index, WriteError> {
        let offset = self.offset()?;
        entries.sort_unstable();
        let home = u32::try_from(entries.len() / 3 * 4 + 4).map_err(|_| WriteError::TooLarge)?;
        let mut next = 0;
        for entry in entries.iter() {
            let wanted = first_choice((*entry >> 32) as u32, home);
            while next < wanted {
                self.write(&[0; 8])?;
                next += 1;
            }
            self.write(&entry.rotate_left(32).to_le_bytes())?;
            next += 1;
        }
        while next < home as usize {
            self.write(&[0; 8])?;
            next += 1;
        }
        let total = u32::try_from(next).map_err(|_| WriteError::TooLarge)?;
        Ok(Index { offset, home, total })
    }

    pub(crate) fn finish(mut self, header: &Header) -> Result<W, WriteError> {
        if self.at > MAX_LEN {
            return Err(WriteError::TooLarge);
        }
        self.flush()?;
        self.inner
            .seek(SeekFrom::Start(0))
            .map_err(WriteError::io("seeking in the table"))?;
        self.inner
            .write_all(&header.encode())
            .map_err(WriteError::io("writing the table's header"))?;
        self.inner.flush().map_err(WriteError::io("writing the table"))?;
        Ok(self.inner)
    }
}
