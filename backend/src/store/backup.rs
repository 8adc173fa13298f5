//! Backups while serving, and putting one back while nobody serves.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use dirless_program::fs as published;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, backup::Backup};

use super::lock::Lock;
use super::types::{millis, timestamp};
use super::verify::verify_file;
use super::{Purpose, StoreError, Verification, schema};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The copy did not pass the check, so it was not published.
    #[error("the copy is damaged, so {path} was not written; run `dirless-backend verify`; the first problem: {first}")]
    Damaged {
        /// Where the backup would have been.
        path: PathBuf,
        /// The first problem.
        first: String,
    },
}

/// Why nothing was restored. The store is as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The store is in use, or a file cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The backup did not pass the check.
    #[error("{path} is no usable backup: {first}; take another one")]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// The first problem.
        first: String,
    },
    /// The store has writes that the backup does not.
    #[error(
        "the store has writes up to {store}, the backup only up to {backup}: restoring would lose them; to do it all the same add --discard-newer"
    )]
    WouldLose {
        /// Time of the store's last write.
        store: Timestamp,
        /// Time of the backup's last write.
        backup: Timestamp,
    },
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the check of the backup saw.
    pub verification: Verification,
    /// Where the store that was there before is kept; `None` when there was none.
    pub kept_aside: Option<PathBuf>,
}

/// Copies the store in `folder` to `file` while it may be written to, checks the copy, and
/// publishes it whole with mode 0600. A file that is there is replaced. Blocks.
///
/// # Errors
/// When the store cannot be read, the file not written, or the copy is damaged.
pub fn backup(folder: &Path, file: &Path) -> Result<Verification, BackupError> {
    // As a console: not beside a restore.
    let _lock = Lock::take(folder, Purpose::Console)?;
    let database = folder.join(schema::DATABASE);
    std::fs::metadata(&database).map_err(|error| StoreError::file(&database, error))?;
    let aside = aside_in(parent(file)?)?;
    copy_database(&database, aside.path())?;
    let verification = verify_file(aside.path())?;
    if let Some(first) = verification.problems.first() {
        return Err(BackupError::Damaged {
            path: file.to_owned(),
            first: first.to_string(),
        });
    }
    publish(aside, file)?;
    Ok(verification)
}

/// Puts the backup in `file` in the place of the store in `folder`. It is copied and checked
/// first; the store that was there is kept aside in the folder. `now` names the one kept. Blocks.
///
/// # Errors
/// [`StoreError::InUse`] while anyone has the store open; [`RestoreError::Damaged`];
/// [`StoreError::NewerSchema`] for a backup of a newer program; [`RestoreError::WouldLose`] unless
/// `discard_newer`.
pub fn restore(folder: &Path, file: &Path, discard_newer: bool, now: Timestamp) -> Result<Restored, RestoreError> {
    published::ensure_folder(folder, 0o700).map_err(|error| StoreError::file(folder, error))?;
    let _lock = Lock::alone(folder)?;
    let at_file = |error| StoreError::file(file, error);
    let aside = aside_in(folder)?;
    let mut source = File::open(file).map_err(at_file)?;
    let mut target = aside.as_file();
    io::copy(&mut source, &mut target).map_err(|error| StoreError::file(folder, error))?;
    let verification = check(aside.path(), file)?;
    let database = folder.join(schema::DATABASE);
    if !discard_newer {
        refuse_loss(&database, aside.path())?;
    }
    let kept_aside = keep_aside(folder, &database, now)?;
    publish(aside, &database)?;
    Ok(Restored {
        verification,
        kept_aside,
    })
}

fn check(copy: &Path, file: &Path) -> Result<Verification, RestoreError> {
    let damaged = |first: String| RestoreError::Damaged {
        path: file.to_owned(),
        first,
    };
    let verification = match verify_file(copy) {
        Ok(verification) => verification,
        Err(StoreError::NewerSchema { found, known, .. }) => {
            return Err(RestoreError::Store(StoreError::NewerSchema {
                path: file.to_owned(),
                found,
                known,
            }));
        }
        Err(StoreError::Corrupt { what }) => return Err(damaged(what)),
        Err(error @ (StoreError::DiskFull | StoreError::File { .. })) => return Err(error.into()),
        Err(error) => return Err(damaged(error.to_string())),
    };
    if verification.schema == 0 {
        return Err(damaged("it holds no Dirless database".into()));
    }
    match verification.problems.first() {
        Some(first) => Err(damaged(first.to_string())),
        None => Ok(verification),
    }
}

fn refuse_loss(database: &Path, backup: &Path) -> Result<(), RestoreError> {
    // A store that is missing or cannot be read has nothing to lose.
    let (Some(store), Some(backup)) = (last_write(database), last_write(backup)) else {
        return Ok(());
    };
    if store > backup {
        return Err(RestoreError::WouldLose {
            store: timestamp(store)?,
            backup: timestamp(backup)?,
        });
    }
    Ok(())
}

fn last_write(database: &Path) -> Option<i64> {
    database.exists().then_some(())?;
    let connection = schema::open_reader(database).ok()?;
    let newest = connection.query_row("SELECT coalesce(max(at), 0) FROM audit", (), |row| row.get(0));
    newest.ok()
}

/// Gives the present database a second name and takes its write-ahead log out of the way: a log
/// beside a database it does not belong to would damage it.
fn keep_aside(folder: &Path, database: &Path, now: Timestamp) -> Result<Option<PathBuf>, StoreError> {
    let at = |path: &Path, error| StoreError::file(path, error);
    if !database.exists() {
        return Ok(None);
    }
    // Best effort: a readable database takes its log in, a damaged one keeps it beside itself.
    if let Ok(connection) = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE) {
        let _busy_or_done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_row| Ok(()));
    }
    let kept = folder.join(format!("{}.replaced-{}", schema::DATABASE, millis(now)));
    std::fs::hard_link(database, &kept).map_err(|error| at(&kept, error))?;
    let log = with_suffix(database, "-wal");
    if log.exists() {
        let kept_log = with_suffix(&kept, "-wal");
        std::fs::rename(&log, &kept_log).map_err(|error| at(&kept_log, error))?;
    }
    let index = with_suffix(database, "-shm");
    published::remove(&index).map_err(|error| at(&index, error))?;
    Ok(Some(kept))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Copies a database with the engine's backup interface: one consistent state, writers go on.
fn copy_database(database: &Path, target: &Path) -> Result<(), StoreError> {
    let source = schema::open_reader(database)?;
    let mut copy = Connection::open_with_flags(target, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // All pages in one step, hence inside one read transaction; a step of some pages would start
    // anew after each write of the server.
    Backup::new(&source, &mut copy)?.step(-1)?;
    // One file, complete in itself, without a log beside it.
    copy.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get::<_, String>(0))?;
    Ok(())
}

fn parent(file: &Path) -> Result<&Path, StoreError> {
    match file.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(folder) => Ok(folder),
        None => Err(StoreError::file(file, io::Error::from(io::ErrorKind::InvalidInput))),
    }
}

fn aside_in(folder: &Path) -> Result<tempfile::NamedTempFile, StoreError> {
    tempfile::Builder::new()
        .prefix(".aside-")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(|error| StoreError::file(folder, error))
}

fn publish(aside: tempfile::NamedTempFile, path: &Path) -> Result<(), StoreError> {
    let at = |error| StoreError::file(path, error);
    // The engine leaves these behind when it was killed, and while a file is in WAL mode.
    for suffix in ["-wal", "-shm", "-journal"] {
        published::remove(&with_suffix(aside.path(), suffix)).map_err(at)?;
    }
    aside.as_file().sync_all().map_err(at)?;
    aside.persist(path).map_err(|error| at(error.error))?;
    File::open(parent(path)?)
        .and_then(|folder| folder.sync_all())
        .map_err(at)
}
