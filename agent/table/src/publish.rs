//! Putting a table in place, whole: written aside in the same folder, synced, the old one marked
//! superseded, renamed over it, folder synced.
//!
//! The old file is marked before the rename. A reader that looks between the two finds the marked file
//! again, keeps it and looks again a moment later; were it the other way round, a publisher that died
//! in between would leave every running process on the old table for ever.

use crate::draft::{Draft, MODE, create};
use crate::error::{OpenError, WriteError};
use crate::format::{HEADER_LEN, Header, MAX_LEN, SUPERSEDED_AT};
use crate::overlay;
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
    fill: impl FnOnce(&mut TableBuilder<Draft>) -> Result<(), E>,
) -> Result<TableStats, E> {
    let place = Place::new(path)?;
    let mut builder = TableBuilder::new(Draft::new(&place.aside), meta)?;
    fill(&mut builder)?;
    let (draft, stats) = builder.finish()?;
    place.put(&draft.complete()?)?;
    Ok(stats)
}

/// As [`publish`], unless the table in place says the same already: its generation and its time of
/// writing apart, byte for byte. Then nothing is written, and `None` is returned. A table in place that
/// could not be opened, is not `owner`'s, is damaged, has an overlay or is marked as superseded is replaced.
///
/// # Errors
/// As [`publish`].
pub fn publish_changed<E: From<WriteError>>(
    path: &Path,
    owner: u32,
    meta: TableMeta,
    fill: impl FnOnce(&mut TableBuilder<Draft>) -> Result<(), E>,
) -> Result<Option<TableStats>, E> {
    let place = Place::new(path)?;
    let mut builder = TableBuilder::new(Draft::beside(&place.aside, path, owner), meta)?;
    fill(&mut builder)?;
    let (draft, stats) = builder.finish()?;
    if draft.says_the_same() {
        return Ok(None);
    }
    place.put(&draft.complete()?)?;
    Ok(Some(stats))
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
    let place = Place::new(path)?;
    let mut file = create(&place.aside).map_err(WriteError::io("creating the new table"))?;
    file.write_all(bytes).map_err(WriteError::io("writing the table"))?;
    // Bytes read from a table that was in place may be marked, and ask for an overlay of that one.
    let unmarked = file.write_all_at(&[0; 8], SUPERSEDED_AT as u64);
    unmarked.map_err(WriteError::io("writing the table's header"))?;
    place.put(&file)
}

/// The folder, locked against other publishers, and the file beside the table; that is removed again
/// unless it was put in place.
pub(crate) struct Place<'a> {
    pub(crate) path: &'a Path,
    folder: File,
    pub(crate) aside: PathBuf,
    placed: bool,
}

impl<'a> Place<'a> {
    pub(crate) fn new(path: &'a Path) -> Result<Self, WriteError> {
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
        Ok(Self {
            path,
            folder,
            aside,
            placed: false,
        })
    }

    /// Puts `file`, which [`create`] made aside, in place of the table, whose overlays go with it.
    fn put(mut self, file: &File) -> Result<(), WriteError> {
        prepare(file)?;
        mark_superseded(self.path).map_err(WriteError::io("marking the old table as superseded"))?;
        self.move_to(self.path)?;
        overlay::remove_all(self.path);
        Ok(())
    }

    /// Gives `file`, which [`create`] made aside, its name.
    pub(crate) fn rename(&mut self, file: &File, name: &Path) -> Result<(), WriteError> {
        prepare(file)?;
        self.move_to(name)
    }

    fn move_to(&mut self, name: &Path) -> Result<(), WriteError> {
        std::fs::rename(&self.aside, name).map_err(WriteError::io("renaming the new table into place"))?;
        self.placed = true;
        self.folder
            .sync_all()
            .map_err(WriteError::io("syncing the table's folder"))
    }
}

fn prepare(file: &File) -> Result<(), WriteError> {
    // Whatever the umask says: every process on the host reads it.
    file.set_permissions(Permissions::from_mode(MODE))
        .map_err(WriteError::io("setting the new table's mode"))?;
    file.sync_all().map_err(WriteError::io("syncing the new table"))
}

impl Drop for Place<'_> {
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
