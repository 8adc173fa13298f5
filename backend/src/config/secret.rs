//! Where the classic secret comes from: a file, a systemd credential, the environment, or our own
//! making on the first start, in that order; never the command line.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dirless_program::{Lookup, Secret, SecretError, fs};
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::HmacConfig;

/// Name of the systemd credential.
const CREDENTIAL: &str = "hmac-secret";
/// Name of the environment variable.
const VARIABLE: &str = "DIRLESS_HMAC_SECRET";
/// Name of a generated secret's file in the storage folder.
const GENERATED_FILE: &str = "hmac-secret";

/// The secret and where it was found.
#[derive(Debug)]
pub struct BearerSecret {
    /// The secret.
    pub secret: Secret,
    /// Where it was found.
    pub origin: BearerOrigin,
}

/// Where the secret was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BearerOrigin {
    /// `[hmac] secret_file`, or the file of an earlier start.
    File(PathBuf),
    /// `[hmac] secret`.
    Config,
    /// The systemd credential `hmac-secret`.
    Credential,
    /// `DIRLESS_HMAC_SECRET`.
    Environment,
    /// Just made, and kept in this file; the only time it is shown.
    Generated(PathBuf),
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretSourceError {
    /// A file or credential is there but cannot be used.
    #[error(transparent)]
    Unusable(#[from] SecretError),
    /// A new one could not be stored.
    #[error("cannot keep a new secret in {path}: {source}")]
    Store {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no randomness to give.
    #[error("the system gave no randomness for a new secret")]
    Randomness,
}

/// Finds the secret, or makes one and keeps it (0600) in `storage`, which must exist.
///
/// # Errors
/// When what is configured cannot be used, or a new secret cannot be kept.
pub fn resolve(
    config: &HmacConfig,
    storage: &Path,
    environment: Lookup<'_>,
    random: &dyn SecureRandom,
) -> Result<BearerSecret, SecretSourceError> {
    match find(config, storage, environment)? {
        Some(found) => Ok(found),
        None => make(storage, random),
    }
}

/// Finds the secret, and makes none: servers that share a database share it.
///
/// # Errors
/// When what is configured cannot be used.
pub fn find(
    config: &HmacConfig,
    storage: &Path,
    environment: Lookup<'_>,
) -> Result<Option<BearerSecret>, SecretSourceError> {
    let found = |secret, origin| Ok(Some(BearerSecret { secret, origin }));
    if let Some(path) = &config.secret_file {
        return found(Secret::from_file(path)?, BearerOrigin::File(path.clone()));
    }
    if let Some(secret) = &config.secret {
        // A second copy: the configuration keeps its own for as long as the program runs.
        return found(secret.duplicate(), BearerOrigin::Config);
    }
    if let Some(secret) = Secret::from_credential(CREDENTIAL, environment)? {
        return found(secret, BearerOrigin::Credential);
    }
    if let Some(text) = environment(VARIABLE).filter(|text| !text.trim().is_empty()) {
        let text = Zeroizing::new(text);
        return found(Secret::new(text.trim().to_owned()), BearerOrigin::Environment);
    }
    let path = storage.join(GENERATED_FILE);
    if path.exists() {
        return found(Secret::from_file(&path)?, BearerOrigin::File(path));
    }
    Ok(None)
}

fn make(storage: &Path, random: &dyn SecureRandom) -> Result<BearerSecret, SecretSourceError> {
    let path = storage.join(GENERATED_FILE);
    let mut bytes = Zeroizing::new([0u8; 32]);
    random
        .fill(bytes.as_mut_slice())
        .map_err(|_unspecified| SecretSourceError::Randomness)?;
    let secret = Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
    let line = Zeroizing::new(format!("{}\n", secret.expose()));
    fs::publish(&path, 0o600, line.as_bytes()).map_err(|source| SecretSourceError::Store {
        path: path.clone(),
        source,
    })?;
    let origin = BearerOrigin::Generated(path);
    Ok(BearerSecret { secret, origin })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use ring::rand::SystemRandom;

    use super::*;

    fn resolve_in(folder: &Path, config: &HmacConfig, environment: Lookup<'_>) -> BearerSecret {
        resolve(config, folder, environment, &SystemRandom::new()).unwrap()
    }

    #[test]
    fn a_generated_secret_is_private_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let none = |_: &str| None;
        let first = resolve_in(folder.path(), &HmacConfig::default(), &none);
        let path = folder.path().join("hmac-secret");
        assert_eq!(first.origin, BearerOrigin::Generated(path.clone()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = resolve_in(folder.path(), &HmacConfig::default(), &none);
        assert_eq!(second.origin, BearerOrigin::File(path));
        assert_eq!(second.secret.expose(), first.secret.expose());
        assert_eq!(first.secret.expose().len(), 43);
    }

    #[test]
    fn the_order_is_file_config_credential_environment_generated() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s");
        fs::publish(&file, 0o600, b"from-file\n").unwrap();
        fs::publish(&folder.path().join("hmac-secret"), 0o600, b"from-credential\n").unwrap();
        let credentials = folder.path().display().to_string();
        let both = |name: &str| match name {
            "CREDENTIALS_DIRECTORY" => Some(credentials.clone()),
            "DIRLESS_HMAC_SECRET" => Some("from-environment".to_owned()),
            _ => None,
        };
        let variable = |name: &str| (name == VARIABLE).then(|| " from-environment\n".to_owned());
        let with_file = HmacConfig {
            secret_file: Some(file.clone()),
            secret: None,
        };
        let with_value = HmacConfig {
            secret: Some(Secret::new("from-config".to_owned())),
            secret_file: None,
        };
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(resolve_in(empty.path(), &with_file, &both).secret.expose(), "from-file");
        assert_eq!(
            resolve_in(empty.path(), &with_value, &both).secret.expose(),
            "from-config"
        );
        assert_eq!(
            resolve_in(empty.path(), &HmacConfig::default(), &both).secret.expose(),
            "from-credential"
        );
        assert_eq!(
            resolve_in(empty.path(), &HmacConfig::default(), &variable)
                .secret
                .expose(),
            "from-environment"
        );
    }

    #[test]
    fn an_exposed_or_missing_file_is_an_error_not_a_fallback() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s");
        let config = HmacConfig {
            secret_file: Some(file.clone()),
            secret: None,
        };
        let none = |_: &str| None;
        assert!(resolve(&config, folder.path(), &none, &SystemRandom::new()).is_err());
        fs::publish(&file, 0o644, b"x\n").unwrap();
        let error = resolve(&config, folder.path(), &none, &SystemRandom::new()).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
