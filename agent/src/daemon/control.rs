//! The daemon's socket for root: `dirless refresh` and `dirless status` ask here. One line of JSON in,
//! one line out; only root can open it, and what it reads is capped all the same.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use dirless_wire::SourceName;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// Longest request, in bytes: a command and a source name fit many times over.
const LONGEST_REQUEST: u64 = 1024;
/// Longest answer, in bytes.
const LONGEST_ANSWER: u64 = 1024 * 1024;
/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a caller wants.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Run a cycle now and tell what came of it.
    Refresh {
        /// This source may be empty.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accept_absent: Option<SourceName>,
    },
    /// Tell how things stand, without doing anything.
    Status,
}

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Status {
    /// Version of the running daemon.
    pub version: String,
    /// When the last cycle ended, RFC 3339 in UTC.
    pub last_cycle_at: Option<String>,
    /// When a cycle last ended without a problem.
    pub last_good_cycle_at: Option<String>,
    /// Cycles in a row that had a problem which delays the next one.
    pub failures: u32,
    /// Which backend answered last.
    pub backend: Option<String>,
    /// Which backend tells of changes as they happen; none: they are found at the interval.
    pub told_by: Option<String>,
    /// Every known address, with its failure if it has one.
    pub backends: Vec<(String, Option<String>)>,
    /// What an operator should know.
    pub problems: Vec<String>,
    /// Number of the published table.
    pub generation: Option<u64>,
    /// Whether the last cycle published a new table.
    pub changed: bool,
    /// Seconds until the next cycle.
    pub next_cycle_in: Option<u64>,
}

/// Opens the socket for root alone, in a folder of its own. A socket that an earlier daemon left is
/// replaced.
///
/// # Errors
/// What the file system reports.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        dirless_program::fs::ensure_folder(folder, 0o700)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Reads what a caller wants. Callers other than root or this user are turned away.
///
/// # Errors
/// When it says nothing in time, too much, or nonsense.
pub async fn read(stream: &mut UnixStream) -> io::Result<Request> {
    let caller = stream.peer_cred()?.uid();
    if caller != 0 && caller != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("user {caller} may not command the daemon"),
        ));
    }
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream.take(LONGEST_REQUEST));
    tokio::time::timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the request has no end or is too long",
        ));
    }
    serde_json::from_slice(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Answers. A caller that has gone is no error.
pub async fn answer(stream: &mut UnixStream, status: &Status) {
    let Ok(mut line) = serde_json::to_vec(status) else {
        return;
    };
    line.push(b'\n');
    let _ = tokio::time::timeout(PATIENCE, stream.write_all(&line)).await;
}

/// Asks the daemon behind `path` and waits at most `limit` for its answer.
///
/// # Errors
/// When there is no daemon, or it does not answer.
pub async fn ask(path: &Path, request: &Request, limit: Duration) -> io::Result<Status> {
    let talk = async {
        let mut stream = UnixStream::connect(path).await?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut text = Vec::new();
        stream.take(LONGEST_ANSWER).read_to_end(&mut text).await?;
        if text.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the daemon closed without an answer",
            ));
        }
        serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    };
    tokio::time::timeout(limit, talk).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn exchange(bytes: &[u8]) -> io::Result<Request> {
        let (mut ours, mut theirs) = UnixStream::pair()?;
        let bytes = bytes.to_vec();
        let writer = tokio::spawn(async move {
            let _ = theirs.write_all(&bytes).await;
            let _ = theirs.shutdown().await;
            theirs
        });
        let request = read(&mut ours).await;
        drop(ours);
        let _ = writer.await;
        request
    }

    #[tokio::test]
    async fn requests_are_one_line_and_nothing_else() {
        assert_eq!(exchange(b"{\"command\":\"status\"}\n").await.unwrap(), Request::Status);
        assert_eq!(
            exchange(b"{\"command\":\"refresh\",\"accept_absent\":\"local\"}\n")
                .await
                .unwrap(),
            Request::Refresh {
                accept_absent: Some(SourceName::local())
            }
        );
        for bytes in [
            &b""[..],
            b"\n",
            b"{\"command\":\"status\"}",
            b"{\"command\":\"stop\"}\n",
            b"{\"command\":\"refresh\",\"accept_absent\":\"../x\"}\n",
        ] {
            assert!(exchange(bytes).await.is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[tokio::test]
    async fn defect_14_endless_input_is_cut_off_early() {
        let endless = vec![b'x'; 8 * 1024 * 1024];
        let error = exchange(&endless).await.unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }

    #[tokio::test]
    async fn the_socket_is_for_its_owner_alone_and_asking_without_a_daemon_fails_at_once() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/control.sock");
        assert!(ask(&path, &Request::Status, Duration::from_secs(5)).await.is_err());
        let listener = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read(&mut stream).await.unwrap();
            let status = Status {
                generation: Some(7),
                ..Status::default()
            };
            answer(&mut stream, &status).await;
            request
        });
        let request = Request::Refresh { accept_absent: None };
        let status = ask(&path, &request, Duration::from_secs(5)).await.unwrap();
        assert_eq!(status.generation, Some(7));
        assert_eq!(server.await.unwrap(), request);
        // A second daemon takes over what a killed one left.
        listen(&path).unwrap();
    }
}
