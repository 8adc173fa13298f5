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
    /// Not yet handed on. Records are laid out here.
    buffer: Vec<u8>,
    /// Bytes handed on.
    before: u64,
    sum: Checksum,
}

impl<W: Write + Seek> Out<W> {
    /// Leaves room for the header.
    pub(crate) fn new(inner: W) -> Self {
        let mut buffer = Vec::with_capacity(BUFFER * 2);
        buffer.resize(HEADER_LEN, 0);
        Self {
            inner,
            buffer,
            before: 0,
            sum: Checksum::new(),
        }
    }

    /// Bytes written so far, the header's included.
    pub(crate) fn len(&self) -> u64 {
        self.before + self.buffer.len() as u64
    }

    /// Hands the buffer on, and sums all of it but the header.
    fn flush(&mut self) -> Result<(), WriteError> {
        let header = if self.before == 0 { HEADER_LEN } else { 0 };
        self.sum.update(self.buffer.get(header..).unwrap_or_default());
        self.inner
            .write_all(&self.buffer)
            .map_err(WriteError::io("writing the table"))?;
        self.before += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn flush_when_full(&mut self) -> Result<(), WriteError> {
        if self.buffer.len() < BUFFER {
            return Ok(());
        }
        self.flush()
    }

    /// Where the next section or record starts, in units.
    fn offset(&self) -> Result<u32, WriteError> {
        let at = self.len();
        if at >= MAX_LEN {
            Err(WriteError::TooLarge)
        } else {
            Ok((at / UNIT as u64) as u32)
        }
    }

    /// Writes one record: `fill` appends it to what it is given. Nothing is written when it fails.
    pub(crate) fn write_record(
        &mut self,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), WriteError>,
    ) -> Result<u32, WriteError> {
        let offset = self.offset()?;
        let start = self.buffer.len();
        if let Err(error) = fill(&mut self.buffer) {
            self.buffer.truncate(start);
            return Err(error);
        }
        let padding = self.buffer.len().wrapping_neg() % UNIT;
        self.buffer.extend([0; UNIT].iter().take(padding));
        self.flush_when_full()?;
        Ok(offset)
    }

    pub(crate) fn write_list(&mut self, offsets: &[u32]) -> Result<List, WriteError> {
        let offset = self.offset()?;
        for some in offsets.chunks(BUFFER / 4) {
            self.buffer.extend(some.iter().flat_map(|value| value.to_le_bytes()));
            self.flush_when_full()?;
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
            next = self.write_empty(next, wanted)?;
            self.buffer.extend(entry.rotate_left(32).to_le_bytes());
            self.flush_when_full()?;
            next += 1;
        }
        next = self.write_empty(next, home as usize)?;
        let total = u32::try_from(next).map_err(|_| WriteError::TooLarge)?;
        Ok(Index { offset, home, total })
    }

    /// Writes empty slots from `next` up to `wanted`; returns the slot after them.
    fn write_empty(&mut self, next: usize, wanted: usize) -> Result<usize, WriteError> {
        for _ in next..wanted {
            self.buffer.extend([0; 8]);
            self.flush_when_full()?;
        }
        Ok(next.max(wanted))
    }

    /// What was written to, with all bytes but those of the header.
    pub(crate) fn into_inner(mut self) -> Result<W, WriteError> {
        self.flush()?;
        Ok(self.inner)
    }

    /// Completes `header` and writes it at the beginning. Returns it with what was written to.
    pub(crate) fn finish(mut self, mut header: Header) -> Result<(W, Header), WriteError> {
        header.file_len = self.len();
        if header.file_len > MAX_LEN {
            return Err(WriteError::TooLarge);
        }
        self.flush()?;
        header.body_checksum = self.sum.value();
        self.inner
            .seek(SeekFrom::Start(0))
            .map_err(WriteError::io("seeking in the table"))?;
        self.inner
            .write_all(&header.encode())
            .map_err(WriteError::io("writing the table's header"))?;
        self.inner.flush().map_err(WriteError::io("writing the table"))?;
        Ok((self.inner, header))
    }
}
