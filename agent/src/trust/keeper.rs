//! What a host keeps of a tenant: its memory, the policy, its own keys and the wrapped ones.

use std::io;
use std::path::{Path, PathBuf};

use dirless_seal::trust::{FormatError, Head, Memory, Object, Policy, Wrap, parse, print};
use dirless_seal::{Digest, Identity, Label, Note, SigningKey};
use zeroize::Zeroizing;

use dirless_program::fs::publish;

/// Longest file that is read here, in bytes, unless its kind says otherwise.
const LONGEST: u64 = 1 << 20;

/// The age identity of this host before it joined anew.
pub(super) const BEFORE: &str = "node.age.before";

/// What a host was given when it joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The tenant.
    pub tenant: Digest,
    /// Fingerprint of its roots.
    pub roots: Digest,
    /// The policy that has these roots; older ones are not believed.
    pub policy: u64,
    /// The compartments that it was admitted to; of a source that several have, the first one's is taken.
    pub compartments: Vec<Label>,
}

/// A file of this host's own cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// It cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is damaged, and a damaged memory is no new beginning.
    #[error(
        "{path} is damaged: {reason}; restore it from a backup, or remove it and join again: until then this host \
             serves what it has"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The tenant whose signed files a host believes, by the memory in `folder`; none when it never joined one.
///
/// # Errors
/// When the memory is there and cannot be read.
pub fn believed_tenant(folder: &Path) -> Result<Option<Digest>, KeeperError> {
    let path = folder.join("memory");
    let Some(bytes) = read(&path, Memory::MOST as u64)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let memory = Note::sign(text, &[]).ok().and_then(|note| parse::<Memory>(&note).ok());
    let damaged = || KeeperError::Damaged {
        path,
        reason: "it is no memory of a tenant".to_owned(),
    };
    Ok(Some(memory.ok_or_else(damaged)?.tenant()))
}

/// The folder of what a host keeps; 0700.
#[derive(Clone, Debug)]
pub struct Keeper {
    folder: PathBuf,
    joined: Joined,
}

impl Keeper {
    /// In `folder`, for a host that was given `joined`.
    #[must_use]
    pub fn new(folder: PathBuf, joined: Joined) -> Self {
        Self { folder, joined }
    }

    /// What the host was given.
    #[must_use]
    pub fn joined(&self) -> &Joined {
        &self.joined
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The memory; that of a new host when there is none yet.
    ///
    /// # Errors
    /// When it is damaged, or of another tenant.
    pub fn memory(&self) -> Result<Memory, KeeperError> {
        let path = self.path("memory");
        let Some(bytes) = read(&path, Memory::MOST as u64)? else {
            return Ok(Memory::pinned(self.joined.tenant, self.joined.roots));
        };
        let damaged = |reason: String| KeeperError::Damaged {
            path: path.clone(),
            reason,
        };
        let text = String::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
        let note = Note::sign(text, &[]).map_err(|error| damaged(error.to_string()))?;
        let memory: Memory = parse(&note).map_err(|error| damaged(error.to_string()))?;
        if memory.tenant() == self.joined.tenant && memory.roots() == self.joined.roots {
            Ok(memory)
        } else {
            Err(damaged(
                "it is of another tenant, or of other roots, than this host joined".to_owned(),
            ))
        }
    }

    /// Writes the memory durably.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn remember(&self, memory: &Memory) -> Result<(), KeeperError> {
        let text = print(memory).map_err(|error| self.contradiction("memory", &error))?;
        self.write("memory", text.as_bytes())
    }

    /// The policy that `memory` accepted last, if its file is that one.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn policy(&self, memory: &Memory) -> Result<Option<Policy>, KeeperError> {
        let bytes = read(&self.path("policy"), Policy::MOST as u64)?;
        let note = bytes.and_then(|bytes| Note::parse(&bytes, Policy::MOST).ok());
        // The memory decides; what does not fit it is fetched again.
        let known = note.filter(|note| memory.policy().is_some_and(|seen| seen.digest == note.digest()));
        Ok(known.and_then(|note| parse(&note).ok()))
    }

    /// Keeps `note`, which the memory accepted.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn keep_policy(&self, note: &Note) -> Result<(), KeeperError> {
        self.write("policy", note.to_string().as_bytes())
    }

    /// The host's signing key.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn signing_key(&self) -> Result<SigningKey, KeeperError> {
        let (path, text) = self.secret("node.key")?;
        SigningKey::parse(&text).map_err(|error| KeeperError::Damaged {
            path,
            reason: error.to_string(),
        })
    }

    /// The key that epoch keys are wrapped to.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn identity(&self) -> Result<Identity, KeeperError> {
        let (path, text) = self.secret("node.age")?;
        Identity::parse(&text).map_err(|error| KeeperError::Damaged {
            path,
            reason: error.to_string(),
        })
    }

    /// Keeps the host's own keys.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn keep_keys(&self, signing: &SigningKey, identity: &Identity) -> Result<(), KeeperError> {
        self.write("node.age", identity.expose().as_bytes())?;
        self.write("node.key", signing.expose().as_bytes())
    }

    /// The head of `publisher` that was kept last; the memory says whether it is the one that was accepted last.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn head(&self, publisher: &Label) -> Result<Option<Note>, KeeperError> {
        let bytes = read(&self.path(&format!("head-{publisher}")), Head::MOST as u64)?;
        Ok(bytes.and_then(|bytes| Note::parse(&bytes, Head::MOST).ok()))
    }

    /// Keeps a head that the memory accepted: without it nobody could say when its lease ends.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn keep_head(&self, publisher: &Label, note: &Note) -> Result<(), KeeperError> {
        self.write(&format!("head-{publisher}"), note.to_string().as_bytes())
    }

    /// Opens a wrap with this host's key, or with the one that it had before it joined anew.
    ///
    /// # Errors
    /// When this host's key is missing.
    pub fn open_wrap(&self, sealed: &[u8]) -> Result<Option<Wrap>, KeeperError> {
        if let Ok(wrap) = Wrap::open(sealed, &self.identity()?) {
            return Ok(Some(wrap));
        }
        let before = self
            .secret(BEFORE)
            .ok()
            .and_then(|(_, text)| Identity::parse(&text).ok());
        Ok(before.and_then(|identity| Wrap::open(sealed, &identity).ok()))
    }

    /// The key of an epoch, if it was kept and is this host's.
    ///
    /// # Errors
    /// When the disk fails, or the host's own key is missing.
    pub fn epoch_key(&self, compartment: &Label, epoch: u64) -> Result<Option<Wrap>, KeeperError> {
        let Some(sealed) = read(&self.path(&wrap_name(compartment, epoch)), LONGEST)? else {
            return Ok(None);
        };
        self.open_wrap(&sealed)
    }

    /// All keys that were kept and are this host's.
    ///
    /// # Errors
    /// When the disk fails, or the host's own key is missing.
    pub fn epoch_keys(&self) -> Result<Vec<Wrap>, KeeperError> {
        let failed = |source| KeeperError::Disk {
            path: self.folder.clone(),
            source,
        };
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().as_encoded_bytes().starts_with(b"wrap-")
                && let Some(sealed) = read(&entry.path(), LONGEST)?
            {
                keys.extend(self.open_wrap(&sealed)?);
            }
        }
        keys.sort_by(|left, right| (&left.compartment, left.epoch).cmp(&(&right.compartment, right.epoch)));
        Ok(keys)
    }

    /// Keeps a wrap as it was fetched.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn keep_wrap(&self, compartment: &Label, epoch: u64, sealed: &[u8]) -> Result<(), KeeperError> {
        self.write(&wrap_name(compartment, epoch), sealed)
    }

    pub(super) fn secret(&self, name: &str) -> Result<(PathBuf, Zeroizing<String>), KeeperError> {
        let path = self.path(name);
        let missing = || KeeperError::Disk {
            path: path.clone(),
            source: io::Error::new(
                io::ErrorKind::NotFound,
                "it is missing: this host has not joined (dirless join)",
            ),
        };
        let bytes = Zeroizing::new(read(&path, LONGEST)?.ok_or_else(missing)?);
        let damaged = |_| KeeperError::Damaged {
            path: path.clone(),
            reason: "it is no text".to_owned(),
        };
        let text = Zeroizing::new(std::str::from_utf8(&bytes).map_err(damaged)?.to_owned());
        Ok((path, text))
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), KeeperError> {
        let path = self.path(name);
        publish(&path, 0o600, bytes).map_err(|source| KeeperError::Disk { path, source })
    }

    fn contradiction(&self, name: &str, error: &FormatError) -> KeeperError {
        KeeperError::Damaged {
            path: self.path(name),
            reason: error.to_string(),
        }
    }
}

fn wrap_name(compartment: &Label, epoch: u64) -> String {
    format!("wrap-{compartment}-{epoch}")
}

pub(super) fn read(path: &Path, longest: u64) -> Result<Option<Vec<u8>>, KeeperError> {
    use std::io::Read;
    let failed = |source| KeeperError::Disk {
        path: path.to_owned(),
        source,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(longest).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}
