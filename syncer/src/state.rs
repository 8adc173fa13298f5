//! What the syncer remembers between runs, beside the ledger: what it published last, the last
//! sequence number, a change that is held back, and how the last cycle went. Each is a file of its
//! own in the state folder, readable by its owner alone, published whole.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::document::LeftOut;
use crate::guard::Difference;
use crate::shape::Shape;

/// The last snapshot that the backend acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Published {
    /// Its sequence number.
    pub sequence: u64,
    /// Digest of its content, see [`crate::document::digest`].
    pub digest: String,
    /// SHA-256 of the sealed body, to recognise it on a backend that sends no entity tags.
    pub body: String,
    /// The backend's entity tag, when it sends one.
    pub etag: Option<String>,
    /// When it was pushed (RFC 3339).
    pub at: String,
    /// What it says of users and groups.
    pub shape: Shape,
    /// How many entries of the tree it has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub entries: usize,
    /// The state of the tree that it was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_of: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A change that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Held {
    /// The name of exactly this change.
    pub id: String,
    /// Why it waits.
    pub reasons: Vec<String>,
    /// Since when (RFC 3339).
    pub since: String,
    /// What would change.
    pub difference: Difference,
}

/// How the last cycles went.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Report {
    /// When the source was last read whole (RFC 3339).
    pub last_read: Option<String>,
    /// When a snapshot was last pushed.
    pub last_push: Option<String>,
    /// When the backend was last seen to hold what is published.
    pub last_verified: Option<String>,
    /// Users published.
    pub users: usize,
    /// Groups published.
    pub groups: usize,
    /// The last cycle's error, when it failed.
    pub error: Option<String>,
    /// Objects of the source that are not published.
    pub left_out: Vec<ReportedLeftOut>,
}

/// A [`LeftOut`] as the report keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReportedLeftOut {
    /// The object.
    pub object: String,
    /// Why.
    pub reason: String,
}

impl From<&LeftOut> for ReportedLeftOut {
    fn from(left_out: &LeftOut) -> Self {
        Self {
            object: format!(
                "{} {} ({})",
                crate::ledger::kind_text(left_out.kind),
                left_out.name,
                left_out.id
            ),
            reason: left_out.reason.clone(),
        }
    }
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file holds something else.
    #[error("{path} is damaged ({reason}); remove it, and it is made anew from what the backend holds")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
}

/// The state folder.
#[derive(Clone, Debug)]
pub struct State(PathBuf);

impl State {
    /// The state in `folder`; nothing is read yet.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// What was published last, when that is known here.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn published(&self) -> Result<Option<Published>, StateError> {
        self.read("published.json")
    }

    /// Notes what is published now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_published(&self, published: &Published) -> Result<(), StateError> {
        self.write("published.json", published)
    }

    /// The highest sequence number that was ever used, pushed or not.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn sequence(&self) -> Result<u64, StateError> {
        Ok(self.read("sequence.json")?.unwrap_or(0))
    }

    /// Notes that `sequence` is used; it is on disk when this returns.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_sequence(&self, sequence: u64) -> Result<(), StateError> {
        self.write("sequence.json", &sequence)
    }

    /// The change that is held back.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn held(&self) -> Result<Option<Held>, StateError> {
        self.read("held.json")
    }

    /// Notes a change that is held back, or that none is.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_held(&self, held: Option<&Held>) -> Result<(), StateError> {
        match held {
            Some(held) => self.write("held.json", held),
            None => self.remove("held.json"),
        }
    }

    /// The id of the change that a person has accepted, until it is published.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn accepted(&self) -> Result<Option<String>, StateError> {
        self.read("accepted.json")
    }

    /// Notes that a person accepted the change `id`, or that this is done with.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_accepted(&self, id: Option<&str>) -> Result<(), StateError> {
        match id {
            Some(id) => self.write("accepted.json", id),
            None => self.remove("accepted.json"),
        }
    }

    /// How the last cycles went.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn report(&self) -> Result<Report, StateError> {
        Ok(self.read("report.json")?.unwrap_or_default())
    }

    /// Notes how the last cycle went.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_report(&self, report: &Report) -> Result<(), StateError> {
        self.write("report.json", report)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.0.join(name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(StateError::File { path, cause }),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| StateError::Damaged {
                path,
                reason: error.to_string(),
            })
    }

    fn write<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), StateError> {
        let path = self.0.join(name);
        let written = if self.0.exists() {
            Ok(())
        } else {
            dirless_program::fs::ensure_folder(&self.0, 0o700)
        };
        written
            .and_then(|()| {
                dirless_program::fs::publish_with(&path, 0o600, |file| {
                    let mut out = io::BufWriter::new(file);
                    serde_json::to_writer(&mut out, value).map_err(io::Error::from)?;
                    io::Write::flush(&mut out)
                })
            })
            .map_err(|cause| StateError::File { path, cause })
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.0.join(name);
        if !path.exists() {
            return Ok(());
        }
        dirless_program::fs::remove(&path).map_err(|cause| StateError::File { path, cause })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_noted_is_read_back_and_private() {
        let temporary = tempfile::tempdir().unwrap();
        let state = State::at(&temporary.path().join("state"));
        assert_eq!(state.sequence().unwrap(), 0);
        assert!(state.published().unwrap().is_none());
        state.set_sequence(7).unwrap();
        let published = Published {
            sequence: 7,
            ..Published::default()
        };
        state.set_published(&published).unwrap();
        state.set_accepted(Some("abc")).unwrap();
        assert_eq!(state.sequence().unwrap(), 7);
        assert_eq!(state.published().unwrap(), Some(published));
        assert_eq!(state.accepted().unwrap().as_deref(), Some("abc"));
        state.set_accepted(None).unwrap();
        state.set_held(None).unwrap();
        assert_eq!(state.accepted().unwrap(), None);
        for entry in std::fs::read_dir(temporary.path().join("state")).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_file_says_what_to_do() {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::write(temporary.path().join("published.json"), "{").unwrap();
        let error = State::at(temporary.path()).published().unwrap_err().to_string();
        assert!(
            error.contains("published.json") && error.contains("remove it"),
            "{error}"
        );
    }
}
