//! The keys of publisher and enroller: where they are kept, and how they come to be.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use dirless_program::{Lookup, Secret, SecretError, fs};
use dirless_seal::{Identity, KeyError, Label, Recipient, SigningKey, SigningKeyError, VerifyingKey};
use zeroize::Zeroizing;

/// A key's file, and the service credential (systemd.exec(5)) that may hold it instead.
struct Kept {
    file: &'static str,
    credential: &'static str,
}

const PUBLISHER: Kept = Kept {
    file: "publisher.key",
    credential: "dirless-publisher-key",
};
const ENROLLER: Kept = Kept {
    file: "enroller.key",
    credential: "dirless-enroller-key",
};
const IDENTITY: Kept = Kept {
    file: "enroller.age",
    credential: "dirless-enroller-identity",
};

/// What hands over all of them to a transient service (systemd-run(1)).
fn properties() -> String {
    let property = |kept: &Kept| format!(" -p LoadCredential={}:FILE", kept.credential);
    [PUBLISHER, ENROLLER, IDENTITY].iter().map(property).collect()
}

/// The keys.
#[derive(Debug)]
pub struct Custody {
    /// Signs heads and manifests.
    pub publisher: SigningKey,
    /// Signs node lists.
    pub enroller: SigningKey,
    /// Opens join requests.
    pub identity: Identity,
    /// The publisher's key is a service credential, so that nothing but its owner can replace it.
    pub handed_over: bool,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// One is nowhere.
    #[error(
        "{path} is missing. Where the service is handed its keys (LoadCredential=), a shell is not: run this as \
         `systemd-run -P{} dirless-syncer …`, with the files of the unit for all three (docs/publishing-signed.md); `dirless \
         revoke NAME --syncer URL` needs none of them. Where there never were keys: `dirless-syncer signing init NAME`",
        properties()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A file holds no signing key.
    #[error("{path}: {cause}")]
    Signing {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: SigningKeyError,
    },
    /// A file holds no identity.
    #[error("{path}: {cause}")]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: KeyError,
    },
    /// A file cannot be written.
    #[error("{path}: {cause}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The keys that are there have another name.
    #[error(
        "{path} is there already, and its key is called {found}; nothing is overwritten. Move the key files away to make others"
    )]
    OtherName {
        /// The file.
        path: PathBuf,
        /// Its name.
        found: Label,
    },
    /// There is no room in the name.
    #[error("the name {0} is too long: {0}-enroller would be no label")]
    Name(Label),
}

/// What an operator puts into the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicLines {
    /// The publisher's key.
    pub publisher: VerifyingKey,
    /// The enroller's key.
    pub enroller: VerifyingKey,
    /// What join requests are sealed to.
    pub recipient: Recipient,
}

impl fmt::Display for PublicLines {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            publisher,
            enroller,
            recipient,
        } = self;
        write!(formatter, "publisher {publisher}\nenroller {enroller} {recipient}")
    }
}

impl Custody {
    /// New keys that are kept nowhere.
    ///
    /// # Errors
    /// When the name is too long, or there are no random bytes.
    pub fn generate(name: &Label) -> Result<Self, CustodyError> {
        let enroller = enroller_of(name)?;
        let key = |name: Label| SigningKey::generate(name).map_err(|_| CustodyError::Random);
        Ok(Self {
            publisher: key(name.clone())?,
            enroller: key(enroller)?,
            identity: Identity::generate(),
            handed_over: false,
        })
    }

    /// Makes those of the keys in `folder` that are not there yet.
    ///
    /// # Errors
    /// When one that is there has another name, or a file cannot be written.
    pub fn init(folder: &Path, name: &Label) -> Result<PublicLines, CustodyError> {
        let fresh = Self::generate(name)?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| CustodyError::Write { path, cause }
        };
        if !folder.exists() {
            fs::ensure_folder(folder, 0o700).map_err(failed(folder))?;
        }
        let files = [
            (&PUBLISHER, fresh.publisher.expose()),
            (&ENROLLER, fresh.enroller.expose()),
            (&IDENTITY, fresh.identity.expose()),
        ];
        for (kept, text) in files {
            let path = folder.join(kept.file);
            if !path.exists() {
                let line = Zeroizing::new(format!("{}\n", text.as_str()));
                fs::publish(&path, 0o600, line.as_bytes()).map_err(failed(&path))?;
            }
        }
        let keys = Self::load(folder, &|_| None)?;
        for (kept, key, wanted) in [
            (&PUBLISHER, &keys.publisher, fresh.publisher.verifying()),
            (&ENROLLER, &keys.enroller, fresh.enroller.verifying()),
        ] {
            let found = key.verifying().name();
            if found != wanted.name() {
                return Err(CustodyError::OtherName {
                    path: folder.join(kept.file),
                    found: found.clone(),
                });
            }
        }
        Ok(keys.public())
    }

    /// Reads the keys from service credentials, or from `folder`.
    ///
    /// # Errors
    /// When one is missing or unusable.
    pub fn load(folder: &Path, environment: Lookup<'_>) -> Result<Self, CustodyError> {
        let signing = |kept: &Kept| {
            let secret = read(kept, folder, environment)?;
            let path = folder.join(kept.file);
            SigningKey::parse(secret.expose()).map_err(|cause| CustodyError::Signing { path, cause })
        };
        let identity = read(&IDENTITY, folder, environment)?;
        let path = folder.join(IDENTITY.file);
        Ok(Self {
            publisher: signing(&PUBLISHER)?,
            enroller: signing(&ENROLLER)?,
            identity: Identity::parse(identity.expose()).map_err(|cause| CustodyError::Identity { path, cause })?,
            handed_over: Secret::from_credential(PUBLISHER.credential, environment)?.is_some(),
        })
    }

    /// The public halves.
    #[must_use]
    pub fn public(&self) -> PublicLines {
        PublicLines {
            publisher: self.publisher.verifying().clone(),
            enroller: self.enroller.verifying().clone(),
            recipient: self.identity.recipient(),
        }
    }
}

/// What the enroller is called whose keys are made with this publisher's.
///
/// # Errors
/// When the name is too long for that.
pub fn enroller_of(name: &Label) -> Result<Label, CustodyError> {
    format!("{name}-enroller")
        .parse()
        .map_err(|_| CustodyError::Name(name.clone()))
}

fn read(kept: &Kept, folder: &Path, environment: Lookup<'_>) -> Result<Secret, CustodyError> {
    if let Some(secret) = Secret::from_credential(kept.credential, environment)? {
        return Ok(secret);
    }
    let path = folder.join(kept.file);
    if !path.exists() {
        return Err(CustodyError::Missing { path });
    }
    Ok(Secret::from_file(&path)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn name(text: &str) -> Label {
        text.parse().unwrap()
    }

    #[test]
    fn keys_are_made_once_and_private() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("keys");
        let lines = Custody::init(&folder, &name("syncer-1")).unwrap();
        assert_eq!(Custody::init(&folder, &name("syncer-1")).unwrap(), lines);
        let shown = lines.to_string();
        assert!(shown.starts_with("publisher syncer-1+") && shown.contains("\nenroller syncer-1-enroller+"));
        assert!(!shown.contains("PRIVATE") && !shown.contains("SECRET"));
        for kept in [&PUBLISHER, &ENROLLER, &IDENTITY] {
            let mode = std::fs::metadata(folder.join(kept.file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let error = Custody::init(&folder, &name("other")).unwrap_err().to_string();
        assert!(error.contains("called syncer-1"), "{error}");
    }

    #[test]
    fn what_broke_off_is_finished_and_what_is_missing_is_named() {
        let temporary = tempfile::tempdir().unwrap();
        let lines = Custody::init(temporary.path(), &name("a")).unwrap();
        std::fs::remove_file(temporary.path().join(ENROLLER.file)).unwrap();
        let error = Custody::load(temporary.path(), &|_| None).unwrap_err().to_string();
        assert!(
            error.contains("enroller.key") && error.contains("signing init"),
            "{error}"
        );
        let again = Custody::init(temporary.path(), &name("a")).unwrap();
        assert_eq!(again.publisher, lines.publisher);
        assert_ne!(again.enroller, lines.enroller);
    }

    #[test]
    fn credentials_come_first_and_exposed_files_are_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let (folder, given) = (temporary.path().join("keys"), temporary.path().join("given"));
        Custody::init(&folder, &name("a")).unwrap();
        let other = Custody::generate(&name("b")).unwrap();
        std::fs::create_dir(&given).unwrap();
        std::fs::write(given.join(PUBLISHER.credential), other.publisher.expose().as_bytes()).unwrap();
        let place = given.display().to_string();
        let lookup = move |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| place.clone());
        let keys = Custody::load(&folder, &lookup).unwrap();
        assert_eq!(keys.public().publisher, other.public().publisher);
        assert_eq!(keys.public().enroller.name().as_str(), "a-enroller");
        assert!(keys.handed_over && !Custody::load(&folder, &|_| None).unwrap().handed_over);
        // With all three no file is needed, and one alone is not enough.
        std::fs::write(given.join(ENROLLER.credential), other.enroller.expose().as_bytes()).unwrap();
        let nowhere = temporary.path().join("nowhere");
        let error = Custody::load(&nowhere, &lookup).unwrap_err().to_string();
        assert!(
            error.contains("enroller.age") && error.contains("-p LoadCredential=dirless-enroller-identity:FILE"),
            "{error}"
        );
        std::fs::write(given.join(IDENTITY.credential), other.identity.expose().as_bytes()).unwrap();
        assert_eq!(Custody::load(&nowhere, &lookup).unwrap().public(), other.public());
        let path = folder.join(PUBLISHER.file);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            Custody::load(&folder, &|_| None)
                .unwrap_err()
                .to_string()
                .contains("chmod 600")
        );
    }

    #[test]
    fn a_name_needs_room_for_the_enroller() {
        assert!(Custody::generate(&name(&"a".repeat(60))).is_err());
    }
}
