//! Who the syncer is: the bearer, the tenant, and the key that its snapshots are sealed to. Kept in
//! the files that deployed syncers keep: `age.key`, `age_public.key`, `tenant_id`, `hmac.key`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dirless_client::{Client, ClientBuilder, Timeouts};
use dirless_program::{Lookup, Secret, SecretError, fs};
use dirless_seal::{Identity, KeyError, Recipient};
use dirless_wire::{AgePublicKey, AwsAccountId, TenantId};

use crate::config::Config;

/// Name of the service credential (systemd.exec(5)) that may hold the bearer.
pub const CREDENTIAL: &str = "dirless-token";

/// Everything that publishing needs.
#[derive(Debug)]
pub struct Access {
    /// Sent with every call.
    pub bearer: Secret,
    /// Whose directory it is.
    pub tenant: TenantId,
    /// Opens what the backend holds: to compare, and to rebuild the ledger.
    pub identity: Identity,
    /// What snapshots are sealed to.
    pub recipient: Recipient,
    /// Is the classic protocol spoken? Otherwise nothing is fetched from or pushed to a backend.
    pub classic: bool,
}

/// Why the syncer does not know who it is.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file is missing.
    #[error(
        "{path} is missing: this syncer publishes nothing yet. Set up [signed] (docs/publishing-signed.md), or, for hosts of \
         the classic protocol, run `dirless-syncer enroll`"
    )]
    NotEnrolled {
        /// The file.
        path: PathBuf,
    },
    /// No bearer anywhere.
    #[error(
        "there is no token: put it into hmac.key beside age.key, name a file with [backend] token_file, or hand it \
         over as the credential {CREDENTIAL}; without the classic protocol none is needed, see docs/publishing-signed.md"
    )]
    NoToken,
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A key file holds no key.
    #[error("{path}: {cause}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: KeyError,
    },
    /// `age_public.key` is not the public half of `age.key`.
    #[error(
        "{folder}: age_public.key is not the public half of age.key; hosts could not open what is published. Put the \
         matching pair in place, or remove age_public.key and enroll again"
    )]
    Mismatch {
        /// The folder.
        folder: PathBuf,
    },
    /// The file holds no tenant id.
    #[error("{path} holds no tenant id: {reason}")]
    Tenant {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// The folder with the key files.
#[derive(Clone, Debug)]
pub struct KeyFolder(PathBuf);

impl KeyFolder {
    /// The folder that the configuration names.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self(config.syncer.key_folder.clone())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Has enrolment succeeded once? As deployed syncers judge it.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        ["age.key", "age_public.key", "tenant_id"]
            .iter()
            .all(|name| self.path(name).exists())
    }

    /// The identity in `age.key`, `None` when there is no such file.
    ///
    /// # Errors
    /// When the file is readable by others, or holds no identity.
    pub fn identity(&self) -> Result<Option<Identity>, KeysError> {
        self.identity_in("age.key")
    }

    fn identity_in(&self, name: &str) -> Result<Option<Identity>, KeysError> {
        let path = self.path(name);
        if !path.exists() {
            return Ok(None);
        }
        let text = Secret::from_file(&path)?;
        let identity = Identity::parse(text.expose()).map_err(|cause| KeysError::Key { path, cause })?;
        Ok(Some(identity))
    }

    /// The identity to enrol with: the one in place, the one an enrolment that broke off left, or
    /// a new one. A new one is on disk, but not in place, before the backend learns of it:
    /// otherwise a crash could register a key that nobody has.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn identity_to_enroll(&self) -> Result<Identity, KeysError> {
        if let Some(identity) = self.identity()? {
            return Ok(identity);
        }
        if let Some(identity) = self.identity_in(PENDING)? {
            return Ok(identity);
        }
        let identity = Identity::generate();
        fs::ensure_folder(&self.0, 0o700).map_err(|source| self.failed("", source))?;
        self.publish(PENDING, &identity.expose())?;
        Ok(identity)
    }

    /// Writes the four files after a successful enrolment. An `age.key` in place is left alone.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn enrolled(&self, identity: &Identity, tenant: &TenantId, bearer: &Secret) -> Result<(), KeysError> {
        if !self.path("age.key").exists() {
            self.publish("age.key", &identity.expose())?;
        }
        self.publish("age_public.key", identity.recipient().as_str())?;
        self.publish("hmac.key", bearer.expose())?;
        self.publish("tenant_id", tenant.as_str())?;
        let pending = self.path(PENDING);
        fs::remove(&pending).map_err(|source| self.failed(PENDING, source))
    }

    fn publish(&self, name: &str, text: &str) -> Result<(), KeysError> {
        let written = fs::publish_with(&self.path(name), 0o600, |file| {
            use std::io::Write;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")
        });
        written.map_err(|source| self.failed(name, source))
    }

    fn failed(&self, name: &str, cause: io::Error) -> KeysError {
        KeysError::File {
            path: self.path(name),
            cause,
        }
    }

    fn read(&self, name: &str) -> Result<String, KeysError> {
        let path = self.path(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(KeysError::NotEnrolled { path }),
            Err(cause) => Err(KeysError::File { path, cause }),
        }
    }
}

/// Where a new identity waits for its enrolment to succeed.
const PENDING: &str = "age.key.pending";

/// The bearer: `hmac.key`, `[backend] token_file`, the service credential, or
/// `[backend] enrollment_token`, in that order.
///
/// # Errors
/// When there is none, or a file that should hold it is unusable.
pub fn bearer(config: &Config, environment: Lookup<'_>) -> Result<Secret, KeysError> {
    let file = KeyFolder::of(config).path("hmac.key");
    if file.exists() {
        return Ok(Secret::from_file(&file)?);
    }
    token_outside(config, environment)?.ok_or(KeysError::NoToken)
}

/// The bearer where an operator, not an enrolment, put it.
///
/// # Errors
/// When a file that should hold it is unusable.
pub fn token_outside(config: &Config, environment: Lookup<'_>) -> Result<Option<Secret>, KeysError> {
    if let Some(file) = &config.backend.token_file {
        return Ok(Some(Secret::from_file(file)?));
    }
    if let Some(secret) = Secret::from_credential(CREDENTIAL, environment)? {
        return Ok(Some(secret));
    }
    Ok(config.backend.enrollment_token.as_ref().map(Secret::duplicate))
}

/// The tenant id: the configured one, or the one derived from bearer and account.
///
/// # Errors
/// Never in practice: a derived id is always well-formed.
pub fn tenant(config: &Config, bearer: &Secret, account: &AwsAccountId) -> Result<TenantId, KeysError> {
    if let Some(tenant) = &config.backend.tenant_id {
        return Ok(tenant.clone());
    }
    let derived = dirless_seal::tenant_id(bearer.expose(), account.as_str());
    TenantId::new(&derived).map_err(|error| KeysError::Tenant {
        path: "(derived)".into(),
        reason: error.to_string(),
    })
}

/// Reads all of it.
///
/// # Errors
/// When the syncer is not enrolled, or a file is unusable.
pub fn load(config: &Config, environment: Lookup<'_>) -> Result<Access, KeysError> {
    let folder = KeyFolder::of(config);
    if !config.is_classic() {
        return signed_alone(config, &folder);
    }
    let identity = folder.identity()?.ok_or_else(|| KeysError::NotEnrolled {
        path: folder.path("age.key"),
    })?;
    let recipient = identity.recipient();
    // The public half is only a copy; without it the pair is whole all the same.
    let path = folder.path("age_public.key");
    if path.exists() {
        let copy = Recipient::parse(&folder.read("age_public.key")?).map_err(|cause| KeysError::Key { path, cause })?;
        if copy.as_str() != recipient.as_str() {
            return Err(KeysError::Mismatch { folder: folder.0 });
        }
    }
    let tenant = match &config.backend.tenant_id {
        Some(tenant) => tenant.clone(),
        None => TenantId::new(&folder.read("tenant_id")?).map_err(|error| KeysError::Tenant {
            path: folder.path("tenant_id"),
            reason: error.to_string(),
        })?,
    };
    Ok(Access {
        bearer: bearer(config, environment)?,
        tenant,
        identity,
        recipient,
        classic: true,
    })
}

/// Without a backend there is nobody to show a bearer to, and nothing to open.
fn signed_alone(config: &Config, folder: &KeyFolder) -> Result<Access, KeysError> {
    let tenant = config.signed.as_ref().map(|own| crate::signed::tenant(own, config));
    let failed = |reason: String| KeysError::Tenant {
        path: "[signed]".into(),
        reason,
    };
    let tenant = tenant.ok_or_else(|| failed("there is no [signed]".to_owned()))?;
    let tenant = tenant.map_err(|error| failed(error.to_string()))?;
    let identity = folder.identity()?.unwrap_or_else(Identity::generate);
    Ok(Access {
        bearer: Secret::new("none".to_owned()),
        tenant: TenantId::new(&tenant.to_string()).map_err(|error| failed(error.to_string()))?,
        recipient: identity.recipient(),
        identity,
        classic: false,
    })
}

/// Stands for the backend where the classic protocol is not spoken, and is never asked (RFC 2606).
const NOBODY: &str = "https://backend.invalid";

/// How long a backend is waited for.
pub(crate) fn timeouts() -> Timeouts {
    Timeouts {
        // 50 MiB, what backends take, over a link of 2 Mbit/s.
        fetch: Duration::from_secs(300),
        ..Timeouts::default()
    }
}

/// A client for `bearer` and, once it is known, `tenant`.
///
/// # Errors
/// When the configuration cannot work: a bad URL or CA file.
pub fn client(
    config: &Config,
    bearer: &Secret,
    tenant: Option<&TenantId>,
) -> Result<Client, dirless_client::BuildError> {
    let mut builder = ClientBuilder::new()
        .url(config.backend.url.as_deref().unwrap_or(NOBODY))?
        .bearer(bearer.duplicate())
        .timeouts(timeouts());
    if let Some(tenant) = tenant {
        builder = builder.tenant(tenant.clone());
    }
    if let Some(file) = &config.backend.ca_file {
        builder = builder.ca_file(file);
    }
    builder.build()
}

/// A recipient as the wire has it.
///
/// # Errors
/// Never in practice: both sides check the same form.
pub fn on_wire(recipient: &Recipient, folder: &Path) -> Result<AgePublicKey, KeysError> {
    AgePublicKey::new(recipient.as_str()).map_err(|_| KeysError::Mismatch {
        folder: folder.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn setting(folder: &Path) -> Config {
        let text = format!(
            "[backend]\nurl = \"http://127.0.0.1:1\"\nenrollment_token = \"sekret-token-1\"\n[syncer]\nkey_folder = {:?}\n",
            folder.join("keys")
        );
        Config::parse(&text, Path::new("/x")).unwrap()
    }

    fn nowhere(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn nothing_is_in_place_before_enrolment_and_a_broken_one_is_resumed_with_the_same_key() {
        let temporary = tempfile::tempdir().unwrap();
        let config = setting(temporary.path());
        let folder = KeyFolder::of(&config);
        assert!(matches!(load(&config, &nowhere), Err(KeysError::NotEnrolled { .. })));
        let first = folder.identity_to_enroll().unwrap();
        assert!(!folder.is_enrolled() && folder.identity().unwrap().is_none());
        let second = folder.identity_to_enroll().unwrap();
        assert_eq!(first.recipient().as_str(), second.recipient().as_str());
        let bearer = token_outside(&config, &nowhere).unwrap().unwrap();
        let account = AwsAccountId::new("123456789012").unwrap();
        let tenant = tenant(&config, &bearer, &account).unwrap();
        assert_eq!(
            tenant.as_str(),
            "615d1286d91a88073425f44e10dca43f4d0ec96a8c2581c7b582ad240178afac"
        );
        folder.enrolled(&second, &tenant, &bearer).unwrap();
        let access = load(&config, &nowhere).unwrap();
        assert_eq!(access.recipient.as_str(), first.recipient().as_str());
        assert_eq!(access.tenant, tenant);
        assert!(!temporary.path().join("keys/age.key.pending").exists());
        for name in ["age.key", "age_public.key", "tenant_id", "hmac.key"] {
            let mode = std::fs::metadata(temporary.path().join("keys").join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn an_age_key_in_place_is_used_and_never_overwritten() {
        let temporary = tempfile::tempdir().unwrap();
        let config = setting(temporary.path());
        let folder = KeyFolder::of(&config);
        std::fs::create_dir(temporary.path().join("keys")).unwrap();
        let identity = Identity::generate();
        let file = temporary.path().join("keys/age.key");
        let text = format!("# created: today\n{}\n", &*identity.expose());
        std::fs::write(&file, &text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let found = folder.identity_to_enroll().unwrap();
        assert_eq!(found.recipient().as_str(), identity.recipient().as_str());
        let bearer = Secret::new("t".to_owned());
        folder
            .enrolled(&found, &TenantId::new(&"a".repeat(64)).unwrap(), &bearer)
            .unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        std::fs::write(
            temporary.path().join("keys/age_public.key"),
            Identity::generate().recipient().as_str(),
        )
        .unwrap();
        assert!(matches!(load(&config, &nowhere), Err(KeysError::Mismatch { .. })));
    }

    #[test]
    fn what_a_deployed_syncer_left_is_taken_as_it_is() {
        let temporary = tempfile::tempdir().unwrap();
        let config = setting(temporary.path());
        let keys = temporary.path().join("keys");
        std::fs::create_dir(&keys).unwrap();
        let identity = Identity::generate();
        let files = [
            ("age.key", identity.expose().to_string()),
            ("age_public.key", identity.recipient().as_str().to_owned()),
            ("tenant_id", format!("aws___{}", "b".repeat(64))),
            ("hmac.key", "deployed-token".to_owned()),
        ];
        for (name, text) in files {
            std::fs::write(keys.join(name), text).unwrap();
            std::fs::set_permissions(keys.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let access = load(&config, &nowhere).unwrap();
        assert_eq!(access.tenant.as_str(), "b".repeat(64));
        assert_eq!(access.bearer.expose(), "deployed-token");
    }
}
