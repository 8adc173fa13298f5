//! A table on its way into place, which becomes a file only when it differs from the one that is there.

use crate::error::WriteError;
use crate::format::{HEADER_LEN, Header, OVERLAY_AT, SUPERSEDED_AT};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Mode of a table in place.
pub(crate) const MODE: u32 = 0o644;
/// Bytes compared at once.
const PIECE: usize = 64 * 1024;

/// What a [`TableBuilder`](crate::TableBuilder) writes to when a table is published.
#[derive(Debug)]
pub struct Draft {
    aside: PathBuf,
    /// Made at the first byte that differs.
    file: Option<File>,
    /// The table in place, all of whose bytes so far are those written here.
    old: Option<Old>,
    /// Where the next bytes go.
    at: u64,
    /// Where the bytes that are the same end.
    end: u64,
    /// The new header, while there is no file.
    header: [u8; HEADER_LEN],
    piece: Vec<u8>,
}

#[derive(Debug)]
struct Old {
    file: File,
    header: Header,
}

impl Draft {
    /// A draft that is written to a new file at `aside` in any case.
    pub(crate) fn new(aside: &Path) -> Self {
        Self {
            aside: aside.to_owned(),
            file: None,
            old: None,
            at: 0,
            end: 0,
            header: [0; HEADER_LEN],
            piece: Vec::new(),
        }
    }

    /// A draft that is held against the table at `path`.
    pub(crate) fn beside(aside: &Path, path: &Path, owner: u32) -> Self {
        Self {
            old: Old::open(path, owner),
            piece: vec![0; PIECE],
            ..Self::new(aside)
        }
    }

    /// Does the table in place say all that was written? Its generation and time may be others.
    pub(crate) fn says_the_same(&self) -> bool {
        let new = Header::decode(&self.header, self.end);
        match (&self.file, &self.old, new) {
            (None, Some(old), Ok(new)) => {
                let renamed = Header {
                    generation: new.generation,
                    created: new.created,
                    ..old.header
                };
                renamed == new
            }
            _ => false,
        }
    }

    /// The file with all that was written.
    pub(crate) fn complete(mut self) -> std::result::Result<File, WriteError> {
        let failed = WriteError::io("writing the table");
        match self.file.take() {
            Some(file) => Ok(file),
            None => self.begin().map_err(failed),
        }
    }

    /// Makes the file, which begins with what is the same.
    fn begin(&self) -> Result<File> {
        let mut file = create(&self.aside)?;
        if let Some(old) = &self.old {
            let mut same = &old.file;
            same.rewind()?;
            if std::io::copy(&mut same.take(self.end), &mut file)? != self.end {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            file.write_all_at(&self.header, 0)?;
        }
        file.seek(SeekFrom::Start(self.at))?;
        Ok(file)
    }

    /// How many of `bytes` the table in place has at the same place: all, or all of the first piece,
    /// or none. Its header counts as the same here.
    fn same(&mut self, bytes: &[u8]) -> usize {
        let (Some(old), None) = (&self.old, &self.file) else {
            return 0;
        };
        let bytes = bytes.get(..PIECE).unwrap_or(bytes);
        let piece = self.piece.get_mut(..bytes.len()).unwrap_or_default();
        if old.file.read_exact_at(piece, self.at).is_err() {
            return 0;
        }
        let header = (HEADER_LEN as u64).saturating_sub(self.at) as usize;
        if piece.get(header..) == bytes.get(header..) {
            bytes.len()
        } else {
            0
        }
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let returned = self.at == 0 && self.end > 0;
        if let (None, true, Some(header)) = (&self.file, returned, bytes.first_chunk()) {
            self.header = *header;
            return Ok(HEADER_LEN);
        }
        let mut count = self.same(bytes);
        if count == 0 {
            let file = match self.file.take() {
                Some(file) => file,
                None => self.begin()?,
            };
            count = self.file.insert(file).write(bytes)?;
        }
        self.at += count as u64;
        self.end = self.end.max(self.at);
        Ok(count)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Seek for Draft {
    /// Only from the start.
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let SeekFrom::Start(at) = to else {
            return Err(ErrorKind::Unsupported.into());
        };
        if let Some(file) = &mut self.file {
            file.seek(to)?;
        }
        self.at = at;
        Ok(at)
    }
}

impl Old {
    /// The table at `path`, when readers take it, alone, and nothing about it needs mending.
    fn open(path: &Path, owner: u32) -> Option<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .custom_flags(crate::map::O_NOFOLLOW)
            .open(path)
            .ok()?;
        let about = file.metadata().ok()?;
        let mut header = [0; HEADER_LEN];
        file.read_exact_at(&mut header, 0).ok()?;
        let alone = header.get(SUPERSEDED_AT..OVERLAY_AT + 4) == Some(&[0; 8]);
        if !about.is_file() || about.uid() != owner || about.mode() & 0o7777 != MODE || !alone {
            return None;
        }
        let header = Header::decode(&header, about.len()).ok()?;
        Some(Self { file, header })
    }
}

pub(crate) fn create(aside: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600).open(aside)
}
