//! A tenant folder: the files that a backend would serve, under the same names.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dirless_seal::trust::{Memory, Object, Policy, parse, print};
use dirless_seal::{Digest, Note};

use crate::{draft::Draft, files};

/// The folder of a tenant.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

/// The newest policy of a folder, and what it takes to make the next.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) policy: Policy,
    pub(crate) note: Note,
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn policy_path(&self, version: u64) -> PathBuf {
        self.0.join("policy").join(version.to_string())
    }

    pub(crate) fn draft_path(&self) -> PathBuf {
        self.0.join("policy/draft")
    }

    /// Walks the policies from the first to the newest, and checks each as a host would.
    pub(crate) fn current(&self) -> anyhow::Result<Current> {
        let first = self.policy_note(1)?.with_context(|| {
            format!(
                "{} is no tenant folder: it has no policy/1; begin one with: dirless tenant init",
                self.0.display()
            )
        })?;
        let claimed: Policy = parse(&first).with_context(|| format!("in {}", self.policy_path(1).display()))?;
        let mut memory = Memory::pinned(claimed.tenant, claimed.fingerprint());
        let mut current: Option<Current> = None;
        let mut next = Some(first);
        while let Some(note) = next {
            let version = current.as_ref().map_or(1, |current| current.policy.version + 1);
            let policy = memory
                .policy_after(current.as_ref().map(|current| &current.policy), &note)
                .with_context(|| format!("in {}", self.policy_path(version).display()))?;
            if policy.version != version {
                bail!(
                    "{} holds policy {}",
                    self.policy_path(version).display(),
                    policy.version
                );
            }
            next = self.policy_note(version + 1)?;
            current = Some(Current { policy, note });
        }
        current.context("a folder with a first policy has a newest one")
    }

    fn policy_note(&self, version: u64) -> anyhow::Result<Option<Note>> {
        let path = self.policy_path(version);
        let bytes = files::read(&path, Policy::MOST)?;
        let note = bytes.map(|bytes| Note::parse(&bytes, Policy::MOST));
        note.transpose().with_context(|| format!("in {}", path.display()))
    }

    /// The draft of the next policy, if one was begun.
    pub(crate) fn draft(&self) -> anyhow::Result<Option<Draft>> {
        let path = self.draft_path();
        let Some(bytes) = files::read(&path, Policy::MOST)? else {
            return Ok(None);
        };
        let draft = Draft::read(&bytes).with_context(|| format!("in {}", path.display()))?;
        Ok(Some(draft))
    }

    /// Keeps `draft`; an unfinished one may be replaced.
    pub(crate) fn keep(&self, draft: &Draft) -> anyhow::Result<()> {
        let path = self.draft_path();
        dirless_program::fs::publish(&path, 0o644, draft.text().as_bytes())
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Makes `draft` the policy of its version.
    pub(crate) fn publish(&self, draft: &Draft) -> anyhow::Result<PathBuf> {
        let path = self.policy_path(draft.policy().version);
        files::create(&path, 0o644, draft.text().as_bytes())?;
        self.drop_draft()?;
        Ok(path)
    }

    pub(crate) fn drop_draft(&self) -> anyhow::Result<()> {
        let path = self.draft_path();
        dirless_program::fs::remove(&path).with_context(|| format!("removing {}", path.display()))
    }
}

impl Current {
    pub(crate) fn digest(&self) -> Digest {
        self.note.digest()
    }

    /// The same policy as the next version would have it, with nothing changed but what must.
    pub(crate) fn next(&self, now: jiff::Timestamp) -> anyhow::Result<Policy> {
        let lasts = self.policy.issued.duration_until(self.policy.expires);
        Ok(Policy {
            version: self.policy.version + 1,
            previous: Some(self.digest()),
            issued: now,
            expires: now
                .checked_add(lasts)
                .context("the policy expires beyond all calendars")?,
            ..self.policy.clone()
        })
    }

    /// The text of the policy.
    pub(crate) fn text(&self) -> String {
        print(&self.policy).unwrap_or_else(|_| self.note.text().to_owned())
    }
}
