//! A backend process of ours: its folder, its configuration, its network.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use dirless_program::Secret;
use dirless_testkit::{Program, Running, eventually};
use tempfile::TempDir;

use crate::cable::Cable;
use crate::process::Usage;

/// Connections from one address to another that leave room among the system's ephemeral ports (28,000).
const HOSTS_AN_ADDRESS: usize = 4000;
/// Most addresses of the loopback network that hosts are spread over.
const ADDRESSES: usize = 8;
/// Largest file system that is filled on purpose, bytes.
const LARGEST_TO_FILL: u64 = 1 << 30;
/// Longest body: a snapshot of a million people is not much shorter than a tenth of it.
const LARGEST_BODY: u64 = 1 << 30;
/// How long a tracer may take to take hold.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// What one is started with.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    /// Hosts that it has to have room for.
    pub(crate) hosts: usize,
    /// The database in place of a store in its folder.
    pub(crate) database: Option<String>,
    /// A network of its own.
    pub(crate) cable: Option<Cable>,
    /// Where its folder is made; the usual place otherwise.
    pub(crate) storage: Option<PathBuf>,
    /// An operator makes tenants there.
    pub(crate) operator: bool,
}

/// A backend.
#[derive(Debug)]
pub(crate) struct Backend {
    folder: TempDir,
    setup: Setup,
    port: u16,
    operator: Option<Secret>,
    running: Option<Running>,
    /// Makes its disk slow.
    tracer: Option<Running>,
}

impl Backend {
    /// Starts one on a free port.
    pub(crate) async fn start(setup: Setup, bearer: &Secret) -> anyhow::Result<Self> {
        let folder = match &setup.storage {
            Some(storage) => TempDir::new_in(storage)?,
            None => tempfile::tempdir()?,
        };
        let secret = folder.path().join("secret");
        std::fs::write(&secret, bearer.expose())?;
        std::fs::set_permissions(&secret, Permissions::from_mode(0o600))?;
        let mut backend = Self {
            folder,
            setup,
            port: 0,
            operator: None,
            running: None,
            tracer: None,
        };
        if backend.setup.operator {
            // Before it runs: whoever asks for the first time is known then.
            backend.configure()?;
            let words = ["token", "create", "--label", "fleet", "--scope", "tenants"];
            let said = backend.ask(&words).await?;
            let token = said.lines().last().context("the backend names no token")?;
            backend.operator = Some(Secret::new(token.trim().to_owned()));
        }
        backend.run().await?;
        Ok(backend)
    }

    /// Where hosts reach it; several addresses when they are too many for one.
    pub(crate) fn urls(&self) -> Vec<String> {
        if let Some(cable) = &self.setup.cable {
            return vec![format!("http://{}:{}", cable.far(), self.port)];
        }
        let addresses = self.setup.hosts.div_ceil(HOSTS_AN_ADDRESS).clamp(1, ADDRESSES);
        (1..=addresses)
            .map(|last| format!("http://127.0.0.{last}:{}", self.port))
            .collect()
    }

    /// Its process, while it runs.
    pub(crate) fn process(&self) -> Option<u32> {
        self.running.as_ref().map(Running::id)
    }

    /// What it has used since it was started.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        self.process().map(Usage::of).transpose().map(Option::unwrap_or_default)
    }

    /// Starts it again, on the same port and store.
    pub(crate) async fn run(&mut self) -> anyhow::Result<()> {
        let file = self.configure()?;
        let program = match &self.setup.cable {
            Some(cable) => cable.program("dirless-backend")?,
            None => Program::ours("dirless-backend")?,
        };
        let program = program.arg("--config").arg(file).arg("run");
        let running = tokio::task::spawn_blocking(move || program.serve()).await??;
        let port = running
            .ready()
            .lines()
            .find_map(|line| line.rsplit_once(':')?.1.trim().parse().ok());
        self.port = port.with_context(|| format!("the backend names no port: {}", running.ready()))?;
        self.running = Some(running);
        Ok(())
    }

    /// Kills it (SIGKILL), or stops it (SIGTERM).
    pub(crate) async fn end(&mut self, kindly: bool) -> anyhow::Result<()> {
        let running = self.running.take().context("the backend is not running")?;
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

    /// The cable to it.
    pub(crate) fn cable(&self) -> anyhow::Result<&Cable> {
        let cable = self.setup.cable.as_ref();
        cable.context("a cable can be pulled where backends have networks of their own: --networks")
    }

    /// The token of an operator who makes tenants.
    pub(crate) fn operator(&self) -> anyhow::Result<Secret> {
        let operator = self.operator.as_ref().context("there is no operator")?;
        Ok(operator.duplicate())
    }

    /// All of the audit log, an entry of JSON in each line.
    pub(crate) async fn audit(&self) -> anyhow::Result<String> {
        self.ask(&["audit"]).await
    }

    /// What its program says, asked with its configuration.
    async fn ask(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let program = Program::ours("dirless-backend")?
            .arg("--config")
            .arg(self.configuration_file());
        let program = program.args(arguments);
        tokio::task::spawn_blocking(move || program.succeed()).await?
    }

    /// Takes all room that is left on its file system; free again when what is returned is dropped.
    pub(crate) fn fill_disk(&self) -> anyhow::Result<tempfile::NamedTempFile> {
        let folder = self.folder.path();
        let size = Command::new("df").args(["--output=size", "-B1"]).arg(folder).output()?;
        let size = String::from_utf8_lossy(&size.stdout)
            .lines()
            .nth(1)
            .map(|line| line.trim().parse::<u64>());
        if !matches!(size, Some(Ok(size)) if size <= LARGEST_TO_FILL) {
            bail!(
                "only a file system of its own is filled, of a gigabyte at most: --storage FOLDER on a tmpfs or a loop device"
            );
        }
        let mut ballast = tempfile::NamedTempFile::new_in(folder)?;
        for length in [1 << 20, 4096, 64] {
            while std::io::Write::write_all(&mut ballast, &vec![0; length]).is_ok() {}
        }
        Ok(ballast)
    }

    /// From now on whatever it brings to the disk takes this much longer (strace(1) holds the calls up).
    pub(crate) async fn slow_disk(&mut self, each: std::time::Duration) -> anyhow::Result<()> {
        let process = self.process().context("the backend is not running")?;
        let calls = "fsync,fdatasync,sync_file_range";
        let program = Program::system("strace")
            .args(["-f", "-qq", "-e", &format!("trace={calls}"), "-o", "/dev/null"])
            .args(["-e", &format!("inject={calls}:delay_enter={}", each.as_micros())])
            .args(["-p", &process.to_string()]);
        let mut tracer = program.spawn().context("starting strace (package strace)")?;
        let tracer = tokio::task::spawn_blocking(move || {
            eventually(PATIENCE, "strace to take hold", || {
                let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
                let held = status
                    .lines()
                    .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"));
                (held || !tracer.alive()).then_some(())
            })?;
            if !tracer.alive() {
                bail!("strace cannot hold the backend up: {}", tracer.log());
            }
            Ok(tracer)
        });
        self.tracer = Some(tracer.await??);
        Ok(())
    }

    /// Ends what [`Backend::slow_disk`] began.
    pub(crate) async fn usual_disk(&mut self) -> anyhow::Result<()> {
        if let Some(tracer) = self.tracer.take() {
            tokio::task::spawn_blocking(move || tracer.stop()).await??;
        }
        Ok(())
    }

    /// Writes the configuration, and says where.
    fn configure(&self) -> anyhow::Result<PathBuf> {
        let file = self.configuration_file();
        std::fs::write(&file, self.configuration(self.folder.path()))?;
        Ok(file)
    }

    fn configuration_file(&self) -> PathBuf {
        self.folder.path().join("dirless.toml")
    }

    fn configuration(&self, folder: &Path) -> String {
        let hosts = self.setup.hosts;
        // All addresses of the loopback network only when one is too few for all hosts.
        let everywhere = hosts > HOSTS_AN_ADDRESS || self.setup.cable.is_some();
        let host = if everywhere { "0.0.0.0" } else { "127.0.0.1" };
        // A stream, a call, and the streams of readers that do not read.
        let (connections, watchers) = (hosts * 3 + 4000, hosts + 2000);
        let database = self.setup.database.as_ref();
        let database = database.map_or_else(String::new, |url| format!("url = {url:?}\n"));
        format!(
            "[server]\nhost = {host:?}\nport = {}\nmax_connections = {connections}\nmax_watchers = {watchers}\n\
             [storage]\npath = {:?}\n{database}[hmac]\nsecret_file = {:?}\n\
             [sync]\nmax_payload_bytes = {LARGEST_BODY}\n[limits]\naddress_per_minute = 0\ntenant_per_minute = 0\n\
             [log]\nformat = \"text\"\nlevel = \"warn\"\n",
            self.port,
            folder.join("store"),
            folder.join("secret"),
        )
    }
}
