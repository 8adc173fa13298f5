//! A tenant's signed files from wherever they lie: a folder, or anything that answers GET.
//!
//! Who serves them is not believed, so nothing here authenticates the server's answers beyond TLS; the caller checks
//! what it gets. Sizes are bounded before anything is kept.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::StatusCode;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::transport::{describe, plain_client};
use crate::{BaseUrl, BuildError};

/// Where the files are.
#[derive(Clone, Debug)]
pub enum Files {
    /// Below this folder: a mirror on a disk or a stick.
    Folder(PathBuf),
    /// Below this URL.
    Web {
        /// The client: its time limits, its certificate authorities.
        client: reqwest::Client,
        /// What the paths are appended to.
        base: BaseUrl,
    },
}

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
    /// The server did not answer as one does.
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
        let base = BaseUrl::new(url)?;
        let client = plain_client(&base, ca_file, patience)?;
        Ok(Self::Web { client, base })
    }

    /// The whole file at `path`, at most `most` bytes; `None` when there is none.
    ///
    /// # Errors
    /// When it is longer or cannot be had.
    pub async fn get(&self, path: &str, most: usize) -> Result<Option<Bytes>, FilesError> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(most).unwrap_or(u64::MAX);
        let length = self.copy(path, limit, &mut bytes).await?;
        Ok(length.map(|_| Bytes::from(bytes)))
    }

    /// Copies the file at `path` to `sink`: its length; `None` when there is none.
    ///
    /// # Errors
    /// When it has more than `most` bytes or cannot be had; `sink` may have received some of it.
    pub async fn copy(
        &self,
        path: &str,
        most: u64,
        sink: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Option<u64>, FilesError> {
        check(path)?;
        match self {
            Self::Folder(folder) => copy_file(folder, path, most, sink).await,
            Self::Web { client, base } => copy_answer(client, base, path, most, sink).await,
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
    sink: &mut (impl AsyncWrite + Unpin),
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
    let mut length = 0;
    let mut piece = BytesMut::zeroed(1 << 16);
    loop {
        let count = file.read(&mut piece).map_err(failed)?;
        if count == 0 {
            return Ok(Some(length));
        }
        length = grown(path, length, count, most)?;
        sink.write_all(piece.get(..count).unwrap_or_default())
            .await
            .map_err(failed)?;
    }
}

async fn copy_answer(
    client: &reqwest::Client,
    base: &BaseUrl,
    path: &str,
    most: u64,
    sink: &mut (impl AsyncWrite + Unpin),
) -> Result<Option<u64>, FilesError> {
    let failed = |reason: reqwest::Error| FilesError::Web {
        path: path.to_owned(),
        reason: describe(&reason),
    };
    let mut answer = client
        .get(base.join(&format!("/{path}")))
        .send()
        .await
        .map_err(failed)?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
        other => {
            return Err(FilesError::Web {
                path: path.to_owned(),
                reason: format!("the server answered {other}"),
            });
        }
    }
    let mut length = 0;
    while let Some(piece) = answer.chunk().await.map_err(failed)? {
        length = grown(path, length, piece.len(), most)?;
        let disk = |source| FilesError::Disk {
            path: path.to_owned(),
            source,
        };
        sink.write_all(&piece).await.map_err(disk)?;
    }
    Ok(Some(length))
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
    use wiremock::matchers::{method, path};
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
}
