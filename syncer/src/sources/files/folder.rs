//! Reads the files of a folder, and nothing that is not in it.
//!
//! Whoever may write into the folder (a git remote, say) chooses what stands in it, links included.
//! So no link is followed out of it, no folder is entered through a link, nothing but regular files
//! is opened, and there are bounds on depth, number and size.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

use super::gather::{File, FileError};

/// Folders in folders beyond this are an error.
const DEEPEST: usize = 16;
/// Files beyond this are an error.
const MOST_FILES: usize = 100_000;
/// Files larger than this are refused: a directory of 100,000 people is split into files.
pub(super) const LARGEST: u64 = 16 * 1024 * 1024;
/// What all files may hold together.
const LARGEST_TOGETHER: u64 = 256 * 1024 * 1024;

/// How often a read is tried that something was written under, and how long in between.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// Tells by its path inside a folder whether a file is wanted.
pub type Wanted = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// A folder of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// A file that was found, and what changes when it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Found {
    path: PathBuf,
    mark: (u64, u64, i64, u64, u64),
}

impl Folder {
    /// The folder at `path`. Nothing is read yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What is wrong with a file of this folder, under its whole path.
    #[must_use]
    pub fn place(&self, error: FileError) -> FileError {
        let path = match self.0.is_file() {
            true => self.0.clone(),
            false => self.0.join(&error.path),
        };
        FileError { path, ..error }
    }

    /// [`Folder::read`], again and again for a few seconds while somebody is writing.
    ///
    /// # Errors
    /// As there.
    pub async fn read_at_rest(&self, wanted: Wanted) -> Result<Vec<File>, FileError> {
        let mut left = TRIES;
        loop {
            let (folder, wanted) = (self.clone(), Arc::clone(&wanted));
            // Disks are slow now and then, network ones above all.
            let read = tokio::task::spawn_blocking(move || folder.read(&*wanted)).await;
            match read.map_err(|error| refuse(&self.0, &format!("cannot be read: {error}")))? {
                Err(error) if error.busy && left > 0 => left -= 1,
                done => return done,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads all files that `wanted` names (by their path inside the folder), in the order of their
    /// paths. Hidden files and folders are passed over. A path that is a file itself is that one file.
    ///
    /// # Errors
    /// When one cannot be read, is no regular file or no text, or is too large; when a link leads out
    /// of the folder; when something was written meanwhile or a git command is at work. The paths in
    /// errors are whole.
    pub fn read(&self, wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<File>, FileError> {
        self.not_in_git()?;
        let root = self.open_root()?;
        if FileType::from_raw_mode(stat(&root, &self.0)?.st_mode) == FileType::RegularFile {
            return Ok(vec![File {
                path: self.0.file_name().map(PathBuf::from).unwrap_or_default(),
                text: read(root, &self.0)?,
            }]);
        }
        let found = self.list(&root, wanted)?;
        let (mut files, mut together) = (Vec::with_capacity(found.len()), 0);
        for one in &found {
            let whole = self.0.join(&one.path);
            let text = read(self.open(&root, &one.path, OFlags::NONBLOCK, beneath())?, &whole)?;
            together += text.len() as u64;
            if together > LARGEST_TOGETHER {
                return Err(refuse(&self.0, "its files hold more than 256 MiB; split it"));
            }
            files.push(File {
                path: one.path.clone(),
                text,
            });
        }
        self.not_in_git()?;
        if self.list(&root, wanted)? != found {
            return Err(busy(
                &self.0,
                "files changed while they were read; read again when they rest",
            ));
        }
        Ok(files)
    }

    /// Another number when a file that `wanted` names came, went or was written, and while a git
    /// command is at work. A folder that cannot be read has a number too.
    #[must_use]
    pub fn fingerprint(&self, wanted: &dyn Fn(&Path) -> bool) -> u64 {
        let mut hasher = DefaultHasher::new();
        let found = self.open_root().and_then(|root| {
            let stat = stat(&root, &self.0)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Ok(vec![found(PathBuf::new(), &stat)]),
                _ => self.list(&root, wanted),
            }
        });
        match found {
            Ok(found) => found.hash(&mut hasher),
            Err(error) => (error.path, error.reason).hash(&mut hasher),
        }
        self.not_in_git().is_ok().hash(&mut hasher);
        hasher.finish()
    }

    /// The folder and those in it that hold files, to be watched.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let Ok(root) = self.open_root() else {
            return Vec::new();
        };
        let mut folders = vec![self.0.clone()];
        // Whatever cannot be listed is looked at again when it is read.
        let _ = self.walk(&root, &|_| false, &mut |folder| folders.push(self.0.join(folder)));
        folders
    }

    /// Is a git command at work in it?
    #[must_use]
    pub(super) fn is_busy(&self) -> bool {
        self.not_in_git().is_err()
    }

    /// A checkout or merge holds `index.lock` for as long as files come and go.
    fn not_in_git(&self) -> Result<(), FileError> {
        let locks = self.0.ancestors().map(|above| above.join(".git/index.lock"));
        match locks.into_iter().find(|lock| lock.exists()) {
            None => Ok(()),
            Some(lock) => Err(busy(
                &lock,
                "a git command is at work in this folder; if none is, remove this file",
            )),
        }
    }

    fn open_root(&self) -> Result<OwnedFd, FileError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::open(&self.0, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT => refuse(
                &self.0,
                "it is not there; make it, or correct the path in the configuration",
            ),
            other => refuse(&self.0, &format!("cannot be opened: {other}")),
        })
    }

    fn list(&self, root: &OwnedFd, wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<Found>, FileError> {
        let mut all = self.walk(root, wanted, &mut |_| {})?;
        all.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(all)
    }

    fn walk(
        &self,
        root: &OwnedFd,
        wanted: &dyn Fn(&Path) -> bool,
        entered: &mut dyn FnMut(&Path),
    ) -> Result<Vec<Found>, FileError> {
        let mut all = Vec::new();
        let mut left = vec![(PathBuf::from("."), 0)];
        while let Some((folder, depth)) = left.pop() {
            let whole = self.0.join(&folder);
            if depth > DEEPEST || left.len() > MOST_FILES {
                return Err(refuse(&whole, "folders in folders, deeper or more than is sensible"));
            }
            let opened = self.open(root, &folder, OFlags::DIRECTORY, beneath() | ResolveFlags::NO_SYMLINKS)?;
            let entries = Dir::new(opened).map_err(|error| refuse(&whole, &format!("cannot be read: {error}")))?;
            for entry in entries {
                let entry = entry.map_err(|error| refuse(&whole, &format!("cannot be read: {error}")))?;
                let name = entry.file_name().to_bytes();
                if name.starts_with(b".") {
                    continue;
                }
                let path = tidy(&folder).join(OsStr::from_bytes(name));
                match self.kind(root, &path, entry.file_type(), wanted(&path))? {
                    Kind::Folder => {
                        entered(&path);
                        left.push((path, depth + 1));
                    }
                    Kind::File(stat) => all.push(found(path, &stat)),
                    Kind::Other => {}
                }
            }
            if all.len() > MOST_FILES {
                return Err(refuse(&self.0, "there are more than 100,000 files in it"));
            }
        }
        Ok(all)
    }

    /// What stands at `path`; whatever is not wanted is not looked at any closer than its kind.
    fn kind(&self, root: &OwnedFd, path: &Path, listed: FileType, wanted: bool) -> Result<Kind, FileError> {
        let whole = self.0.join(path);
        if listed == FileType::Directory {
            return Ok(Kind::Folder);
        }
        if !wanted && listed != FileType::Symlink && listed != FileType::Unknown {
            return Ok(Kind::Other);
        }
        let stat = match self.open(root, path, OFlags::PATH, beneath()) {
            Ok(opened) => stat(&opened, &whole)?,
            // A broken link to nowhere in particular, and not one of our files either.
            Err(_) if !wanted => return Ok(Kind::Other),
            Err(error) => return Err(error),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if listed == FileType::Symlink => Err(refuse(
                &whole,
                "it is a link to a folder, whose files would come twice or be somebody else's; put the files here",
            )),
            FileType::Directory => Ok(Kind::Folder),
            FileType::RegularFile if wanted => Ok(Kind::File(stat)),
            _ if wanted => Err(refuse(&whole, "it is no regular file")),
            _ => Ok(Kind::Other),
        }
    }

    fn open(&self, root: &OwnedFd, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, FileError> {
        let whole = self.0.join(path);
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = match openat2(root, path, flags, Mode::empty(), resolve) {
            // Kernels before 5.6.
            Err(Errno::NOSYS) => self.open_by_name(&whole, flags),
            other => other,
        };
        opened.map_err(|error| match error {
            Errno::XDEV | Errno::LOOP => refuse(
                &whole,
                "it is a link that leads out of the folder, or in a circle; put the file here",
            ),
            Errno::NOENT => refuse(&whole, "it went away, or is a link to nowhere"),
            other => refuse(&whole, &format!("cannot be opened: {other}")),
        })
    }

    fn open_by_name(&self, whole: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let real = whole.canonicalize().map_err(errno)?;
        if !real.starts_with(self.0.canonicalize().map_err(errno)?) {
            return Err(Errno::XDEV);
        }
        rustix::fs::open(real, flags | OFlags::NOFOLLOW, Mode::empty())
    }
}

enum Kind {
    Folder,
    File(Stat),
    Other,
}

fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
}

fn tidy(folder: &Path) -> &Path {
    folder.strip_prefix(".").unwrap_or(folder)
}

fn found(path: PathBuf, stat: &Stat) -> Found {
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    Found {
        path,
        mark: (stat.st_ino, size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime_nsec),
    }
}

fn stat(file: &OwnedFd, path: &Path) -> Result<Stat, FileError> {
    fstat(file).map_err(|error| refuse(path, &format!("cannot be looked at: {error}")))
}

fn read(file: OwnedFd, path: &Path) -> Result<String, FileError> {
    if FileType::from_raw_mode(stat(&file, path)?.st_mode) != FileType::RegularFile {
        return Err(refuse(path, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(path, &format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > LARGEST {
        return Err(refuse(path, "it is larger than 16 MiB; split it"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error
            .as_bytes()
            .get(..error.utf8_error().valid_up_to())
            .unwrap_or_default();
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        FileError {
            path: path.to_owned(),
            line: Some(line),
            reason: "there is a byte that is no UTF-8; save the file as UTF-8".to_owned(),
            busy: false,
        }
    })
}

fn refuse(path: &Path, reason: &str) -> FileError {
    FileError {
        path: path.to_owned(),
        line: None,
        reason: reason.to_owned(),
        busy: false,
    }
}

fn busy(path: &Path, reason: &str) -> FileError {
    FileError {
        busy: true,
        ..refuse(path, reason)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn yaml(path: &Path) -> bool {
        path.extension().is_some_and(|ending| ending == "yaml")
    }

    fn names(folder: &Path) -> Result<Vec<String>, String> {
        let files = Folder::new(folder).read(&yaml).map_err(|error| error.to_string())?;
        Ok(files.iter().map(|file| file.path.display().to_string()).collect())
    }

    #[test]
    fn files_come_in_the_order_of_their_paths_and_the_rest_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("b/c")).unwrap();
        std::fs::create_dir_all(at(".git")).unwrap();
        for name in [
            "b/c/x.yaml",
            "a.yaml",
            "b/y.yaml",
            "README.md",
            ".hidden.yaml",
            ".git/x.yaml",
        ] {
            std::fs::write(at(name), name).unwrap();
        }
        symlink("a.yaml", at("inside.yaml")).unwrap();
        symlink("/etc/hostname", at("unwanted")).unwrap();
        assert_eq!(
            names(folder.path()).unwrap(),
            ["a.yaml", "b/c/x.yaml", "b/y.yaml", "inside.yaml"]
        );
        assert_eq!(names(&at("a.yaml")).unwrap(), ["a.yaml"]);
    }

    #[test]
    fn links_out_of_the_folder_folders_by_link_and_what_is_no_file_are_refused() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| folder.path().join(name);
        std::fs::write(outside.path().join("secret.yaml"), "secret").unwrap();
        type Make<'a> = &'a dyn Fn();
        let absolute = || symlink(outside.path().join("secret.yaml"), at("x.yaml")).unwrap();
        let upwards = || symlink("../../../../../../etc/hostname", at("x.yaml")).unwrap();
        let nowhere = || symlink("nowhere", at("x.yaml")).unwrap();
        let round = || symlink("x.yaml", at("x.yaml")).unwrap();
        let by_link = || symlink(".", at("x")).unwrap();
        let a_folder = || symlink(".", at("x.yaml")).unwrap();
        let pipe = || {
            let made = rustix::fs::mknodat(rustix::fs::CWD, at("x.yaml"), FileType::Fifo, Mode::RUSR, 0);
            made.unwrap();
        };
        let binary = || std::fs::write(at("x.yaml"), b"a\nb\n\xff").unwrap();
        let large = || std::fs::write(at("x.yaml"), vec![b'#'; 16 * 1024 * 1024 + 1]).unwrap();
        let cases: [(&str, Make<'_>); 9] = [
            ("leads out", &absolute),
            ("leads out", &upwards),
            ("nowhere", &nowhere),
            ("leads out", &round),
            ("link to a folder", &by_link),
            ("link to a folder", &a_folder),
            ("no regular file", &pipe),
            ("x.yaml:3: there is a byte", &binary),
            ("16 MiB", &large),
        ];
        for (says, make) in cases {
            make();
            let error = names(folder.path()).unwrap_err();
            assert!(error.contains(says) && !error.contains("secret\n"), "{says}: {error}");
            let _ = std::fs::remove_file(at("x.yaml")).or_else(|_| std::fs::remove_file(at("x")));
        }
        assert_eq!(names(folder.path()).unwrap(), Vec::<String>::new());
        assert!(names(&at("nowhere")).unwrap_err().contains("not there"));
    }

    #[test]
    fn nothing_is_read_while_git_works_and_folders_have_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("people")).unwrap();
        std::fs::create_dir_all(at(".git")).unwrap();
        std::fs::write(at(".git/index.lock"), "").unwrap();
        assert!(names(&at("people")).unwrap_err().contains("a git command"));
        std::fs::remove_file(at(".git/index.lock")).unwrap();
        assert!(names(&at("people")).is_ok());
        std::fs::create_dir_all(at(&"d/".repeat(18))).unwrap();
        assert!(names(folder.path()).unwrap_err().contains("folders in folders"));
    }

    #[test]
    fn the_fingerprint_changes_with_every_write_and_with_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let print = || Folder::new(folder.path()).fingerprint(&yaml);
        std::fs::create_dir(at("b")).unwrap();
        std::fs::write(at("a.yaml"), "1").unwrap();
        let mut seen = vec![print()];
        assert_eq!(print(), seen[0]);
        std::fs::write(at("README"), "1").unwrap();
        assert_eq!(print(), seen[0]);
        std::fs::write(at("aside"), "2").unwrap();
        let steps: [&dyn Fn(); 4] = [
            &|| std::fs::rename(at("aside"), at("a.yaml")).unwrap(),
            &|| std::fs::write(at("b/c.yaml"), "1").unwrap(),
            &|| std::fs::remove_file(at("a.yaml")).unwrap(),
            &|| std::fs::remove_dir_all(folder.path()).unwrap(),
        ];
        for step in steps {
            step();
            assert!(!seen.contains(&print()));
            seen.push(print());
        }
    }
}
