//! The backend's copy of this source: looking at it, and replacing it.

use anyhow::{Context, bail};
use bytes::Bytes;
use dirless_client::{Client, Error, Expected, Fetched, SnapshotHeaders, Written};
use dirless_model::NameRule;
use dirless_model::snapshot::Document;
use dirless_seal::{Limits, sha256_hex};
use dirless_wire::{AwsAccountId, ETag, SourceName};

use crate::keys::{Access, on_wire};
use crate::shape::{ReadBack, Shape};
use crate::state::Published;

/// Largest sealed body that is read back: more than any backend takes by default (50 MiB).
const LARGEST: u64 = 256 * 1024 * 1024;

/// The source at the backend.
#[derive(Debug)]
pub struct Remote<'a> {
    client: Client,
    source: SourceName,
    access: &'a Access,
}

/// What the backend holds, compared with what we published.
#[derive(Debug)]
pub enum Holds {
    /// Exactly that.
    Ours {
        /// The entity tag under which it does, when it sends one.
        etag: Option<ETag>,
    },
    /// Something else.
    Other {
        /// What it is.
        body: Body,
        /// Its entity tag, when the backend sends one.
        etag: Option<ETag>,
    },
    /// Nothing.
    Nothing,
}

/// A body that the backend holds.
#[derive(Debug)]
pub enum Body {
    /// It opened.
    Readable(Box<ReadBack>),
    /// It did not, for this reason.
    Unreadable(String),
}

impl<'a> Remote<'a> {
    /// The source `source` at the backend that `client` talks to.
    #[must_use]
    pub fn new(client: Client, source: SourceName, access: &'a Access) -> Self {
        Self { client, source, access }
    }

    /// Looks at what the backend holds. `published` spares the transfer when it is still that.
    ///
    /// # Errors
    /// When the backend cannot say.
    pub async fn look(&self, published: Option<&Published>, rule: &NameRule) -> Result<Holds, Error> {
        if !self.access.classic {
            // Nobody else has it; what was noted here is what there is.
            return Ok(match published {
                Some(_) => Holds::Ours { etag: None },
                None => Holds::Nothing,
            });
        }
        let known = published.and_then(|published| published.etag.as_deref());
        let known = known.and_then(|text| ETag::parse(text).ok());
        let mut body = Vec::new();
        let cycle = self.client.cycle();
        match cycle
            .get_snapshot(&self.source, known.as_ref(), LARGEST, &mut body)
            .await?
        {
            Fetched::NotModified => Ok(Holds::Ours { etag: known }),
            Fetched::Absent { .. } => Ok(Holds::Nothing),
            Fetched::Body(fetched) => {
                if published.is_some_and(|published| published.body == sha256_hex(&body)) {
                    return Ok(Holds::Ours { etag: fetched.etag });
                }
                let body = match self.open(&body, rule) {
                    Ok(back) => Body::Readable(Box::new(back)),
                    Err(error) => Body::Unreadable(format!("{error:#}")),
                };
                Ok(Holds::Other {
                    body,
                    etag: fetched.etag,
                })
            }
        }
    }

    /// Fetches what the backend holds as JSON text; `None` when there is nothing.
    ///
    /// # Errors
    /// When the backend cannot say, or what it holds does not open.
    pub async fn text_if_any(&self) -> anyhow::Result<Option<String>> {
        let mut body = Vec::new();
        let cycle = self.client.cycle();
        match cycle.get_snapshot(&self.source, None, LARGEST, &mut body).await? {
            Fetched::Body(_) => open_text(self.access, &body).map(Some),
            Fetched::NotModified | Fetched::Absent { .. } => Ok(None),
        }
    }

    fn open(&self, body: &[u8], rule: &NameRule) -> anyhow::Result<ReadBack> {
        let text = open_text(self.access, body)?;
        Ok(Shape::read(text.as_bytes(), rule)?)
    }

    /// Seals `document` and puts it in place of what [`Remote::look`] saw. Answers with what was
    /// written and the SHA-256 of the sealed body.
    ///
    /// # Errors
    /// When sealing fails, the backend refuses, or it holds something else by now.
    pub async fn push(
        &self,
        document: &Document,
        account: Option<AwsAccountId>,
        expected: &Expected,
    ) -> anyhow::Result<(Written, String)> {
        if !self.access.classic {
            return Ok((Written { etag: None }, String::new()));
        }
        let mut plaintext = Vec::new();
        dirless_model::snapshot::write(document, &mut plaintext).context("writing the snapshot")?;
        let mut sealed = Vec::new();
        dirless_seal::seal(&self.access.recipient, &mut plaintext.as_slice(), &mut sealed).context("sealing")?;
        drop(plaintext);
        let digest = sha256_hex(&sealed);
        let headers = SnapshotHeaders {
            recipient: on_wire(&self.access.recipient, std::path::Path::new("age_public.key"))?,
            users: Some(document.users.len() as u64),
            groups: Some(document.groups.len() as u64),
            account,
        };
        let cycle = self.client.cycle();
        let put = cycle
            .put_snapshot(&self.source, &headers, Bytes::from(sealed), expected)
            .await;
        if let Err(Error::Changed) = put {
            bail!(
                "somebody else wrote the snapshot of {} while this syncer made one: does another syncer publish the \
                 same source? Nothing was overwritten; the next cycle looks again",
                self.source
            );
        }
        Ok((put.context("pushing the snapshot")?, digest))
    }
}

/// Opens a sealed body to its last byte, which proves that it is whole.
///
/// # Errors
/// When `age.key` does not open it, or it is damaged.
pub fn open_text(access: &Access, body: &[u8]) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut opened = dirless_seal::open(&access.identity, body, Limits::default())?;
    std::io::Read::read_to_string(&mut opened, &mut text)?;
    Ok(text)
}
