//! A host with an agent and its backend, for tests that bring their own snapshots.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use dirless_testkit::{Program, Running, eventually};
use serde_json::{Value, json};

use crate::recorded::Recorded;
use crate::site::{self, BACKEND, SECRET, TENANT, private};
use crate::{blob, demo, machine, vectors};

/// How long a change may take to reach the host.
pub const ARRIVAL: Duration = Duration::from_secs(30);

/// The helper that sshd asks for keys.
pub const KEYS_HELPER: &str = "/usr/libexec/dirless/dirless-authorized-keys";

/// The host, enrolled and installed; its agent runs until it is stopped.
#[derive(Debug)]
pub struct World {
    /// Our backend; `None` when another one answers.
    pub backend: Option<Running>,
    /// The agent; taken by tests that kill it.
    pub agent: Option<Running>,
}

impl World {
    /// A host of our own backend.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start() -> anyhow::Result<Self> {
        // Its store lies elsewhere than the host's state, as it would on a server of its own.
        let config = format!("[hmac]\nsecret = \"{SECRET}\"\n[storage]\npath = \"/srv/backend\"\n");
        private("/etc/dirless/dirless.toml", &config)?;
        let backend = site::start_backend()?;
        join(&format!("http://{BACKEND}"))?;
        Ok(Self {
            backend: Some(backend),
            agent: Some(demo::start_agent()?),
        })
    }

    /// A host of a backend that answers as it is told.
    ///
    /// # Errors
    /// When something does not start.
    pub fn of(backend: &Recorded) -> anyhow::Result<Self> {
        join(&backend.url())?;
        Ok(Self {
            backend: None,
            agent: Some(demo::start_agent()?),
        })
    }

    /// Seals `snapshot` and stores it as `source`.
    ///
    /// # Errors
    /// When the backend does not take it.
    pub fn put(&self, source: &str, snapshot: &Value) -> anyhow::Result<()> {
        let key = blob::recipient(vectors::IDENTITY)?;
        let body = blob::sealed(&key, snapshot)?;
        let headers = [
            ("X-Dirless-Recipient", key.as_str()),
            ("Content-Type", "application/octet-stream"),
        ];
        let reply = site::call("PUT", &format!("/v1/snapshot/{source}"), &headers, body.as_bytes())?;
        ensure!(reply.status == 200, "PUT {source}: {} {}", reply.status, reply.text());
        Ok(())
    }

    /// Stores a backend setting as the portal does.
    ///
    /// # Errors
    /// When the backend does not take it.
    pub fn set(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let body = json!({"key": key, "value": value}).to_string();
        let reply = site::call(
            "POST",
            "/v1/admin/settings",
            &[("Content-Type", "application/json")],
            body.as_bytes(),
        )?;
        ensure!(reply.status == 200, "{key}: {} {}", reply.status, reply.text());
        Ok(())
    }

    /// Kills the agent outright and starts it again.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn restart_agent(&mut self) -> anyhow::Result<()> {
        self.agent.take().map_or(Ok(()), Running::kill)?;
        self.agent = Some(demo::start_agent()?);
        Ok(())
    }

    /// The agent's process number.
    ///
    /// # Errors
    /// When it was taken away.
    pub fn agent_id(&self) -> anyhow::Result<u32> {
        Ok(self.agent.as_ref().context("the agent was taken away")?.id())
    }
}

/// Installs the package, enrols at `server` with the published identity, and lets NSS and sshd use it.
fn join(server: &str) -> anyhow::Result<()> {
    machine::install(&["dirless-agent"])?;
    private("/srv/age.key", vectors::IDENTITY)?;
    private("/srv/token", SECRET)?;
    Program::ours("dirless")?
        .args([
            "enroll",
            "--server",
            server,
            "--tenant-id",
            TENANT,
            "--token-file",
            "/srv/token",
        ])
        .args(["--age-key", "/srv/age.key"])
        .succeed()?;
    demo::quicken()?;
    Program::ours("dirless")?.arg("install").succeed()?;
    Ok(())
}

/// A user as deployed snapshots have one, with a group of their own.
#[must_use]
pub fn user(name: &str, uid: i64) -> Value {
    json!({"username": name, "uid": uid, "gid": uid, "gecos": name, "home": format!("/home/{name}"), "shell": "/bin/bash"})
}

/// A group as deployed snapshots have one.
#[must_use]
pub fn group(name: &str, gid: i64, members: &[&str]) -> Value {
    json!({"name": name, "gid": gid, "members": members})
}

/// Waits until the host knows `name`.
///
/// # Errors
/// When it does not in time; then with what the agent says.
pub fn appears(name: &str) -> anyhow::Result<String> {
    eventually(ARRIVAL, &format!("{name} on the host"), || {
        machine::getent("passwd", name).ok().flatten()
    })
}

/// Waits until the host knows `name` no more.
///
/// # Errors
/// When it still does after a while.
pub fn vanishes(name: &str) -> anyhow::Result<()> {
    eventually(ARRIVAL, &format!("{name} to vanish"), || {
        machine::getent("passwd", name)
            .is_ok_and(|entry| entry.is_none())
            .then_some(())
    })
}

/// What the keys helper prints for `name`, asked as sshd asks: as nobody.
///
/// # Errors
/// When it ends with another code than 0.
pub fn keys(name: &str) -> anyhow::Result<String> {
    as_nobody([KEYS_HELPER, name]).succeed()
}

/// A command run as the user nobody, with no group.
pub fn as_nobody(command: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Program {
    Program::system("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .args(command)
}

/// Everything below `folder`, itself included.
///
/// # Errors
/// When it cannot be read.
pub fn below(folder: &str) -> anyhow::Result<Vec<PathBuf>> {
    let listed = Program::system("find").arg(folder).succeed()?;
    Ok(listed.lines().map(PathBuf::from).collect())
}
