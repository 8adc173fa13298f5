//! Publishing files whole: readers see the old content or the new one, also after power loss.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Writes `path` through `fill`: aside in the same folder with `mode`, then fsync, rename, and
/// fsync of the folder. On any error the old file stays and the half-written one is removed.
///
/// # Errors
/// What `fill` or the file system reports.
pub fn publish_with(path: &Path, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let folder = parent(path)?;
    let mut aside = tempfile::Builder::new()
        .prefix(".publish-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    fill(aside.as_file_mut())?;
    aside.as_file().set_permissions(Permissions::from_mode(mode))?;
    aside.as_file().sync_all()?;
    aside.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// [`publish_with`] for bytes at hand.
///
/// # Errors
/// What the file system reports.
pub fn publish(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    publish_with(path, mode, |file| file.write_all(bytes))
}

/// Removes `path` durably; that it was not there is no error.
///
/// # Errors
/// What the file system reports.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_folder(parent(path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives `from` the name `to` in the same folder, durably.
///
/// # Errors
/// What the file system reports.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_folder(parent(to)?)
}

/// Are these two names of one file? Not when either is not there.
#[must_use]
pub fn same(one: &Path, other: &Path) -> bool {
    match (std::fs::metadata(one), std::fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// How long [`lock_patiently`] tries.
const PATIENCE: Duration = Duration::from_millis(500);

/// Takes a lock by `attempt`, which does not wait: again for half a second while somebody else has it.
///
/// That may be this very process, a moment after it gave the lock back: a child that another thread starts holds all open
/// files until it runs its own program.
///
/// # Errors
/// What `attempt` says; `WouldBlock` when the lock stays somebody else's.
pub fn lock_patiently(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

/// Makes `folder` and what is missing above it, and gives `folder` itself exactly `mode`.
///
/// # Errors
/// What the file system reports.
pub fn ensure_folder(folder: &Path, mode: u32) -> io::Result<()> {
    // What lies above is shared with others and gets the usual mode, not a private one.
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(folder)?;
    std::fs::set_permissions(folder, Permissions::from_mode(mode))
}

fn parent(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(folder) => Ok(folder),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} has no folder", path.display()),
        )),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn publishing_sets_mode_and_content_and_leaves_nothing_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table");
        publish(&path, 0o644, b"one").unwrap();
        publish(&path, 0o600, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_private_folder_leaves_those_above_it_open() {
        let top = tempfile::tempdir().unwrap();
        let (above, folder) = (top.path().join("dirless"), top.path().join("dirless/agent"));
        ensure_folder(&folder, 0o700).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&folder), 0o700);
        std::fs::create_dir(top.path().join("usual")).unwrap();
        assert_eq!(mode(&above), mode(&top.path().join("usual")));
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table");
        publish(&path, 0o644, b"one").unwrap();
        let failed = publish_with(&path, 0o644, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn removing_what_is_not_there_is_fine_and_folders_get_their_mode() {
        let folder = tempfile::tempdir().unwrap();
        remove(&folder.path().join("absent")).unwrap();
        let inner = folder.path().join("a/b");
        ensure_folder(&inner, 0o700).unwrap();
        assert_eq!(std::fs::metadata(&inner).unwrap().mode() & 0o777, 0o700);
    }
}
