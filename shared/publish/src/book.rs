//! What this publisher has signed: kept in the state folder, in one file, ahead of everything that it speaks of.

use std::collections::BTreeMap;

use dirless_seal::trust::{Memory, Seen, parse};
use dirless_seal::{Digest, Label, Note};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::stock::Stocked;
use super::{Folder, SignedError, paths};

/// Longest file of the state that is read: a list of 200,000 hosts takes some 50 MiB.
pub(super) const LONGEST: u64 = 128 << 20;

/// What was signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Book {
    /// What it accepted itself, by the rules of hosts; its text.
    memory: Option<String>,
    /// The version of the last head, 0 when there was none.
    pub head: u64,
    /// Digest of that head.
    pub(super) head_digest: Option<String>,
    /// When it was signed.
    pub signed_at: Option<Timestamp>,
    /// The policy that it was signed under.
    pub policy: u64,
    /// The node list that it named.
    pub nodes: Option<u64>,
    /// The highest manifest version used, by source and compartment.
    used: BTreeMap<String, u64>,
    /// What the last head names, by source and compartment.
    current: BTreeMap<String, Current>,
    /// Digest of the last manifest of what is not published any more, by source and compartment.
    gone: BTreeMap<String, String>,
    /// Numbers of epochs that were used before this state was made, by compartment.
    pub(super) floors: BTreeMap<String, u64>,
    /// What was found of the content to be published, by source.
    pub(super) checked: BTreeMap<String, Checked>,
    /// Bodies that no head names any more, and since when.
    pub(super) retired: Vec<Retired>,
    /// What keeps something from being published, for people.
    pub problems: Vec<String>,
}

/// What is published of a source in a compartment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// Version of its manifest.
    pub version: u64,
    /// Digest of its manifest.
    pub manifest: String,
    /// The epoch that it is sealed to.
    pub epoch: u64,
    /// Digest of the plaintext; empty when it is not known here.
    pub plaintext: String,
    /// Digest of the sealed body.
    pub blob: String,
    /// How many bytes that has.
    #[serde(default)]
    pub(super) base_bytes: u64,
    /// How many records its log has.
    #[serde(default)]
    pub length: u64,
    /// The running hash of the log; empty without one.
    #[serde(default)]
    pub(super) hash: String,
    /// How many bytes the log has.
    #[serde(default)]
    pub(super) log_bytes: u64,
}

/// What was found of something to be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checked {
    /// Digest of its plaintext.
    pub(super) plaintext: String,
    /// The policy that it was held against.
    pub(super) policy: u64,
    /// What in it this publisher may not say.
    pub(super) outside: Vec<String>,
    /// What it may, when that is not all of it.
    #[serde(default)]
    pub(super) within: Option<Stocked>,
}

impl Checked {
    /// What of `stocked`, which this was found of, is to be published.
    pub(super) fn sayable(&self, stocked: &Stocked) -> Option<Stocked> {
        match self.outside.is_empty() {
            true => Some(stocked.clone()),
            false => self.within.clone(),
        }
    }
}

/// A body that is of no more use once every host has a newer head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Retired {
    pub(super) blob: String,
    /// The folder of its log, if it had one.
    #[serde(default)]
    pub(super) log: Option<String>,
    pub(super) since: Timestamp,
}

/// A source in a compartment.
pub(super) type Pair = (Label, Label);

fn key((source, compartment): &Pair) -> String {
    // No label holds a blank.
    format!("{source} {compartment}")
}

fn pair(key: &str) -> Option<Pair> {
    let (source, compartment) = key.split_once(' ')?;
    Some((source.parse().ok()?, compartment.parse().ok()?))
}

impl Book {
    pub(super) fn load(state: &dyn Folder, publisher: &Label) -> Result<Self, SignedError> {
        Ok(load(state, &paths::book(publisher))?.unwrap_or_default())
    }

    pub(super) fn save(&self, state: &dyn Folder, publisher: &Label) -> Result<(), SignedError> {
        save(state, &paths::book(publisher), self)
    }

    /// What was accepted, or what somebody knows who was given `tenant` and `roots` alone.
    pub(super) fn memory(&self, tenant: Digest, roots: Digest) -> Result<Memory, SignedError> {
        let Some(text) = &self.memory else {
            return Ok(Memory::pinned(tenant, roots));
        };
        unsigned(text).map_err(|reason| SignedError::damaged("book", reason))
    }

    pub(super) fn set_memory(&mut self, memory: &Memory) -> Result<(), SignedError> {
        let text = dirless_seal::trust::print(memory).map_err(SignedError::unwritable("memory"))?;
        self.memory = Some(text);
        Ok(())
    }

    /// What is published of `pair`.
    pub(super) fn current(&self, pair: &Pair) -> Option<&Current> {
        self.current.get(&key(pair))
    }

    pub(super) fn set_current(&mut self, pair: &Pair, current: Current) {
        self.gone.remove(&key(pair));
        self.current.insert(key(pair), current);
    }

    pub(super) fn forget(&mut self, pair: &Pair) -> Option<Current> {
        let current = self.current.remove(&key(pair))?;
        self.gone.insert(key(pair), current.manifest.clone());
        Some(current)
    }

    /// Digest of the last manifest of `pair`, published still or not; none when there was none, or its state is lost.
    pub(super) fn last_manifest(&self, pair: &Pair) -> Option<&str> {
        let gone = || self.gone.get(&key(pair)).map(String::as_str);
        self.current(pair)
            .map(|current| current.manifest.as_str())
            .or_else(gone)
    }

    /// The last head that was signed.
    pub(super) fn newest(&self) -> Result<Option<Seen>, SignedError> {
        let digest = self.head_digest.as_deref().map(str::parse).transpose();
        let digest = digest.map_err(|error| SignedError::damaged("book", error))?;
        Ok(digest.map(|digest| Seen {
            version: self.head,
            digest,
        }))
    }

    /// Everything that is published.
    pub fn published(&self) -> impl Iterator<Item = ((Label, Label), &Current)> {
        self.current
            .iter()
            .filter_map(|(key, current)| Some((pair(key)?, current)))
    }

    /// The highest manifest version that `pair` ever had.
    pub(super) fn used(&self, pair: &Pair) -> u64 {
        let published = self.current(pair).map_or(0, |current| current.version);
        self.used.get(&key(pair)).copied().unwrap_or(0).max(published)
    }

    pub(super) fn use_version(&mut self, pair: &Pair, version: u64) {
        self.used.insert(key(pair), version);
    }
}

/// Reads the text of a memory.
pub(super) fn unsigned(text: &str) -> Result<Memory, String> {
    let note = Note::sign(text.to_owned(), &[]).map_err(|error| error.to_string())?;
    parse(&note).map_err(|error| error.to_string())
}

/// Reads a file of the state.
pub(super) fn load<T: DeserializeOwned>(state: &dyn Folder, path: &str) -> Result<Option<T>, SignedError> {
    let Some(bytes) = state.get(path, LONGEST)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| SignedError::damaged(path, error))
}

/// Writes a file of the state; it is on disk when this returns.
pub(super) fn save<T: Serialize + ?Sized>(state: &dyn Folder, path: &str, value: &T) -> Result<(), SignedError> {
    let bytes = serde_json::to_vec(value).map_err(std::io::Error::from)?;
    Ok(state.replace(path, &bytes)?)
}
