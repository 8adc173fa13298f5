//! `/etc/dirless/dirless-agent.toml`: the file that deployed agents read, as it stands, with our own
//! optional keys. It is the one file where an unknown key is a warning and no error, because hosts
//! carry keys of other versions.

mod directory;
mod signed;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dirless_client::Rhythm;
use dirless_program::config::{ConfigError, parse};
use dirless_program::log::LogConfig;
use dirless_program::{Lookup, Secret};
use dirless_wire::{SourceName, TenantId};

use crate::paths::Paths;

pub use directory::DirectoryConfig;
pub use signed::{From, SignedConfig};

/// Everything the agent is told by its file, checked.
#[derive(Debug)]
pub struct Config {
    /// Where everything comes from, and why it is believed.
    pub upstream: Upstream,
    /// The name under which this host reports.
    pub agent_id: String,
    /// When things happen.
    pub timing: Timing,
    /// Whether `getent passwd` lists everyone.
    pub enumerate: bool,
    /// Is a request kept open, on which the backend tells what is new?
    pub watch: bool,
    /// The file with the age identity.
    pub age_key_path: PathBuf,
    /// Sources in falling precedence among the synced ones; `local` always wins over them.
    pub sources: Vec<SourceName>,
    /// Fingerprints (`SHA256:…`) or public keys of certificate authorities that this host trusts.
    pub trusted_ca_keys: Vec<String>,
    /// The directory copy for LDAP on this host; none when there is to be none.
    pub directory: Option<DirectoryConfig>,
    /// Logs.
    pub log: LogConfig,
    /// Keys in the file that nothing reads, dotted.
    pub unknown_keys: Vec<String>,
}

/// Where everything comes from.
#[derive(Debug)]
pub enum Upstream {
    /// Backends that speak the classic protocol, believed because they know the token.
    Classic(Classic),
    /// Signed files, believed because of who signed them.
    Signed(SignedConfig),
}

/// The classic protocol.
#[derive(Debug)]
pub struct Classic {
    /// Base URLs of the backends, at least one; of one with several addresses, each is used.
    pub urls: Vec<String>,
    /// Certificate authority to trust besides the system's, a PEM file.
    pub ca_file: Option<PathBuf>,
    /// The bearer.
    pub secret: Secret,
    /// The tenant.
    pub tenant: TenantId,
}

/// The intervals of the sync loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the start of one cycle to the start of the next.
    pub interval: Duration,
    /// Each wait is this much shorter or longer at most, at random.
    pub jitter: Duration,
    /// The first cycle after a start waits up to this long, when a table is there already.
    pub splay: Duration,
    /// How often backends are probed; zero turns probing off.
    pub probe_interval: Duration,
    /// How long a failed address is left alone.
    pub readmit_after: Duration,
    /// Limit of one probe.
    pub probe_timeout: Duration,
    /// Limit of one request without progress.
    pub fetch_timeout: Duration,
    /// Limit of one run of the worker.
    pub worker_timeout: Duration,
}

impl Timing {
    /// How often this host looks.
    #[must_use]
    pub fn rhythm(&self) -> Rhythm {
        Rhythm {
            interval: self.interval,
            jitter: self.jitter,
            splay: self.splay,
        }
    }
}

impl Config {
    /// What the classic protocol needs; none where files are signed.
    #[must_use]
    pub fn classic(&self) -> Option<&Classic> {
        match &self.upstream {
            Upstream::Classic(classic) => Some(classic),
            Upstream::Signed(_) => None,
        }
    }

    /// What signed files are believed by; none with the classic protocol.
    #[must_use]
    pub fn signed(&self) -> Option<&SignedConfig> {
        match &self.upstream {
            Upstream::Classic(_) => None,
            Upstream::Signed(signed) => Some(signed),
        }
    }

    /// Every source that is fetched: those of accounts, then those of the directory tree.
    pub fn fetched(&self) -> impl Iterator<Item = &SourceName> {
        let of_tree = self.directory.iter().flat_map(|directory| &directory.sources);
        self.sources.iter().chain(of_tree)
    }
}

/// Keys that are read, per table. What deployed files have beyond them is listed in a warning.
const KNOWN: [(&str, &[&str]); 7] = [
    ("backend", &["url", "urls", "ca_file"]),
    (
        "agent",
        &[
            "id",
            "interval_seconds",
            "probe_interval_seconds",
            "readmit_after_seconds",
            "probe_timeout_seconds",
            "fetch_timeout_seconds",
            "worker_timeout_seconds",
            "enumerate",
            "watch",
            "jitter_seconds",
            "splay_seconds",
            "sources",
        ],
    ),
    ("auth", &["hmac_secret", "hmac_secret_file", "tenant_id"]),
    ("local", &["db_path", "age_key_path", "socket_path"]),
    ("ssh", &["trusted_ca_keys"]),
    ("directory", &["base", "sources"]),
    ("log", &["format", "level"]),
];

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    backend: RawBackend,
    agent: RawAgent,
    auth: RawAuth,
    local: RawLocal,
    ssh: RawSsh,
    directory: Option<directory::RawDirectory>,
    trust: Option<signed::RawTrust>,
    log: LogConfig,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawBackend {
    url: Option<String>,
    urls: Vec<String>,
    ca_file: Option<PathBuf>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawAgent {
    id: Option<String>,
    interval_seconds: Option<u64>,
    probe_interval_seconds: Option<u64>,
    readmit_after_seconds: Option<u64>,
    probe_timeout_seconds: Option<u64>,
    fetch_timeout_seconds: Option<u64>,
    worker_timeout_seconds: Option<u64>,
    jitter_seconds: Option<u64>,
    splay_seconds: Option<u64>,
    enumerate: Option<bool>,
    watch: Option<bool>,
    sources: Option<Vec<String>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawAuth {
    hmac_secret: Option<Secret>,
    hmac_secret_file: Option<PathBuf>,
    tenant_id: Option<String>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLocal {
    age_key_path: Option<PathBuf>,
    // Read by deployed agents; accepted so that their file stands as it is.
    #[serde(rename = "db_path")]
    _db_path: Option<PathBuf>,
    #[serde(rename = "socket_path")]
    _socket_path: Option<PathBuf>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawSsh {
    trusted_ca_keys: Vec<String>,
}

/// The configuration file: `DIRLESS_AGENT_CONFIG` for root, the deployed place for everyone else.
/// (`euid` is the caller's effective user id: an override by environment in a program that runs with
/// someone's higher rights would hand them those rights.)
#[must_use]
pub fn path(paths: &Paths, environment: Lookup<'_>, euid: u32) -> PathBuf {
    match environment("DIRLESS_AGENT_CONFIG") {
        Some(path) if euid == 0 && !path.is_empty() => PathBuf::from(path),
        _ => paths.config(),
    }
}

/// Reads and checks the file at `path`. `hostname` stands in for a missing `[agent] id`.
///
/// # Errors
/// When the file is missing, open to others, or a key is missing or makes no sense; the error names
/// the key and what to write.
pub fn load(path: &Path, paths: &Paths, hostname: &str) -> Result<Config, ConfigError> {
    let read = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(read)?;
    let owner = metadata.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(value(
            path,
            "owner",
            &format!("belongs to user {owner}; run: chown root:root {}", path.display()),
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o7777;
        let fix = format!(
            "holds the secret and others can open it (mode {mode:04o}); run: chmod 600 {}",
            path.display()
        );
        return Err(value(path, "mode", &fix));
    }
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(path).map_err(read)?);
    from_text(&text, path, paths, hostname)
}

/// [`load`] for text at hand; `path` is used in messages only.
///
/// # Errors
/// As [`load`].
pub fn from_text(text: &str, path: &Path, paths: &Paths, hostname: &str) -> Result<Config, ConfigError> {
    let mut table: toml::Table = parse(text, path)?;
    let mut unknown_keys = take_unknown(&mut table);
    if table.contains_key("trust") && table.contains_key("auth") {
        // A host that joined speaks the verified protocol alone.
        unknown_keys.push("auth".to_owned());
    }
    let raw: Raw = toml::Value::Table(table)
        .try_into()
        .map_err(|error: toml::de::Error| ConfigError::Parse {
            path: path.to_owned(),
            reason: error.message().to_owned(),
        })?;
    let upstream = match raw.trust {
        Some(trust) => Upstream::Signed(trust.check(paths, &raw.backend, path)?),
        None => {
            let urls = urls(&raw.backend, path)?;
            let (secret, tenant) = credentials(raw.auth, path, paths)?;
            Upstream::Classic(Classic {
                urls,
                ca_file: raw.backend.ca_file,
                secret,
                tenant,
            })
        }
    };
    let timing = timing(&raw.agent, path)?;
    let sources = sources(raw.agent.sources, path)?;
    let directory = raw.directory.map(|directory| directory.check(&sources, path));
    Ok(Config {
        upstream,
        agent_id: agent_id(raw.agent.id, hostname, path)?,
        timing,
        enumerate: raw.agent.enumerate.unwrap_or(true),
        watch: raw.agent.watch.unwrap_or(true),
        age_key_path: raw
            .local
            .age_key_path
            .map_or_else(|| paths.age_key(), |key| paths.rooted(&key)),
        sources,
        trusted_ca_keys: raw.ssh.trusted_ca_keys,
        directory: directory.transpose()?,
        log: raw.log,
        unknown_keys,
    })
}

fn take_unknown(table: &mut toml::Table) -> Vec<String> {
    let mut unknown = Vec::new();
    table.retain(|name, content| {
        let name: &str = name;
        // What a host believes by is no place for misspelt words: there they are an error.
        if name == "trust" {
            return true;
        }
        let Some((_, known)) = KNOWN.iter().find(|(table, _)| *table == name) else {
            unknown.push(name.to_owned());
            return false;
        };
        if let toml::Value::Table(keys) = content {
            keys.retain(|key, _| {
                let key: &str = key;
                let keep = known.contains(&key);
                if !keep {
                    unknown.push(format!("{name}.{key}"));
                }
                keep
            });
        }
        true
    });
    unknown
}

fn urls(backend: &RawBackend, path: &Path) -> Result<Vec<String>, ConfigError> {
    let urls: Vec<String> = backend.url.iter().chain(&backend.urls).cloned().collect();
    if urls.is_empty() {
        return Err(value(
            path,
            "backend.url",
            "is missing; write url = \"https://your-backend\" under [backend]",
        ));
    }
    for url in &urls {
        check_url(url).map_err(|reason| value(path, "backend.url", &reason))?;
    }
    Ok(urls)
}

/// Whether a text can be a backend's base URL.
///
/// # Errors
/// What is wrong with it and what to write instead.
pub fn check_url(url: &str) -> Result<(), String> {
    let parsed = reqwest::Url::parse(url)
        .map_err(|error| format!("\"{url}\" is not a URL ({error}); write https://host[:port]"))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(format!(
            "\"{url}\" must begin with https:// (or http://) and name a host"
        ));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("holds a user name or password; the secret belongs into [auth] hmac_secret".to_owned());
    }
    Ok(())
}

fn timing(agent: &RawAgent, path: &Path) -> Result<Timing, ConfigError> {
    let seconds = |key: &str, given: Option<u64>, default: u64, least: u64, most: u64| {
        let seconds = given.unwrap_or(default);
        if (least..=most).contains(&seconds) {
            Ok(Duration::from_secs(seconds))
        } else {
            let reason = format!("is {seconds}; write a number from {least} to {most} (the default is {default})");
            Err(value(path, &format!("agent.{key}"), &reason))
        }
    };
    let interval = agent.interval_seconds.unwrap_or(60);
    Ok(Timing {
        interval: seconds("interval_seconds", agent.interval_seconds, 60, 1, 86_400)?,
        // A tenth spreads a fleet over a few intervals without changing what an operator expects.
        jitter: seconds("jitter_seconds", agent.jitter_seconds, interval / 10, 0, 3_600)?,
        splay: seconds("splay_seconds", agent.splay_seconds, interval.min(30) / 2, 0, 3_600)?,
        probe_interval: seconds("probe_interval_seconds", agent.probe_interval_seconds, 60, 0, 86_400)?,
        readmit_after: seconds("readmit_after_seconds", agent.readmit_after_seconds, 300, 0, 86_400)?,
        probe_timeout: seconds("probe_timeout_seconds", agent.probe_timeout_seconds, 5, 1, 300)?,
        fetch_timeout: seconds("fetch_timeout_seconds", agent.fetch_timeout_seconds, 30, 1, 600)?,
        worker_timeout: seconds("worker_timeout_seconds", agent.worker_timeout_seconds, 120, 1, 3_600)?,
    })
}

fn credentials(auth: RawAuth, path: &Path, paths: &Paths) -> Result<(Secret, TenantId), ConfigError> {
    let tenant = auth.tenant_id.ok_or_else(|| {
        value(
            path,
            "auth.tenant_id",
            "is missing; run \"dirless enroll\", which writes it, or copy it from the portal",
        )
    })?;
    let tenant = TenantId::new(&tenant).map_err(|error| value(path, "auth.tenant_id", &error.to_string()))?;
    let secret = match (auth.hmac_secret, auth.hmac_secret_file) {
        (Some(secret), None) => secret,
        (None, Some(file)) => Secret::from_file(&paths.rooted(&file))
            .map_err(|error| value(path, "auth.hmac_secret_file", &error.to_string()))?,
        (Some(_), Some(_)) => {
            return Err(value(
                path,
                "auth.hmac_secret",
                "and hmac_secret_file are both there; keep one",
            ));
        }
        (None, None) => {
            return Err(value(
                path,
                "auth.hmac_secret",
                "is missing; run \"dirless enroll\", which writes it",
            ));
        }
    };
    let printable = secret.expose().bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if secret.expose().is_empty() || !printable {
        return Err(value(
            path,
            "auth.hmac_secret",
            "is empty or has characters that no header can carry; enroll again",
        ));
    }
    Ok((secret, tenant))
}

fn agent_id(given: Option<String>, hostname: &str, path: &Path) -> Result<String, ConfigError> {
    let id = given.unwrap_or_else(|| hostname.to_owned());
    let good =
        !id.is_empty() && id.len() <= dirless_wire::Heartbeat::MAX_NAME_BYTES && !id.chars().any(char::is_control);
    if good {
        Ok(id)
    } else {
        Err(value(
            path,
            "agent.id",
            "must be 1 to 255 bytes without control characters; the host name is usual",
        ))
    }
}

fn sources(given: Option<Vec<String>>, path: &Path) -> Result<Vec<SourceName>, ConfigError> {
    let Some(names) = given else {
        return Ok(vec![SourceName::aws_identity_center(), SourceName::local()]);
    };
    let mut sources: Vec<SourceName> = Vec::new();
    for name in names {
        let source =
            SourceName::new(&name).map_err(|error| value(path, "agent.sources", &format!("\"{name}\": {error}")))?;
        if sources.contains(&source) {
            return Err(value(path, "agent.sources", &format!("names \"{name}\" twice")));
        }
        sources.push(source);
    }
    if sources.is_empty() {
        return Err(value(
            path,
            "agent.sources",
            "is empty; leave it out for aws-identity-center and local",
        ));
    }
    Ok(sources)
}

fn value(path: &Path, key: &str, reason: &str) -> ConfigError {
    ConfigError::Value {
        path: path.to_owned(),
        key: key.to_owned(),
        reason: reason.to_owned(),
    }
}

/// The kernel's host name: what access rules and heartbeats name.
#[must_use]
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
