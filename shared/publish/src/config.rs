//! `[signed]` of the configuration.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use dirless_seal::trust::Lease;
use dirless_seal::{Digest, Label};
use serde::de::{Deserialize, Deserializer, Error};

/// `[signed]`
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedConfig {
    /// The tenant folder: what is written there, any file host may serve. Beside `urls` it is a copy.
    pub folder: Option<PathBuf>,
    /// Base URLs of the backends that hosts ask; any of them does.
    #[serde(default)]
    pub urls: Vec<String>,
    /// PEM file of authorities that the backends' certificates may be of, besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Fingerprint of the root keys, as `dirless tenant init` prints it.
    #[serde(deserialize_with = "text")]
    pub roots: Digest,
    /// The tenant; without it the one of the classic protocol.
    #[serde(default, deserialize_with = "text_if_any")]
    pub tenant: Option<Digest>,
    /// The first policy that has these roots.
    #[serde(default = "first")]
    pub policy: u64,
    /// Where hosts find the tenant: what join codes say; without it the first of `urls`.
    pub url: Option<String>,
    /// Folder of publisher.key, enroller.key and enroller.age; without it `[syncer] key_folder`.
    pub key_folder: Option<PathBuf>,
    /// Seconds until a head is stale and hosts raise an alarm.
    #[serde(default = "fresh_seconds")]
    pub fresh_seconds: u32,
    /// Seconds until its lease runs out; the policy may allow less.
    #[serde(default = "lease_seconds")]
    pub lease_seconds: u32,
    /// Days that an epoch's key is used.
    #[serde(default = "epoch_days")]
    pub epoch_days: u16,
    /// Days until the publisher's key gets a successor; 0 means never.
    #[serde(default = "rotate_days")]
    pub rotate_days: u16,
    /// Days that the key before signs along, for copies and hosts that have not seen the succession.
    #[serde(default = "overlap_days")]
    pub overlap_days: u16,
    /// How long a log of changes may get, in percent of what it changes, before everything is published anew; 0 means no log.
    #[serde(default = "log_percent")]
    pub log_percent: u8,
    /// Push to hosts that know only the classic protocol as well.
    pub classic: Option<bool>,
    /// Who receives what; none means one compartment, `all`, with everything.
    #[serde(default)]
    pub compartment: Vec<CompartmentConfig>,
    /// Hosts that read certain compartments alone: their access rules are told to nobody else.
    #[serde(skip)]
    pub hosts_of: Vec<crate::HostsOf>,
}

/// `[[signed.compartment]]`
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompartmentConfig {
    /// Its name, as the policy has it.
    #[serde(deserialize_with = "text")]
    pub name: Label,
    /// The sources that its hosts read; without it all of them.
    #[serde(default, deserialize_with = "texts_if_any")]
    pub sources: Option<BTreeSet<Label>>,
    /// Sources that it does not read although it reads all: those of hosts of other compartments.
    #[serde(skip)]
    pub without: BTreeSet<Label>,
}

impl CompartmentConfig {
    /// Do its hosts read `source`?
    #[must_use]
    pub fn reads(&self, source: &Label) -> bool {
        let named = self.sources.as_ref().is_none_or(|sources| sources.contains(source));
        named && !self.without.contains(source)
    }
}

fn first() -> u64 {
    1
}

fn fresh_seconds() -> u32 {
    15 * 60
}

fn lease_seconds() -> u32 {
    24 * 3600
}

fn epoch_days() -> u16 {
    30
}

fn rotate_days() -> u16 {
    90
}

fn overlap_days() -> u16 {
    7
}

fn log_percent() -> u8 {
    25
}

fn text<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn text_if_any<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<Option<T>, D::Error> {
    text(deserializer).map(Some)
}

fn texts_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeSet<Label>>, D::Error> {
    let all = Vec::<String>::deserialize(deserializer)?;
    let all = all.iter().map(|text| text.parse().map_err(D::Error::custom));
    all.collect::<Result<_, _>>().map(Some)
}

impl SignedConfig {
    /// Looks at the values: the key that is wrong and why.
    ///
    /// # Errors
    /// When one makes no sense.
    pub fn check(&self) -> Result<(), (String, String)> {
        let refuse = |key: &str, reason: &str| Err((format!("signed.{key}"), reason.to_owned()));
        if self.folder.is_none() && self.urls.is_empty() {
            return refuse(
                "folder",
                "is missing, and urls too: one of them, or both, say where hosts find the tenant",
            );
        }
        if self.folder.as_ref().is_some_and(|folder| !folder.is_absolute()) {
            return refuse("folder", "must be an absolute path");
        }
        for url in &self.urls {
            if let Err(error) = dirless_client::BaseUrl::new(url) {
                return refuse("urls", &error.to_string());
            }
        }
        if self.policy == 0 {
            return refuse("policy", "must be at least 1");
        }
        // A head is signed each minute; a shorter lease would run out in between.
        if self.fresh_seconds < 120 {
            return refuse(
                "fresh_seconds",
                "must be at least 120, for a head is signed each minute",
            );
        }
        if self.lease_seconds < self.fresh_seconds {
            return refuse("lease_seconds", "must not be less than fresh_seconds");
        }
        if !(1..=3650).contains(&self.epoch_days) {
            return refuse("epoch_days", "must be 1 to 3650");
        }
        if self.rotate_days > 3650 {
            return refuse("rotate_days", "must be 0 to 3650");
        }
        if !(1..=365).contains(&self.overlap_days) {
            return refuse("overlap_days", "must be 1 to 365");
        }
        if self.rotate_days > 0 && self.overlap_days > self.rotate_days {
            return refuse(
                "overlap_days",
                "must not be more than rotate_days: two keys sign at most",
            );
        }
        if self.log_percent > 100 {
            return refuse("log_percent", "must be 0 to 100");
        }
        if let Some(url) = &self.url
            && (url.contains(char::is_whitespace)
                || !["https://", "http://", "file:///"].iter().any(|at| url.starts_with(at)))
        {
            return refuse(
                "url",
                "must start with https://, http:// or file:/// and hold no blanks",
            );
        }
        let mut names = BTreeSet::new();
        for (at, compartment) in self.compartment.iter().enumerate() {
            if !names.insert(&compartment.name) {
                return refuse(&format!("compartment[{at}].name"), "is there twice");
            }
            if compartment.sources.as_ref().is_some_and(BTreeSet::is_empty) {
                let reason = "names no source; for all of them leave it out";
                return refuse(&format!("compartment[{at}].sources"), reason);
            }
        }
        Ok(())
    }

    /// The compartments.
    #[must_use]
    pub fn compartments(&self) -> Vec<CompartmentConfig> {
        if self.compartment.is_empty() {
            return vec![CompartmentConfig {
                name: "all".parse().expect("a label"),
                sources: None,
                without: BTreeSet::new(),
            }];
        }
        self.compartment.clone()
    }

    /// Where hosts find the tenant.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref().or_else(|| self.urls.first().map(String::as_str))
    }

    /// Where it is published, for people.
    #[must_use]
    pub fn place(&self) -> String {
        let folder = self.folder.as_ref().map(|folder| folder.display().to_string());
        let mut places = self.urls.clone();
        places.extend(folder);
        places.join(", ")
    }

    /// How long heads are believed, under a policy that allows `most` seconds.
    #[must_use]
    pub fn lease(&self, most: u32) -> Lease {
        let expires = self.lease_seconds.min(most);
        Lease {
            fresh: self.fresh_seconds.min(expires),
            expires,
        }
    }
}
