//! A tenant's files at a backend, and many hosts at the door that do not post their requests one by one: those are in memory,
//! and who made them was registered before, many at a time. Others come as they do in earnest.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dirless_publish::{BackendFolder, Folder, Registry};
use dirless_seal::{Digest, Label, VerifyingKey};
use dirless_wire::trust::ReceiptReply;
use jiff::Timestamp;

type Mail = BTreeMap<(Label, Digest), Vec<u8>>;

/// The files of a backend behind the doorstep.
#[derive(Debug)]
pub(super) struct Doorstep {
    backend: BackendFolder,
    mail: Mutex<Mail>,
    registered: BTreeSet<Label>,
}

impl Doorstep {
    /// Hosts of these names are registered already.
    pub(super) fn of(backend: BackendFolder, registered: BTreeSet<Label>) -> Self {
        Self {
            backend,
            mail: Mutex::default(),
            registered,
        }
    }

    /// Puts a request into the mailbox.
    pub(super) fn post(&self, code: &Label, sealed: Vec<u8>) {
        self.mail().insert((code.clone(), Digest::of(&sealed)), sealed);
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a request in the mailbox.
fn request(path: &str) -> Option<(Label, Digest)> {
    let (code, digest) = path.strip_prefix("join/")?.split_once('/')?;
    Some((code.parse().ok()?, digest.parse().ok()?))
}

impl Folder for Doorstep {
    fn get(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let found = request(path).and_then(|place| self.mail().get(&place).cloned());
        match found {
            Some(sealed) => Ok(Some(sealed)),
            None => self.backend.get(path, most),
        }
    }

    fn has(&self, path: &str) -> io::Result<bool> {
        self.backend.has(path)
    }

    fn create(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        self.backend.create(files)
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.backend.replace(path, bytes)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.backend.list(path)
    }

    fn has_any(&self, path: &str) -> io::Result<bool> {
        self.backend.has_any(path)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let gone = request(path).and_then(|place| self.mail().remove(&place));
        match gone {
            Some(_) => Ok(()),
            None => self.backend.remove(path),
        }
    }

    fn lock(&self) -> io::Result<Box<dyn std::fmt::Debug + Send>> {
        self.backend.lock()
    }

    fn mailbox(&self, most: usize) -> io::Result<Vec<(Label, Digest)>> {
        let waiting: Vec<_> = self.mail().keys().take(most).cloned().collect();
        if waiting.is_empty() {
            self.backend.mailbox(most)
        } else {
            Ok(waiting)
        }
    }

    fn registry(&self) -> Option<&dyn Registry> {
        Some(self)
    }
}

impl Registry for Doorstep {
    fn register_code(&self, code: &Label, bearer: Digest, expires: Timestamp, uses: u32) -> io::Result<()> {
        self.backend.register_code(code, bearer, expires, uses)
    }

    fn end_code(&self, code: &Label) -> io::Result<()> {
        self.backend.end_code(code)
    }

    fn register_node(&self, key: &VerifyingKey) -> io::Result<()> {
        if self.registered.contains(key.name()) {
            Ok(())
        } else {
            self.backend.register_node(key)
        }
    }

    fn register_publisher(&self, key: &VerifyingKey) -> io::Result<()> {
        self.backend.register_publisher(key)
    }

    fn end_key(&self, id: &str) -> io::Result<()> {
        self.backend.end_key(id)
    }

    fn receipts(&self) -> io::Result<Vec<ReceiptReply>> {
        self.backend.receipts()
    }
}
