use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::eventually;

/// How long a program may take to say that it serves, or a command to end. Far beyond what a busy
/// machine needs, so that only a real hang meets it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The path of something that `cargo build --workspace` makes, such as `dirless-agent` or
/// `libnss_dirless.so`: it stands beside the running test program or one folder above.
///
/// # Errors
/// When it is not there.
pub fn built(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program")?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built; run: cargo build --workspace"))
}

/// A [`Command`] for something that [`built`] finds, with an environment that is empty but for `PATH`,
/// so that no test depends on who runs it.
///
/// # Errors
/// When it is not there.
pub fn command(name: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(built(name)?);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Ok(command)
}

/// A program about to be started: arguments, environment, standard input.
#[derive(Debug)]
pub struct Program {
    name: String,
    command: Command,
    input: Vec<u8>,
    patience: Duration,
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A program that runs; killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    folder: TempDir,
    /// What it said in its ready message, e.g. `STATUS=serving on 127.0.0.1:4000`.
    ready: String,
}

impl Program {
    /// One of our programs, found by [`built`].
    ///
    /// # Errors
    /// When it is not built.
    pub fn ours(name: &str) -> anyhow::Result<Self> {
        Ok(Self::from(name, command(name)?))
    }

    /// Any program, by name or path, with the caller's environment.
    #[must_use]
    pub fn system(name: &str) -> Self {
        Self::from(name, Command::new(name))
    }

    fn from(name: &str, command: Command) -> Self {
        let name = name.rsplit('/').next().unwrap_or(name).to_owned();
        Self {
            name,
            command,
            input: Vec::new(),
            patience: PATIENCE,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// What it reads from standard input; nothing by default.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// How long it may take to end, where that is more than a minute.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end within a minute, or what [`Program::within`] says.
    pub fn run(mut self) -> anyhow::Result<Outcome> {
        let folder = tempfile::tempdir()?;
        let mut child = self.spawn_into(folder.path())?;
        let ended = eventually(self.patience, &format!("{} to end", self.name), || {
            child.try_wait().transpose()
        });
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        Ok(Outcome {
            status: ended??,
            stdout: read(&folder.path().join("stdout")),
            stderr: read(&folder.path().join("stderr")),
        })
    }

    /// Runs it to its end and insists on success; returns what it wrote to standard output.
    ///
    /// # Errors
    /// When it cannot be run or ends with another code than 0; then with all that it said.
    pub fn succeed(self) -> anyhow::Result<String> {
        let shown = format!("{:?}", self.command);
        let outcome = self.run()?;
        if !outcome.status.success() {
            bail!(
                "{shown} ended with {}\n{}{}",
                outcome.status,
                outcome.stdout,
                outcome.stderr
            );
        }
        Ok(outcome.stdout)
    }

    /// Starts it and waits until it says that it serves (sd_notify(3), `READY=1`).
    ///
    /// # Errors
    /// When it ends first or takes longer than a minute; then with its log.
    pub fn serve(mut self) -> anyhow::Result<Running> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).context("binding the readiness socket")?;
        socket.set_nonblocking(true)?;
        self.command.env("NOTIFY_SOCKET", &path);
        let mut running = self.launch(folder)?;
        let mut buffer = [0; 4096];
        let ready = eventually(PATIENCE, &format!("{} to serve", running.name), || {
            let message = socket.recv(&mut buffer).ok().and_then(|length| buffer.get(..length));
            match message.map(String::from_utf8_lossy) {
                Some(text) if text.lines().any(|line| line == "READY=1") => Some(Ok(text.into_owned())),
                _ => running.child.try_wait().ok().flatten().map(Err),
            }
        });
        match ready {
            Ok(Ok(text)) => running.ready = text,
            Ok(Err(status)) => bail!(
                "{} ended with {status} instead of serving:\n{}",
                running.name,
                running.log()
            ),
            Err(error) => bail!("{error}; its log:\n{}", running.log()),
        }
        Ok(running)
    }

    /// Starts it and waits until something listens on `port` of the loopback address: for programs
    /// that know nothing of readiness.
    ///
    /// # Errors
    /// When it ends first or takes longer than a minute; then with its log.
    pub fn serve_on(self, port: u16) -> anyhow::Result<Running> {
        let mut running = self.launch(tempfile::tempdir()?)?;
        let open = eventually(PATIENCE, &format!("{} on port {port}", running.name), || {
            if let Ok(Some(status)) = running.child.try_wait() {
                return Some(Err(status));
            }
            std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(Ok)
        });
        match open {
            Ok(Ok(_)) => Ok(running),
            Ok(Err(status)) => bail!("{} ended with {status}:\n{}", running.name, running.log()),
            Err(error) => bail!("{error}; its log:\n{}", running.log()),
        }
    }

    /// Starts it and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(self) -> anyhow::Result<Running> {
        self.launch(tempfile::tempdir()?)
    }

    fn launch(mut self, folder: TempDir) -> anyhow::Result<Running> {
        let child = self.spawn_into(folder.path())?;
        Ok(Running {
            name: self.name,
            child,
            folder,
            ready: String::new(),
        })
    }

    fn spawn_into(&mut self, folder: &Path) -> anyhow::Result<Child> {
        let mut child = self
            .command
            .stdin(if self.input.is_empty() {
                Stdio::null()
            } else {
                Stdio::piped()
            })
            .stdout(File::create(folder.join("stdout"))?)
            .stderr(File::create(folder.join("stderr"))?)
            .spawn()
            .with_context(|| format!("starting {}", self.name))?;
        if let Some(mut pipe) = child.stdin.take() {
            // A program that does not read all of it has its reasons; its exit code tells.
            let _ = pipe.write_all(&self.input);
        }
        Ok(child)
    }
}

impl Running {
    /// The process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it said in its ready message.
    #[must_use]
    pub fn ready(&self) -> &str {
        &self.ready
    }

    /// All that it has written so far, standard output first.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.folder.path().join("stdout")) + &read(&self.folder.path().join("stderr"))
    }

    /// Kills it outright (SIGKILL), as a crash or the out-of-memory killer would.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// When it does not end within a minute.
    pub fn stop(mut self) -> anyhow::Result<Outcome> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let status = eventually(PATIENCE, &format!("{} to stop", self.name), || {
            self.child.try_wait().transpose()
        })??;
        Ok(Outcome {
            status,
            stdout: read(&self.folder.path().join("stdout")),
            stderr: read(&self.folder.path().join("stderr")),
        })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    /// The exit code, or 128 + the signal that ended it, as a shell says it.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .or_else(|| self.status.signal().map(|signal| 128 + signal))
            .unwrap_or(-1)
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::system("sh").args(["-c", script])
    }

    #[test]
    fn a_command_gives_back_what_it_said_and_its_code() {
        let outcome = shell("cat; echo no >&2; exit 3").input("hello").run().unwrap();
        assert_eq!(
            (outcome.code(), outcome.stdout.as_str(), outcome.stderr.as_str()),
            (3, "hello", "no\n")
        );
        assert_eq!(shell("kill -9 $$").run().unwrap().code(), 137);
        let error = shell("echo why; exit 1").succeed().unwrap_err().to_string();
        assert!(error.contains("why"), "{error}");
    }

    #[test]
    fn a_server_that_ends_instead_of_serving_is_an_error_with_its_log() {
        let error = shell("echo port taken >&2; exit 1").serve().unwrap_err().to_string();
        assert!(error.contains("port taken"), "{error}");
    }

    #[test]
    fn readiness_comes_by_the_socket_and_dropping_kills() {
        let script = "python3 -c \"import os,socket; s=socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
                      s.sendto(b'READY=1\\nSTATUS=here', os.environ['NOTIFY_SOCKET'])\"; exec sleep 60";
        let mut running = shell(script).serve().unwrap();
        assert!(running.ready().contains("STATUS=here") && running.alive());
        let entry = PathBuf::from(format!("/proc/{}", running.id()));
        assert!(entry.exists());
        drop(running);
        assert!(!entry.exists());
    }

    #[test]
    fn stopping_is_by_signal_and_reports_the_last_words() {
        let running = shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done")
            .spawn()
            .unwrap();
        eventually(PATIENCE, "the trap", || running.log().contains("up").then_some(())).unwrap();
        let outcome = running.stop().unwrap();
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "up\nbye\n"));
    }

    #[test]
    fn what_is_not_built_says_how_to_build_it() {
        let error = built("dirless-nonexistent").unwrap_err().to_string();
        assert!(error.contains("cargo build --workspace"), "{error}");
    }
}
