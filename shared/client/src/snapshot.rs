use std::future::Future;
use std::io;

use bytes::Bytes;
use dirless_wire::{AgePublicKey, AwsAccountId, ETag, ErrorCode, header};
use http::StatusCode;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::Error;
use crate::reply::{Answer, Failure, Reader, registered_key};

/// Where a fetched body goes, piece by piece. A body may begin anew when a backend fails half-way.
pub trait SnapshotSink: Send {
    /// A body begins: drop whatever an earlier, broken one left.
    fn begin(&mut self) -> impl Future<Output = io::Result<()>> + Send;
    /// The next piece.
    fn append(&mut self, piece: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
    /// The body is complete.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

impl SnapshotSink for Vec<u8> {
    async fn begin(&mut self) -> io::Result<()> {
        self.clear();
        Ok(())
    }

    async fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        self.extend_from_slice(piece);
        Ok(())
    }

    async fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The file holds exactly the body afterwards, flushed but not synced.
impl SnapshotSink for tokio::fs::File {
    async fn begin(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.set_len(0).await?;
        self.rewind().await?;
        Ok(())
    }

    async fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        self.write_all(piece).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.flush().await
    }
}

/// What fetching a snapshot gave.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Fetched {
    /// It is still the one named by the entity tag; the sink was left alone.
    NotModified,
    /// The sink holds it.
    Body(FetchedBody),
    /// The backend has none.
    Absent {
        /// [`ErrorCode::SourceDeleted`] when somebody deleted it on purpose,
        /// [`ErrorCode::SourceAbsent`] when it was never written; anything else (a deployed
        /// backend, a front that lost its way) says nothing about what is true.
        code: ErrorCode,
    },
}

/// What came with a snapshot. None of it is signed: hints, except for the length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedBody {
    /// Entity tag for the next fetch; deployed backends send none.
    pub etag: Option<ETag>,
    /// Bytes written to the sink.
    pub length: u64,
    /// Whether `X-Dirless-Encrypted` is exactly `age`.
    pub encrypted: bool,
    /// The key the backend has registered for the tenant, when it says so.
    pub registered_key: Option<AgePublicKey>,
    /// The key the snapshot is sealed to, when the backend says so.
    pub recipient: Option<AgePublicKey>,
}

/// What a publisher says about the snapshot it puts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeaders {
    /// The key it is sealed to.
    pub recipient: AgePublicKey,
    /// Users in it; portals send none.
    pub users: Option<u64>,
    /// Groups in it; portals send none.
    pub groups: Option<u64>,
    /// The AWS account it was read from.
    pub account: Option<AwsAccountId>,
}

impl SnapshotHeaders {
    /// Headers that say nothing but the recipient.
    #[must_use]
    pub fn for_recipient(recipient: AgePublicKey) -> Self {
        Self {
            recipient,
            users: None,
            groups: None,
            account: None,
        }
    }
}

/// What was there when an edit began, for the lost-update check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Previous {
    /// Nothing.
    Absent,
    /// This body, with its entity tag when the backend sends them.
    Body {
        /// The tag.
        etag: Option<ETag>,
        /// The sealed bytes.
        body: Bytes,
    },
}

/// Streams a snapshot into a sink.
pub(crate) struct Download<'a, S> {
    pub(crate) sink: &'a mut S,
    pub(crate) limit: u64,
    /// Whether the request named an entity tag.
    pub(crate) conditional: bool,
}

impl<S: SnapshotSink> Download<'_, S> {
    async fn copy(&mut self, answer: &mut Answer) -> Result<u64, Failure> {
        if answer.content_length().is_some_and(|length| length > self.limit) {
            return Err(answer.too_large(self.limit));
        }
        let kept = |result: io::Result<()>| result.map_err(|error| Failure::from(Error::Sink(error)));
        kept(self.sink.begin().await)?;
        let mut length = 0u64;
        while let Some(piece) = answer.chunk().await? {
            length += piece.len() as u64;
            if length > self.limit {
                return Err(answer.too_large(self.limit));
            }
            kept(self.sink.append(&piece).await)?;
        }
        kept(self.sink.finish().await)?;
        Ok(length)
    }
}

impl<S: SnapshotSink> Reader for Download<'_, S> {
    type Output = Fetched;

    async fn read(&mut self, mut answer: Answer) -> Result<Fetched, Failure> {
        match answer.status() {
            StatusCode::OK => {
                let key = |name| AgePublicKey::new(answer.text_header(name)?).ok();
                let body = FetchedBody {
                    etag: answer.etag(),
                    length: 0,
                    encrypted: answer.text_header(header::ENCRYPTED) == Some(header::ENCRYPTED_AGE),
                    registered_key: registered_key(answer.headers()),
                    recipient: key(header::SNAPSHOT_RECIPIENT),
                };
                let length = self.copy(&mut answer).await?;
                Ok(Fetched::Body(FetchedBody { length, ..body }))
            }
            StatusCode::NOT_MODIFIED if self.conditional => Ok(Fetched::NotModified),
            StatusCode::NOT_FOUND => Ok(Fetched::Absent {
                code: answer.refusal().await.code,
            }),
            other => Err(answer.malformed(format!("status {} to a snapshot request", other.as_u16()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sink_that_begins_again_keeps_nothing_of_the_broken_body() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body");
        let mut file = tokio::fs::File::create(&path).await.unwrap();
        let mut memory = Vec::new();
        for body in ["a long broken body", "short"] {
            file.begin().await.unwrap();
            file.append(body.as_bytes()).await.unwrap();
            memory.begin().await.unwrap();
            SnapshotSink::append(&mut memory, body.as_bytes()).await.unwrap();
        }
        file.finish().await.unwrap();
        memory.finish().await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        assert_eq!(memory, b"short");
    }
}
