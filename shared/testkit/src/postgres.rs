//! A PostgreSQL server of one's own, as a user that is not root, on sockets in its own folder.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::eventually;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

/// PostgreSQL's own.
const PORT: u16 = 5432;

/// The user of the database, who may do everything.
const USER: &str = "dirless";

/// Waits for the end of its standard input, which is ours or that of the kernel when we are gone; then nothing
/// of the server stays.
const SUPERVISOR: &str = r#"
"$1/postgres" -D "$2/data" >>"$2/log" 2>&1 </dev/null &
cat >/dev/null
kill -QUIT $! 2>/dev/null
wait $!
rm -rf "$2"
"#;

/// A server; stopped when this is dropped, or when the process ends in whatever way.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    supervisor: Option<Child>,
    port: u16,
}

impl Postgres {
    /// Makes a server and starts it. Commits are ordered, but not brought to the disk.
    ///
    /// # Errors
    /// When PostgreSQL is not installed (`deploy/setup test`), or does not start.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_on(PORT, "", &[])
    }

    /// [`Postgres::start`] with a port, more settings, and files beside them by name and content; `pg_hba.conf` among them
    /// takes the place of the one that trusts everybody.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_on(port: u16, settings: &str, files: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut server = Self::empty(port)?;
        let data = server.data();
        server.tool(
            "initdb",
            [
                "-k",
                "--no-sync",
                "-A",
                "trust",
                "-U",
                USER,
                "-E",
                "UTF8",
                "--locale=C",
                "-D",
            ],
            &data,
        )?;
        let mut text = format!(
            "listen_addresses = ''\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\nmax_connections = 400\n\
             shared_buffers = 32MB\nwal_level = replica\nmax_wal_senders = 4\nwal_retrieve_retry_interval = 500ms\n",
            server.folder.path().display()
        );
        text.push_str(settings);
        server.add("postgresql.conf", &text)?;
        for (name, content) in files {
            std::fs::write(data.join(name), content)?;
            std::fs::set_permissions(data.join(name), std::fs::Permissions::from_mode(0o600))?;
            server.give(&data.join(name))?;
        }
        server.up()?;
        Ok(server)
    }

    /// Starts a standby of this server, and has this one wait for it at each commit.
    ///
    /// # Errors
    /// When it does not start.
    pub fn synchronous_standby(&self) -> anyhow::Result<Self> {
        let mut standby = Self::empty(self.port)?;
        let host = self.folder.path().display().to_string();
        let slot = "standby";
        standby.tool(
            "pg_basebackup",
            [
                "-h",
                &host,
                "-U",
                USER,
                "--no-sync",
                "-c",
                "fast",
                "-R",
                "-C",
                "-S",
                slot,
                "-X",
                "stream",
                "-D",
            ],
            &standby.data(),
        )?;
        let socket = standby.folder.path().display().to_string();
        standby.add("postgresql.conf", &format!("unix_socket_directories = '{socket}'\n"))?;
        standby.up()?;
        self.sql(
            "postgres",
            "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (walreceiver)'",
        )?;
        self.sql("postgres", "SELECT pg_reload_conf()")?;
        eventually(START, "the standby is synchronous", || {
            let state = self
                .sql("postgres", "SELECT sync_state FROM pg_stat_replication")
                .ok()?;
            (state.trim() == "quorum").then_some(())
        })?;
        Ok(standby)
    }

    /// Makes a standby the primary, which then waits for nobody.
    ///
    /// # Errors
    /// When it does not become one.
    pub fn promote(&self) -> anyhow::Result<()> {
        let data = self.data();
        self.tool("pg_ctl", ["promote", "-w", "-D"], &data)
    }

    /// Makes a database; gives its URL.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn database(&self, name: &str) -> anyhow::Result<String> {
        self.sql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(name))
    }

    /// The URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        Self::url_of(&[self], database)
    }

    /// The URL of a database of several servers, one of which writes.
    #[must_use]
    pub fn url_of(servers: &[&Self], database: &str) -> String {
        let mut hosts = String::new();
        for server in servers {
            let path = server.folder.path().display().to_string().replace('/', "%2F");
            let comma = if hosts.is_empty() { "" } else { "," };
            // Writing to a text does not fail.
            let _written = write!(hosts, "{comma}{path}");
        }
        format!("postgres://{USER}@{hosts}/{database}?target_session_attrs=read-write")
    }

    /// Runs a statement as the owner of everything; gives the values of its rows, a line each.
    ///
    /// # Errors
    /// What the server says.
    pub fn sql(&self, database: &str, statement: &str) -> anyhow::Result<String> {
        let host = self.folder.path();
        let output = Command::new(self.programs.join("psql"))
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                USER,
                "-d",
                database,
            ])
            .arg("-h")
            .arg(host)
            .args(["-c", statement])
            .env("PGPORT", self.port.to_string())
            .stdin(Stdio::null())
            .output()
            .context("cannot run psql")?;
        ensure!(
            output.status.success(),
            "{statement}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Kills the server and all its processes outright.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let first = std::fs::read_to_string(self.data().join("postmaster.pid"))?;
        let first = first.lines().next().context("an empty postmaster.pid")?.to_owned();
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &first]).output()?;
        let children = String::from_utf8(children.stdout)?;
        let all = [first.as_str()].into_iter().chain(children.split_whitespace());
        let killed = Command::new("kill")
            .arg("-9")
            .args(all)
            .stderr(Stdio::null())
            .status()?;
        ensure!(killed.code().is_some(), "kill was killed");
        eventually(START, "the server is gone", || {
            (!Path::new("/proc").join(&first).join("exe").exists() || zombie(&first)).then_some(())
        })?;
        std::fs::remove_file(self.data().join("postmaster.pid")).context("postmaster.pid")
    }

    /// Starts a killed server again.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        // The supervisor would take the folder along.
        if let Some(mut before) = self.supervisor.take() {
            before.kill()?;
            before.wait()?;
        }
        self.up()
    }

    fn empty(port: u16) -> anyhow::Result<Self> {
        let server = Self {
            folder: tempfile::Builder::new().prefix("pg").tempdir()?,
            programs: programs()?,
            supervisor: None,
            port,
        };
        server.give(server.folder.path())?;
        Ok(server)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn up(&mut self) -> anyhow::Result<()> {
        let mut supervisor = as_nobody_special("sh");
        supervisor
            .args(["-c", SUPERVISOR, "sh"])
            .arg(&self.programs)
            .arg(self.folder.path());
        self.supervisor = Some(supervisor.stdin(Stdio::piped()).spawn()?);
        let ready = eventually(START, "PostgreSQL answers", || {
            Command::new(self.programs.join("pg_isready"))
                .args(["-q", "-h"])
                .arg(self.folder.path())
                .env("PGPORT", self.port.to_string())
                .status()
                .is_ok_and(|status| status.success())
                .then_some(())
        });
        ready.with_context(|| std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default())
    }

    fn tool<'a>(&self, name: &str, arguments: impl IntoIterator<Item = &'a str>, data: &Path) -> anyhow::Result<()> {
        let mut command = as_nobody_special(self.programs.join(name));
        let output = command
            .args(arguments)
            .arg(data)
            .env("PGPORT", self.port.to_string())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            bail!("{name}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn add(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.data().join(name);
        let before = std::fs::read_to_string(&path)?;
        Ok(std::fs::write(&path, before + text)?)
    }

    /// Lets the server own a file, when we are root and it is not.
    fn give(&self, path: &Path) -> anyhow::Result<()> {
        match server_user()? {
            Some((user, group)) => Ok(chown(path, Some(user), Some(group))?),
            None => Ok(()),
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut supervisor) = self.supervisor.take() {
            drop(supervisor.stdin.take());
            // It ends by itself in any case.
            let _waited = supervisor.wait();
        }
    }
}

/// The newest installation.
fn programs() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is missing: deploy/setup test")?;
    let mut found = Vec::new();
    for entry in versions {
        let path = entry?.path();
        let number: Option<u32> = path
            .file_name()
            .and_then(OsStr::to_str)
            .and_then(|name| name.parse().ok());
        if path.join("bin/initdb").exists() {
            found.push((number, path.join("bin")));
        }
    }
    let newest = found
        .into_iter()
        .max()
        .context("PostgreSQL is missing: deploy/setup test")?;
    Ok(newest.1)
}

/// PostgreSQL refuses to run as root: the user of Debian's package is used then.
fn server_user() -> anyhow::Result<Option<(u32, u32)>> {
    use std::os::unix::fs::MetadataExt as _;
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line
        .context("there is no user postgres: deploy/setup test")?
        .split(':')
        .skip(2);
    let mut next = || Ok::<_, anyhow::Error>(fields.next().context("a broken /etc/passwd")?.parse()?);
    Ok(Some((next()?, next()?)))
}

fn as_nobody_special(program: impl AsRef<OsStr>) -> Command {
    match server_user() {
        Ok(Some((user, group))) => {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={user}"))
                .arg(format!("--regid={group}"))
                .arg("--clear-groups")
                .arg(program);
            command
        }
        _ => Command::new(program),
    }
}

/// Killed, and not yet waited for by its supervisor.
fn zombie(process: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    state
        .rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim_start().starts_with('Z'))
}
