use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dirless_program::{Clock, Secret};
use dirless_wire::TenantId;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::resolve::{Resolve, SystemResolver};
use crate::transport::{Sender, Transport};
use crate::{BaseUrl, BaseUrlError, Client, RequestKey, RetryPolicy};

/// Longest call of a host with a small body, also where bodies may take longer: it goes to another backend after that.
const LONGEST_CALL: Duration = Duration::from_secs(15);
/// How long a backend may leave unconfirmed what a host sent: one that is gone, or cut off.
const SILENCE: Duration = Duration::from_secs(10);

/// How long to wait for what. Each holds for one try at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name resolution, and connecting with the TLS handshake.
    pub connect: Duration,
    /// A whole call with a small body, from connecting to the last byte.
    pub call: Duration,
    /// A whole snapshot, either way.
    pub fetch: Duration,
    /// A probe.
    pub probe: Duration,
    /// How long what was sent may stay unconfirmed: sooner than any of the above a machine or network is noticed that is gone, and
    /// nobody who only takes long to answer.
    pub silence: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            call: Duration::from_secs(15),
            fetch: Duration::from_secs(30),
            probe: Duration::from_secs(5),
            silence: Duration::from_secs(30),
        }
    }
}

impl Timeouts {
    /// Those of a host, which may have other backends to go to, with the limits of a body and of a probe that it is configured
    /// with.
    #[must_use]
    pub fn of_host(fetch: Duration, probe: Duration) -> Self {
        Self {
            connect: fetch.min(Duration::from_secs(10)),
            call: fetch.min(LONGEST_CALL),
            fetch,
            probe,
            silence: SILENCE,
        }
    }

    /// Those of a host whose configuration says nothing of it.
    #[must_use]
    pub fn of_usual_host() -> Self {
        let Self { fetch, probe, .. } = Self::default();
        Self::of_host(fetch, probe)
    }
}

/// Why a client could not be made: a matter of configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No URL was given.
    #[error("no backend is configured; set its URL, as in https://dirless.example.com")]
    NoBackend,
    /// A URL is not usable.
    #[error(transparent)]
    Url(#[from] BaseUrlError),
    /// A key to sign with, but no tenant to name.
    #[error("signed requests name the tenant, and there is none")]
    NoTenant,
    /// The bearer cannot stand in a header.
    #[error("the token is empty or has characters other than visible ASCII; copy it again, without line breaks")]
    Bearer,
    /// The CA file cannot be read.
    #[error("cannot read the CA file {}: {source}; check the path", path.display())]
    CaRead {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The CA file holds no certificate.
    #[error("{} holds no usable certificate ({reason}); it must be PEM, -----BEGIN CERTIFICATE-----", path.display())]
    CaContent {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The proxy URL is not usable.
    #[error("the proxy URL is not usable ({0}); write it like http://proxy.example.com:3128")]
    Proxy(String),
    /// The TLS library refused.
    #[error("cannot set up TLS: {0}; install the ca-certificates package or name a CA file")]
    Tls(String),
}

/// Everything a [`Client`] is made from.
#[derive(Debug)]
pub struct ClientBuilder {
    urls: Vec<BaseUrl>,
    bearer: Option<Secret>,
    tenant: Option<TenantId>,
    key: Option<RequestKey>,
    timeouts: Timeouts,
    retry: RetryPolicy,
    readmit_after: Duration,
    resolve_every: Duration,
    ca_file: Option<PathBuf>,
    proxy: Option<String>,
    user_agent: String,
    clock: Clock,
    resolver: Arc<dyn Resolve>,
    seed: Option<u64>,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientBuilder {
    /// A builder without any URL.
    #[must_use]
    pub fn new() -> Self {
        Self {
            urls: Vec::new(),
            bearer: None,
            tenant: None,
            key: None,
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
            readmit_after: Duration::from_secs(300),
            resolve_every: Duration::from_secs(30),
            ca_file: None,
            proxy: None,
            user_agent: concat!("dirless/", env!("CARGO_PKG_VERSION")).to_owned(),
            clock: Clock::system(),
            resolver: Arc::new(SystemResolver),
            seed: None,
        }
    }

    /// Adds one backend URL, `http[s]://host[:port][/prefix]`. Every address of its host is a
    /// backend; the same URL twice counts once.
    ///
    /// # Errors
    /// When the URL is not of that form.
    pub fn url(mut self, url: &str) -> Result<Self, BuildError> {
        let url = BaseUrl::new(url)?;
        if !self.urls.contains(&url) {
            self.urls.push(url);
        }
        Ok(self)
    }

    /// Adds several backend URLs, as [`ClientBuilder::url`] does.
    ///
    /// # Errors
    /// When one is not of the right form.
    pub fn urls<'a>(self, urls: impl IntoIterator<Item = &'a str>) -> Result<Self, BuildError> {
        urls.into_iter().try_fold(self, Self::url)
    }

    /// The token sent on every call but probes and health.
    #[must_use]
    pub fn bearer(mut self, bearer: Secret) -> Self {
        self.bearer = Some(bearer);
        self
    }

    /// The tenant named on every call but enrolment, probes and health.
    #[must_use]
    pub fn tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// The key that calls of the verified protocol are signed with.
    #[must_use]
    pub fn key(mut self, key: RequestKey) -> Self {
        self.key = Some(key);
        self
    }

    /// How long to wait for what.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// How often to try again.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// After how long a failed address is tried again although others are healthy (default 300 s).
    #[must_use]
    pub fn readmit_after(mut self, after: Duration) -> Self {
        self.readmit_after = after;
        self
    }

    /// How long resolved addresses are used before asking again (default 30 s).
    #[must_use]
    pub fn resolve_every(mut self, every: Duration) -> Self {
        self.resolve_every = every;
        self
    }

    /// A PEM file with certificate authorities trusted besides the system's.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// An HTTP proxy. Through it addresses cannot be told apart: each URL is then one backend.
    #[must_use]
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// Another `User-Agent` than `dirless/VERSION`.
    #[must_use]
    pub fn user_agent(mut self, text: impl Into<String>) -> Self {
        self.user_agent = text.into();
        self
    }

    /// Another clock than the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Another resolver than the system's.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Fixes every random choice (which backend, how long to wait).
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    /// When something in the configuration cannot work: no URL, a bad token, CA file or proxy.
    pub fn build(self) -> Result<Client, BuildError> {
        if self.urls.is_empty() {
            return Err(BuildError::NoBackend);
        }
        if self.key.is_some() && self.tenant.is_none() {
            return Err(BuildError::NoTenant);
        }
        let sendable = |bearer: &Secret| {
            let text = bearer.expose();
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !self.bearer.as_ref().is_none_or(sendable) {
            return Err(BuildError::Bearer);
        }
        for url in &self.urls {
            if url.exposes_bearer() && self.bearer.is_some() {
                tracing::warn!(
                    name: "client.bearer_in_clear", backend = %url,
                    "the token crosses the network in clear to {url}; use https"
                );
            }
        }
        let mut random = self.seed.map_or_else(SmallRng::from_os_rng, SmallRng::seed_from_u64);
        let seed = random.random();
        let sender = Sender {
            bearer: self.bearer,
            tenant: self.tenant,
            key: self.key,
            clock: self.clock.clone(),
        };
        let transport = Transport::new(
            self.urls,
            sender,
            self.timeouts,
            self.ca_file.as_deref(),
            self.proxy.as_deref(),
            self.user_agent,
        )?;
        Ok(Client::assemble(
            transport,
            self.retry,
            self.readmit_after,
            self.resolve_every,
            self.clock,
            self.resolver,
            (random, seed),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn what_cannot_work_is_refused_before_anything_is_sent() {
        assert!(matches!(ClientBuilder::new().build(), Err(BuildError::NoBackend)));
        let with = |text: &str| {
            let builder = ClientBuilder::new().url("http://127.0.0.1:1").unwrap();
            builder.bearer(bearer(text)).build()
        };
        for text in ["", "two\nlines", "blank inside", "é"] {
            assert!(matches!(with(text), Err(BuildError::Bearer)), "{text:?}");
        }
        assert!(with("sekret-token-1").is_ok());
        let proxied = ClientBuilder::new().url("http://h").unwrap().proxy("::").build();
        assert!(matches!(proxied, Err(BuildError::Proxy(_))));
    }

    #[test]
    fn a_ca_file_must_be_there_and_hold_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let build = || ClientBuilder::new().url("https://h").unwrap().ca_file(&path).build();
        assert!(matches!(build(), Err(BuildError::CaRead { .. })));
        for content in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&path, content).unwrap();
            assert!(matches!(build(), Err(BuildError::CaContent { .. })), "{content:?}");
        }
    }

    #[test]
    fn debug_shows_no_token() {
        let builder = ClientBuilder::new()
            .url("http://127.0.0.1:1")
            .unwrap()
            .bearer(bearer("hunter2"));
        assert!(!format!("{builder:?}").contains("hunter2"));
        assert!(!format!("{:?}", builder.build().unwrap()).contains("hunter2"));
    }
}
