//! A tenant's signed files from wherever they lie: a folder, anything that answers GET, or backends.
//!
//! Who serves them is not believed, so nothing here authenticates the server's answers beyond TLS; the caller checks
//! what it gets. Sizes are bounded before anything is kept. Heads are asked for with their tags; everything else never
//! changes, and whoever accepted it keeps it.

mod backend;
mod kept;
mod web;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::{BuildError, SnapshotSink};

pub use backend::{BackendFiles, Standing};
pub use web::WebFiles;

/// Where the files are.
#[derive(Clone, Debug)]
pub enum Files {
    /// Below this folder: a mirror on a disk or a stick.
    Folder(PathBuf),
    /// Below a URL of a web server.
    Web(WebFiles),
    /// At backends.
    Backend(BackendFiles),
}

/// Slowest transfer that is put up with, in bytes a second.
const SLOWEST: u64 = 16 << 10;

/// A file cannot be had. Its absence is no error.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The path is none that a tenant's files have.
    #[error("{0:?} is no path of a tenant's file")]
    Path(String),
    /// It is longer than anything of its kind.
    #[error("{path} has more than the {most} bytes allowed")]
    TooLong {
        /// The file.
        path: String,
        /// The limit in bytes.
        most: u64,
    },
    /// The disk, or the caller's own sink, failed.
    #[error("{path}: {source}")]
    Disk {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The backend does not let this host in, whatever it asks for.
    #[error("{0}")]
    Refused(String),
    /// The server answered something that is neither the file nor its absence.
    #[error("{path}: {answer}")]
    Answer {
        /// The file.
        path: String,
        /// What it answered.
        answer: String,
    },
    /// The answer comes too slowly to be meant, or stopped coming.
    #[error("{path} comes more slowly than {} KiB a second", SLOWEST >> 10)]
    TooSlow {
        /// The file.
        path: String,
    },
    /// The answer broke off.
    #[error("{path} broke off on its way: {reason}")]
    BrokeOff {
        /// The file.
        path: String,
        /// What went wrong.
        reason: String,
    },
    /// The server did not answer.
    #[error("{path} could not be fetched: {reason}")]
    Web {
        /// The file.
        path: String,
        /// What went wrong.
        reason: String,
    },
}

impl Files {
    /// Below `url`, trusting the certificate authorities in `ca_file` besides the system's, if given. A request
    /// without progress for `patience` fails.
    ///
    /// # Errors
    /// When the URL or the file cannot be used.
    pub fn web(url: &str, ca_file: Option<&Path>, patience: Duration) -> Result<Self, BuildError> {
        WebFiles::new(url, ca_file, patience).map(Self::Web)
    }

    /// The whole file at `path`, at most `most` bytes; `None` when there is none.
    ///
    /// # Errors
    /// When it is longer or cannot be had.
    pub async fn get(&self, path: &str, most: usize) -> Result<Option<Bytes>, FilesError> {
        check(path)?;
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        match self {
            Self::Folder(folder) => {
                let mut bytes = Vec::new();
                let length = copy_file(folder, path, most, &mut bytes).await?;
                Ok(length.map(|_| Bytes::from(bytes)))
            }
            Self::Web(files) => files.get(path, most).await,
            Self::Backend(files) => files.get(path, most).await,
        }
    }

    /// Copies the file at `path` to `sink`: its length; `None` when there is none.
    ///
    /// # Errors
    /// When it has more than `most` bytes or cannot be had; then what the sink holds is worthless.
    pub async fn copy(&self, path: &str, most: u64, sink: &mut impl SnapshotSink) -> Result<Option<u64>, FilesError> {
        check(path)?;
        match self {
            Self::Folder(folder) => copy_file(folder, path, most, sink).await,
            Self::Web(files) => files.copy(path, most, sink).await,
            Self::Backend(files) => files.copy(path, most, sink).await,
        }
    }
}

/// Only plain relative paths: nothing climbs out of the folder or leaves the base URL.
fn check(path: &str) -> Result<(), FilesError> {
    let plain = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric()) && part.bytes().all(allowed)
    };
    if path.len() <= 512 && path.split('/').all(plain) {
        Ok(())
    } else {
        Err(FilesError::Path(path.chars().take(80).collect()))
    }
}

async fn copy_file(
    folder: &Path,
    path: &str,
    most: u64,
    sink: &mut impl SnapshotSink,
) -> Result<Option<u64>, FilesError> {
    let failed = |source| FilesError::Disk {
        path: folder.join(path).display().to_string(),
        source,
    };
    let mut file = match std::fs::File::open(folder.join(path)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("it is no regular file")));
    }
    sink.begin().await.map_err(failed)?;
    let mut length = 0;
    let mut piece = BytesMut::zeroed(1 << 16);
    loop {
        let count = file.read(&mut piece).map_err(failed)?;
        if count == 0 {
            sink.finish().await.map_err(failed)?;
            return Ok(Some(length));
        }
        length = grown(path, length, count, most)?;
        sink.append(piece.get(..count).unwrap_or_default())
            .await
            .map_err(failed)?;
    }
}

fn grown(path: &str, length: u64, more: usize, most: u64) -> Result<u64, FilesError> {
    let length = length.saturating_add(more as u64);
    if length > most {
        let path = path.to_owned();
        return Err(FilesError::TooLong { path, most });
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::{header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    #[tokio::test]
    async fn a_folder_gives_what_is_in_it_and_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("tenant");
        std::fs::create_dir_all(folder.join("head")).unwrap();
        std::fs::write(folder.join("head/syncer-1"), "note").unwrap();
        std::fs::write(root.path().join("secret"), "x").unwrap();
        let files = Files::Folder(folder);
        assert_eq!(files.get("head/syncer-1", 4).await.unwrap().unwrap(), "note");
        assert!(files.get("head/syncer-2", 4).await.unwrap().is_none());
        assert!(matches!(
            files.get("head/syncer-1", 3).await,
            Err(FilesError::TooLong { most: 3, .. })
        ));
        for outside in [
            "../secret",
            "/etc/passwd",
            "head/../../secret",
            "head//syncer-1",
            "",
            ".",
            "a/",
            "Ä",
            "a?b",
            "%2e%2e/secret",
        ] {
            assert!(
                matches!(files.get(outside, 9).await, Err(FilesError::Path(_))),
                "{outside}"
            );
        }
        assert!(matches!(files.get("head", 9).await, Err(FilesError::Disk { .. })));
    }

    #[tokio::test]
    async fn a_web_server_is_asked_below_its_prefix() {
        let server = MockServer::start().await;
        let answer = |status, body: &str| ResponseTemplate::new(status).set_body_string(body.to_owned());
        for (at, answer) in [
            ("/t/policy/1", answer(200, "note")),
            ("/t/policy/3", answer(500, "")),
            ("/t/policy/4", answer(302, "").insert_header("location", "/t/policy/1")),
        ] {
            Mock::given(method("GET"))
                .and(path(at))
                .respond_with(answer)
                .mount(&server)
                .await;
        }
        let files = Files::web(&format!("{}/t/", server.uri()), None, Duration::from_secs(30)).unwrap();
        assert_eq!(files.get("policy/1", 100).await.unwrap().unwrap(), "note");
        assert!(files.get("policy/2", 100).await.unwrap().is_none());
        assert!(matches!(
            files.get("policy/1", 2).await,
            Err(FilesError::TooLong { .. })
        ));
        for refused in ["policy/3", "policy/4"] {
            let error = files.get(refused, 100).await.unwrap_err().to_string();
            assert!(
                error.contains(refused) && error.contains("the server answered"),
                "{error}"
            );
        }
        drop(server);
    }

    #[tokio::test]
    async fn a_head_is_asked_for_with_its_tag_and_nothing_else_is() {
        let server = MockServer::start().await;
        let tagged = |tag: &str, body: &str| {
            let answer = ResponseTemplate::new(200).set_body_string(body.to_owned());
            answer.insert_header("etag", tag)
        };
        let mount = async |at: &str, answer, times, tag: Option<&str>| {
            let mut mock = Mock::given(method("GET")).and(path(at));
            if let Some(tag) = tag {
                mock = mock.and(header("if-none-match", tag));
            }
            mock.respond_with(answer).up_to_n_times(times).mount(&server).await;
        };
        mount("/head/p", tagged("\"1\"", "one"), 1, None).await;
        mount("/head/p", ResponseTemplate::new(304), 1, Some("\"1\"")).await;
        mount("/head/p", tagged("\"2\"", "two"), 1, Some("\"1\"")).await;
        mount("/policy/1", tagged("\"1\"", "note"), 2, None).await;
        let files = Files::web(&server.uri(), None, Duration::from_secs(30)).unwrap();
        for expected in ["one", "one", "two"] {
            assert_eq!(files.get("head/p", 100).await.unwrap().unwrap(), expected);
        }
        for _ in 0..2 {
            assert_eq!(files.get("policy/1", 100).await.unwrap().unwrap(), "note");
        }
        let asked = server.received_requests().await.unwrap();
        let with_tag = |at: &str| {
            let tagged = |one: &&wiremock::Request| one.url.path() == at && one.headers.contains_key("if-none-match");
            asked.iter().filter(tagged).count()
        };
        assert_eq!((with_tag("/head/p"), with_tag("/policy/1")), (2, 0));
    }
}
