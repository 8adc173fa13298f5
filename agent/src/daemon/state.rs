//! What the daemon remembers over restarts, beside the fetched bodies: one small file, written only
//! when something in it changed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use dirless_wire::{ETag, SourceName};

use super::leavers::Left;
use super::standing::Refusals;
use crate::host::ca::CaState;

/// The memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct DaemonState {
    /// Cycles in a row in which a source was reported as deleted.
    pub deleted: BTreeMap<SourceName, u32>,
    /// Bodies that this host refuses, so that they are not fetched again and again.
    pub refused: BTreeMap<SourceName, Refused>,
    /// Duplicate names as last reported.
    pub duplicates: Vec<String>,
    /// The certificate authority.
    pub ca: CaState,
    /// Refusals of this host's key, where files are signed.
    pub refusals: Refusals,
    /// Who of the directory had processes here when the table was looked at last, by uid; empty unless the host's limits
    /// allow to end sessions.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub present: BTreeMap<u32, String>,
    /// Who left the table a short while ago, by uid; empty under the same limits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left: BTreeMap<u32, Left>,
    /// How many people's sessions were ended, because they were removed.
    pub sessions_ended: u64,
    /// Digest of everything the published table was made from; `None` when the worker has to run.
    pub built_from: Option<String>,
}

impl DaemonState {
    /// Is anything under way that further cycles with the same answers lead on?
    #[must_use]
    pub fn has_streaks(&self) -> bool {
        !self.deleted.is_empty() || !self.refused.is_empty()
    }
}

/// A body that is refused as it stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refused {
    /// Its tag.
    pub etag: ETag,
    /// Why.
    pub reason: String,
    /// The host's own key at that time: with another one it may be welcome.
    pub own_key: Option<String>,
}

/// Reads the memory. A damaged one is worth nothing and costs only one more download.
#[must_use]
pub fn load(path: &Path) -> DaemonState {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the daemon's memory is damaged; starting with an empty one");
            DaemonState::default()
        }),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "the daemon's memory cannot be read");
            }
            DaemonState::default()
        }
    }
}

/// Writes the memory when it differs from `saved`, and brings `saved` up to date.
///
/// # Errors
/// When it cannot be written; the old file stays.
pub fn save(path: &Path, state: &DaemonState, saved: &mut DaemonState) -> io::Result<()> {
    if state == saved {
        return Ok(());
    }
    let text = serde_json::to_vec_pretty(state)?;
    dirless_program::fs::publish(path, 0o600, &text)?;
    *saved = state.clone();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_survives_and_is_written_only_when_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.json");
        let mut saved = load(&path);
        save(&path, &DaemonState::default(), &mut saved).unwrap();
        assert!(!path.exists());
        let mut state = DaemonState::default();
        state.deleted.insert(SourceName::local(), 2);
        state.refused.insert(
            SourceName::local(),
            Refused {
                etag: ETag::strong("x").unwrap(),
                reason: "in clear".into(),
                own_key: None,
            },
        );
        save(&path, &state, &mut saved).unwrap();
        assert_eq!(load(&path), state);
    }

    #[test]
    fn a_damaged_memory_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.json");
        for text in ["", "{", "[]", "{\"deleted\":{\"a b\":1}}", "{\"future\":1}"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(load(&path), DaemonState::default(), "{text}");
        }
    }
}
