//! Logs: one line that reads alone, the same facts as fields, in text, JSON or to the journal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Where and how log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// The journal when standard error is connected to it, text otherwise.
    #[default]
    Auto,
    /// Text lines on standard error.
    Text,
    /// One JSON object a line on standard error.
    Json,
    /// The systemd journal, with fields.
    Journald,
}

/// The `[log]` table of every program.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// How lines are written.
    pub format: LogFormat,
    /// What is written: `error`, `warn`, `info`, `debug`, `trace`, or a
    /// `target=level,…` list in tracing's filter syntax.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            level: "info".to_owned(),
        }
    }
}

/// A filter that tracing cannot read.
#[derive(Debug, thiserror::Error)]
#[error("[log] level \"{level}\" is not a level (error, warn, info, debug, trace) or a filter: {reason}")]
pub struct LevelError {
    level: String,
    reason: String,
}

/// Starts logging for the whole process. A second call changes nothing.
///
/// # Errors
/// When `level` cannot be read.
pub fn start(config: &LogConfig, environment: crate::Lookup<'_>) -> Result<(), LevelError> {
    let filter = EnvFilter::builder().parse(&config.level).map_err(|error| LevelError {
        level: config.level.clone(),
        reason: error.to_string(),
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let to_journal = match config.format {
        LogFormat::Journald => true,
        LogFormat::Auto => environment("JOURNAL_STREAM").is_some(),
        LogFormat::Text | LogFormat::Json => false,
    };
    // A journal that does not answer must not stop a service: text goes to standard error instead.
    if let Some(journal) = to_journal.then(tracing_journald::layer).and_then(Result::ok) {
        let _ = registry.with(journal).try_init();
    } else if config.format == LogFormat::Json {
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr);
        let _ = registry.with(layer).try_init();
    } else {
        let colours = std::io::stderr().is_terminal() && environment("NO_COLOR").is_none();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(colours)
            .with_writer(std::io::stderr);
        let _ = registry.with(layer).try_init();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_level_is_an_error_that_names_it() {
        let config = LogConfig {
            level: "dirless=loud".into(),
            ..LogConfig::default()
        };
        let error = start(&config, &|_| None).unwrap_err().to_string();
        assert!(error.contains("dirless=loud") && error.contains("warn"), "{error}");
    }

    #[test]
    fn formats_are_spelled_in_lower_case() {
        let config: LogConfig = toml::from_str("format = \"json\"").unwrap();
        assert_eq!(config.format, LogFormat::Json);
        assert_eq!(config.level, "info");
        assert!(toml::from_str::<LogConfig>("colour = true").is_err());
    }
}
