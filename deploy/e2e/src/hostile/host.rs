//! Hosts side by side on one machine: each has its own configuration, state and control socket, mounted over the real places
//! for its own processes alone, so that its programs run as installed and its look-ups go through glibc.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use dirless_seal::trust::Wrap;
use dirless_seal::{Identity, SigningKey};
use dirless_testkit::{Program, Running, built};

use crate::site::private;

/// What a host has of its own: a folder beside the others, and where it stands for the host.
const OWN: [(&str, &str); 3] = [
    ("etc", "/etc/dirless"),
    ("state", "/var/lib/dirless"),
    ("run", "/run/dirless-agent"),
];

/// Puts them in place, and runs the rest. `$0` is the host's folder.
const ENTER: &str = r#"mount --bind "$0/etc" /etc/dirless && mount --bind "$0/state" /var/lib/dirless &&
mount --bind "$0/run" /run/dirless-agent && exec "$@""#;

/// Debian's libfaketime.
const FAKETIME: &str = "faketime/libfaketime.so.1";

/// One host.
#[derive(Debug)]
pub struct Host {
    folder: PathBuf,
    daemon: Option<Running>,
}

impl Host {
    /// A host that has joined nothing yet, in `/srv/hosts/NAME`.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let folder = Path::new("/srv/hosts").join(name);
        for (own, place) in OWN {
            std::fs::create_dir_all(folder.join(own))?;
            std::fs::create_dir_all(place)?;
        }
        Ok(Self { folder, daemon: None })
    }

    /// Another host with all that this one has.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn duplicate(&self, name: &str) -> anyhow::Result<Self> {
        let folder = Path::new("/srv/hosts").join(name);
        Program::system("cp")
            .arg("-a")
            .arg(&self.folder)
            .arg(&folder)
            .succeed()?;
        Ok(Self { folder, daemon: None })
    }

    /// A file of its configuration folder.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("etc/dirless-agent.toml")
    }

    /// A file of its state folder.
    #[must_use]
    pub fn state(&self, name: &str) -> PathBuf {
        self.folder.join("state").join(name)
    }

    /// A command on this host, with the caller's environment.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Program {
        Program::system("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", ENTER])
            .arg(&self.folder)
            .arg(program.as_ref())
    }

    /// One of our programs on this host.
    ///
    /// # Errors
    /// When it is not built.
    pub fn ours(&self, program: &str) -> anyhow::Result<Program> {
        Ok(self.command(built(program)?))
    }

    /// Joins with the code in this file, and takes these sources.
    ///
    /// # Errors
    /// When it does not succeed.
    pub fn join(&self, code: &str, sources: &str) -> anyhow::Result<()> {
        self.ours("dirless")?.args(["join", "--code-file", code]).succeed()?;
        let text = std::fs::read_to_string(self.config())?;
        // Cycles come when they are asked for, and patience is short.
        let agent = "interval_seconds = 3600\nsplay_seconds = 3600\nfetch_timeout_seconds = 2\nwatch = false\n";
        private(self.config(), &format!("{text}[agent]\nsources = {sources}\n{agent}"))
    }

    /// Reads the tenant's files from there from now on.
    ///
    /// # Errors
    /// When the configuration is not one of a host that joined.
    pub fn read_from(&self, place: &str) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(self.config())?;
        let old = text
            .lines()
            .find(|line| line.starts_with("from = "))
            .context("no [trust]")?;
        private(self.config(), &text.replace(old, &format!("from = \"{place}\"")))
    }

    /// Asks this backend for the tenant's files from now on.
    ///
    /// # Errors
    /// When the configuration is not one of a host that joined.
    pub fn ask_backend(&self, url: &str) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(self.config())?;
        let own: String = text
            .lines()
            .filter(|line| !line.starts_with("from = "))
            .map(|line| format!("{line}\n"))
            .collect();
        private(self.config(), &format!("[backend]\nurl = \"{url}\"\n{own}"))
    }

    /// Its own key.
    ///
    /// # Errors
    /// When it has not joined.
    pub fn key(&self) -> anyhow::Result<SigningKey> {
        let text = std::fs::read_to_string(self.state("agent/trust/node.key"))?;
        SigningKey::parse(text.trim()).context("the host's key")
    }

    /// What is sealed to it opens with this.
    ///
    /// # Errors
    /// When it has not joined.
    pub fn identity(&self) -> anyhow::Result<Identity> {
        let text = std::fs::read_to_string(self.state("agent/trust/node.age"))?;
        Identity::parse(text.trim()).context("the host's identity")
    }

    /// The key of an epoch, if it keeps one.
    ///
    /// # Errors
    /// When it has none.
    pub fn epoch(&self, compartment: &str, epoch: u64) -> anyhow::Result<Identity> {
        let name = format!("agent/trust/wrap-{compartment}-{epoch}");
        let sealed = std::fs::read(self.state(&name)).with_context(|| name)?;
        Ok(Wrap::open(&sealed, &self.identity()?)?.identity)
    }

    /// One cycle in the foreground: what is wrong.
    ///
    /// # Errors
    /// When the agent cannot be run.
    pub fn once(&self) -> anyhow::Result<Vec<String>> {
        let outcome = self.ours("dirless-agent")?.args(["run", "--once"]).run()?;
        Ok(outcome.stderr.lines().map(str::to_owned).collect())
    }

    /// Starts the daemon and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.daemon = Some(
            self.ours("dirless-agent")?
                .args(["run", "--log-format", "text"])
                .serve()?,
        );
        Ok(())
    }

    /// Starts the daemon under a clock that [`set_clock`](Self::set_clock) moves; its timers keep the true pace.
    ///
    /// # Errors
    /// When it does not serve, or libfaketime is not installed.
    pub fn start_with_clock(&mut self, offset: &str) -> anyhow::Result<()> {
        self.set_clock(offset)?;
        let library = Program::system("sh")
            .args(["-c", &format!("ls /usr/lib/*/{FAKETIME}")])
            .succeed()
            .context("libfaketime is not installed: deploy/setup test")?;
        let daemon = self
            .ours("dirless-agent")?
            .args(["run", "--log-format", "text"])
            .env("LD_PRELOAD", library.trim())
            .env("FAKETIME_TIMESTAMP_FILE", self.folder.join("clock"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        self.daemon = Some(daemon.serve()?);
        Ok(())
    }

    /// Moves the clock: `+2d`, `-10y`, `+0`.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn set_clock(&self, offset: &str) -> anyhow::Result<()> {
        private(self.folder.join("clock"), &format!("{offset}\n"))
    }

    /// Ends the daemon.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.daemon.take().map_or(Ok(()), |daemon| daemon.stop().map(drop))
    }

    /// Has the daemon look now, and gives back what it then says is wrong.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn refresh(&self) -> anyhow::Result<Vec<String>> {
        let outcome = self.ours("dirless")?.arg("refresh").run()?;
        Ok(outcome.stderr.lines().map(str::to_owned).collect())
    }

    /// What `dirless status` lists as problems.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn problems(&self) -> anyhow::Result<Vec<String>> {
        let status = self.status()?;
        let problems = status.pointer("/daemon/problems").and_then(serde_json::Value::as_array);
        let problems =
            problems.with_context(|| format!("the daemon does not answer: {status}; its log:\n{}", self.log()))?;
        Ok(problems
            .iter()
            .filter_map(|problem| problem.as_str().map(str::to_owned))
            .collect())
    }

    /// `dirless status --json`
    ///
    /// # Errors
    /// When it says something else.
    pub fn status(&self) -> anyhow::Result<serde_json::Value> {
        let outcome = self.ours("dirless")?.args(["status", "--json"]).run()?;
        serde_json::from_str(&outcome.stdout).with_context(|| format!("{}{}", outcome.stdout, outcome.stderr))
    }

    /// What the daemon has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Running::log).unwrap_or_default()
    }

    /// Process number of the daemon.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.daemon.as_ref().map(Running::id)
    }

    /// The alarms that it logged so far: each when it began.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        self.log()
            .lines()
            .filter(|line| line.contains(" WARN dirless_agent::"))
            .map(str::to_owned)
            .collect()
    }

    /// Whether look-ups through glibc find each of these, and none of those.
    ///
    /// # Errors
    /// With the first that is otherwise.
    pub fn knows(&self, those: &[&str], nobody: &[&str]) -> anyhow::Result<()> {
        let all: Vec<&str> = those.iter().chain(nobody).copied().collect();
        let outcome = self.command("getent").arg("passwd").args(&all).run()?;
        let found: Vec<&str> = outcome
            .stdout
            .lines()
            .filter_map(|line| line.split(':').next())
            .collect();
        ensure!(
            found == those,
            "looked up {all:?}, found {found:?} ({})",
            outcome.code()
        );
        Ok(())
    }
}
