//! What is published before a cycle, and whether the ledger belongs to it.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use dirless_client::Expected;
use dirless_model::snapshot::ObjectKind;
use dirless_wire::ETag;

use super::Cycle;
use crate::ledger::Entry;
use crate::remote::{Body, Holds};
use crate::shape::{ReadBack, Shape};
use crate::state::Published;

/// What is published now, as far as can be known.
#[derive(Clone, Debug)]
pub(super) struct Before {
    pub(super) shape: Option<Shape>,
    pub(super) published: Option<Published>,
    /// The highest sequence number in use anywhere.
    pub(super) sequence: u64,
    /// Why what the backend holds cannot be compared with.
    pub(super) unreadable: Option<String>,
    pub(super) missing_at_backend: bool,
    pub(super) etag: Option<String>,
    pub(super) push: Push,
    /// What a push may replace: exactly what was looked at, so that no other writer is overwritten.
    pub(super) expected: Expected,
}

/// Whether anything may be pushed. What is signed goes on without: no backend of deployed clients, whatever it holds or says,
/// decides what hosts learn that believe signatures alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Push(Option<String>);

impl Push {
    /// Nothing may, for this reason.
    pub(super) fn barred(error: &anyhow::Error) -> Self {
        Self(Some(format!("{error:#}")))
    }

    /// Fails with what keeps anything from being pushed.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match &self.0 {
            Some(reason) => bail!("{reason}"),
            None => Ok(()),
        }
    }
}

/// Deployed backends send no tags; there, nothing can be expected.
fn expecting(etag: Option<ETag>) -> Expected {
    etag.map_or(Expected::Anything, Expected::Tag)
}

impl Cycle<'_> {
    /// What is published: what was noted here, checked against the backend, or else what the backend holds.
    pub(super) async fn before(&self, ledger: &[Entry]) -> anyhow::Result<Before> {
        let published = self.state.published()?;
        let used = self.state.sequence()?;
        let used = used.max(published.as_ref().map_or(0, |published| published.sequence));
        let mut before = Before {
            shape: published.as_ref().map(|published| published.shape.clone()),
            sequence: used,
            unreadable: None,
            missing_at_backend: false,
            etag: None,
            push: Push::default(),
            expected: Expected::Anything,
            published,
        };
        if let Some(shape) = &before.shape {
            self.check_ledger(shape, ledger)?;
        }
        match self.look_at_backend(&mut before, ledger, used).await {
            // What was published is known, and the guard compares with that.
            Err(error) if self.signer.is_some() && before.published.is_some() => {
                before.missing_at_backend = false;
                before.push = Push::barred(&error);
            }
            compared => compared?,
        }
        Ok(before)
    }

    /// Compares what is known with what the backend holds.
    async fn look_at_backend(&self, before: &mut Before, ledger: &[Entry], used: u64) -> anyhow::Result<()> {
        let held = self.remote.look(before.published.as_ref(), &self.setting.names).await;
        match held.context("looking at what the backend holds")? {
            Holds::Ours { etag } => {
                before.etag = etag.as_ref().map(|etag| etag.header().to_owned());
                before.expected = expecting(etag);
            }
            Holds::Nothing => {
                before.missing_at_backend = true;
                before.expected = Expected::Absent;
                if let Some(back) = self.stocked_before(before)? {
                    self.other(back, ledger, used, before)?;
                }
            }
            Holds::Other { body, etag } => {
                before.expected = expecting(etag);
                match body {
                    Body::Readable(back) => self.other(*back, ledger, used, before)?,
                    Body::Unreadable(reason) => {
                        before.missing_at_backend = true;
                        if before.published.is_none() {
                            before.unreadable = Some(format!(
                                "the backend holds a snapshot that cannot be compared with, for age.key does not open it \
                                 ({reason})"
                            ));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// What is published signed alone, when nothing else is known of it: state that came back without its ledger must not
    /// begin to count anew.
    fn stocked_before(&self, before: &Before) -> anyhow::Result<Option<ReadBack>> {
        let signer = self.signer.as_ref().filter(|_| before.published.is_none());
        let Some(signer) = signer else { return Ok(None) };
        let source = self.source.name().parse().context("publishing signed")?;
        let text = signer.stocked_text(&source)?;
        let read = |text: String| Shape::read(text.as_bytes(), &self.setting.names);
        text.map(read).transpose().context("reading what is published signed")
    }

    fn other(&self, back: ReadBack, ledger: &[Entry], used: u64, before: &mut Before) -> anyhow::Result<()> {
        before.missing_at_backend = true;
        let theirs = back.meta.sequence.unwrap_or(0);
        if before.published.is_some() && theirs > used {
            bail!(
                "the backend holds snapshot {theirs} of {}, but this syncer has only used numbers up to {used}: another \
                 syncer publishes the same source. Stop one of them; if the other is gone for good, run \
                 `dirless-syncer ledger rebuild` here and remove published.json",
                self.source.name()
            );
        }
        before.sequence = used.max(theirs);
        if back.has_ids {
            self.check_ledger(&back.shape, ledger)?;
            let retired = back
                .retired
                .iter()
                .map(|line| (line.kind, line.id.as_str(), line.number));
            self.check_numbers(retired, ledger)?;
        }
        if before.shape.is_none() {
            before.shape = Some(back.shape);
        }
        Ok(())
    }

    /// Every number that is published must be in the ledger; otherwise the ledger was lost, and
    /// giving out numbers from it would move people.
    pub(super) fn check_ledger(&self, shape: &Shape, ledger: &[Entry]) -> anyhow::Result<()> {
        let users = shape
            .users
            .iter()
            .map(|(key, user)| (ObjectKind::User, key.as_str(), user.uid));
        let groups = shape
            .groups
            .iter()
            .map(|(key, group)| (ObjectKind::Group, key.as_str(), group.gid));
        self.check_numbers(
            users.chain(groups).filter(|(_, key, _)| !key.starts_with("name:")),
            ledger,
        )
    }

    fn check_numbers<'n>(
        &self,
        numbers: impl Iterator<Item = (ObjectKind, &'n str, u32)>,
        ledger: &[Entry],
    ) -> anyhow::Result<()> {
        let own = ledger.iter().filter(|entry| entry.object.source == self.source.name());
        let known: BTreeMap<_, _> = own
            .map(|entry| ((entry.object.kind, entry.object.id.as_str()), entry.number))
            .collect();
        for (kind, key, number) in numbers {
            // A number that the source gave is in no ledger, and is none of the ledger's range.
            let known = known.get(&(kind, key));
            let given = known.is_none() && self.setting.gives_numbers() && !self.config.ids.range.contains(number);
            if known != Some(&number) && !given {
                bail!(
                    "the id ledger {} does not have number {number} of {} {key}, which is published: the ledger was \
                     lost or replaced. Put it back, or run `dirless-syncer ledger rebuild`; nothing was published",
                    self.config.ledger_path().display(),
                    crate::ledger::kind_text(kind)
                );
            }
        }
        Ok(())
    }
}
