//! A store with one tenant, and one or several backends in front of it: started here, or pointed at.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use dirless_client::{Client, ClientBuilder, Error, Expected, RetryPolicy, SnapshotHeaders, Timeouts};
use dirless_program::Secret;
use dirless_wire::{AgePublicKey, SourceName, TenantId};
use rand::RngCore;

use crate::backend::{Backend, Setup};
use crate::board::Digest;
use crate::cable::Cable;
use crate::cluster::Database;
use crate::host::digest_of;
use crate::process::Usage;

/// What bodies say they are sealed to. Nobody has its secret half, and nobody opens them.
const RECIPIENT: &str = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";
/// How sealed bodies begin.
const SEALED: &[u8] = b"age-encryption.org/v1\n";
/// How long a change may be refused before it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rest before it is tried again.
const REST: Duration = Duration::from_millis(20);
/// How long a publisher of ours waits for a backend: it has another one to go to.
const IMPATIENT: Timeouts = Timeouts {
    connect: Duration::from_secs(1),
    call: Duration::from_secs(5),
    fetch: Duration::from_secs(5),
    probe: Duration::from_secs(1),
};

/// A backend that somebody else runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Elsewhere {
    /// A backend that runs already, instead of one started here; repeat it for several addresses of one service.
    #[arg(long = "url", value_name = "URL", requires = "bearer_file")]
    pub(crate) urls: Vec<String>,
    /// The file with its bearer, readable by its owner alone.
    #[arg(long, value_name = "FILE")]
    pub(crate) bearer_file: Option<PathBuf>,
    /// The tenant there; it is enrolled when it is not yet.
    #[arg(long, value_name = "ID", default_value = "fleet")]
    pub(crate) tenant: String,
    /// The backend's process on this machine, for what it costs.
    #[arg(long, value_name = "PID")]
    pub(crate) process: Option<u32>,
}

/// A site.
#[derive(Debug)]
pub(crate) struct Site {
    urls: Vec<String>,
    bearer: Secret,
    tenant: TenantId,
    writer: Client,
    backends: Vec<Backend>,
    database: Option<Database>,
    /// A backend that was not started here.
    process: Option<u32>,
}

/// The source that hosts read: none that agents are configured for.
pub(crate) fn source() -> SourceName {
    SourceName::new("fleet").expect("a lower-case word is a source name")
}

impl Site {
    /// Starts a backend that has room for so many hosts, and enrols a tenant.
    pub(crate) async fn start(number: usize, hosts: usize, storage: Option<PathBuf>) -> anyhow::Result<Self> {
        let bearer = fresh_bearer();
        let setup = Setup {
            hosts,
            storage,
            ..Setup::default()
        };
        let backend = Backend::start(setup, &bearer).await?;
        Self::prepare(bearer, &format!("fleet-{number}"), vec![backend], None).await
    }

    /// Starts several backends that share a database with a standby; on request each in a network of its own.
    pub(crate) async fn cluster(backends: usize, hosts: usize, networks: bool) -> anyhow::Result<Self> {
        let bearer = fresh_bearer();
        let mut database = tokio::task::spawn_blocking(Database::start).await??;
        let mut all = Vec::new();
        for number in 0..backends.max(1) {
            let cable = networks.then(|| Cable::lay(number)).transpose()?;
            let near = cable.as_ref().map_or(Ipv4Addr::LOCALHOST, Cable::near);
            let setup = Setup {
                hosts,
                database: Some(database.reachable_at(near).await?),
                cable,
                storage: None,
            };
            all.push(Backend::start(setup, &bearer).await?);
        }
        Self::prepare(bearer, "fleet", all, Some(database)).await
    }

    /// Uses a backend that runs.
    pub(crate) async fn elsewhere(elsewhere: &Elsewhere) -> anyhow::Result<Self> {
        let file = elsewhere.bearer_file.as_deref().context("--url needs --bearer-file")?;
        let bearer = Secret::from_file(file)?;
        let urls = elsewhere.urls.clone();
        Self::enrolled(urls, bearer, &elsewhere.tenant, (Vec::new(), None), elsewhere.process).await
    }

    async fn prepare(
        bearer: Secret,
        tenant: &str,
        backends: Vec<Backend>,
        database: Option<Database>,
    ) -> anyhow::Result<Self> {
        let urls = backends.iter().flat_map(Backend::urls).collect();
        Self::enrolled(urls, bearer, tenant, (backends, database), None).await
    }

    async fn enrolled(
        urls: Vec<String>,
        bearer: Secret,
        tenant: &str,
        (backends, database): (Vec<Backend>, Option<Database>),
        process: Option<u32>,
    ) -> anyhow::Result<Self> {
        let tenant = TenantId::new(tenant)?;
        let writer = ClientBuilder::new()
            .urls(urls.iter().map(String::as_str))?
            .bearer(bearer.duplicate())
            .tenant(tenant.clone())
            .timeouts(IMPATIENT)
            .retry(RetryPolicy::none())
            .build()?;
        let site = Self {
            urls,
            bearer,
            tenant,
            writer,
            backends,
            database,
            process,
        };
        let key = AgePublicKey::new(RECIPIENT)?;
        site.writer.cycle().enroll(&site.tenant, &key).await?;
        // The backends that were not asked hear of it a moment later.
        let until = Instant::now() + PATIENCE;
        for url in &site.urls {
            let client = site.towards([url.as_str()])?.build()?;
            while let Err(error) = client.cycle().get_public_key().await {
                if Instant::now() > until {
                    return Err(error).with_context(|| format!("{url} does not know the tenant"));
                }
                tokio::time::sleep(REST).await;
            }
        }
        Ok(site)
    }

    /// The way of a host: to all backends that share the database, as it is configured then; otherwise to one address of the
    /// one there is, all addresses alike.
    pub(crate) fn client(&self, host: usize) -> anyhow::Result<Client> {
        let urls = match self.database {
            Some(_) => self.urls.iter().map(String::as_str).collect(),
            None => vec![self.url(host)],
        };
        // Hosts have their own pace, as agents do.
        Ok(self.towards(urls)?.build()?)
    }

    fn towards<'a>(&self, urls: impl IntoIterator<Item = &'a str>) -> anyhow::Result<ClientBuilder> {
        let builder = ClientBuilder::new().urls(urls)?;
        let builder = builder.bearer(self.bearer.duplicate()).tenant(self.tenant.clone());
        Ok(builder.retry(RetryPolicy::none()))
    }

    /// The way of a writer, to all backends.
    pub(crate) fn publisher(&self) -> anyhow::Result<Client> {
        let builder = self.towards(self.urls.iter().map(String::as_str))?;
        // What is back is used again at once.
        Ok(builder
            .timeouts(IMPATIENT)
            .readmit_after(Duration::from_secs(1))
            .build()?)
    }

    /// Where a host asks.
    pub(crate) fn url(&self, host: usize) -> &str {
        let url = self.urls.get(host % self.urls.len().max(1));
        url.map_or("", String::as_str)
    }

    /// The request of a host that only listens.
    pub(crate) fn listening(&self) -> Vec<u8> {
        let (bearer, tenant) = (self.bearer.expose(), self.tenant.as_str());
        format!(
            "GET /v1/watch HTTP/1.1\r\nhost: fleet\r\nauthorization: Bearer {bearer}\r\nx-tenant-id: {tenant}\r\n\r\n"
        )
        .into_bytes()
    }

    /// Puts another body of this length in the place of the one before. `before` is called with its hash first.
    pub(crate) async fn change(&self, bytes: usize, before: impl FnOnce(Digest)) -> anyhow::Result<()> {
        let mut body = SEALED.to_vec();
        body.resize(bytes.max(SEALED.len() + 16), 0);
        if let Some(rest) = body.get_mut(SEALED.len()..) {
            rand::rng().fill_bytes(rest);
        }
        before(digest_of(&body));
        let headers = SnapshotHeaders::for_recipient(AgePublicKey::new(RECIPIENT)?);
        let (body, until) = (Bytes::from(body), Instant::now() + PATIENCE);
        let source = source();
        loop {
            let cycle = self.writer.cycle();
            let written = cycle.put_snapshot(&source, &headers, body.clone(), &Expected::Anything);
            match written.await {
                Ok(_) => return Ok(()),
                // As publishers do: what is under way passes.
                Err(Error::Unavailable { .. } | Error::RateLimited { .. } | Error::Rejected { status: 500.., .. })
                    if Instant::now() < until =>
                {
                    tokio::time::sleep(REST).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What its backends have used, where their processes are known.
    pub(crate) fn usage(&self) -> anyhow::Result<Option<Usage>> {
        if self.backends.is_empty() {
            return self.process.map(Usage::of).transpose();
        }
        let mut all = Usage::default();
        for backend in &self.backends {
            let usage = backend.usage()?;
            all.processor += usage.processor;
            all.own_memory += usage.own_memory;
        }
        Ok(Some(all))
    }

    /// How many backends were started here.
    pub(crate) fn backends(&self) -> usize {
        self.backends.len()
    }

    /// One of them.
    pub(crate) fn backend(&mut self, number: usize) -> anyhow::Result<&mut Backend> {
        let backend = self.backends.get_mut(number);
        backend.context(
            "a backend that was not started here is left alone: only connect, steady, churn, slow and reconnect",
        )
    }

    /// The database of its backends.
    pub(crate) fn database(&mut self) -> anyhow::Result<&mut Database> {
        let database = self.database.as_mut();
        database.context("the backends share no database: --database")
    }
}

fn fresh_bearer() -> Secret {
    Secret::new(format!("fleet-secret-{:016x}", rand::random::<u64>()))
}
