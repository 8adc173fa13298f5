//! `[trust]`: signed files, and what this host was given to believe them by. `dirless join` writes it. Without `from` the
//! files are asked for at the backends of `[backend]`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use dirless_program::config::ConfigError;
use dirless_seal::Label;

use super::{RawBackend, value};
use crate::paths::Paths;
use crate::trust::Joined;

/// Where signed files are, and what they are believed by.
#[derive(Clone, Debug)]
pub struct SignedConfig {
    /// A folder (an absolute path), the URL below which they lie, or backends.
    pub from: From,
    /// Certificate authority to trust besides the system's, a PEM file.
    pub ca_file: Option<PathBuf>,
    /// File with a join code, with which this host joins anew when its key is refused.
    pub code_file: Option<PathBuf>,
    /// What this host was given when it joined.
    pub joined: Joined,
}

/// Where signed files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// In a folder of this host.
    Folder(PathBuf),
    /// Below a URL of a web server.
    Url(String),
    /// At backends, by these base URLs.
    Backends(Vec<String>),
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
    /// Base URLs of the backends; none where the files lie elsewhere.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        match &self.from {
            From::Backends(urls) => urls,
            From::Folder(_) | From::Url(_) => &[],
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTrust {
    from: Option<String>,
    code_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    tenant: String,
    roots: String,
    policy: u64,
    compartments: Vec<String>,
}

impl RawTrust {
    pub(super) fn check(self, paths: &Paths, backend: &RawBackend, file: &Path) -> Result<SignedConfig, ConfigError> {
        let (from, ca_file) = match self.from {
            Some(from) => (
                From::parse(&from).map_err(|reason| value(file, "trust.from", &reason))?,
                self.ca_file,
            ),
            None if self.ca_file.is_some() => {
                let reason = "is for the server of trust.from; that of backends is backend.ca_file";
                return Err(value(file, "trust.ca_file", reason));
            }
            None => (From::Backends(super::urls(backend, file)?), backend.ca_file.clone()),
        };
        let compartments = self.compartments.iter().map(|name| parsed(file, "compartments", name));
        let compartments: Vec<Label> = compartments.collect::<Result<_, _>>()?;
        if compartments.is_empty() {
            let reason = "is empty; write the compartments that this host was admitted to, as in [\"all\"]";
            return Err(value(file, "trust.compartments", reason));
        }
        Ok(SignedConfig {
            from: match from {
                From::Folder(folder) => From::Folder(paths.rooted(&folder)),
                elsewhere => elsewhere,
            },
            ca_file,
            code_file: self.code_file.map(|code_file| paths.rooted(&code_file)),
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
