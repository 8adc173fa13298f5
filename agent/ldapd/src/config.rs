//! `/etc/dirless/ldapd.toml`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dirless_program::Lookup;
use dirless_program::config::{ConfigError, load, load_or_default};
use dirless_program::log::LogConfig;

/// Where the configuration is by default; all of it is optional.
const PATH: &str = "/etc/dirless/ldapd.toml";

/// Everything the server is told by its file, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<Address>,
    /// The copy that the agent publishes.
    pub copy: PathBuf,
    /// Certificate and key for `ldaps://` and StartTLS.
    pub tls: Option<TlsFiles>,
    /// Answer clients that have not bound nothing but RootDSE and the schema.
    pub refuse_anonymous: bool,
    /// Most entries that one search sends.
    pub entries: Option<usize>,
    /// Most connections.
    pub connections: Option<usize>,
    /// Logs.
    pub log: LogConfig,
}

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `ldapi://` and the path of the socket.
    Local(PathBuf),
    /// `ldap://` and an address.
    Plain(SocketAddr),
    /// `ldaps://` and an address.
    Tls(SocketAddr),
}

/// Files in PEM.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate and those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    listen: Vec<String>,
    copy: PathBuf,
    tls: Option<TlsFiles>,
    refuse_anonymous: bool,
    limits: RawLimits,
    log: LogConfig,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLimits {
    entries: Option<usize>,
    connections: Option<usize>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            listen: vec![
                "ldapi:///run/dirless/ldapi".to_owned(),
                "ldap://127.0.0.1:389".to_owned(),
            ],
            copy: PathBuf::from("/var/lib/dirless/directory/copy.db"),
            tls: None,
            refuse_anonymous: false,
            limits: RawLimits::default(),
            log: LogConfig::default(),
        }
    }
}

impl Config {
    /// Reads `path`, or `DIRLESS_LDAPD_CONFIG`, or the default place, which may be empty.
    ///
    /// # Errors
    /// When the file cannot be read or a key makes no sense; the error names it.
    pub fn load(path: Option<&Path>, environment: Lookup<'_>) -> Result<(Self, PathBuf), ConfigError> {
        let named = path
            .map(Path::to_owned)
            .or_else(|| environment("DIRLESS_LDAPD_CONFIG").map(PathBuf::from));
        let (raw, path) = match named {
            Some(path) => (load(&path)?, path),
            None => (load_or_default(Path::new(PATH))?, PathBuf::from(PATH)),
        };
        Ok((Self::check(raw, &path)?, path))
    }

    fn check(raw: Raw, path: &Path) -> Result<Self, ConfigError> {
        let value = |key: &str, reason: String| ConfigError::Value {
            path: path.to_owned(),
            key: key.to_owned(),
            reason,
        };
        if raw.listen.is_empty() {
            let reason = "is empty; leave it out for the local socket and port 389 of the loopback".to_owned();
            return Err(value("listen", reason));
        }
        let listen: Result<Vec<_>, _> = raw.listen.iter().map(|text| address(text)).collect();
        let listen = listen.map_err(|reason| value("listen", reason))?;
        if raw.tls.is_none() && listen.iter().any(|address| matches!(address, Address::Tls(_))) {
            let reason = "is missing, and listen has an ldaps:// address; name certificate and key".to_owned();
            return Err(value("tls", reason));
        }
        for (key, limit) in [
            ("limits.entries", raw.limits.entries),
            ("limits.connections", raw.limits.connections),
        ] {
            if limit == Some(0) {
                return Err(value(key, "is 0; write at least 1, or leave it out".to_owned()));
            }
        }
        Ok(Self {
            listen,
            copy: raw.copy,
            tls: raw.tls,
            refuse_anonymous: raw.refuse_anonymous,
            entries: raw.limits.entries,
            connections: raw.limits.connections,
            log: raw.log,
        })
    }

    /// The addresses, to be shown.
    #[must_use]
    pub fn addresses(&self) -> String {
        let texts: Vec<String> = self.listen.iter().map(ToString::to_string).collect();
        texts.join(", ")
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(path) => write!(formatter, "ldapi://{}", path.display()),
            Self::Plain(address) => write!(formatter, "ldap://{address}"),
            Self::Tls(address) => write!(formatter, "ldaps://{address}"),
        }
    }
}

/// Reads an address; beyond the loopback a host serves nobody.
fn address(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("ldapi://") {
        // As OpenLDAP's tools write it, %2F stands for a slash.
        let path = path.replace("%2F", "/").replace("%2f", "/");
        return if path.starts_with('/') {
            Ok(Address::Local(PathBuf::from(path)))
        } else {
            Err(format!("\"{text}\" has no path; write ldapi:///run/dirless/ldapi"))
        };
    }
    let (rest, make): (_, fn(SocketAddr) -> Address) =
        match (text.strip_prefix("ldap://"), text.strip_prefix("ldaps://")) {
            (Some(rest), _) => (rest, Address::Plain),
            (_, Some(rest)) => (rest, Address::Tls),
            _ => return Err(format!("\"{text}\" must begin with ldapi://, ldap:// or ldaps://")),
        };
    let address: SocketAddr = rest
        .trim_end_matches('/')
        .parse()
        .map_err(|_| format!("\"{text}\" needs an address and a port, as in ldap://127.0.0.1:389"))?;
    if address.ip().is_loopback() {
        Ok(make(address))
    } else {
        Err(format!(
            "\"{text}\" is not the loopback; a host answers for itself alone, and other machines have their own copy"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let path = Path::new("/x/ldapd.toml");
        Config::check(dirless_program::config::parse(text, path)?, path)
    }

    #[test]
    fn nothing_needs_to_be_said() {
        let config = parse("").unwrap();
        assert_eq!(config.addresses(), "ldapi:///run/dirless/ldapi, ldap://127.0.0.1:389");
        assert_eq!(config.copy, Path::new("/var/lib/dirless/directory/copy.db"));
    }

    #[test]
    fn addresses_are_read() {
        for (text, expected) in [
            ("ldapi://%2Frun%2Fx", Address::Local("/run/x".into())),
            ("ldap://[::1]:3890/", Address::Plain("[::1]:3890".parse().unwrap())),
            ("ldaps://127.0.0.1:636", Address::Tls("127.0.0.1:636".parse().unwrap())),
        ] {
            assert_eq!(address(text), Ok(expected));
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_key() {
        for (text, key) in [
            ("listen = []", "listen"),
            ("listen = [\"ldap://0.0.0.0:389\"]", "listen"),
            ("listen = [\"ldap://127.0.0.1\"]", "listen"),
            ("listen = [\"http://127.0.0.1:1\"]", "listen"),
            ("listen = [\"ldapi://\"]", "listen"),
            ("listen = [\"ldaps://127.0.0.1:636\"]", "tls"),
            ("[limits]\nentries = 0", "limits.entries"),
            ("[limits]\nconections = 1", "conections"),
            ("key = 1", "key"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
