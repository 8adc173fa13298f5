//! sshd itself: asking it whether it accepts its configuration, and telling it to read it again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How to reach sshd on this host. Tests bring programs of their own.
#[derive(Clone, Debug)]
pub struct SshdProgram {
    /// The program, for `sshd -t`; `None` where there is none.
    pub program: Option<PathBuf>,
    /// Ways to have it read its configuration again, tried in order.
    pub reload: Vec<Vec<String>>,
    /// File with the master's process id, for hosts without a service manager.
    pub pid_file: PathBuf,
}

/// sshd refused, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SshdError {
    /// `sshd -t` does not accept the configuration.
    #[error("sshd -t refuses the configuration: {0}")]
    Refused(String),
    /// It could not be run.
    #[error("cannot run {program}: {source}")]
    Run {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing made it read its configuration again.
    #[error("sshd could not be told to read its configuration again: {0}; run: systemctl reload ssh")]
    Reload(String),
}

impl SshdProgram {
    /// The sshd of this host.
    #[must_use]
    pub fn of_this_host() -> Self {
        let program = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"]
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.is_file());
        let reload = if Path::new("/run/systemd/system").exists() {
            // Debian calls the unit ssh, everyone else sshd.
            ["ssh", "sshd"]
                .into_iter()
                .map(|unit| ["systemctl", "reload", unit].map(str::to_owned).to_vec())
                .collect()
        } else {
            Vec::new()
        };
        Self {
            program,
            reload,
            pid_file: PathBuf::from("/run/sshd.pid"),
        }
    }

    /// No sshd at all: nothing is tested and nothing is told. For `--root`.
    #[must_use]
    pub fn none() -> Self {
        Self {
            program: None,
            reload: Vec::new(),
            pid_file: PathBuf::from("/nonexistent"),
        }
    }

    /// Asks sshd whether it accepts its configuration as it stands on disk (sshd(8), `-t`).
    ///
    /// # Errors
    /// When it does not, with its words, or when it cannot be run.
    pub fn test(&self) -> Result<(), SshdError> {
        let Some(program) = &self.program else {
            return Ok(());
        };
        let mut said = self.run_test(program)?;
        // Between boots without a running sshd its folder is missing, which says nothing about the
        // configuration.
        if let Some(text) = &said
            && text.contains("Missing privilege separation directory")
            && std::fs::create_dir("/run/sshd").is_ok()
        {
            said = self.run_test(program)?;
        }
        said.map_or(Ok(()), |text| Err(SshdError::Refused(text)))
    }

    fn run_test(&self, program: &Path) -> Result<Option<String>, SshdError> {
        let output = Command::new(program)
            .arg("-t")
            .stdin(Stdio::null())
            .output()
            .map_err(|source| SshdError::Run {
                program: program.to_owned(),
                source,
            })?;
        if output.status.success() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let text: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .take(5)
            .collect();
        Ok(Some(if text.is_empty() {
            output.status.to_string()
        } else {
            text.join("; ")
        }))
    }

    /// Has the running sshd read its configuration again. That none runs is no error: the next one
    /// reads it anyway.
    ///
    /// # Errors
    /// When one runs and nothing reached it.
    pub fn reload(&self) -> Result<(), SshdError> {
        let mut failures = Vec::new();
        for words in &self.reload {
            let [program, arguments @ ..] = words.as_slice() else {
                continue;
            };
            match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
                Ok(output) if output.status.success() => return Ok(()),
                Ok(output) => failures.push(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
                Err(error) => failures.push(format!("{program}: {error}")),
            }
        }
        match self.master() {
            Some(master) => rustix::process::kill_process(master, rustix::process::Signal::HUP)
                .map_err(|error| SshdError::Reload(error.to_string())),
            None if failures.is_empty() || !any_sshd() => Ok(()),
            None => Err(SshdError::Reload(failures.join("; "))),
        }
    }

    /// The master's process id, only when that process is really called sshd: ids are reused.
    fn master(&self) -> Option<rustix::process::Pid> {
        let text = std::fs::read_to_string(&self.pid_file).ok()?;
        let id: i32 = text.trim().parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
        (name.trim() == "sshd")
            .then(|| rustix::process::Pid::from_raw(id))
            .flatten()
    }
}

/// Whether any process called sshd runs.
fn any_sshd() -> bool {
    std::fs::read_dir("/proc").is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.trim() == "sshd"))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// An sshd that refuses when `refuse_if` (a shell test) holds, and notes each reload in a file.
    pub(crate) fn fake(folder: &Path, refuse_if: &str) -> SshdProgram {
        let program = folder.join("sshd");
        let script = format!("#!/bin/sh\nif {refuse_if}; then echo 'Bad configuration option: x' >&2; exit 255; fi\n");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let note = format!("echo reloaded >> {}", folder.join("reloads").display());
        SshdProgram {
            program: Some(program),
            reload: vec![vec!["sh".into(), "-c".into(), note]],
            pid_file: folder.join("sshd.pid"),
        }
    }

    pub(crate) fn reloads(folder: &Path) -> usize {
        std::fs::read_to_string(folder.join("reloads")).map_or(0, |text| text.lines().count())
    }

    #[test]
    fn a_refusal_carries_sshds_words() {
        let folder = tempfile::tempdir().unwrap();
        assert!(fake(folder.path(), "false").test().is_ok());
        let error = fake(folder.path(), "true").test().unwrap_err().to_string();
        assert!(error.contains("Bad configuration option"), "{error}");
        assert!(SshdProgram::none().test().is_ok());
    }

    #[test]
    fn reloading_goes_on_to_the_next_way_and_fails_only_when_all_do() {
        let folder = tempfile::tempdir().unwrap();
        let mut sshd = fake(folder.path(), "false");
        sshd.reload.insert(0, vec!["false".into()]);
        sshd.reload().unwrap();
        assert_eq!(reloads(folder.path()), 1);
    }

    #[test]
    fn a_process_id_that_is_not_sshds_gets_no_signal() {
        let folder = tempfile::tempdir().unwrap();
        let mut sleeper = Command::new("sleep").arg("30").spawn().unwrap();
        std::fs::write(folder.path().join("sshd.pid"), sleeper.id().to_string()).unwrap();
        let mut sshd = fake(folder.path(), "false");
        sshd.reload.clear();
        assert!(sshd.master().is_none());
        sshd.reload().unwrap();
        assert!(sleeper.try_wait().unwrap().is_none(), "the sleeper was signalled");
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}
