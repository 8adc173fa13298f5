//! A backend with one tenant: started here, or pointed at.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use bytes::Bytes;
use dirless_client::{Client, ClientBuilder, Expected, RetryPolicy, SnapshotHeaders};
use dirless_program::Secret;
use dirless_testkit::{Program, Running};
use dirless_wire::{AgePublicKey, SourceName, TenantId};
use rand::RngCore;
use tempfile::TempDir;

use crate::board::Digest;
use crate::host::digest_of;
use crate::process::Usage;

/// What bodies say they are sealed to. Nobody has its secret half, and nobody opens them.
const RECIPIENT: &str = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";
/// How sealed bodies begin.
const SEALED: &[u8] = b"age-encryption.org/v1\n";
/// Connections from one address to another that leave room among the system's ephemeral ports (28,000).
const HOSTS_AN_ADDRESS: usize = 4000;
/// Most addresses of the loopback network that hosts are spread over.
const ADDRESSES: usize = 8;

/// A backend that somebody else runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Elsewhere {
    /// A backend that runs already, instead of one started here; repeat it for several addresses of one service.
    #[arg(long = "url", value_name = "URL", requires = "bearer_file")]
    pub(crate) urls: Vec<String>,
    /// The file with its bearer, readable by its owner alone.
    #[arg(long, value_name = "FILE")]
    pub(crate) bearer_file: Option<std::path::PathBuf>,
    /// The tenant there; it is enrolled when it is not yet.
    #[arg(long, value_name = "ID", default_value = "fleet")]
    pub(crate) tenant: String,
    /// The backend's process on this machine, for what it costs.
    #[arg(long, value_name = "PID")]
    pub(crate) process: Option<u32>,
}

/// A backend process of ours and its folder.
#[derive(Debug)]
struct Own {
    folder: TempDir,
    hosts: usize,
    port: u16,
    running: Option<Running>,
}

/// A site.
#[derive(Debug)]
pub(crate) struct Site {
    urls: Vec<String>,
    bearer: Secret,
    tenant: TenantId,
    writer: Client,
    own: Option<Own>,
    process: Option<u32>,
}

/// The source that hosts read: none that agents are configured for.
pub(crate) fn source() -> SourceName {
    SourceName::new("fleet").expect("a lower-case word is a source name")
}

impl Site {
    /// Starts a backend that has room for so many hosts, and enrols a tenant.
    pub(crate) async fn start(number: usize, hosts: usize) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let bearer = Secret::new(format!("fleet-secret-{:016x}", rand::random::<u64>()));
        let secret = folder.path().join("secret");
        std::fs::write(&secret, bearer.expose())?;
        std::fs::set_permissions(&secret, Permissions::from_mode(0o600))?;
        let mut own = Own {
            folder,
            hosts,
            port: 0,
            running: None,
        };
        own.start().await?;
        let addresses = hosts.div_ceil(HOSTS_AN_ADDRESS).clamp(1, ADDRESSES);
        let urls = (1..=addresses).map(|last| format!("http://127.0.0.{last}:{}", own.port));
        let process = own.running.as_ref().map(Running::id);
        Self::prepare(urls.collect(), bearer, &format!("fleet-{number}"), Some(own), process).await
    }

    /// Uses a backend that runs.
    pub(crate) async fn elsewhere(elsewhere: &Elsewhere) -> anyhow::Result<Self> {
        let file = elsewhere.bearer_file.as_deref().context("--url needs --bearer-file")?;
        let bearer = Secret::from_file(file)?;
        Self::prepare(
            elsewhere.urls.clone(),
            bearer,
            &elsewhere.tenant,
            None,
            elsewhere.process,
        )
        .await
    }

    async fn prepare(
        urls: Vec<String>,
        bearer: Secret,
        tenant: &str,
        own: Option<Own>,
        process: Option<u32>,
    ) -> anyhow::Result<Self> {
        let tenant = TenantId::new(tenant)?;
        let writer = ClientBuilder::new()
            .urls(urls.iter().map(String::as_str))?
            .bearer(bearer.duplicate())
            .tenant(tenant.clone())
            .build()?;
        let site = Self {
            urls,
            bearer,
            tenant,
            writer,
            own,
            process,
        };
        let key = AgePublicKey::new(RECIPIENT)?;
        site.writer.cycle().enroll(&site.tenant, &key).await?;
        Ok(site)
    }

    /// The way of a host: each to one address, all addresses alike.
    pub(crate) fn client(&self, host: usize) -> anyhow::Result<Client> {
        let client = ClientBuilder::new()
            .url(self.url(host))?
            .bearer(self.bearer.duplicate())
            .tenant(self.tenant.clone())
            // Hosts have their own pace, as agents do.
            .retry(RetryPolicy::none())
            .build()?;
        Ok(client)
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
        let cycle = self.writer.cycle();
        cycle
            .put_snapshot(&source(), &headers, Bytes::from(body), &Expected::Anything)
            .await?;
        Ok(())
    }

    /// What the backend has used, where its process is known.
    pub(crate) fn usage(&self) -> anyhow::Result<Option<Usage>> {
        self.process.map(Usage::of).transpose()
    }

    /// Kills the backend (SIGKILL), or stops it (SIGTERM).
    pub(crate) async fn end(&mut self, kindly: bool) -> anyhow::Result<()> {
        let running = self.own()?.running.take().context("the backend is not running")?;
        tokio::task::spawn_blocking(move || {
            if kindly {
                let outcome = running.stop()?;
                if outcome.code() != 0 {
                    bail!("the backend ended with {}: {}", outcome.code(), outcome.stderr);
                }
                return Ok(());
            }
            running.kill()
        })
        .await?
    }

    /// Starts it again, on the same port and store.
    pub(crate) async fn start_again(&mut self) -> anyhow::Result<()> {
        let own = self.own()?;
        own.start().await?;
        self.process = self.own()?.running.as_ref().map(Running::id);
        Ok(())
    }

    fn own(&mut self) -> anyhow::Result<&mut Own> {
        let own = self.own.as_mut();
        own.context("a backend that was not started here cannot be stopped here: leave out outage and restart")
    }
}

impl Own {
    async fn start(&mut self) -> anyhow::Result<()> {
        let file = self.folder.path().join("dirless.toml");
        std::fs::write(&file, self.configuration(self.folder.path()))?;
        let program = Program::ours("dirless-backend")?.arg("--config").arg(&file).arg("run");
        let running = tokio::task::spawn_blocking(move || program.serve()).await??;
        let port = running
            .ready()
            .lines()
            .find_map(|line| line.rsplit_once(':')?.1.trim().parse().ok());
        self.port = port.with_context(|| format!("the backend names no port: {}", running.ready()))?;
        self.running = Some(running);
        Ok(())
    }

    fn configuration(&self, folder: &Path) -> String {
        // All addresses of the loopback network only when one is too few for all hosts.
        let host = if self.hosts > HOSTS_AN_ADDRESS {
            "0.0.0.0"
        } else {
            "127.0.0.1"
        };
        // A stream, a call, and the streams of readers that do not read.
        let (connections, watchers) = (self.hosts * 3 + 4000, self.hosts + 2000);
        format!(
            "[server]\nhost = {host:?}\nport = {}\nmax_connections = {connections}\nmax_watchers = {watchers}\n\
             [storage]\npath = {:?}\n[hmac]\nsecret_file = {:?}\n\
             [limits]\naddress_per_minute = 0\ntenant_per_minute = 0\n\
             [log]\nformat = \"text\"\nlevel = \"warn\"\n",
            self.port,
            folder.join("store"),
            folder.join("secret"),
        )
    }
}
