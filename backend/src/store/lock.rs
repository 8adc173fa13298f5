//! Who may have the storage folder open: any number of consoles, one server, or one restore alone.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use dirless_program::fs::lock_patiently;
use rustix::fs::{FlockOperation, flock};

use super::{Purpose, StoreError};

/// Locks held for as long as the value lives; the system releases them with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    _users: File,
    _server: Option<File>,
}

impl Lock {
    /// Takes the place of one more user, and for a server that of the only server.
    pub(crate) fn take(folder: &Path, purpose: Purpose) -> Result<Self, StoreError> {
        let users = hold(folder, "users.lock", FlockOperation::NonBlockingLockShared)?;
        let server = match purpose {
            Purpose::Serve => Some(hold(folder, "server.lock", FlockOperation::NonBlockingLockExclusive)?),
            Purpose::Console => None,
        };
        Ok(Self {
            _users: users,
            _server: server,
        })
    }

    /// Makes sure that nobody else has the folder open.
    pub(crate) fn alone(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            _users: hold(folder, "users.lock", FlockOperation::NonBlockingLockExclusive)?,
            _server: None,
        })
    }
}

fn hold(folder: &Path, name: &str, operation: FlockOperation) -> Result<File, StoreError> {
    let path = folder.join(name);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| StoreError::file(&path, error))?;
    match lock_patiently(|| Ok(flock(&file, operation)?)) {
        Ok(()) => Ok(file),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(StoreError::InUse {
            path: folder.to_owned(),
        }),
        Err(error) => Err(StoreError::file(&path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_many_consoles_and_a_restore_alone() {
        let folder = tempfile::tempdir().unwrap();
        let in_use = |taken: Result<Lock, StoreError>| matches!(taken, Err(StoreError::InUse { .. }));
        let server = Lock::take(folder.path(), Purpose::Serve).unwrap();
        let console = Lock::take(folder.path(), Purpose::Console).unwrap();
        assert!(in_use(Lock::take(folder.path(), Purpose::Serve)));
        assert!(in_use(Lock::alone(folder.path())));
        drop(server);
        assert!(in_use(Lock::alone(folder.path())));
        drop(console);
        let alone = Lock::alone(folder.path()).unwrap();
        assert!(in_use(Lock::take(folder.path(), Purpose::Console)));
        drop(alone);
        Lock::take(folder.path(), Purpose::Serve).unwrap();
    }
}
