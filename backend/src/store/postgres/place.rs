//! Where a PostgreSQL database is: the URL of the configuration, without its password.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use dirless_program::Secret;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// How long one address may take to answer, unless the URL says `connect_timeout`.
const CONNECT: Duration = Duration::from_secs(2);

/// How long sent data may stay unacknowledged, unless the URL says `tcp_user_timeout`: how soon a cut
/// network is noticed.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// How soon a machine that is gone is noticed while an answer of it is waited for: a question after so much silence, and
/// again; without an answer [`UNACKNOWLEDGED`] later it is.
const SILENCE: Duration = Duration::from_secs(5);
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// A database of PostgreSQL, by its URL:
/// `postgres://user@host1,host2:5433/database?target_session_attrs=read-write&sslmode=verify-full`.
///
/// `Debug` and `Display` show no secret: a URL with a password is refused.
#[derive(Clone)]
pub struct PostgresPlace {
    /// One for each host, in the order of the URL.
    configs: Vec<Config>,
    shown: String,
    protection: Protection,
    password: Option<std::sync::Arc<Secret>>,
}

/// How a connection is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// Not: a socket of this machine, or `sslmode=disable`.
    None,
    /// TLS; the certificate is the host's and leads to the authorities of this file or the system's.
    Full(Option<PathBuf>),
}

/// Why a URL is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// A password in it.
    #[error(
        "it holds a password, which logs and process lists would show: take it out and name a file in password_file, or give the credential postgres-password"
    )]
    Password,
    /// A protection that does not protect, or none that is known.
    #[error(
        "sslmode={0} is not offered: use verify-full (the server's certificate and name are checked), or disable on a network that is protected otherwise"
    )]
    SslMode(String),
    /// No host, user or database.
    #[error("it names no {0}: write postgres://USER@HOST1,HOST2/DATABASE")]
    Missing(&'static str),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl PostgresPlace {
    /// The same place with the password of its user.
    #[must_use]
    pub fn with_password(mut self, password: Secret) -> Self {
        self.password = Some(std::sync::Arc::new(password));
        self
    }

    pub(super) fn protection(&self) -> &Protection {
        &self.protection
    }

    /// Everything to connect with, for each host.
    pub(super) fn configs(&self) -> Vec<Config> {
        let mut configs = self.configs.clone();
        if let Some(password) = &self.password {
            for config in &mut configs {
                config.password(password.expose());
            }
        }
        configs
    }
}

impl fmt::Display for PostgresPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("PostgresPlace").field(&self.shown).finish()
    }
}

impl FromStr for PostgresPlace {
    type Err = PlaceError;

    fn from_str(url: &str) -> Result<Self, PlaceError> {
        let (plain, mode, authorities) = take_protection(url)?;
        let config = parsed(&plain)?;
        if config.get_password().is_some() {
            return Err(PlaceError::Password);
        }
        for (there, what) in [
            (!config.get_hosts().is_empty(), "host"),
            (config.get_user().is_some(), "user"),
            (config.get_dbname().is_some(), "database"),
        ] {
            if !there {
                return Err(PlaceError::Missing(what));
            }
        }
        let far = config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
        let protection = match mode.as_deref() {
            Some("disable") => Protection::None,
            None if !far => Protection::None,
            Some("verify-full") | None => Protection::Full(authorities),
            Some(other) => return Err(PlaceError::SslMode(other.to_owned())),
        };
        let configs: Result<Vec<_>, _> = of_each_host(&plain).iter().map(|url| parsed(url)).collect();
        let mut configs = configs?;
        for config in &mut configs {
            complete(config, &protection);
        }
        let shown = url.split_once('?').map_or(url, |(place, _)| place).to_owned();
        Ok(Self {
            configs,
            shown,
            protection,
            password: None,
        })
    }
}

fn parsed(url: &str) -> Result<Config, PlaceError> {
    url.parse().map_err(|error: tokio_postgres::Error| {
        PlaceError::Other(format!(
            "it is no URL of PostgreSQL ({error}): write postgres://USER@HOST1,HOST2/DATABASE"
        ))
    })
}

/// What a URL does not say.
fn complete(config: &mut Config, protection: &Protection) {
    config.ssl_mode(match protection {
        Protection::None => SslMode::Disable,
        Protection::Full(_) => SslMode::Require,
    });
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(UNACKNOWLEDGED);
    }
    config.keepalives_idle(SILENCE);
    config.keepalives_interval(ASK_AGAIN);
    if config.get_application_name().is_none() {
        config.application_name("dirless-backend");
    }
    // A standby takes no writes and may be behind.
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
}

/// The URL once for each host in its place. Those that parameters name stay together.
fn of_each_host(url: &str) -> Vec<String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let (place, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, hosts) = place.rfind('@').map_or(("", place), |at| place.split_at(at + 1));
    hosts
        .split(',')
        .map(|host| format!("{scheme}://{user}{host}{tail}"))
        .collect()
}

/// The URL without `sslmode` and `sslrootcert`, which are ours to understand, and these.
fn take_protection(url: &str) -> Result<(String, Option<String>, Option<PathBuf>), PlaceError> {
    // What comes before the last @ of the place is user and password.
    let place = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = place.split(['/', '?']).next().unwrap_or(place);
    if place.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
        return Err(PlaceError::Password);
    }
    let Some((place, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), None, None));
    };
    let (mut mode, mut authorities, mut rest) = (None, None, Vec::new());
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value.to_owned()),
            Some(("sslrootcert", value)) => authorities = Some(PathBuf::from(value)),
            Some(("password", _)) => return Err(PlaceError::Password),
            Some(("target_session_attrs", "read-write")) | None => {}
            Some(("target_session_attrs", other)) => {
                return Err(PlaceError::Other(format!(
                    "target_session_attrs={other} cannot be: the store writes, so it is read-write"
                )));
            }
            Some(_) => rest.push(pair),
        }
    }
    let plain = if rest.is_empty() {
        place.to_owned()
    } else {
        format!("{place}?{}", rest.join("&"))
    };
    Ok((plain, mode, authorities))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> PostgresPlace {
        url.parse().unwrap()
    }

    #[test]
    fn several_hosts_are_asked_for_the_one_that_writes() {
        let place =
            place("postgres://dirless@db1,db2:5433/dirless?target_session_attrs=read-write&sslmode=verify-full");
        let configs = place.configs();
        let hosts: Vec<_> = configs.iter().map(Config::get_hosts).collect();
        let named = ["db1", "db2"].map(|name| [Host::Tcp(name.to_owned())]);
        assert_eq!(hosts, named.iter().map(<[_; 1]>::as_slice).collect::<Vec<_>>());
        let ports: Vec<_> = configs.iter().map(Config::get_ports).collect();
        assert_eq!(ports, [[5432].as_slice(), [5433].as_slice()]);
        for config in &configs {
            assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
            assert_eq!(config.get_connect_timeout(), Some(&CONNECT));
            assert_eq!(config.get_user(), Some("dirless"));
        }
        assert_eq!(*place.protection(), Protection::Full(None));
        assert_eq!(place.to_string(), "postgres://dirless@db1,db2:5433/dirless");
    }

    #[test]
    fn connections_are_protected_unless_they_stay_on_the_machine() {
        assert_eq!(*place("postgres://u@h/d").protection(), Protection::Full(None));
        assert_eq!(
            *place("postgres://u@%2Frun%2Fpostgresql/d").protection(),
            Protection::None
        );
        assert_eq!(
            *place("postgres://u@h/d?sslmode=disable").protection(),
            Protection::None
        );
        assert_eq!(
            *place("postgresql://u@h/d?sslrootcert=/etc/ca.pem&connect_timeout=5").protection(),
            Protection::Full(Some("/etc/ca.pem".into()))
        );
        for weak in ["prefer", "require", "allow", "verify-ca"] {
            let refused = format!("postgres://u@h/d?sslmode={weak}")
                .parse::<PostgresPlace>()
                .unwrap_err();
            assert_eq!(refused, PlaceError::SslMode(weak.to_owned()));
        }
    }

    #[test]
    fn a_password_is_refused_and_never_shown() {
        for url in [
            "postgres://u:sekret@h/d",
            "postgres://u@h/d?password=sekret",
            "postgres://u:sekret@h/d?sslmode=disable",
        ] {
            let refused = url.parse::<PostgresPlace>().unwrap_err();
            assert_eq!(refused, PlaceError::Password);
            assert!(!refused.to_string().contains("sekret"));
        }
        let place = place("postgres://u@h/d").with_password(Secret::new("sekret".to_owned()));
        for config in place.configs() {
            assert_eq!(config.get_password(), Some(b"sekret".as_slice()));
        }
        assert!(!format!("{place:?} {place}").contains("sekret"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let refused = |url: &str| url.parse::<PostgresPlace>().unwrap_err();
        assert_eq!(refused("postgres://h/d"), PlaceError::Missing("user"));
        assert_eq!(refused("postgres://u@h"), PlaceError::Missing("database"));
        assert_eq!(refused("postgres:///d?user=u"), PlaceError::Missing("host"));
        for odd in ["postgres://u@h/d?nonsense=1", "mysql://u@h/d", "postgres://u@h:x/d"] {
            assert!(matches!(refused(odd), PlaceError::Other(_)), "{odd}");
        }
        assert!(
            refused("postgres://u@h/d?target_session_attrs=any")
                .to_string()
                .contains("read-write")
        );
    }
}
