//! Reading a program's TOML file: one file, unknown keys refused, errors that name the place.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a configuration cannot be used. Programs exit with [`crate::command::EXIT_CONFIG`] on it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing or unreadable.
    #[error("cannot read the configuration {path}: {source}{}", advice(.source))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key or a value that the program does not know.
    #[error("{path} cannot be used: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and key as the parser reports them.
        reason: String,
    },
    /// The file parses, but a value makes no sense.
    #[error("{path}: {key}: {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The dotted key.
        key: String,
        /// What is wrong and what to write instead.
        reason: String,
    },
}

fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "; it has to be written first: dirless enroll does so on a host, samples are in /usr/share/doc/dirless-*/examples"
        }
        std::io::ErrorKind::PermissionDenied => "; it may hold a secret, so only root reads it: use sudo",
        _ => "",
    }
}

/// Reads `path` into `T`.
///
/// # Errors
/// When the file cannot be read or does not fit `T`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text, path)
}

/// Reads `path` when it is there; `T::default()` when it is not.
///
/// # Errors
/// When the file is there but cannot be read or does not fit `T`.
pub fn load_or_default<T: DeserializeOwned + Default>(path: &Path) -> Result<T, ConfigError> {
    match load(path) {
        Err(ConfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        other => other,
    }
}

/// Parses `text`, which stands in `path`, into `T`.
///
/// # Errors
/// When the text does not fit `T`.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Parse {
        path: path.to_owned(),
        reason: place_and_reason(text, &error),
    })
}

/// The parser's message with its place, without quoting the line: a line may hold a secret.
fn place_and_reason(text: &str, error: &toml::de::Error) -> String {
    match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
            format!("line {line}: {}", error.message())
        }
        None => error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(default)]
        port: u16,
    }

    #[test]
    fn unknown_keys_name_the_line_and_never_quote_it() {
        let error = parse::<Sample>("port = 1\nsecret = \"hunter2\"\n", Path::new("/etc/x.toml")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("/etc/x.toml") && text.contains("line 2") && text.contains("secret"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_missing_file_is_the_default_only_where_that_is_asked_for() {
        let nowhere = Path::new("/nonexistent/x.toml");
        assert_eq!(load_or_default::<Sample>(nowhere).unwrap(), Sample::default());
        assert!(matches!(load::<Sample>(nowhere), Err(ConfigError::Read { .. })));
    }
}
