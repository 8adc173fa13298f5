//! Files on any web server.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use dirless_wire::ETag;
use reqwest::StatusCode;
use reqwest::header::{ETAG, IF_NONE_MATCH};

use super::kept::KeptHeads;
use super::{FilesError, SLOWEST, grown};
use crate::transport::{describe, plain_client};
use crate::{BaseUrl, BuildError, SnapshotSink};

/// Files below a URL that answers GET.
#[derive(Clone, Debug)]
pub struct WebFiles {
    client: reqwest::Client,
    base: BaseUrl,
    heads: KeptHeads,
    /// How long nothing may come.
    patience: Duration,
}

impl WebFiles {
    pub(super) fn new(url: &str, ca_file: Option<&Path>, patience: Duration) -> Result<Self, BuildError> {
        let base = BaseUrl::new(url)?;
        let client = plain_client(&base, ca_file, patience)?;
        Ok(Self {
            client,
            base,
            heads: KeptHeads::default(),
            patience,
        })
    }

    pub(super) async fn get(&self, path: &str, most: u64) -> Result<Option<Bytes>, FilesError> {
        let mut bytes = Vec::new();
        let tag = self.heads.tag(path);
        match self.ask(path, tag.as_ref(), most, &mut bytes).await? {
            Answered::Nothing => Ok(None),
            Answered::Unchanged => Ok(self.heads.bytes(path)),
            Answered::Body { tag, .. } => {
                let bytes = Bytes::from(bytes);
                self.heads.keep(path, tag, &bytes);
                Ok(Some(bytes))
            }
        }
    }

    pub(super) async fn copy(
        &self,
        path: &str,
        most: u64,
        sink: &mut impl SnapshotSink,
    ) -> Result<Option<u64>, FilesError> {
        match self.ask(path, None, most, sink).await? {
            Answered::Body { length, .. } => Ok(Some(length)),
            Answered::Nothing | Answered::Unchanged => Ok(None),
        }
    }

    async fn ask(
        &self,
        path: &str,
        tag: Option<&ETag>,
        most: u64,
        sink: &mut impl SnapshotSink,
    ) -> Result<Answered, FilesError> {
        let failed = |reason: reqwest::Error| FilesError::Web {
            path: path.to_owned(),
            reason: describe(&reason),
        };
        let mut request = self.client.get(self.base.join(&format!("/{path}")));
        if let Some(tag) = tag {
            request = request.header(IF_NONE_MATCH, tag.header());
        }
        let mut answer = request.send().await.map_err(failed)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if tag.is_some() => return Ok(Answered::Unchanged),
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Answered::Nothing),
            other => {
                return Err(FilesError::Answer {
                    path: path.to_owned(),
                    answer: format!("the server answered {other}"),
                });
            }
        }
        let disk = |source| FilesError::Disk {
            path: path.to_owned(),
            source,
        };
        let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
        let tag = tag.and_then(|tag| ETag::parse(tag).ok());
        sink.begin().await.map_err(disk)?;
        let begun = tokio::time::Instant::now();
        let mut length = 0;
        while let Some(piece) = answer.chunk().await.map_err(|error| broken(path, &error))? {
            length = grown(path, length, piece.len(), most)?;
            // A byte now and then is progress, and would hold up everything else for ever.
            if begun.elapsed() > self.patience + Duration::from_secs(length / SLOWEST) {
                return Err(FilesError::TooSlow { path: path.to_owned() });
            }
            sink.append(&piece).await.map_err(disk)?;
        }
        sink.finish().await.map_err(disk)?;
        Ok(Answered::Body { length, tag })
    }
}

fn broken(path: &str, error: &reqwest::Error) -> FilesError {
    let path = path.to_owned();
    if error.is_timeout() {
        FilesError::TooSlow { path }
    } else {
        FilesError::BrokeOff {
            path,
            reason: describe(error),
        }
    }
}

enum Answered {
    Nothing,
    Unchanged,
    Body { length: u64, tag: Option<ETag> },
}
