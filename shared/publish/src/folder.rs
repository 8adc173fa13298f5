//! A folder of files that are published whole: the tenant's, which anybody may serve, and the state's.

use std::fmt::Debug;
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use dirless_seal::{Digest, Label, VerifyingKey};
use dirless_wire::trust::ReceiptReply;
use jiff::Timestamp;

use super::paths;

/// Files by their paths. Paths have `/` between their parts, which are labels, digests and numbers alone.
/// Every file is whole or absent whatever happens, and what was written stays written.
pub trait Folder: Debug + Send + Sync {
    /// The file at `path`; `None` when there is none.
    ///
    /// # Errors
    /// When it is longer than `most` bytes or cannot be read.
    fn get(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>>;

    /// Is there a file at `path`?
    ///
    /// # Errors
    /// When that cannot be told.
    fn has(&self, path: &str) -> io::Result<bool>;

    /// Writes files that never change. One that is there already is left as it is, whatever it holds.
    ///
    /// # Errors
    /// When one cannot be written; those before it may have been.
    fn create(&self, files: &[(String, Vec<u8>)]) -> io::Result<()>;

    /// Writes a file in place of the one at `path`.
    ///
    /// # Errors
    /// When it cannot be written; the old one is still there then.
    fn replace(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// The names in the folder at `path`, in order; none when there is no such folder.
    ///
    /// # Errors
    /// When it cannot be read.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;

    /// Is anything in the folder at `path`?
    ///
    /// # Errors
    /// When it cannot be read.
    fn has_any(&self, path: &str) -> io::Result<bool> {
        Ok(!self.list(path)?.is_empty())
    }

    /// Removes the file at `path`, if there is one.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Is told that what was read at `path`, which others brought, was checked and holds: a copy may have it.
    fn vouch(&self, _path: &str, _bytes: &[u8]) {}

    /// Keeps others of this program out until what is returned is dropped.
    ///
    /// # Errors
    /// When it cannot.
    fn lock(&self) -> io::Result<Box<dyn Debug + Send>>;

    /// The join requests that wait, by code and by their own digests; no more than `most`.
    ///
    /// # Errors
    /// When they cannot be read.
    fn mailbox(&self, most: usize) -> io::Result<Vec<(Label, Digest)>> {
        let mut all = Vec::new();
        for code in self.list(paths::JOIN)? {
            let Ok(code) = code.parse::<Label>() else { continue };
            let waiting = self.list(&paths::mailbox(&code))?;
            all.extend(
                waiting
                    .iter()
                    .filter_map(|name| Some((code.clone(), name.parse().ok()?))),
            );
        }
        all.truncate(most);
        Ok(all)
    }

    /// Who may ask the server of these files, if there is one that asks who asks.
    fn registry(&self) -> Option<&dyn Registry> {
        None
    }

    /// What went wrong beside what was asked for, told once.
    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Who may ask a backend for a tenant's files. Each call may be made again.
pub trait Registry: Debug {
    /// Lets hosts put requests into the mailbox that present a bearer with this digest, until `expires`, so many of them.
    ///
    /// # Errors
    /// When it cannot be registered.
    fn register_code(&self, code: &Label, bearer: Digest, expires: Timestamp, uses: u32) -> io::Result<()>;

    /// Lets nobody come with `code` any more.
    ///
    /// # Errors
    /// When that cannot be said.
    fn end_code(&self, code: &Label) -> io::Result<()>;

    /// Lets a host read.
    ///
    /// # Errors
    /// When it cannot be registered.
    fn register_node(&self, key: &VerifyingKey) -> io::Result<()>;

    /// Lets a publisher write.
    ///
    /// # Errors
    /// When it cannot be registered.
    fn register_publisher(&self, key: &VerifyingKey) -> io::Result<()>;

    /// Refuses the key called `id` (`NAME+HASH`) from now on.
    ///
    /// # Errors
    /// When that cannot be said.
    fn end_key(&self, id: &str) -> io::Result<()>;

    /// The last receipt of each node, as the backend has it.
    ///
    /// # Errors
    /// When they cannot be read.
    fn receipts(&self) -> io::Result<Vec<ReceiptReply>>;
}

/// A folder on a disk.
#[derive(Clone, Debug)]
pub struct DiskFolder {
    root: PathBuf,
    file_mode: u32,
    folder_mode: u32,
}

impl DiskFolder {
    /// One that only its owner reads.
    #[must_use]
    pub fn private(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            file_mode: 0o600,
            folder_mode: 0o700,
        }
    }

    /// One that everybody reads: nothing in it is secret.
    #[must_use]
    pub fn public(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            file_mode: 0o644,
            folder_mode: 0o755,
        }
    }

    /// Where `path` is, and no farther than the folder.
    fn at(&self, path: &str) -> io::Result<PathBuf> {
        let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\\');
        if path.split('/').all(plain) {
            Ok(self.root.join(path))
        } else {
            let error = format!("{path:?} is no path of such a file");
            Err(io::Error::new(io::ErrorKind::InvalidInput, error))
        }
    }

    /// The folder of the file at `at`, made if need be; its parents too, each with the mode.
    fn make_parent(&self, at: &Path) -> io::Result<PathBuf> {
        let parent = at.parent().unwrap_or(&self.root).to_owned();
        let missing: Vec<&Path> = parent
            .ancestors()
            .take_while(|folder| folder.starts_with(&self.root) && !folder.exists())
            .collect();
        for folder in missing.iter().rev() {
            dirless_program::fs::ensure_folder(folder, self.folder_mode).map_err(|error| tell(folder, error))?;
            let above = folder.parent().unwrap_or(folder);
            sync(above).map_err(|error| tell(above, error))?;
        }
        Ok(parent)
    }

    /// Writes `bytes` at `at` unless something is there. The folder is not synced yet.
    fn create_one(&self, at: &Path, parent: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut aside = tempfile::Builder::new()
            .prefix(".publish-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(parent)?;
        aside.write_all(bytes)?;
        aside
            .as_file()
            .set_permissions(Permissions::from_mode(self.file_mode))?;
        aside.as_file().sync_all()?;
        match aside.persist_noclobber(at) {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error.error),
        }
    }
}

fn tell(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl Folder for DiskFolder {
    fn get(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let at = self.at(path)?;
        let file = match File::open(&at) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(tell(&at, error)),
        };
        let mut bytes = Vec::new();
        let length = file
            .take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| tell(&at, error))?;
        if length as u64 > most {
            let error = format!("it is longer than the {most} bytes that such a file may have");
            return Err(tell(&at, io::Error::new(io::ErrorKind::FileTooLarge, error)));
        }
        Ok(Some(bytes))
    }

    fn has(&self, path: &str) -> io::Result<bool> {
        let at = self.at(path)?;
        at.try_exists().map_err(|error| tell(&at, error))
    }

    fn create(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        let mut parents = std::collections::BTreeSet::new();
        for (path, bytes) in files {
            let at = self.at(path)?;
            let parent = self.make_parent(&at)?;
            if !at.exists() {
                self.create_one(&at, &parent, bytes).map_err(|error| tell(&at, error))?;
            }
            parents.insert(parent);
        }
        // Once for all of them: a thousand wraps lie in one folder.
        parents.iter().try_for_each(|parent| sync(parent))
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let at = self.at(path)?;
        self.make_parent(&at)?;
        dirless_program::fs::publish(&at, self.file_mode, bytes).map_err(|error| tell(&at, error))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let at = self.at(path)?;
        let entries = match std::fs::read_dir(&at) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(tell(&at, error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            // What is being written has a name that begins with a dot.
            if let Ok(name) = entry?.file_name().into_string()
                && !name.starts_with('.')
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let at = self.at(path)?;
        dirless_program::fs::remove(&at).map_err(|error| tell(&at, error))
    }

    fn lock(&self) -> io::Result<Box<dyn Debug + Send>> {
        let at = self.root.join(".lock");
        self.make_parent(&at)?;
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(&at);
        let file = file.map_err(|error| tell(&at, error))?;
        file.lock().map_err(|error| tell(&at, error))?;
        Ok(Box::new(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(path: &str, bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
        vec![(path.to_owned(), bytes.to_vec())]
    }

    #[test]
    fn what_is_immutable_keeps_its_first_bytes_and_the_rest_is_replaced() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = DiskFolder::public(&temporary.path().join("tenant"));
        folder.create(&all("wrap/all/1/n1", b"one")).unwrap();
        folder.create(&all("wrap/all/1/n1", b"two")).unwrap();
        assert_eq!(folder.get("wrap/all/1/n1", 10).unwrap().unwrap(), b"one");
        folder.replace("head/a", b"one").unwrap();
        folder.replace("head/a", b"two").unwrap();
        assert_eq!(folder.get("head/a", 3).unwrap().unwrap(), b"two");
        assert!(folder.get("head/a", 2).is_err());
        assert_eq!(folder.list("wrap/all/1").unwrap(), ["n1"]);
        assert!(folder.list("wrap/none").unwrap().is_empty() && !folder.has("head/b").unwrap());
        folder.remove("head/a").unwrap();
        folder.remove("head/a").unwrap();
        assert!(folder.get("head/a", 9).unwrap().is_none());
    }

    #[test]
    fn modes_are_those_of_the_folder_and_no_path_leaves_it() {
        let temporary = tempfile::tempdir().unwrap();
        let mode = |path: &str| {
            std::fs::metadata(temporary.path().join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        let (public, private) = (temporary.path().join("t"), temporary.path().join("s"));
        DiskFolder::public(&public).create(&all("blob/x", b"")).unwrap();
        DiskFolder::private(&private).replace("book/x.json", b"").unwrap();
        assert_eq!((mode("t/blob/x"), mode("t/blob")), (0o644, 0o755));
        assert_eq!(
            (mode("s/book/x.json"), mode("s/book"), mode("s")),
            (0o600, 0o700, 0o700)
        );
        for path in ["../x", "/etc/passwd", "a//b", "", "a/..", ".lock"] {
            assert!(DiskFolder::public(&public).get(path, 9).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_lock_keeps_others_out_until_it_is_dropped() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = DiskFolder::private(temporary.path());
        let held = folder.lock().unwrap();
        let other = File::options()
            .write(true)
            .open(temporary.path().join(".lock"))
            .unwrap();
        assert!(other.try_lock().is_err());
        drop(held);
        assert!(other.try_lock().is_ok());
    }
}
