//! Putting a table in place, whole: written aside in the same folder, synced, the old one marked
//! superseded, renamed over it, folder synced.
//!
//! The old file is marked before the rename. A reader that looks between the two finds the marked file
//! again, keeps it and looks again a moment later; were it the other way round, a publisher that died
//! in between would leave every running process on the old table for ever.

use crate::error::{OpenError, WriteError};
use crate::format::{HEADER_LEN, Header, MAX_LEN, SUPERSEDED_AT};
use crate::reader::TableStats;
use crate::writer::{TableBuilder, TableMeta};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Writes a table through `fill` and puts it in place at `path` with mode 0644. Publishers exclude each
/// other by a lock on the folder. On any error the old table stays.
///
/// # Errors
/// What `fill` returns, or why the file could not be written and renamed.
pub fn publish<E: From<WriteError>>(
    path: &Path,
    meta: TableMeta,
    fill: impl FnOnce(&mut TableBuilder<&File>) -> Result<(), E>,
) -> Result<TableStats, E> {
    let pending = Pending::new(path)?;
    let mut builder = TableBuilder::new(&pending.file, meta)?;
    fill(&mut builder)?;
    let (_, stats) = builder.finish()?;
    pending.put_in_place(path)?;
    Ok(stats)
}

/// Puts a table that was built in memory in place, as [`publish`] does.
///
/// # Errors
/// When the bytes are no table, or the file could not be written and renamed.
pub fn publish_bytes(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let len = bytes.len() as u64;
    let header = bytes.first_chunk::<HEADER_LEN>().filter(|_| len <= MAX_LEN);
    let header = header.ok_or(WriteError::NotATable(OpenError::Size { found: len }))?;
    Header::decode(header, len).map_err(WriteError::NotATable)?;
    let pending = Pending::new(path)?;
    (&pending.file)
        .write_all(bytes)
        .map_err(WriteError::io("writing the table"))?;
    pending.put_in_place(path)
}

/// A file beside its later place; removed again unless it got there.
struct Pending {
    folder: File,
    file: File,
    aside: PathBuf,
    placed: bool,
}

impl Pending {
    fn new(path: &Path) -> Result<Self, WriteError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(WriteError::Io {
                doing: "reading the table's path",
                source: ErrorKind::InvalidInput.into(),
            });
        };
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        let folder = File::open(parent).map_err(WriteError::io("opening the table's folder"))?;
        folder.lock().map_err(WriteError::io("locking the table's folder"))?;
        let mut aside = name.to_os_string();
        aside.push(".new");
        let aside = parent.join(aside);
        // Left by a publisher that died; we hold the lock, so nobody is writing it.
        match std::fs::remove_file(&aside) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(WriteError::io("removing an unfinished table")(error));
            }
            _ => {}
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&aside);
        let file = file.map_err(WriteError::io("creating the new table"))?;
        Ok(Self {
            folder,
            file,
            aside,
            placed: false,
        })
    }

    fn put_in_place(mut self, path: &Path) -> Result<(), WriteError> {
        // Whatever the umask says: every process on the host reads it.
        let mode = Permissions::from_mode(0o644);
        self.file
            .set_permissions(mode)
            .map_err(WriteError::io("setting the new table's mode"))?;
        self.file.sync_all().map_err(WriteError::io("syncing the new table"))?;
        mark_superseded(path).map_err(WriteError::io("marking the old table as superseded"))?;
        std::fs::rename(&self.aside, path).map_err(WriteError::io("renaming the new table into place"))?;
        self.placed = true;
        self.folder
            .sync_all()
            .map_err(WriteError::io("syncing the table's folder"))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.placed {
            // Nothing more can be done about a leftover here; the next publisher removes it.
            let _ = std::fs::remove_file(&self.aside);
        }
    }
}

/// Tells the processes that have the old file mapped that it is being replaced. Anything that is no
/// regular file with a header is nobody's mapping.
fn mark_superseded(path: &Path) -> std::io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() >= HEADER_LEN as u64 => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let old = OpenOptions::new()
        .write(true)
        .custom_flags(crate::map::O_NOFOLLOW)
        .open(path)?;
    old.write_all_at(&1u32.to_le_bytes(), SUPERSEDED_AT as u64)
}
