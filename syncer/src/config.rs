//! The configuration file, `/etc/dirless/dirless-syncer.toml`: the deployed syncer's file as it
//! stands, and optional tables of ours.

use std::path::{Path, PathBuf};

use dirless_model::{IdRange, NameRule};
use dirless_program::config::ConfigError;
use dirless_program::log::LogConfig;
use dirless_program::{Lookup, Secret};
use dirless_wire::AwsAccountId;

/// Where the configuration is, unless `DIRLESS_SYNCER_CONFIG` or `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/dirless/dirless-syncer.toml";

/// All of it.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The backend of the classic protocol.
    #[serde(default)]
    pub backend: BackendConfig,
    /// The sources, in the order of precedence; none means Identity Center alone.
    #[serde(default)]
    pub source: Vec<crate::sources::SourceConfig>,
    /// AWS IAM Identity Center.
    #[serde(default)]
    pub identity_center: IdentityCenterConfig,
    /// The program itself.
    #[serde(default)]
    pub syncer: SyncerConfig,
    /// How numbers are given out.
    #[serde(default)]
    pub ids: IdsConfig,
    /// When a change is held back.
    #[serde(default)]
    pub guard: GuardConfig,
    /// How the source's names become names on hosts.
    #[serde(default)]
    pub names: NameRule,
    /// What records on hosts look like.
    #[serde(default)]
    pub hosts: HostsConfig,
    /// How local users are numbered and filled in.
    #[serde(default)]
    pub local: crate::local::LocalConfig,
    /// The directory tree.
    #[serde(default)]
    pub tree: crate::tree::TreeConfig,
    /// Engines with files of their own.
    #[serde(default)]
    pub engines: crate::engines::EnginesConfig,
    /// Groups of hosts, for access rules, audiences, compartments and `plan` alike.
    #[serde(default)]
    pub host_groups: crate::host_groups::HostGroups,
    /// What `plan` and `apply` know of hosts.
    #[serde(default)]
    pub plan: crate::radius::PlanConfig,
    /// Who receives which part of the tree.
    #[serde(default)]
    pub audience: Vec<crate::audience::AudienceConfig>,
    /// What hosts believe without believing the backend.
    #[serde(default)]
    pub signed: Option<crate::signed::SignedConfig>,
    /// REST and LDAP.
    #[serde(default)]
    pub serve: crate::serve::ServeConfig,
    /// Bounds on what a source may hold.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Logs.
    #[serde(default)]
    pub log: LogConfig,
    /// Was this syncer enrolled with the classic protocol when the file was read?
    #[serde(skip)]
    pub enrolled: bool,
}

/// `[backend]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendConfig {
    /// Base URL, `http://` or `https://`; only the classic protocol needs it.
    pub url: Option<String>,
    /// The bearer, for the first enrolment. Better kept in a file or a service credential.
    pub enrollment_token: Option<Secret>,
    /// File that holds the bearer (mode 0600).
    pub token_file: Option<PathBuf>,
    /// The tenant id; without it, it is derived from the bearer and the AWS account.
    pub tenant_id: Option<dirless_wire::TenantId>,
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// `[identity_center]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityCenterConfig {
    /// The identity store; without it the one instance that ListInstances shows.
    pub identity_store_id: Option<String>,
    /// The region; without it the standard AWS chain.
    pub region: Option<String>,
    /// The account id; without it the EC2 instance's.
    pub account_id: Option<AwsAccountId>,
    /// Member lists that are read at once, 1 to 64.
    pub concurrency: usize,
    /// Seconds that a whole read may take.
    pub deadline_seconds: u64,
}

impl Default for IdentityCenterConfig {
    fn default() -> Self {
        Self {
            identity_store_id: None,
            region: None,
            account_id: None,
            concurrency: 8,
            // 100,000 users and 20,000 groups at 20 calls a second take 1,050 s.
            deadline_seconds: 1_800,
        }
    }
}

/// `[syncer]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SyncerConfig {
    /// Seconds from one read to the next.
    pub interval_seconds: u64,
    /// Folder of age.key, age_public.key, tenant_id and hmac.key.
    pub key_folder: PathBuf,
    /// Folder of the id ledger and of what was published last.
    pub state_folder: PathBuf,
    /// The id ledger, when it is not `ledger.db` in the state folder.
    pub ledger: Option<PathBuf>,
}

impl Default for SyncerConfig {
    fn default() -> Self {
        Self {
            interval_seconds: 300,
            key_folder: "/etc/dirless".into(),
            state_folder: "/var/lib/dirless/syncer".into(),
            ledger: None,
        }
    }
}

/// What a user's primary group is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrimaryGroup {
    /// A group of their own, with the user's number.
    #[default]
    Private,
    /// The first group by object id that lists the user, as deployed syncers do it; their own
    /// number when there is none. For sites whose hosts must not see primary groups change.
    FirstGroup,
}

/// `[ids]`
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdsConfig {
    /// The numbers to give out.
    pub range: IdRange,
    /// What a user's primary group is.
    pub primary: PrimaryGroup,
}

impl Default for IdsConfig {
    fn default() -> Self {
        Self {
            range: IdRange::ASSIGNED,
            primary: PrimaryGroup::default(),
        }
    }
}

/// `[guard]`
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardConfig {
    /// Share of the entries (0 to 100) that may vanish or change between two publications.
    pub percent: u8,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { percent: 20 }
    }
}

/// `[hosts]`
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostsConfig {
    /// Folder of the home directories.
    pub home_folder: String,
    /// Login shell.
    pub shell: String,
}

impl Default for HostsConfig {
    fn default() -> Self {
        Self {
            home_folder: "/home".to_owned(),
            shell: "/bin/bash".to_owned(),
        }
    }
}

/// `[limits]`
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Users above which nothing is published.
    pub users: usize,
    /// Groups above which nothing is published.
    pub groups: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        // What hosts take, see `dirless_model::snapshot::Caps`.
        let caps = dirless_model::snapshot::Caps::default();
        Self {
            users: caps.users,
            groups: caps.groups,
        }
    }
}

impl Config {
    /// The path of the file: `--config`, then `DIRLESS_SYNCER_CONFIG`, then [`DEFAULT_PATH`].
    #[must_use]
    pub fn path(given: Option<PathBuf>, environment: Lookup<'_>) -> PathBuf {
        given
            .or_else(|| environment("DIRLESS_SYNCER_CONFIG").map(PathBuf::from))
            .unwrap_or_else(|| DEFAULT_PATH.into())
    }

    /// Reads and checks the file.
    ///
    /// # Errors
    /// When it cannot be read, has unknown keys, or values that make no sense.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = dirless_program::config::load(path)?;
        config.check(path)?;
        config.enrolled = crate::keys::KeyFolder::of(&config).is_enrolled();
        Ok(config)
    }

    /// Parses and checks `text`, which stands in `path`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = dirless_program::config::parse(text, path)?;
        config.check(path)?;
        Ok(config)
    }

    /// Is the classic protocol spoken? As `[signed] classic` says. Without a word it is by those who have nothing else, and
    /// by those who were enrolled with it before `[signed]` came: their hosts may still need it.
    #[must_use]
    pub fn is_classic(&self) -> bool {
        match &self.signed {
            None => self.backend.url.is_some(),
            Some(signed) => signed.classic.unwrap_or(self.enrolled && self.backend.url.is_some()),
        }
    }

    /// Does the file say where to publish at all?
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        self.signed.is_some() || self.is_classic()
    }

    /// What there is to say about the classic protocol: it is spoken, and nobody wrote that it should be.
    #[must_use]
    pub fn classic_note(&self) -> Option<&'static str> {
        match &self.signed {
            _ if !self.is_classic() => None,
            None => Some(
                "the classic protocol alone is spoken: hosts believe whoever runs the backend. To have them believe your own \
                 keys, see docs/migrate-from-deployed.md",
            ),
            Some(signed) if signed.classic.is_none() => Some(
                "this syncer was enrolled with the classic protocol, and goes on with it beside [signed]; write classic = \
                 false under [signed] once every host has joined, see docs/migrate-from-deployed.md",
            ),
            Some(_) => None,
        }
    }

    /// Where the id ledger is.
    #[must_use]
    pub fn ledger_path(&self) -> PathBuf {
        self.syncer
            .ledger
            .clone()
            .unwrap_or_else(|| self.syncer.state_folder.join("ledger.db"))
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let refuse = |key: &str, reason: String| {
            Err(ConfigError::Value {
                path: path.to_owned(),
                key: key.to_owned(),
                reason,
            })
        };
        match &self.backend.url {
            Some(url) if !(url.starts_with("http://") || url.starts_with("https://")) => {
                let reason = "must start with https:// (or http:// on a trusted path)";
                return refuse("backend.url", reason.to_owned());
            }
            None if self.is_classic() => {
                return refuse(
                    "backend.url",
                    "is missing, and signed.classic = true needs it".to_owned(),
                );
            }
            _ => {}
        }
        if !(10..=86_400).contains(&self.syncer.interval_seconds) {
            return refuse("syncer.interval_seconds", "must be 10 to 86400".to_owned());
        }
        if !(1..=64).contains(&self.identity_center.concurrency) {
            return refuse("identity_center.concurrency", "must be 1 to 64".to_owned());
        }
        if self.identity_center.deadline_seconds == 0 {
            return refuse("identity_center.deadline_seconds", "must be at least 1".to_owned());
        }
        if self.guard.percent > 100 {
            return refuse("guard.percent", "must be 0 to 100".to_owned());
        }
        if let Err(reason) = crate::ledger::Allocator::new(self.ids.range) {
            return refuse("ids.range", reason.to_string());
        }
        for (key, text) in [
            ("hosts.shell", &self.hosts.shell),
            ("hosts.home_folder", &self.hosts.home_folder),
        ] {
            if let Err(reason) = dirless_model::HostPath::parse(text) {
                return refuse(key, reason.to_string());
            }
        }
        if let Err((key, reason)) = self.engines.check(&crate::sources::SourceSetting::all(self)) {
            return refuse(&key, reason);
        }
        if let Err((key, reason)) = self.local.check() {
            return refuse(key, reason);
        }
        if let Err((key, reason)) = self.plan.check() {
            return refuse(key, reason);
        }
        let compartments = self.signed.as_ref().map(|own| {
            let all = own.compartments().into_iter();
            all.map(|compartment| compartment.name).collect()
        });
        if let Err((key, reason)) = self.host_groups.check(compartments.as_ref()) {
            return refuse(&key, reason);
        }
        if let Err((key, reason)) = crate::audience::Audiences::check(self) {
            return refuse(&key, reason);
        }
        if let Err((key, reason)) = crate::sources::SourceSetting::check(self) {
            return refuse(&key, reason);
        }
        if let Some(Err((key, reason))) = self.signed.as_ref().map(crate::signed::SignedConfig::check) {
            return refuse(&key, reason);
        }
        if let Err((key, reason)) = self.serve.check() {
            return refuse(key, reason);
        }
        let asked = self.serve.ldap.iter().flat_map(|ldap| &ldap.pass_through);
        let sources = crate::sources::SourceSetting::all(self);
        let can_verify = |name: &&String| sources.iter().any(|own| own.name == **name && own.can_verify());
        if let Some(name) = asked.into_iter().find(|name| !can_verify(name)) {
            let reason = format!("{name:?} is no source of kind = \"ldap\", and no other can verify passwords");
            return refuse("serve.ldap.pass_through", reason);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOYED: &str = r#"
[backend]
url = "http://127.0.0.1:4000"
enrollment_token = "sekret-token-1"

[identity_center]
identity_store_id = "d-1234567890"
region = "eu-west-1"

[syncer]
interval_seconds = 60
"#;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/dirless/dirless-syncer.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_deployed_file_is_read_as_it_stands() {
        let config = parse(DEPLOYED).unwrap();
        assert_eq!(config.backend.enrollment_token.unwrap().expose(), "sekret-token-1");
        assert_eq!(
            config.identity_center.identity_store_id.as_deref(),
            Some("d-1234567890")
        );
        assert_eq!(config.syncer.interval_seconds, 60);
        assert_eq!(config.ids.range, IdRange::ASSIGNED);
        assert_eq!(config.guard.percent, 20);
        assert!(parse(DEPLOYED).unwrap().is_classic());
        let config = parse("[backend]\nurl = \"https://d\"\n").unwrap();
        assert_eq!(config.ledger_path(), Path::new("/var/lib/dirless/syncer/ledger.db"));
    }

    /// `[signed]` with a folder.
    const SIGNED: &str =
        "[signed]\nfolder = \"/srv/t\"\nroots = \"1035a858d09bb40f583f65a01422ce15bdf25c8fd30f536d4790d7f42f9707b0\"\n";

    #[test]
    fn signed_stands_alone_unless_somebody_needs_the_classic_protocol() {
        let with = |before: &str, after: &str, enrolled: bool| {
            let mut config = parse(&format!("{before}{SIGNED}{after}")).unwrap();
            config.enrolled = enrolled;
            (config.is_classic(), config.is_set_up(), config.classic_note().is_some())
        };
        let url = "[backend]\nurl = \"https://d\"\n";
        assert_eq!(with("", "", false), (false, true, false));
        assert_eq!(with(url, "", false), (false, true, false));
        // Its hosts still fetch what they are used to.
        assert_eq!(with(url, "", true), (true, true, true));
        assert_eq!(with("", "", true), (false, true, false));
        assert_eq!(with(url, "classic = false", true), (false, true, false));
        assert_eq!(with(url, "classic = true", false), (true, true, false));
        let error = parse(&format!("{SIGNED}classic = true")).unwrap_err();
        assert!(error.contains("backend.url"), "{error}");
    }

    #[test]
    fn without_signed_there_is_the_classic_protocol_or_nothing() {
        let config = parse(DEPLOYED).unwrap();
        assert!(config.is_classic() && config.is_set_up() && config.classic_note().is_some());
        let config = parse("").unwrap();
        assert!(!config.is_classic() && !config.is_set_up() && config.classic_note().is_none());
    }

    #[test]
    fn what_makes_no_sense_names_its_key() {
        let cases = [
            ("[backend]\nurl = \"ftp://d\"", "backend.url"),
            (
                "[backend]\nurl = \"https://d\"\n[syncer]\ninterval_seconds = 1",
                "syncer.interval_seconds",
            ),
            (
                "[backend]\nurl = \"https://d\"\n[local]\ngroup_gid = 0",
                "local.group_gid",
            ),
            (
                "[backend]\nurl = \"https://d\"\n[guard]\npercent = 101",
                "guard.percent",
            ),
            (
                "[backend]\nurl = \"https://d\"\n[ids]\nrange = \"60001-60500\"",
                "ids.range",
            ),
            ("[backend]\nurl = \"https://d\"\n[ids]\nrange = \"9-5\"", "9-5"),
            (
                "[backend]\nurl = \"https://d\"\n[hosts]\nshell = \"bash\"",
                "hosts.shell",
            ),
            (
                "[backend]\nurl = \"https://d\"\n[identity_center]\nconcurrency = 0",
                "concurrency",
            ),
            (
                "[backend]\nurl = \"https://d\"\n[identity_center]\naccount_id = \"12\"",
                "twelve digits",
            ),
            ("[backend]\nurl = \"https://d\"\nsecret = \"hunter2\"", "secret"),
        ];
        for (text, key) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(key) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    proptest::proptest! {
        /// No text makes the parser panic, and what it lets through keeps its bounds.
        #[test]
        fn any_text_is_a_configuration_or_an_error(
            url in "(https?://)?[a-z.]{0,8}",
            table in "(backend|syncer|ids|guard|names|identity_center)",
            line in "[a-z_]{1,20} = (-?[0-9]{1,12}|\"[ -~&&[^\"]]{0,12}\"|true|\\[\\])",
        ) {
            for text in [format!("[backend]\nurl = {url:?}\n[{table}]\n{line}\n"), line] {
                if let Ok(config) = Config::parse(&text, Path::new("/x")) {
                    proptest::prop_assert!(config.backend.url.is_none_or(|url| url.starts_with("http")));
                    proptest::prop_assert!((10..=86_400).contains(&config.syncer.interval_seconds));
                    proptest::prop_assert!(config.guard.percent <= 100);
                }
            }
        }
    }

    #[test]
    fn the_sample_that_is_shipped_is_good_and_shows_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/samples/dirless-syncer.toml");
        let config = Config::load(&path).unwrap();
        assert_eq!(config.ids.range, IdRange::ASSIGNED);
        assert_eq!(config.guard.percent, GuardConfig::default().percent);
        assert_eq!(config.syncer.state_folder, SyncerConfig::default().state_folder);
    }

    #[test]
    fn the_sample_with_directories_is_good() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/samples/dirless-syncer-ldap.toml");
        assert_eq!(Config::load(&path).unwrap().source.len(), 2);
    }

    #[test]
    fn the_file_is_named_by_flag_then_environment() {
        let environment = |name: &str| (name == "DIRLESS_SYNCER_CONFIG").then(|| "/env.toml".to_owned());
        assert_eq!(
            Config::path(Some("/flag.toml".into()), &environment),
            Path::new("/flag.toml")
        );
        assert_eq!(Config::path(None, &environment), Path::new("/env.toml"));
        assert_eq!(Config::path(None, &|_| None), Path::new(DEFAULT_PATH));
    }
}
