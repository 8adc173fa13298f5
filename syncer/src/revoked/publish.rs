//! Publishing without somebody at once: from what is published, without asking a source.

use anyhow::{Context, bail};
use dirless_client::{Client, Expected};
use dirless_model::NameRule;
use dirless_model::snapshot::Document;
use dirless_program::Clock;
use dirless_publish::revocation::Took;
use dirless_wire::{ETag, SourceName};

use super::Desk;
use super::edit::{Edited, edit, parse_snapshot};
use crate::config::Config;
use crate::cycle::{after, stock_text};
use crate::document::numbered;
use crate::keys::Access;
use crate::remote::{Holds, Remote};
use crate::shape::Shape;
use crate::signed::Signer;
use crate::state::{Published, State};

/// One published snapshot: of a source, or of an audience of the tree.
#[derive(Debug)]
pub struct Place<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// How the backend is asked.
    pub access: &'a Access,
    /// Where the backend is.
    pub client: Client,
    /// Its name on the wire.
    pub name: String,
    /// Where what was published of it is remembered.
    pub state: State,
    /// What was.
    pub published: Option<Published>,
    /// What is published, if it was read already.
    pub document: Option<Document>,
    /// How its names became names on hosts.
    pub names: NameRule,
    /// What signs, if anything does.
    pub signer: Option<Signer>,
    /// The time.
    pub clock: Clock,
}

/// What came of taking people away from one place.
#[derive(Debug)]
pub struct Gone {
    /// The snapshot without them.
    pub took: Took,
    /// Why the backend of deployed clients has not got it.
    pub unpushed: Option<anyhow::Error>,
}

impl Place<'_> {
    /// Publishes it without whoever is revoked, from what is published; `None` when nobody of them is there. What is
    /// signed goes to the signer, and is settled by the caller; a backend of deployed clients that does not take it changes
    /// nothing of that, and is told of in what is given.
    ///
    /// # Errors
    /// When what is published cannot be edited, or goes to that backend alone and is not taken.
    pub async fn take_away(mut self, desk: &Desk) -> anyhow::Result<Option<Gone>> {
        let remote = Remote::new(self.client.clone(), SourceName::new(&self.name)?, self.access);
        let document = match self.document.take() {
            Some(document) => document,
            None => match self.text(&remote).await? {
                Some(text) => parse_snapshot(&text).with_context(|| format!("what is published of {}", self.name))?,
                None => return Ok(None),
            },
        };
        let edited = edit(document, &self.name, desk.revocations(), self.config.ids.range);
        let Some(Edited { mut document, gone }) = edited else {
            return Ok(None);
        };
        let expected = self.expected(&remote, self.published.as_ref()).await;
        let expected = match expected {
            Err(error) if self.signer.is_none() => return Err(error),
            other => other,
        };
        let known = self.published.as_ref().map_or(0, |published| published.sequence);
        let there = document.meta.sequence.unwrap_or(0);
        let sequence = after(known.max(there).max(self.state.sequence()?))?;
        // On disk before anybody sees it, as for every snapshot.
        self.state.set_sequence(sequence)?;
        let now = self.clock.now().to_string();
        document.meta.sequence = Some(sequence);
        document.meta.generated_at = Some(now.clone());
        // Named as cycles do, so that the next one that reads the same publishes nothing.
        let (says, text) = numbered(&document, sequence, &now).context("writing the snapshot")?;
        stock_text(self.signer.as_ref(), &self.name, &says, || Ok(text))?;
        let written = match expected {
            Ok(Some(expected)) => remote.push(&document, None, &expected).await.map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        let took = Took {
            source: self.name.clone(),
            sequence,
        };
        let written = match written {
            Ok(written) => written,
            Err(error) if self.signer.is_none() => return Err(error),
            // What was pushed last stays noted, so that the next cycle pushes this.
            Err(error) => {
                return Ok(Some(Gone {
                    took,
                    unpushed: Some(error),
                }));
            }
        };
        if let Some(mut published) = self.published {
            let (written, body) = written.unzip();
            let etag = written.and_then(|written| written.etag);
            // Something else may have been signed since, and not got as far as that.
            if known == there {
                published.shape.remove(&gone);
            } else {
                published.shape = Shape::of(&document);
            }
            self.state.set_published(&Published {
                sequence,
                digest: says,
                body: body.unwrap_or_default(),
                etag: etag.map(|etag| etag.header().to_owned()),
                at: now,
                shape: published.shape,
                entries: document.entries.len(),
                // Of a tree it is not known any more: the next cycle compares.
                made_of: None,
            })?;
        }
        Ok(Some(Gone { took, unpushed: None }))
    }

    /// What is published: as it was signed, or else as the backend has it.
    async fn text(&self, remote: &Remote<'_>) -> anyhow::Result<Option<String>> {
        if let Some(signer) = &self.signer
            && let Some(text) = signed_text(signer, &self.name)?
        {
            return Ok(Some(text));
        }
        if !self.access.classic {
            return Ok(None);
        }
        remote.text_if_any().await
    }

    /// What a push replaces; `None` when nothing is to be pushed.
    async fn expected(&self, remote: &Remote<'_>, published: Option<&Published>) -> anyhow::Result<Option<Expected>> {
        if !self.access.classic {
            return Ok(None);
        }
        let expecting = |etag: Option<ETag>| etag.map_or(Expected::Anything, Expected::Tag);
        let holds = remote.look(published, &self.names).await;
        match holds.context("looking at what the backend holds")? {
            Holds::Ours { etag } => Ok(Some(expecting(etag))),
            // It has nobody who could be taken away.
            Holds::Nothing => Ok(None),
            Holds::Other { .. } if published.is_some() => bail!(
                "the backend holds another snapshot of {} than this syncer published: does another syncer publish the same \
                 source? Nothing was overwritten",
                self.name
            ),
            Holds::Other { etag, .. } => Ok(Some(expecting(etag))),
        }
    }
}

/// What is published signed of `source`.
///
/// # Errors
/// When it cannot be read.
pub fn signed_text(signer: &Signer, source: &str) -> anyhow::Result<Option<String>> {
    Ok(signer.stocked_text(&source.parse().context("publishing signed")?)?)
}
