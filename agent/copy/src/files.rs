//! The two files that take turns, and the flat files beside them.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::records::Records;
use crate::{CopyError, layout};

/// Pages that one connection keeps, in KiB: a reader's are mapped, a writer's are few.
const CACHE_KIB: i64 = 4096;
/// Stands between the copy's name and the number of a flat file.
const RECORDS: &str = ".entries-";
/// As much of the file as SQLite maps at most; more than any directory needs.
const MAPPED: i64 = 0x7fff_0000;

/// The places around a copy.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// What readers open.
    pub(crate) current: PathBuf,
    /// The generation before, until the next one is made of it.
    spare: PathBuf,
    /// The next one in the making.
    pub(crate) draft: PathBuf,
}

impl Files {
    pub(crate) fn of(current: &Path) -> Self {
        let beside = |suffix: &str| {
            let mut name = current.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        Self {
            current: current.to_owned(),
            spare: beside(".spare"),
            draft: beside(".new"),
        }
    }

    /// Makes the draft's file: of the spare one when nobody reads it, else of a copy of the current
    /// one, else from nothing. Says whether there is a generation in it.
    pub(crate) fn make_draft(&self, usable: bool) -> Result<bool, CopyError> {
        // What a killed writer left is half a generation.
        remove(&self.draft)?;
        if !usable {
            remove(&self.spare)?;
        } else if self.take_spare().map_err(CopyError::file("reuse", &self.spare))? {
            return Ok(true);
        }
        if usable {
            fs::copy(&self.current, &self.draft).map_err(CopyError::file("copy to", &self.draft))?;
        } else {
            File::create(&self.draft).map_err(CopyError::file("create", &self.draft))?;
        }
        fs::set_permissions(&self.draft, Permissions::from_mode(0o600))
            .map_err(CopyError::file("close", &self.draft))?;
        Ok(usable)
    }

    /// Renames the spare file to the draft, unless somebody reads it or it is the current one too: a
    /// writer killed between link and rename leaves one file with both names.
    fn take_spare(&self) -> io::Result<bool> {
        let file = match File::open(&self.spare) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let (spare, current) = (file.metadata()?, fs::metadata(&self.current)?);
        let same = (spare.dev(), spare.ino()) == (current.dev(), current.ino());
        if same || !self.of_the_group(&self.spare) || file.try_lock().is_err() {
            fs::remove_file(&self.spare)?;
            return Ok(false);
        }
        // From here on it has no name under which readers look for it; those who hold it would have
        // kept the lock from us.
        fs::rename(&self.spare, &self.draft)?;
        Ok(true)
    }

    /// A folder with the set-group-ID bit hands its group, who may read, to files made in it. A file
    /// from before it had the bit has another, and who writes here may lack the right to change that.
    pub(crate) fn of_the_group(&self, path: &Path) -> bool {
        let folder = folder_of(&self.current);
        match (fs::metadata(folder), fs::metadata(path)) {
            (Ok(folder), Ok(file)) => folder.mode() & 0o2000 == 0 || folder.gid() == file.gid(),
            _ => true,
        }
    }

    /// Gives the draft the current one's name, durably. The group may read it.
    pub(crate) fn put_in_place(&self) -> Result<(), CopyError> {
        let place = || {
            let file = File::open(&self.draft)?;
            let folder = folder_of(&self.current);
            file.set_permissions(Permissions::from_mode(0o640))?;
            file.sync_all()?;
            if self.current.exists() {
                match fs::remove_file(&self.spare) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                fs::hard_link(&self.current, &self.spare)?;
            }
            fs::rename(&self.draft, &self.current)?;
            File::open(folder)?.sync_all()
        };
        place().map_err(CopyError::file("put in place", &self.current))
    }

    /// Removes everything: there is no copy here any more.
    pub(crate) fn remove_all(&self) -> Result<(), CopyError> {
        [&self.current, &self.spare, &self.draft]
            .into_iter()
            .try_for_each(|path| remove(path))?;
        self.remove_records(&[])
    }

    /// The flat file of that number.
    pub(crate) fn records(&self, number: i64) -> PathBuf {
        let mut name = self.current.as_os_str().to_owned();
        name.push(format!("{RECORDS}{number}"));
        PathBuf::from(name)
    }

    /// The numbers of the flat files that there are; none where there is no folder.
    fn all_records(&self) -> Result<Vec<i64>, CopyError> {
        let folder = folder_of(&self.current);
        let mut start = self.current.file_name().unwrap_or_default().to_owned();
        start.push(RECORDS);
        let names = || {
            let mut numbers = Vec::new();
            let entries = match fs::read_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(numbers),
                entries => entries?,
            };
            for entry in entries {
                let name = entry?.file_name();
                let number = name.as_bytes().strip_prefix(start.as_bytes());
                let number: Option<i64> = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
                numbers.extend(number.filter(|number| *number >= 0));
            }
            Ok(numbers)
        };
        names().map_err(CopyError::file("read", folder))
    }

    /// A number that no flat file has.
    pub(crate) fn free_records(&self) -> Result<i64, CopyError> {
        let last = self.all_records()?.into_iter().max();
        Ok(last.map_or(1, |last: i64| last.wrapping_add(1).max(1)))
    }

    /// Removes all flat files but these: writers that were killed left them.
    pub(crate) fn remove_records(&self, but: &[i64]) -> Result<(), CopyError> {
        let numbers = self.all_records()?;
        let mut others = numbers.into_iter().filter(|number| !but.contains(number));
        others.try_for_each(|number| remove(&self.records(number)))
    }
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    let named = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    named.unwrap_or(Path::new("."))
}

fn remove(path: &Path) -> Result<(), CopyError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CopyError::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Without this, SQLite plans a statement anew whenever the value of a `LIMIT` changes, which took half
/// the time of a look-up.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map(drop)
}

/// Opens the draft to be written. There is no journal: a draft that is not finished is thrown away.
pub(crate) fn open_draft(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(64);
    keep_plans(&connection)?;
    connection.execute_batch(&format!(
        "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; PRAGMA temp_store=FILE;
         PRAGMA cache_size=-{CACHE_KIB};"
    ))?;
    Ok(connection)
}

/// Opens a finished generation and its flat file.
pub(crate) fn open_generation(path: &Path) -> Result<(Connection, Records), CopyError> {
    let connection = open_finished(path)?;
    let records = Records::open(&connection, path)?;
    Ok((connection, records))
}

/// The number of the flat file that the generation at `path` names, also when it cannot be used.
pub(crate) fn named_by(path: &Path) -> Option<i64> {
    layout::number(&open_finished(path).ok()?, layout::meta::RECORDS).ok()
}

/// Opens the database of a finished generation. It does not change any more, so SQLite needs no locks on it.
fn open_finished(path: &Path) -> Result<Connection, CopyError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri(path), flags)?;
    connection.set_prepared_statement_cache_capacity(32);
    keep_plans(&connection)?;
    connection.execute_batch(&format!(
        "PRAGMA mmap_size={MAPPED}; PRAGMA cache_size=-256; PRAGMA query_only=1;"
    ))?;
    let found = layout::format(&connection)?;
    if found == layout::FORMAT {
        Ok(connection)
    } else {
        Err(CopyError::Format {
            path: path.to_owned(),
            found,
            expected: layout::FORMAT,
        })
    }
}

/// `file:` with everything but plain characters escaped.
fn uri(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri + "?immutable=1"
}
