//! A folder beside that of what a host keeps, in which a join is made ready: the keys and the memory that are there stay in use
//! until it takes their place as a whole.
//!
//! What always holds: whatever breaks off, one of the two is in place, whole. [`clear`] removes what is left of the other.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use dirless_program::fs::{lock_patiently, rename};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::paths::Paths;

/// A join that is made ready. Dropped, it leaves nothing.
#[derive(Debug)]
pub(super) struct Staging {
    places: Places,
    /// Held meanwhile, so that there is one at a time and nobody clears it away.
    _lock: File,
}

/// The three names that a folder of this kind has.
#[derive(Debug)]
struct Places {
    /// In use.
    current: PathBuf,
    /// Made ready; after an exchange the one before.
    fresh: PathBuf,
    /// The one before, for as long as there is none in use.
    before: PathBuf,
}

impl Staging {
    /// An empty folder. The agent's own folder has to be there.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while another join is made ready, and what the disk reports.
    pub(super) fn begin(paths: &Paths) -> io::Result<Self> {
        let lock = File::create(paths.join_lock())?;
        lock_patiently(|| Ok(lock.try_lock()?))?;
        let places = Places::of(paths);
        places.clear()?;
        DirBuilder::new().mode(0o700).create(&places.fresh)?;
        Ok(Self { places, _lock: lock })
    }

    /// Where it is made ready.
    pub(super) fn folder(&self) -> &Path {
        &self.places.fresh
    }

    /// Puts it in the place of what is there, which is removed.
    ///
    /// # Errors
    /// What the disk reports; what was in place is there then.
    pub(super) fn put_in_place(self) -> io::Result<()> {
        self.places.swap()
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = self.places.clear() {
            tracing::warn!(path = %self.places.fresh.display(), %error, "what is left of a join cannot be removed");
        }
    }
}

/// Removes what a join has left that was broken off, unless one is at it now.
///
/// # Errors
/// What the disk reports.
pub(crate) fn clear(paths: &Paths) -> io::Result<()> {
    let places = Places::of(paths);
    if !exists(&places.fresh) && !exists(&places.before) {
        return Ok(());
    }
    let lock = File::create(paths.join_lock())?;
    match lock.try_lock() {
        Ok(()) => places.clear(),
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl Places {
    fn of(paths: &Paths) -> Self {
        let current = paths.trust_folder();
        Self {
            fresh: current.with_extension("joining"),
            before: current.with_extension("before"),
            current,
        }
    }

    fn swap(&self) -> io::Result<()> {
        match renameat_with(CWD, &self.fresh, CWD, &self.current, RenameFlags::EXCHANGE) {
            Ok(()) => sync_above(&self.current),
            Err(rustix::io::Errno::NOENT) => rename(&self.fresh, &self.current),
            // Not every file system can.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => self.replace(),
            Err(error) => Err(error.into()),
        }
    }

    /// In two steps. Between them nothing is in place, and [`Places::clear`] goes back.
    fn replace(&self) -> io::Result<()> {
        rename(&self.current, &self.before)?;
        rename(&self.fresh, &self.current)
    }

    fn clear(&self) -> io::Result<()> {
        if exists(&self.before) {
            // An empty one was made by somebody who found none.
            match std::fs::remove_dir(&self.current) {
                Ok(()) => rename(&self.before, &self.current)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => rename(&self.before, &self.current)?,
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => remove(&self.before)?,
                Err(error) => return Err(error),
            }
        }
        remove(&self.fresh)
    }
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// Removes a folder with all that is in it; that it was not there is no error.
fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => sync_above(folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_above(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A host whose folder holds this key.
    fn host(key: &str) -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        crate::daemon::prepare(&paths).unwrap();
        fs::write(paths.trust_folder().join("node.key"), key).unwrap();
        (root, paths)
    }

    fn key(paths: &Paths) -> String {
        fs::read_to_string(paths.trust_folder().join("node.key")).unwrap_or_default()
    }

    /// The folders beside that of the host's keys.
    fn leftovers(paths: &Paths) -> usize {
        let names = fs::read_dir(paths.agent_folder()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("trust.")).count()
    }

    fn staged(paths: &Paths) -> Staging {
        let staging = Staging::begin(paths).unwrap();
        fs::write(staging.folder().join("node.key"), "new").unwrap();
        staging
    }

    #[test]
    fn what_is_made_ready_takes_the_place_as_a_whole_or_leaves_nothing() {
        let (_root, paths) = host("old");
        drop(staged(&paths));
        assert_eq!((key(&paths).as_str(), leftovers(&paths)), ("old", 0));
        staged(&paths).put_in_place().unwrap();
        assert_eq!((key(&paths).as_str(), leftovers(&paths)), ("new", 0));
        let mode = fs::metadata(paths.trust_folder()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        fs::remove_dir_all(paths.trust_folder()).unwrap();
        staged(&paths).put_in_place().unwrap();
        assert_eq!((key(&paths).as_str(), leftovers(&paths)), ("new", 0));
    }

    #[test]
    fn one_that_broke_off_is_cleared_away_and_one_at_work_is_not() {
        let (_root, paths) = host("old");
        let staging = staged(&paths);
        let error = Staging::begin(&paths).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        crate::daemon::prepare(&paths).unwrap();
        assert_eq!(leftovers(&paths), 1);
        drop(staging);
        // Its process died, before or after the exchange.
        fs::create_dir(Places::of(&paths).fresh).unwrap();
        crate::daemon::prepare(&paths).unwrap();
        assert_eq!((key(&paths).as_str(), leftovers(&paths)), ("old", 0));
    }

    #[test]
    fn where_folders_cannot_be_exchanged_every_step_can_be_the_last() {
        let (_root, paths) = host("old");
        let places = Places::of(&paths);
        let fresh = || {
            fs::create_dir(&places.fresh).unwrap();
            fs::write(places.fresh.join("node.key"), "new").unwrap();
        };
        for is_made_again in [false, true] {
            fresh();
            fs::rename(&places.current, &places.before).unwrap();
            if is_made_again {
                fs::create_dir(&places.current).unwrap();
            }
            crate::daemon::prepare(&paths).unwrap();
            assert_eq!((key(&paths).as_str(), leftovers(&paths)), ("old", 0));
        }
        fresh();
        places.replace().unwrap();
        assert_eq!(leftovers(&paths), 1);
        crate::daemon::prepare(&paths).unwrap();
        assert_eq!((key(&paths).as_str(), leftovers(&paths)), ("new", 0));
    }
}
