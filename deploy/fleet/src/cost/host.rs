//! A whole host in a folder: the real agent with its worker, and what they take.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dirless_program::Secret;
use dirless_table::Table;
use dirless_testkit::{Program, Running};
use tempfile::TempDir;

use super::wire::Wire;
use crate::process::Usage;
use crate::verified::Changed;

/// How long a host may take for anything: a million people are read in minutes.
const PATIENCE: Duration = Duration::from_secs(1800);
/// How often it is looked whether it has a change.
const LOOK: Duration = Duration::from_micros(500);
/// The daemon hears of changes by notices alone, and waits for large bodies as long as it takes.
const RHYTHM: &str = "[agent]\nsources = [\"fleet\"]\ninterval_seconds = 36000\nsplay_seconds = 0\n\
                      worker_timeout_seconds = 3600\nfetch_timeout_seconds = 300\n";

/// What the host's processes have taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) daemon: Duration,
    pub(super) workers: Duration,
}

/// A host.
#[derive(Debug)]
pub(super) struct Host {
    folder: TempDir,
    pub(super) wire: Wire,
    daemon: Option<Running>,
}

/// As many as a snapshot may hold.
const LIMITS: &str = "max_users = 2000000\nmax_groups = 2000000\n";

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().context("a file in a folder")?;
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    std::fs::write(path, text).with_context(|| path.display().to_string())?;
    Ok(std::fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

impl Host {
    /// One without anything, with a way to the backend.
    pub(super) fn new(wire: Wire) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        write(&folder.path().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n")?;
        write(&folder.path().join("etc/group"), "root:x:0:\n")?;
        // A million people have as many groups of their own, which a host takes for a mistake unless it is told.
        write(&folder.path().join("etc/dirless/limits.toml"), LIMITS)?;
        Ok(Self {
            folder,
            wire,
            daemon: None,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> PathBuf {
        self.path("etc/dirless/dirless-agent.toml")
    }

    /// Asks to be let into a tenant.
    pub(super) async fn join(&self, code: &Secret) -> anyhow::Result<()> {
        let file = self.path("srv/code");
        write(&file, code.expose())?;
        let program = Program::ours("dirless")?.args(["join", "--code-file"]).arg(file);
        let program = program.arg("--root").arg(self.folder.path());
        tokio::task::spawn_blocking(move || program.succeed()).await??;
        let text = std::fs::read_to_string(self.config())?;
        write(&self.config(), &format!("{text}{RHYTHM}"))
    }

    /// Is enrolled in a tenant of the classic protocol, as deployed hosts are.
    pub(super) fn enrol(&self, tenant: &str, bearer: &Secret, identity: &str) -> anyhow::Result<()> {
        write(&self.path("etc/dirless/age.key"), identity)?;
        let (url, bearer) = (self.wire.url(), bearer.expose());
        let text = format!(
            "{RHYTHM}[backend]\nurl = \"{url}\"\n[auth]\ntenant_id = \"{tenant}\"\nhmac_secret = \"{bearer}\"\n"
        );
        write(&self.config(), &text)
    }

    /// Starts the daemon.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let program = Program::ours("dirless-agent")?.args(["run", "--log-format", "text", "--root"]);
        self.daemon = Some(program.arg(self.folder.path()).spawn()?);
        Ok(())
    }

    /// Waits until a look-up finds what changed: when it did.
    pub(super) async fn has(&mut self, changed: &Changed) -> anyhow::Result<Instant> {
        let owner = std::fs::metadata(self.folder.path())?.uid();
        let (table, until) = (self.path("var/lib/dirless/nss/table"), Instant::now() + PATIENCE);
        loop {
            if let Ok(table) = Table::open(&table, owner)
                && let Ok(Some(user)) = table.user_by_name(changed.name.as_bytes())
                && user.gecos() == changed.full_name.as_bytes()
            {
                return Ok(Instant::now());
            }
            let daemon = self.daemon.as_mut().context("the host is not running")?;
            if !daemon.alive() || Instant::now() > until {
                bail!("the host does not get what changed: {}", daemon.log());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks the daemon to look now, and waits until it has.
    pub(super) async fn refresh(&self) -> anyhow::Result<()> {
        let program = Program::ours("dirless")?
            .args(["refresh", "--root"])
            .arg(self.folder.path());
        tokio::task::spawn_blocking(move || program.succeed()).await??;
        Ok(())
    }

    /// What its processes have taken until now. Workers count when they have ended.
    pub(super) fn taken(&self) -> anyhow::Result<Taken> {
        let daemon = self.daemon.as_ref().context("the host is not running")?.id();
        Ok(Taken {
            daemon: Usage::of(daemon)?.processor,
            workers: Usage::of_ended_children(daemon)?,
        })
    }

    /// How large its sealed body or table is, by the name of the file.
    pub(super) fn size(&self, name: &str) -> anyhow::Result<u64> {
        let path = self.path(name);
        Ok(std::fs::metadata(&path)
            .with_context(|| path.display().to_string())?
            .len())
    }
}
