//! Writing the flat file: behind what the current generation knows of it, or into a new one.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

use rusqlite::{Connection, params};

use crate::CopyError;
use crate::files::{Files, folder_of};
use crate::layout::{self, meta};
use crate::record::{Fields, Parts, Place, put};
use crate::records::{MAGIC, MARK, Records, START, Source};

/// Bytes that are written at once.
const PIECE: usize = 1 << 20;

/// The flat file of a generation in the making. Dropped before it is finished, it leaves the file as it was.
pub(crate) struct Appender {
    pub(crate) file: File,
    path: PathBuf,
    number: i64,
    mark: [u8; MARK],
    /// Where the current generation ends; none in a file of its own.
    before: Option<u64>,
    /// Up to here it is written; what is pending follows.
    written: u64,
    pub(crate) pending: Vec<u8>,
    /// Bytes of entries that are there.
    live: u64,
    finished: bool,
}

impl Appender {
    /// Begins a new file. `mark` was never used before.
    pub(crate) fn create(files: &Files, mark: [u8; MARK]) -> Result<Self, CopyError> {
        let number = files.free_records()?;
        let path = files.records(number);
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(CopyError::file("create", &path))?;
        let appender = Self {
            file,
            number,
            mark,
            before: None,
            written: 0,
            pending: [MAGIC, mark.as_slice()].concat(),
            live: 0,
            finished: false,
            path,
        };
        // Nobody reads it before it is complete.
        appender.open_to(0o600)?;
        Ok(appender)
    }

    /// Goes on behind the end of a finished generation.
    pub(crate) fn after(records: &Records) -> Result<Self, CopyError> {
        let path = records.path().to_owned();
        let file = File::options().read(true).write(true).open(&path);
        let file = file.map_err(CopyError::file("open", &path))?;
        let appender = Self {
            number: records.number(),
            mark: records.mark(),
            before: Some(records.end()),
            written: records.end(),
            pending: Vec::new(),
            live: records.live(),
            finished: false,
            file,
            path,
        };
        // What lies behind it was left by a writer that was killed.
        appender.cut(records.end())?;
        Ok(appender)
    }

    /// Moves the entries of `next` from the file that they are in to a new one.
    pub(crate) fn moved(files: &Files, mark: [u8; MARK], next: &Connection, from: &Records) -> Result<Self, CopyError> {
        let mut appender = Self::create(files, mark)?;
        let mut places: Vec<(i64, i64)> = Vec::new();
        {
            let mut select = next.prepare("SELECT id, place FROM entries ORDER BY key")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                places.push((row.get(0)?, row.get(1)?));
            }
        }
        let mut update = next.prepare("UPDATE entries SET place = ?2 WHERE id = ?1")?;
        for (id, place) in places {
            let place = Place::of_number(place);
            let mut bytes = vec![0; place.length()];
            from.read_at(&mut bytes, place.offset())?;
            let parts = Parts::read(&bytes, id).ok_or_else(|| from.damaged(place.offset()))?;
            let mut large = Vec::new();
            for one in parts.large() {
                large.extend_from_slice(&from.large(place, &one)?);
            }
            let length = bytes.len();
            bytes.extend_from_slice(&large);
            let place = appender.take(length, |out| out.extend_from_slice(&bytes))?;
            update.execute(params![id, place.number()])?;
        }
        Ok(appender)
    }

    /// Writes an entry behind all others.
    pub(crate) fn append(&mut self, fields: &Fields<'_>) -> Result<Place, CopyError> {
        let start = self.pending.len();
        let too_large = || CopyError::TooLarge(fields.dn.to_owned());
        let length = put(&mut self.pending, fields).ok_or_else(too_large)?;
        let place = Place::new(self.written + start as u64, length).ok_or_else(too_large)?;
        self.taken(start)?;
        Ok(place)
    }

    fn take(&mut self, length: usize, write: impl FnOnce(&mut Vec<u8>)) -> Result<Place, CopyError> {
        let start = self.pending.len();
        write(&mut self.pending);
        let place = Place::new(self.written + start as u64, length);
        self.taken(start)?;
        place.ok_or_else(|| CopyError::TooLarge(self.path.display().to_string()))
    }

    fn taken(&mut self, start: usize) -> Result<(), CopyError> {
        self.live += (self.pending.len() - start) as u64;
        if self.pending.len() >= PIECE {
            self.write()?;
        }
        Ok(())
    }

    /// An entry of that many bytes is there no longer.
    pub(crate) fn forget(&mut self, size: u64) {
        self.live = self.live.saturating_sub(size);
    }

    fn write(&mut self) -> Result<(), CopyError> {
        self.file
            .write_all_at(&self.pending, self.written)
            .map_err(CopyError::file("write", &self.path))?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Brings everything to disk, and tells the database where it is.
    pub(crate) fn finish(&mut self, connection: &Connection) -> Result<(), CopyError> {
        let nothing = self.before == Some(self.written) && self.pending.is_empty();
        self.write()?;
        layout::set(connection, meta::RECORDS, self.number)?;
        layout::set(connection, meta::RECORDS_MARK, self.mark.as_slice())?;
        layout::set(
            connection,
            meta::RECORDS_END,
            i64::try_from(self.written).unwrap_or(i64::MAX),
        )?;
        layout::set(
            connection,
            meta::RECORDS_LIVE,
            i64::try_from(self.live).unwrap_or(i64::MAX),
        )?;
        if nothing {
            return Ok(());
        }
        let sync = || {
            self.file.sync_all()?;
            // Its name too is there before the one that names it.
            match self.before {
                None => File::open(folder_of(&self.path))?.sync_all(),
                Some(_) => Ok(()),
            }
        };
        self.open_to(0o640)?;
        sync().map_err(CopyError::file("sync", &self.path))
    }

    /// The generation is in place.
    pub(crate) fn keep(&mut self) {
        self.finished = true;
    }

    /// Is it a file of its own, and not that of the generation before?
    pub(crate) fn is_new(&self) -> bool {
        self.before.is_none()
    }

    pub(crate) fn number(&self) -> i64 {
        self.number
    }

    fn open_to(&self, mode: u32) -> Result<(), CopyError> {
        let set = self.file.set_permissions(Permissions::from_mode(mode));
        set.map_err(CopyError::file("close", &self.path))
    }

    fn cut(&self, end: u64) -> Result<(), CopyError> {
        let longer = || Ok::<_, io::Error>(self.file.metadata()?.len() > end);
        let cut = longer().and_then(|longer| if longer { self.file.set_len(end) } else { Ok(()) });
        cut.map_err(CopyError::file("cut", &self.path))
    }
}

impl Source for Appender {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), CopyError> {
        self.within(offset, bytes.len())?;
        // A record is pending as a whole or not at all.
        match offset
            .checked_sub(self.written)
            .and_then(|start| usize::try_from(start).ok())
        {
            Some(start) => {
                let held = self.pending.get(start..start + bytes.len());
                bytes.copy_from_slice(held.ok_or_else(|| self.damaged(offset))?);
                Ok(())
            }
            None => self
                .file
                .read_exact_at(bytes, offset)
                .map_err(CopyError::file("read", &self.path)),
        }
    }

    fn damaged(&self, offset: u64) -> CopyError {
        CopyError::Damaged {
            path: self.path.clone(),
            offset,
        }
    }

    fn within(&self, at: u64, length: usize) -> Result<(), CopyError> {
        let end = self.written + self.pending.len() as u64;
        match at.checked_add(length as u64) {
            Some(asked) if asked <= end && at >= START => Ok(()),
            _ => Err(self.damaged(at)),
        }
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // What cannot be taken away now the next writer takes away.
        match self.before {
            Some(end) => drop(self.cut(end)),
            None => drop(std::fs::remove_file(&self.path)),
        }
    }
}
