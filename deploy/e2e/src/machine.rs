//! A Linux host: the packages' files in their places, sshd, people who log in.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use dirless_testkit::{Outcome, Program, Running};

use crate::repository;

/// Lays out the files of `packages` as their Debian packages would, from the programs just built.
///
/// # Errors
/// When something is not built, or this is not a machine of its own.
pub fn install(packages: &[&str]) -> anyhow::Result<()> {
    ensure!(dirless_testkit::inside(), "this would install into the real machine");
    let built = dirless_testkit::built("dirless-agent")?;
    let target = built.parent().and_then(Path::parent).context("the target folder")?;
    Program::system(&repository().join("deploy/package").to_string_lossy())
        .env("CARGO_TARGET_DIR", target)
        .args(["--debug", "--into", "/"])
        .args(packages)
        .succeed()?;
    Program::system("ldconfig").succeed()?;
    // As Debian's openssh-server does at its installation; sshd checks no configuration without them.
    Program::system("ssh-keygen").arg("-A").succeed()?;
    Ok(())
}

/// Debian's sshd with Debian's configuration, on port 22 of this machine.
///
/// # Errors
/// When it does not come up.
pub fn start_sshd() -> anyhow::Result<Running> {
    Program::system("/usr/sbin/sshd").args(["-D", "-e"]).serve_on(22)
}

/// A person with a key pair of their own, at some other computer.
#[derive(Debug)]
pub struct Person {
    folder: PathBuf,
    /// Their user name.
    pub name: String,
}

impl Person {
    /// Makes the key pair.
    ///
    /// # Errors
    /// When ssh-keygen fails.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("keys-of-{name}"));
        std::fs::create_dir_all(&folder)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        let key = folder.join("id");
        if !key.exists() {
            let comment = format!("{name}@laptop");
            Program::system("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", &comment, "-f"])
                .arg(&key)
                .succeed()?;
        }
        Ok(Self {
            folder,
            name: name.to_owned(),
        })
    }

    /// The private key's file.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.folder.join("id")
    }

    /// The public key's file.
    #[must_use]
    pub fn public_key(&self) -> PathBuf {
        self.folder.join("id.pub")
    }

    /// Logs in here by ssh, as `login`, and runs `command`.
    ///
    /// # Errors
    /// When ssh cannot be run; a refused login is an [`Outcome`].
    pub fn ssh_as(&self, login: &str, command: &str) -> anyhow::Result<Outcome> {
        Program::system("ssh")
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "LogLevel=ERROR",
            ])
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-i",
            ])
            .arg(self.key())
            .args([&format!("{login}@127.0.0.1"), command])
            .run()
    }

    /// Logs in here by ssh under their own name and runs `command`.
    ///
    /// # Errors
    /// When ssh cannot be run; a refused login is an [`Outcome`].
    pub fn ssh(&self, command: &str) -> anyhow::Result<Outcome> {
        self.ssh_as(&self.name, command)
    }
}

/// An SSH certificate authority.
#[derive(Debug)]
pub struct Authority(Person);

impl Authority {
    /// Makes its key pair.
    ///
    /// # Errors
    /// When ssh-keygen fails.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        Ok(Self(Person::new(name)?))
    }

    /// The public key's file.
    #[must_use]
    pub fn public_key(&self) -> PathBuf {
        self.0.public_key()
    }

    /// Signs the key of `person` for the login `principal`, for one hour.
    ///
    /// # Errors
    /// When ssh-keygen fails.
    pub fn sign(&self, person: &Person, principal: &str) -> anyhow::Result<()> {
        Program::system("ssh-keygen")
            .args(["-q", "-I", &person.name, "-n", principal, "-V", "+1h", "-s"])
            .arg(self.0.key())
            .arg(person.public_key())
            .succeed()?;
        Ok(())
    }
}

/// `getent DATABASE KEY`: what glibc answers in a process of its own. `None` when there is no such entry.
///
/// # Errors
/// When getent cannot be run or reports something else than "not found" (exit code 2).
pub fn getent(database: &str, key: &str) -> anyhow::Result<Option<String>> {
    let outcome = Program::system("getent").args([database, key]).run()?;
    match outcome.code() {
        0 => Ok(Some(outcome.stdout.trim_end().to_owned())),
        2 => Ok(None),
        other => anyhow::bail!("getent {database} {key}: exit code {other}: {}", outcome.stderr),
    }
}
