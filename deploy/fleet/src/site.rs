//! A store with one tenant, and one or several backends in front of it: started here, or pointed at.

use std::fs::Permissions;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use dirless_client::{Client, ClientBuilder, Error, Expected, SnapshotHeaders, Timeouts};
use dirless_program::Secret;
use dirless_wire::{AgePublicKey, TenantId};
use rand::RngCore;
use tempfile::TempDir;

use crate::backend::{Backend, Setup};
use crate::cable::Cable;
use crate::classic::{mark_of_body, source};
use crate::cluster::Database;
use crate::event::Mark;
use crate::process::Usage;
use crate::reach::{Reach, towards};
use crate::verified::{Founding, Revoked, Tenant};

/// What bodies say they are sealed to. Nobody has its secret half, and nobody opens them.
const RECIPIENT: &str = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";
/// How sealed bodies begin.
const SEALED: &[u8] = b"age-encryption.org/v1\n";
/// The file with the bearer of hosts.
const BEARER: &str = "bearer";
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
    silence: Duration::from_secs(5),
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

/// What a site is to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Hosts that it has to have room for.
    pub(crate) hosts: usize,
    /// Of them so many belong to its tenant.
    pub(crate) own: usize,
    /// People of a tenant of the verified protocol, which hosts join then.
    pub(crate) users: Option<usize>,
    /// Where folders of backends are made.
    pub(crate) storage: Option<PathBuf>,
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
    /// Hosts speak the verified protocol.
    signed: Option<Tenant>,
    /// What hosts are told in files.
    folder: TempDir,
}

impl Site {
    /// Starts a backend that has room for so many hosts, and enrols a tenant.
    pub(crate) async fn start(number: usize, plan: Plan) -> anyhow::Result<Self> {
        let bearer = fresh_bearer();
        let setup = Setup {
            hosts: plan.hosts,
            storage: plan.storage.clone(),
            operator: plan.users.is_some(),
            ..Setup::default()
        };
        let backend = Backend::start(setup, &bearer).await?;
        let mut site = Self::prepare(bearer, &format!("fleet-{number}"), vec![backend], None).await?;
        site.found(&plan).await?;
        Ok(site)
    }

    /// Starts several backends that share a database with a standby; on request each in a network of its own.
    pub(crate) async fn cluster(backends: usize, plan: Plan, networks: bool) -> anyhow::Result<Self> {
        let bearer = fresh_bearer();
        let mut database = tokio::task::spawn_blocking(Database::start).await??;
        let mut all = Vec::new();
        for number in 0..backends.max(1) {
            let cable = networks.then(|| Cable::lay(number)).transpose()?;
            let near = cable.as_ref().map_or(Ipv4Addr::LOCALHOST, Cable::near);
            let setup = Setup {
                hosts: plan.hosts,
                database: Some(database.reachable_at(near).await?),
                cable,
                storage: None,
                operator: plan.users.is_some() && number == 0,
            };
            all.push(Backend::start(setup, &bearer).await?);
        }
        let mut site = Self::prepare(bearer, "fleet", all, Some(database)).await?;
        site.found(&plan).await?;
        Ok(site)
    }

    /// Founds the tenant of the verified protocol, if there is to be one.
    async fn found(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let Some(users) = plan.users else { return Ok(()) };
        let backend = self
            .backends
            .first()
            .context("a tenant is founded at backends of our own")?;
        let founding = Founding {
            urls: &self.urls,
            token: backend.operator()?,
            folder: self.folder.path(),
            hosts: plan.own,
            users,
            minutes: true,
        };
        self.signed = Some(Box::pin(Tenant::found(founding)).await?);
        Ok(())
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
        let builder = towards(urls.iter().map(String::as_str), tenant.as_str())?;
        let writer = builder.bearer(bearer.duplicate()).timeouts(IMPATIENT).build()?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join(BEARER);
        std::fs::write(&file, bearer.expose())?;
        std::fs::set_permissions(&file, Permissions::from_mode(0o600))?;
        let site = Self {
            urls,
            bearer,
            tenant,
            writer,
            backends,
            database,
            process,
            signed: None,
            folder,
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

    /// The way of its hosts: to all backends that share the database, as it is configured then; otherwise to one address of the
    /// one there is, all addresses alike.
    pub(crate) fn reach(&self) -> Reach {
        Reach {
            urls: self.urls.clone(),
            all: self.database.is_some(),
            bearer_file: self.folder.path().join(BEARER),
            tenant: self.tenant.to_string(),
            joined: self.signed.as_ref().map(Tenant::joined),
        }
    }

    fn towards<'a>(&self, urls: impl IntoIterator<Item = &'a str>) -> anyhow::Result<ClientBuilder> {
        Ok(towards(urls, self.tenant.as_str())?.bearer(self.bearer.duplicate()))
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
    pub(crate) fn listening(&self) -> anyhow::Result<Vec<u8>> {
        if let Some(tenant) = &self.signed {
            return tenant.listening();
        }
        let (bearer, tenant) = (self.bearer.expose(), self.tenant.as_str());
        let text = format!(
            "GET /v1/watch HTTP/1.1\r\nhost: fleet\r\nauthorization: Bearer {bearer}\r\nx-tenant-id: {tenant}\r\n\r\n"
        );
        Ok(text.into_bytes())
    }

    /// Changes what hosts have: puts another body of this length in the place of the one before, or publishes one person who
    /// changed. `before` is called with its mark first.
    pub(crate) async fn change(&self, bytes: usize, before: impl FnOnce(Mark)) -> anyhow::Result<()> {
        if let Some(tenant) = &self.signed {
            return tenant.change(before).await.map(drop);
        }
        let mut body = SEALED.to_vec();
        body.resize(bytes.max(SEALED.len() + 16), 0);
        if let Some(rest) = body.get_mut(SEALED.len()..) {
            rand::rng().fill_bytes(rest);
        }
        before(mark_of_body(&body));
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

    /// One person leaves, and hosts' receipts are waited for. `before` is called with the mark of what is there then first.
    pub(crate) async fn revoke(&self, before: impl FnOnce(Mark)) -> anyhow::Result<Revoked> {
        let tenant = self.signed.as_ref();
        tenant
            .context("only hosts of the verified protocol send receipts: --verified")?
            .revoke(before)
            .await
    }

    /// The mark of what its tenant was founded with, where it was.
    pub(crate) fn first(&self) -> Option<Mark> {
        self.signed.as_ref()?.first()
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

    /// The processes of its backends that are known and run.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let own = self.backends.iter().filter_map(Backend::process);
        own.chain(self.process).collect()
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
