use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::Lookup;

/// Longest secret that is read from a file or a stream, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Text that must not leak: no `Display`, no `Serialize`, a `Debug` that says only that it is
/// there, and memory that is wiped on drop.
pub struct Secret(Zeroizing<String>);

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is missing or unreadable.
    #[error("cannot read the secret in {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner may read the file.
    #[error("{path} can be read by others than its owner (mode {mode:04o}); run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds nothing, or not text.
    #[error("{path} holds no secret: it must be one non-empty line of text")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Secret {
    /// Takes ownership of `text`, without trimming.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Every use of a secret is a call of this, so that they can be listed.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A second copy, which is wiped by itself. Named so that copies stand out in review.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(Zeroizing::new(self.0.to_string()))
    }

    /// Reads a secret from a file that only its owner may read; surrounding white space is cut.
    ///
    /// # Errors
    /// When the file cannot be read, is readable by others, is empty or is not UTF-8.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let read = |source| SecretError::Read {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(read)?;
        let mode = file.metadata().map_err(read)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SecretError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        Self::from_reader(file)
            .map_err(read)?
            .ok_or_else(|| SecretError::Empty { path: path.to_owned() })
    }

    /// Reads a secret from a stream such as standard input; `None` when there is nothing in it.
    ///
    /// # Errors
    /// When reading fails or the text is not UTF-8.
    pub fn from_reader(reader: impl Read) -> io::Result<Option<Self>> {
        let mut text = Zeroizing::new(String::new());
        reader.take(LONGEST).read_to_string(&mut text)?;
        let trimmed = text.trim();
        Ok((!trimmed.is_empty()).then(|| Self::new(trimmed.to_owned())))
    }

    /// Reads the service credential `name` (systemd.exec(5), `LoadCredential=`), when the service
    /// manager handed one over.
    ///
    /// # Errors
    /// When the credential is there but cannot be read.
    pub fn from_credential(name: &str, environment: Lookup<'_>) -> Result<Option<Self>, SecretError> {
        let Some(folder) = environment("CREDENTIALS_DIRECTORY") else {
            return Ok(None);
        };
        let path = Path::new(&folder).join(name);
        if !path.exists() {
            return Ok(None);
        }
        // The service manager owns the mode here: 0400, or 0440 for a user manager.
        let read = |source| SecretError::Read {
            path: path.clone(),
            source,
        };
        let file = std::fs::File::open(&path).map_err(read)?;
        Self::from_reader(file)
            .map_err(read)?
            .map(Some)
            .ok_or_else(|| SecretError::Empty { path: path.clone() })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "Secret(..)");
    }

    #[test]
    fn a_file_others_can_read_is_refused_and_a_private_one_is_trimmed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "  hunter2\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Secret::from_file(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Secret::from_file(&path).unwrap().expose(), "hunter2");
        std::fs::write(&path, " \n").unwrap();
        assert!(matches!(Secret::from_file(&path), Err(SecretError::Empty { .. })));
    }

    #[test]
    fn a_credential_is_found_by_name_and_its_absence_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hmac-secret"), "s3cret\n").unwrap();
        let place = folder.path().display().to_string();
        let lookup = move |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| place.clone());
        assert_eq!(
            Secret::from_credential("hmac-secret", &lookup)
                .unwrap()
                .unwrap()
                .expose(),
            "s3cret"
        );
        assert!(Secret::from_credential("other", &lookup).unwrap().is_none());
        assert!(Secret::from_credential("hmac-secret", &|_| None).unwrap().is_none());
    }
}
