//! `[trust]`: signed files, and what this host was given to believe them by. `dirless join` writes it.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use dirless_client::{BuildError, Files};
use dirless_program::config::ConfigError;
use dirless_seal::Label;

use super::value;
use crate::paths::Paths;
use crate::trust::Joined;

/// Where signed files are, and what they are believed by.
#[derive(Clone, Debug)]
pub struct SignedConfig {
    /// A folder (an absolute path), or the URL below which they lie.
    pub from: From,
    /// Certificate authority to trust besides the system's, a PEM file.
    pub ca_file: Option<PathBuf>,
    /// What this host was given when it joined.
    pub joined: Joined,
}

/// Where signed files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// In a folder of this host.
    Folder(PathBuf),
    /// Below a URL.
    Url(String),
}

impl From {
    /// A URL, an absolute path, or `file://` and an absolute path.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("file://").unwrap_or(text);
        if path.starts_with('/') {
            return Ok(Self::Folder(PathBuf::from(path)));
        }
        super::check_url(text).map(|()| Self::Url(text.to_owned()))
    }
}

impl SignedConfig {
    /// The files themselves. A request without progress for `patience` fails.
    ///
    /// # Errors
    /// When the URL or the certificate authority cannot be used.
    pub fn files(&self, patience: Duration) -> Result<Files, BuildError> {
        match &self.from {
            From::Folder(folder) => Ok(Files::Folder(folder.clone())),
            From::Url(url) => Files::web(url, self.ca_file.as_deref(), patience),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTrust {
    from: String,
    ca_file: Option<PathBuf>,
    tenant: String,
    roots: String,
    policy: u64,
    compartments: Vec<String>,
}

impl RawTrust {
    pub(super) fn check(self, paths: &Paths, file: &Path) -> Result<SignedConfig, ConfigError> {
        let from = From::parse(&self.from).map_err(|reason| value(file, "trust.from", &reason))?;
        let compartments = self.compartments.iter().map(|name| parsed(file, "compartments", name));
        let compartments: Vec<Label> = compartments.collect::<Result<_, _>>()?;
        if compartments.is_empty() {
            let reason = "is empty; write the compartments that this host was admitted to, as in [\"all\"]";
            return Err(value(file, "trust.compartments", reason));
        }
        Ok(SignedConfig {
            from: match from {
                From::Folder(folder) => From::Folder(paths.rooted(&folder)),
                url @ From::Url(_) => url,
            },
            ca_file: self.ca_file,
            joined: Joined {
                tenant: parsed(file, "tenant", &self.tenant)?,
                roots: parsed(file, "roots", &self.roots)?,
                policy: self.policy,
                compartments,
            },
        })
    }
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(file: &Path, key: &str, text: &str) -> Result<T, ConfigError> {
    let told = |error: T::Err| value(file, &format!("trust.{key}"), &format!("is {text:?}: {error}"));
    text.parse().map_err(told)
}
