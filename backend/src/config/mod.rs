//! The configuration file, one struct a concern, defaults in one place.
//!
//! Without a file everything has a default that runs. A file with an unknown key is refused.

mod address;
mod secret;
mod sections;
mod storage;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dirless_program::Lookup;
use dirless_program::config::{self, ConfigError};
use dirless_program::log::LogConfig;
/// `[tls]`: own TLS 1.2 and 1.3.
pub use dirless_program::tls::TlsFiles as TlsConfig;
use serde::Deserialize;

pub use address::{Network, NetworkError};
pub use secret::{BearerOrigin, BearerSecret, SecretSourceError, find as find_secret, resolve as resolve_secret};
pub use sections::{
    CacheConfig, HealthConfig, HmacConfig, KeysConfig, LimitsConfig, MetricsConfig, ServerConfig, SyncConfig,
};
pub use storage::{StorageConfig, StorageError};

/// Where the file is unless `DIRLESS_CONFIG` or `--config` say otherwise.
pub const DEFAULT_PATH: &str = "/etc/dirless/dirless.toml";

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where and how to listen.
    pub server: ServerConfig,
    /// Where data is kept.
    pub storage: StorageConfig,
    /// The classic shared secret.
    pub hmac: HmacConfig,
    /// What syncers may push.
    pub sync: SyncConfig,
    /// Who may replace keys.
    pub keys: KeysConfig,
    /// What `/v1/health` tells whom.
    pub health: HealthConfig,
    /// What `/metrics` tells whom.
    pub metrics: MetricsConfig,
    /// Rate limits.
    pub limits: LimitsConfig,
    /// Memory caches.
    pub cache: CacheConfig,
    /// Own TLS.
    pub tls: Option<TlsConfig>,
    /// Logs.
    pub log: LogConfig,
}

impl Config {
    /// Reads the file that `explicit` or `DIRLESS_CONFIG` names, or the default one. Only the
    /// default one may be missing.
    ///
    /// # Errors
    /// When the file cannot be read, does not parse, or a value makes no sense.
    pub fn load(explicit: Option<&Path>, environment: Lookup<'_>) -> Result<(Self, PathBuf), ConfigError> {
        let named = explicit.map(Path::to_owned).or_else(|| {
            environment("DIRLESS_CONFIG")
                .filter(|text| !text.is_empty())
                .map(PathBuf::from)
        });
        let (loaded, path) = match named {
            Some(path) => (config::load::<Self>(&path)?, path),
            None => (
                config::load_or_default::<Self>(Path::new(DEFAULT_PATH))?,
                PathBuf::from(DEFAULT_PATH),
            ),
        };
        loaded.validate(&path)?;
        Ok((loaded, path))
    }

    /// Checks what types alone cannot.
    ///
    /// # Errors
    /// The first value that makes no sense, with its dotted key and what to write instead.
    pub fn validate(&self, path: &Path) -> Result<(), ConfigError> {
        let complain = |key: &str, reason: &str| {
            Err(ConfigError::Value {
                path: path.to_owned(),
                key: key.to_owned(),
                reason: reason.to_owned(),
            })
        };
        if self.server.workers > 256 {
            return complain("server.workers", "at most 256; 0 means one for each core");
        }
        if self.server.max_connections == 0 {
            return complain(
                "server.max_connections",
                "at least 1; a server without connections serves nobody",
            );
        }
        if self.server.watchers() >= self.server.max_connections && self.server.max_watchers.is_some() {
            return complain(
                "server.max_watchers",
                "fewer than max_connections: somebody has to fetch what hosts are told of",
            );
        }
        for (key, seconds) in [
            ("server.handshake_seconds", self.server.handshake_seconds),
            ("server.header_seconds", self.server.header_seconds),
            ("server.body_seconds", self.server.body_seconds),
            ("server.idle_seconds", self.server.idle_seconds),
            ("server.write_seconds", self.server.write_seconds),
        ] {
            if !(1..=3600).contains(&seconds) {
                return complain(key, "between 1 and 3600 seconds");
            }
        }
        if self.server.drain_seconds > 3600 {
            return complain("server.drain_seconds", "at most 3600 seconds");
        }
        if !(1024..=4 << 30).contains(&self.sync.max_payload_bytes) {
            return complain(
                "sync.max_payload_bytes",
                "between 1024 and 4294967296 bytes (the default is 52428800)",
            );
        }
        if self.health.active_seconds == 0 {
            return complain(
                "health.active_seconds",
                "at least 1; three times the agents' interval is a good value",
            );
        }
        if let Err(error) = self.storage.place() {
            return complain("storage.url", &error.to_string());
        }
        if self.hmac.secret.is_some() && self.hmac.secret_file.is_some() {
            return complain("hmac.secret_file", "set either secret or secret_file, not both");
        }
        if self
            .hmac
            .secret
            .as_ref()
            .is_some_and(|secret| secret.expose().trim().is_empty())
        {
            return complain(
                "hmac.secret",
                "it is empty; leave the key out to have a secret generated",
            );
        }
        Ok(())
    }

    /// The address to listen on.
    #[must_use]
    pub fn listen_address(&self) -> SocketAddr {
        SocketAddr::new(self.server.host, self.server.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let path = Path::new("dirless.toml");
        let config: Config = config::parse(text, path)?;
        config.validate(path).map(|()| config)
    }

    #[test]
    fn the_defaults_run_without_a_file() {
        let config = parse("").unwrap();
        assert_eq!(config.listen_address().to_string(), "127.0.0.1:4000");
        assert_eq!(config.sync.max_payload_bytes, 52_428_800);
        assert!(config.tls.is_none() && !config.health.public);
    }

    #[test]
    fn a_deployed_file_is_read() {
        let text = "[server]\nhost = \"0.0.0.0\"\nport = 4001\n[storage]\npath = \"/srv/d\"\n\
                    [hmac]\nsecret = \"sekret-token-1\"\n[sync]\nmax_payload_bytes = 1048576\n\
                    [keys]\nreplace_by = \"rotate-key\"\n";
        let config = parse(text).unwrap();
        assert_eq!(config.listen_address().to_string(), "0.0.0.0:4001");
        assert_eq!(config.storage.path, Path::new("/srv/d"));
        assert!(!format!("{config:?}").contains("sekret"));
    }

    #[test]
    fn nonsense_is_refused_with_its_key() {
        for (text, key) in [
            ("[server]\nprot = 1\n", "prot"),
            ("[nonsense]\n", "nonsense"),
            ("[server]\nmax_connections = 0\n", "server.max_connections"),
            (
                "[server]\nmax_connections = 9\nmax_watchers = 9\n",
                "server.max_watchers",
            ),
            ("[server]\nidle_seconds = 0\n", "server.idle_seconds"),
            ("[sync]\nmax_payload_bytes = 0\n", "sync.max_payload_bytes"),
            ("[hmac]\nsecret = \" \"\n", "hmac.secret"),
            ("[hmac]\nsecret = \"a\"\nsecret_file = \"b\"\n", "hmac.secret_file"),
            ("[storage]\nurl = \"postgres://u:sekret@h/d\"\n", "password_file"),
            ("[storage]\nurl = \"mysql://u@h/d\"\n", "storage.url"),
            ("[health]\nactive_seconds = 0\n", "health.active_seconds"),
            ("[keys]\nreplace_by = \"both\"\n", "replace_by"),
            ("[server]\ntrusted_proxies = [\"10.0.0.0/33\"]\n", "trusted_proxies"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(key) || error.contains("line 2"), "{text:?} gave {error}");
        }
    }

    #[test]
    fn a_named_file_must_be_there_the_default_need_not() {
        let missing = |name: &str| (name == "DIRLESS_CONFIG").then(|| "/nonexistent/x.toml".to_owned());
        assert!(matches!(Config::load(None, &missing), Err(ConfigError::Read { .. })));
        assert!(matches!(
            Config::load(Some(Path::new("/nonexistent/y.toml")), &|_| None),
            Err(ConfigError::Read { .. })
        ));
    }
}
