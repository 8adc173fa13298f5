//! The worker: this program once more, as `dirless-agent publish`, with an empty environment and a
//! limit on its time. What it makes of hostile bytes is its own end, never the daemon's.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

/// Most that a worker may say, in bytes; beyond it, it writes into a closed pipe.
const MOST_WORDS: u64 = 1024 * 1024;
/// Most of its last line that is told, in characters.
const LONGEST_LINE: usize = 500;

/// How the worker is started.
#[derive(Clone, Debug)]
pub struct WorkerCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The limit of one run.
    pub timeout: Duration,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Spawn {
    /// It did its work; the report says what came of it.
    Done,
    /// It says that nothing may be published from what there is (sysexits(3): 65, 78); the same
    /// again would end the same.
    Refused(String),
    /// It ended without having done it; the last good table stays.
    Failed(String),
}

impl WorkerCommand {
    /// This very program (also after the file was replaced by an upgrade), told where things are.
    #[must_use]
    pub fn of_this_program(arguments: Vec<String>, timeout: Duration) -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            arguments,
            timeout,
        }
    }

    /// Runs it to its end. `while_waiting` is called about once a second meanwhile.
    pub(crate) async fn run(&self, mut while_waiting: impl FnMut()) -> Spawn {
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => return Spawn::Failed(format!("the publishing worker cannot be started: {error}")),
        };
        let words = child.stderr.take().map(|pipe| tokio::spawn(last_words(pipe)));
        let deadline = tokio::time::Instant::now() + self.timeout;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                ended = child.wait() => {
                    let said = match words {
                        Some(words) => words.await.unwrap_or_default(),
                        None => String::new(),
                    };
                    return outcome(ended, &said);
                }
                () = tokio::time::sleep_until(deadline) => {
                    // Waits for the end as well, so that no two workers meet.
                    let _ = child.kill().await;
                    return Spawn::Failed(format!(
                        "the publishing worker took longer than {} s and was ended; raise [agent] worker_timeout_seconds \
                         if this host is that slow",
                        self.timeout.as_secs()
                    ));
                }
                _ = tick.tick() => while_waiting(),
            }
        }
    }

    fn spawn(&self) -> io::Result<tokio::process::Child> {
        tokio::process::Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }
}

/// Passes on what the worker says, as it is, and gives back its last line.
async fn last_words(pipe: tokio::process::ChildStderr) -> String {
    let mut lines = BufReader::new(pipe.take(MOST_WORDS)).lines();
    let mut last = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("{line}");
        last = line;
    }
    let mut shown: String = last
        .trim_start_matches("error: ")
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    if shown.len() > LONGEST_LINE {
        shown = shown.chars().take(LONGEST_LINE).collect();
    }
    shown
}

fn outcome(ended: io::Result<std::process::ExitStatus>, said: &str) -> Spawn {
    use std::os::unix::process::ExitStatusExt;
    let because = if said.is_empty() {
        String::new()
    } else {
        format!(": {said}")
    };
    match ended {
        Ok(status) if status.success() => Spawn::Done,
        Ok(status) if matches!(status.code(), Some(65 | 78)) => Spawn::Refused(format!(
            "nothing could be published; the last good table stays (worker code {}){because}",
            status.code().unwrap_or_default()
        )),
        Ok(status) => Spawn::Failed(match status.signal() {
            Some(9) => {
                "the publishing worker was killed, and the last good table stays; was it out of memory? If it was, \
                        raise MemoryMax of dirless-agent.service"
                    .to_owned()
            }
            Some(signal) => format!(
                "the publishing worker crashed (signal {signal}); the last good table stays{because}; if memory was short, the \
                 directory is too large for a host: let its publisher split it into sources or compartments"
            ),
            None => format!(
                "the publishing worker failed, and the last good table stays (code {}){because}",
                status.code().unwrap_or(-1)
            ),
        }),
        Err(error) => Spawn::Failed(format!("the publishing worker cannot be waited for: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> WorkerCommand {
        WorkerCommand {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            timeout,
        }
    }

    #[tokio::test]
    async fn every_way_to_end_has_its_words() {
        let long = Duration::from_secs(30);
        assert_eq!(shell("exit 0", long).run(|| {}).await, Spawn::Done);
        for (script, words) in [
            (
                "echo x >&2; echo error: No space left >&2; exit 74",
                "code 74): No space left",
            ),
            ("exit 3", "code 3"),
            ("kill -9 $$", "out of memory"),
            ("kill -SEGV $$", "signal 11"),
            (
                "echo memory allocation of 7 bytes failed >&2; kill -ABRT $$",
                "signal 6); the last good table stays: memory allocation of 7 bytes failed",
            ),
        ] {
            let Spawn::Failed(text) = shell(script, long).run(|| {}).await else {
                panic!("{script} counted as done");
            };
            assert!(text.contains(words), "{text}");
        }
        assert!(matches!(shell("exit 65", long).run(|| {}).await, Spawn::Refused(_)));
        let absent = WorkerCommand {
            program: "/nonexistent".into(),
            ..shell("", long)
        };
        assert!(matches!(absent.run(|| {}).await, Spawn::Failed(_)));
    }

    #[tokio::test]
    async fn a_worker_that_hangs_is_ended_and_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let script = format!("echo $$ > {}; exec sleep 60", path.display());
        let Spawn::Failed(text) = shell(&script, Duration::from_millis(500)).run(|| {}).await else {
            panic!("it counted as done");
        };
        assert!(text.contains("worker_timeout_seconds"), "{text}");
        let id = std::fs::read_to_string(&path).unwrap();
        assert!(!std::path::Path::new(&format!("/proc/{}", id.trim())).exists());
    }

    #[tokio::test]
    async fn the_environment_is_scrubbed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        let script = format!("env > {}", path.display());
        assert_eq!(shell(&script, Duration::from_secs(30)).run(|| {}).await, Spawn::Done);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("CARGO") && !text.contains("HOME="), "{text}");
    }
}
