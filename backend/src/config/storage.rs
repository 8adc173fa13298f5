//! `[storage]`: which engine keeps the data, and where.

use std::path::PathBuf;

use dirless_program::{Lookup, Secret, SecretError};
use serde::Deserialize;

use crate::store::{Location, PlaceError};

/// Name of the systemd credential with the database's password.
const CREDENTIAL: &str = "postgres-password";

/// `[storage]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// Folder of the database and of a generated secret; made 0700 when missing. With another engine it holds
    /// bodies on their way in alone.
    pub path: PathBuf,
    /// `sqlite:` or `sqlite:/FOLDER` (the default, in `path`), or
    /// `postgres://USER@HOST1,HOST2/DATABASE?sslmode=verify-full`.
    pub url: Option<String>,
    /// A file that holds the password of the database's user, readable by its owner alone.
    pub password_file: Option<PathBuf>,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/lib/dirless/backend"),
            url: None,
            password_file: None,
        }
    }
}

/// Why a store cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The URL is none.
    #[error("the URL of the store: {0}")]
    Url(#[from] PlaceError),
    /// The password is there but cannot be used.
    #[error("the password of the store's database: {0}")]
    Password(#[from] SecretError),
}

impl StorageConfig {
    /// Where the store is, without its password.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn place(&self) -> Result<Location, PlaceError> {
        let Some(url) = &self.url else {
            return Ok(Location::from(&self.path));
        };
        let mut location = parse(url)?;
        if location.database.is_some() || location.folder.as_os_str().is_empty() {
            location.folder.clone_from(&self.path);
        }
        Ok(location)
    }

    /// Where the store is, with its password: of `password_file`, or of the service manager's credential
    /// `postgres-password`; a database may need none.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn location(&self, environment: Lookup<'_>) -> Result<Location, StorageError> {
        self.protect(self.place()?, environment)
    }

    /// Another location than the configured one, with the configured password.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn other(&self, url: &str, environment: Lookup<'_>) -> Result<Location, StorageError> {
        let mut location = parse(url)?;
        if location.folder.as_os_str().is_empty() {
            location.folder.clone_from(&self.path);
        }
        self.protect(location, environment)
    }

    fn protect(&self, mut location: Location, environment: Lookup<'_>) -> Result<Location, StorageError> {
        let Some(place) = location.database.take() else {
            return Ok(location);
        };
        let password = match &self.password_file {
            Some(path) => Some(Secret::from_file(path)?),
            None => Secret::from_credential(CREDENTIAL, environment)?,
        };
        location.database = Some(match password {
            Some(password) => place.with_password(password),
            None => place,
        });
        Ok(location)
    }
}

/// A folder that is empty is that of the configuration.
fn parse(url: &str) -> Result<Location, PlaceError> {
    if let Some(folder) = url.strip_prefix("sqlite:") {
        return Ok(Location::from(folder.strip_prefix("//").unwrap_or(folder)));
    }
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(PlaceError::Other(
            "it begins with none of sqlite:, postgres:// and postgresql://".to_owned(),
        ));
    }
    Ok(Location {
        database: Some(url.parse()?),
        ..Location::from("")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn config(url: &str) -> StorageConfig {
        StorageConfig {
            url: Some(url.to_owned()),
            ..StorageConfig::default()
        }
    }

    #[test]
    fn the_url_names_the_engine() {
        let default = StorageConfig::default().place().unwrap();
        assert_eq!(
            (default.folder.to_str(), default.database.is_none()),
            (Some("/var/lib/dirless/backend"), true)
        );
        assert_eq!(config("sqlite:").place().unwrap().folder, default.folder);
        for url in ["sqlite:/srv/d", "sqlite:///srv/d"] {
            assert_eq!(config(url).place().unwrap().folder, Path::new("/srv/d"));
        }
        let far = config("postgres://u@h/d").place().unwrap();
        assert_eq!(far.folder, default.folder);
        assert_eq!(far.to_string(), "postgres://u@h/d");
        for bad in ["mysql://u@h/d", "/srv/d", "postgres://u:p@h/d"] {
            assert!(config(bad).place().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_password_comes_from_a_file_that_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "sekret\n").unwrap();
        let with = |mode: u32| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let config = StorageConfig {
                password_file: Some(file.clone()),
                ..config("postgres://u@h/d")
            };
            config.location(&|_| None)
        };
        let location = with(0o600).unwrap();
        assert!(!format!("{location:?} {location}").contains("sekret"));
        assert!(matches!(with(0o644), Err(StorageError::Password(_))));
        let none = config("postgres://u@h/d").location(&|_| None).unwrap();
        assert!(none.database.is_some(), "a database may ask for none");
    }
}
