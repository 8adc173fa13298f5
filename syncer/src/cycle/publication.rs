//! The tree itself to hosts: one snapshot of entries for each audience, under a wire name, a sequence
//! and a state of its own.

use anyhow::{Context, bail};
use dirless_client::{Client, Expected};
use dirless_model::snapshot::{Document, Meta, TreeEntry};
use dirless_program::Clock;
use dirless_seal::sha256_hex;
use dirless_wire::{ETag, SourceName};

use super::before::Push;
use super::{Outcome, after, over_tree, stock};
use crate::audience::{Audiences, Target};
use crate::config::Config;
use crate::guard::Difference;
use crate::keys::Access;
use crate::remote::{Body, Holds, Remote};
use crate::revoked::{Desk, Revocations};
use crate::signed::Signer;
use crate::state::{Held, Published, State};
use crate::tree::{Reader, TreeError, TreeStore};

/// Publishes the tree.
#[derive(Debug)]
pub struct Publication<'a> {
    config: &'a Config,
    access: &'a Access,
    tree: &'a TreeStore,
    audiences: Audiences,
    clock: Clock,
    signer: Option<Signer>,
}

/// How the publication of one audience went.
#[derive(Debug)]
pub struct Went {
    /// Its name on the wire.
    pub name: String,
    /// The outcome.
    pub outcome: anyhow::Result<Outcome>,
}

/// What is at the backend.
struct Found {
    published: Option<Published>,
    sequence: u64,
    is_there: bool,
    expected: Expected,
    etag: Option<String>,
    push: Push,
}

impl<'a> Publication<'a> {
    /// Of `tree` as `config` says.
    ///
    /// # Errors
    /// When an `[[audience]]` makes no sense.
    pub fn new(config: &'a Config, access: &'a Access, tree: &'a TreeStore, clock: Clock) -> anyhow::Result<Self> {
        let audiences = Audiences::of(config, tree.schema());
        let audiences = audiences.map_err(|(key, reason)| anyhow::anyhow!("{key}: {reason}"))?;
        Ok(Self {
            config,
            access,
            tree,
            audiences,
            clock,
            signer: None,
        })
    }

    /// Hands what passed the guard to `signer` as well.
    #[must_use]
    pub fn signed_by(mut self, signer: Option<Signer>) -> Self {
        self.signer = signer;
        self
    }

    /// Has what is published been handed to the signer, if there is one?
    fn is_stocked(&self, name: &str, digest: &str) -> anyhow::Result<bool> {
        let Some(signer) = &self.signer else {
            return Ok(true);
        };
        let stocked = signer.stocked(&name.parse().context("publishing signed")?)?;
        Ok(stocked.is_some_and(|stocked| stocked.says == digest))
    }

    /// Publishes to every audience what has changed for it; one that fails holds up no other. The
    /// change named `accept` may pass the guard.
    ///
    /// # Errors
    /// When the tree cannot be read.
    pub async fn once(&self, client: &Client, accept: Option<&str>) -> anyhow::Result<Vec<Went>> {
        let revoked = Revocations::load(&self.config.syncer.state_folder)?;
        let mut selected = None;
        let mut went = Vec::new();
        for at in 0..self.audiences.targets.len() {
            let Some(target) = self.audiences.targets.get(at) else {
                break;
            };
            let outcome = self.one(client, target, at, &mut selected, (accept, &revoked)).await;
            went.push(Went {
                name: target.name.clone(),
                outcome,
            });
        }
        Ok(went)
    }

    /// What all targets receive, and the state of the tree that it is of.
    fn select(&self, revoked: &Revocations) -> anyhow::Result<(String, Vec<Vec<TreeEntry>>)> {
        let read = self
            .tree
            .read(|reader| Ok((self.made_of(reader, revoked)?, self.audiences.select(reader, revoked)?)));
        over_tree::usable(self.config, read)
    }

    /// Names a state of the tree under these rules: while it is the same, so is what travels.
    fn made_of(&self, reader: Reader<'_>, revoked: &Revocations) -> Result<String, TreeError> {
        let schema = self.tree.schema().extension_text();
        let revoked: Vec<_> = revoked.iter().map(|own| own.name.as_str()).collect();
        let rules = sha256_hex(format!("{:?} {schema} {revoked:?}", self.audiences).as_bytes());
        Ok(format!("{} {rules}", reader.state()?))
    }

    async fn one(
        &self,
        client: &Client,
        target: &Target,
        at: usize,
        selected: &mut Option<(String, Vec<Vec<TreeEntry>>)>,
        (accept, revoked): (Option<&str>, &Revocations),
    ) -> anyhow::Result<Outcome> {
        let state = State::at(&target.state_folder(&self.config.syncer.state_folder));
        if let Some(id) = accept {
            state.set_accepted(Some(id))?;
        }
        let remote = Remote::new(client.clone(), SourceName::new(&target.name)?, self.access);
        let found = self.look(&remote, &state, target).await?;
        let now = over_tree::usable(self.config, self.tree.read(|reader| self.made_of(reader, revoked)))?;
        let known = found.published.as_ref().filter(|_| found.is_there);
        if let Some(published) = known.filter(|published| published.made_of.as_ref() == Some(&now))
            && self.is_stocked(&target.name, &published.digest)?
        {
            found.push.check()?;
            return note_unchanged(&state, published, &found, now);
        }
        let (made_of, all) = match selected {
            Some(selected) => selected,
            None => selected.insert(self.select(revoked)?),
        };
        let (made_of, entries) = (made_of.clone(), all.get_mut(at).map(std::mem::take).unwrap_or_default());
        let mut document = Document {
            meta: Meta {
                source: Some(target.name.clone()),
                host_groups: target.host_groups.clone(),
                ..Meta::default()
            },
            schema: self.tree.schema().extension().collect(),
            entries,
            ..Document::default()
        };
        let mut json = Vec::new();
        dirless_model::snapshot::write(&document, &mut json).context("writing the snapshot")?;
        let digest = sha256_hex(&json);
        drop(json);
        let desk = Desk::open_since(&self.config.syncer.state_folder, revoked)?;
        if let Some(published) = known.filter(|published| published.digest == digest) {
            document.meta.sequence = Some(published.sequence);
            document.meta.generated_at = Some(published.at.clone());
            stock(self.signer.as_ref(), &target.name, &digest, &document)?;
            found.push.check()?;
            return note_unchanged(&state, published, &found, made_of);
        }
        if let Some(held) = self.guard(&state, &found, document.entries.len(), &digest)? {
            return Ok(Outcome::Held(Box::new(held)));
        }
        let sequence = after(found.sequence)?;
        // On disk before the push, as for every source.
        state.set_sequence(sequence)?;
        let now = self.clock.now().to_string();
        document.meta.sequence = Some(sequence);
        document.meta.generated_at = Some(now.clone());
        stock(self.signer.as_ref(), &target.name, &digest, &document)?;
        found.push.check()?;
        let (written, body) = remote.push(&document, None, &found.expected).await?;
        let count = document.entries.len();
        state.set_published(&Published {
            sequence,
            digest,
            body,
            etag: written.etag.map(|etag| etag.header().to_owned()),
            at: now,
            entries: count,
            made_of: Some(made_of),
            ..Published::default()
        })?;
        drop(desk);
        state.set_held(None)?;
        state.set_accepted(None)?;
        let before = found.published.map_or(0, |published| published.entries);
        Ok(Outcome::Pushed {
            sequence,
            summary: format!("{count} entries, {before} before"),
        })
    }

    async fn look(&self, remote: &Remote<'_>, state: &State, target: &Target) -> anyhow::Result<Found> {
        let published = state.published()?;
        let used = state
            .sequence()?
            .max(published.as_ref().map_or(0, |published| published.sequence));
        let mut found = Found {
            sequence: used,
            is_there: false,
            expected: Expected::Absent,
            etag: None,
            push: Push::default(),
            published,
        };
        match self.look_at_backend(remote, &mut found, target).await {
            Err(error) if self.signer.is_some() && found.published.is_some() => {
                found.is_there = true;
                found.push = Push::barred(&error);
            }
            compared => compared?,
        }
        Ok(found)
    }

    /// Compares what is known with what the backend holds.
    async fn look_at_backend(&self, remote: &Remote<'_>, found: &mut Found, target: &Target) -> anyhow::Result<()> {
        let expecting = |etag: Option<ETag>| etag.map_or(Expected::Anything, Expected::Tag);
        let used = found.sequence;
        let held = remote.look(found.published.as_ref(), &self.config.names).await;
        match held.context("looking at what the backend holds")? {
            Holds::Nothing => {}
            Holds::Ours { etag } => {
                found.is_there = true;
                found.etag = etag.as_ref().map(|etag| etag.header().to_owned());
                found.expected = expecting(etag);
            }
            Holds::Other { body, etag } => {
                found.expected = expecting(etag);
                match body {
                    Body::Readable(back) => {
                        let theirs = back.meta.sequence.unwrap_or(0);
                        if found.published.is_some() && theirs > used {
                            bail!(
                                "the backend holds snapshot {theirs} of {}, but this syncer has only used numbers up to \
                                 {used}: another syncer publishes the same tree. Stop one of them; if the other is gone \
                                 for good, remove {}",
                                target.name,
                                target
                                    .state_folder(&self.config.syncer.state_folder)
                                    .join("published.json")
                                    .display()
                            );
                        }
                        found.sequence = used.max(theirs);
                    }
                    Body::Unreadable(reason) if found.published.is_none() => bail!(
                        "the backend holds a snapshot of {} that age.key does not open ({reason}): it is another \
                         syncer's, or age.key was replaced. Delete it at the backend if it is nobody's",
                        target.name
                    ),
                    Body::Unreadable(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Holds a publication back that lacks more than the share of `[guard]` of what is published.
    fn guard(&self, state: &State, found: &Found, count: usize, digest: &str) -> anyhow::Result<Option<Held>> {
        let before = found.published.as_ref().map_or(0, |published| published.entries);
        let percent = self.config.guard.percent;
        let allowed = before.max(10) * usize::from(percent) / 100;
        if before.saturating_sub(count) <= allowed {
            return Ok(None);
        }
        let id: String = digest.chars().take(12).collect();
        if state.accepted()?.as_deref() == Some(id.as_str()) {
            tracing::warn!(event = "change.accepted", change = id, "the held change was accepted");
            return Ok(None);
        }
        let earlier = state.held()?.filter(|held| held.id == id);
        let held = Held {
            since: earlier.map_or_else(|| self.clock.now().to_string(), |held| held.since),
            id,
            reasons: vec![format!(
                "{count} entries of the tree where {before} are published: {} fewer, more than the {allowed} that [guard] \
                 percent = {percent} lets pass",
                before - count
            )],
            difference: Difference::default(),
        };
        state.set_held(Some(&held))?;
        state.set_accepted(None)?;
        Ok(Some(held))
    }
}

fn note_unchanged(state: &State, published: &Published, found: &Found, made_of: String) -> anyhow::Result<Outcome> {
    let known = Published {
        etag: found.etag.clone().or_else(|| published.etag.clone()),
        made_of: Some(made_of),
        ..published.clone()
    };
    if known != *published {
        state.set_published(&known)?;
    }
    state.set_held(None)?;
    state.set_accepted(None)?;
    Ok(Outcome::Unchanged)
}
