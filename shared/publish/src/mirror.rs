//! A tenant at backends, with a copy in a folder that any file host may serve.
//!
//! What always holds: the backends are asked and written first, and what goes wrong with the copy holds nothing up; a head is
//! put into the copy only when everything that was ever stored is there; a policy, which others bring, only when it holds: what is there
//! stays there, and hosts would ask for nothing else in its place.

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dirless_seal::trust::Memory;
use dirless_seal::{Digest, Label};

use super::backend::BackendFolder;
use super::folder::{DiskFolder, Folder, Registry};
use super::policy::follow;

/// In the state folder, when the copy has everything.
const WHOLE: &str = "mirror-is-whole";
/// Longest object that is copied.
const LONGEST: u64 = 1 << 30;

/// Backends and a copy.
#[derive(Debug)]
pub struct Mirrored {
    backend: Arc<BackendFolder>,
    copy: DiskFolder,
    state: Arc<dyn Folder>,
    policies: Policies,
    troubles: Mutex<Vec<String>>,
}

/// By what policies are checked.
#[derive(Clone, Copy, Debug)]
pub struct Policies {
    /// The tenant.
    pub tenant: Digest,
    /// The fingerprint of its first roots.
    pub roots: Digest,
    /// The version that they signed.
    pub first: u64,
}

impl Mirrored {
    /// What `backend` has, in `copy` as well. That the copy is whole is noted in `state`.
    #[must_use]
    pub fn new(backend: Arc<BackendFolder>, copy: DiskFolder, state: Arc<dyn Folder>, policies: Policies) -> Self {
        Self {
            policies,
            backend,
            copy,
            state,
            troubles: Mutex::default(),
        }
    }

    fn troubles(&self) -> MutexGuard<'_, Vec<String>> {
        // Nothing panics while holding it.
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what went wrong with the copy: from now on something may be missing there.
    fn note(&self, done: io::Result<()>) {
        if let Err(error) = done {
            let told = self.state.remove(WHOLE);
            let mut troubles = self.troubles();
            troubles.push(format!("the copy in the folder is behind: {error}"));
            troubles.extend(told.err().map(|error| error.to_string()));
        }
    }

    /// Puts into the copy what holds, in place of anything else that got there.
    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        match self.copy.has(path)? {
            false => self.copy.create(&[(path.to_owned(), bytes.to_vec())]),
            true if self.copy.get(path, LONGEST)?.as_deref() == Some(bytes) => Ok(()),
            true => {
                let replaced = format!("{path} in the folder was something else than what holds, and was replaced");
                self.troubles().push(replaced);
                self.copy.replace(path, bytes)
            }
        }
    }

    /// Copies the policies that hold.
    fn copy_policies(&self) -> io::Result<()> {
        let Policies { tenant, roots, first } = self.policies;
        let mut copied = Ok(());
        let mut holds = |path: &str, bytes: &[u8]| {
            if copied.is_ok() {
                copied = self.put(path, bytes);
            }
        };
        // The next one that does not hold is told by whoever follows them.
        let followed = follow(
            self,
            first,
            &mut Memory::pinned(tenant, roots),
            &mut holds,
            &mut Vec::new(),
        );
        copied.and(followed.map(drop).map_err(io::Error::other))
    }

    /// Is this a policy that is copied once it was checked?
    fn is_checked(&self, path: &str) -> bool {
        let version = path
            .strip_prefix("policy/")
            .and_then(|version| version.parse::<u64>().ok());
        version.is_some_and(|version| version >= self.policies.first)
    }

    /// Copies whatever the copy lacks. Heads come last.
    fn catch_up(&self) -> io::Result<()> {
        if self.state.has(WHOLE)? {
            return Ok(());
        }
        let (heads, others): (Vec<_>, Vec<_>) = self
            .backend
            .paths("")?
            .into_iter()
            .partition(|path| path.starts_with("head/"));
        self.copy_policies()?;
        for path in others.into_iter().filter(|path| !self.is_checked(path)) {
            // One that was removed meanwhile is named by nothing any more.
            if !self.copy.has(&path)?
                && let Some(bytes) = self.backend.get(&path, LONGEST)?
            {
                self.copy.create(&[(path, bytes)])?;
            }
        }
        for path in heads {
            if let Some(bytes) = self.backend.get(&path, LONGEST)? {
                self.copy.replace(&path, &bytes)?;
            }
        }
        self.state.replace(WHOLE, b"")
    }
}

impl Folder for Mirrored {
    fn get(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        self.backend.get(path, most)
    }

    fn vouch(&self, path: &str, bytes: &[u8]) {
        self.note(self.put(path, bytes));
    }

    fn has(&self, path: &str) -> io::Result<bool> {
        self.backend.has(path)
    }

    fn create(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        self.backend.create(files)?;
        self.note(self.copy.create(files));
        Ok(())
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.backend.replace(path, bytes)?;
        self.note(self.catch_up().and_then(|()| self.copy.replace(path, bytes)));
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.backend.list(path)
    }

    fn has_any(&self, path: &str) -> io::Result<bool> {
        self.backend.has_any(path)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.backend.remove(path)?;
        if !super::backend::is_request(path) {
            self.note(self.copy.remove(path));
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Debug + Send>> {
        self.backend.lock()
    }

    fn mailbox(&self, most: usize) -> io::Result<Vec<(Label, Digest)>> {
        self.backend.mailbox(most)
    }

    fn registry(&self) -> Option<&dyn Registry> {
        self.backend.registry()
    }

    fn troubles(&self) -> Vec<String> {
        std::mem::take(&mut *self.troubles())
    }
}
