//! A tenant folder: the files that a backend would serve, under the same names.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dirless_program::fs::ensure_folder;
use dirless_publish::{BackendFolder, Folder as _, Registry as _, SignedError, follow_successions};
use dirless_seal::trust::{Memory, Object, Policy, Publisher, parse, print};
use dirless_seal::{Digest, Note, VerifyingKey};

use crate::{draft::Draft, files};

/// The folder of a tenant; for one at a backend the policies of it that are known here, and the draft of the next.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    name: String,
    backend: Option<BackendFolder>,
}

/// The newest policy of a folder, and what it takes to make the next.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) policy: Policy,
    pub(crate) note: Note,
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Self::of(path, &path.display().to_string(), None)
    }

    /// That of the tenant that people call `name`, at a backend if there is one.
    pub(crate) fn of(path: &Path, name: &str, backend: Option<BackendFolder>) -> Self {
        Self {
            path: path.to_owned(),
            name: name.to_owned(),
            backend,
        }
    }

    /// What people call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The backend it is at.
    pub(crate) fn into_backend(self) -> Option<BackendFolder> {
        self.backend
    }

    /// Brings the policies that the backend has here; what is here already must be the same there.
    pub(crate) fn pull(&self) -> anyhow::Result<()> {
        let Some(backend) = &self.backend else {
            return Ok(());
        };
        let policies = self.path.join("policy");
        ensure_folder(&policies, 0o755).with_context(|| format!("making {}", policies.display()))?;
        for version in 1.. {
            let there = backend.get(&format!("policy/{version}"), Policy::MOST as u64)?;
            let path = self.policy_path(version);
            match (files::read(&path, Policy::MOST)?, there) {
                (_, None) => break,
                (None, Some(there)) => files::create(&path, 0o644, &there)?,
                (Some(here), Some(there)) => same(version, &here, &there)?,
            }
        }
        Ok(())
    }

    /// Brings all policies to the backend, if there is one, and registers the publishers of the newest there with the newest of
    /// their keys, and no others.
    pub(crate) fn push(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let Some(backend) = &self.backend else {
            return Ok(());
        };
        let current = self.current()?;
        backend.make_tenant().context("making the tenant at the backend")?;
        for version in 1..=current.policy.version {
            let path = self.policy_path(version);
            let here = files::read(&path, Policy::MOST)?.with_context(|| format!("{} is gone", path.display()))?;
            let name = format!("policy/{version}");
            backend.create(&[(name.clone(), here.clone())])?;
            let there = backend.get(&name, Policy::MOST as u64)?.unwrap_or_default();
            same(version, &here, &there)?;
        }
        writeln!(out, "policy {} is at {}", current.policy.version, self.name)?;
        let mut wanted = BTreeSet::new();
        for publisher in &current.policy.publishers {
            let keys = successors(backend, &current.policy, publisher, out)?;
            if let Some(newest) = keys.last() {
                backend.register_publisher(newest)?;
                writeln!(out, "publisher {} may write there", newest.name())?;
            }
            // Those before the newest sign along for some days; whoever has them ends them then.
            wanted.extend(keys.iter().map(|key| format!("{}+{}", key.name(), key.hash())));
        }
        for id in backend.publishers()? {
            if !wanted.contains(&id) {
                backend.end_key(&id)?;
                writeln!(out, "key {id} may write there no more")?;
            }
        }
        Ok(())
    }

    pub(crate) fn policy_path(&self, version: u64) -> PathBuf {
        self.path.join("policy").join(version.to_string())
    }

    pub(crate) fn draft_path(&self) -> PathBuf {
        self.path.join("policy/draft")
    }

    /// Walks the policies from the first to the newest, and checks each as a host would.
    pub(crate) fn current(&self) -> anyhow::Result<Current> {
        let first = self.policy_note(1)?.with_context(|| {
            format!(
                "{} is no tenant folder: it has no policy/1; begin one with: dirless tenant init",
                self.name
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

    /// The fingerprint of the first policy's roots.
    pub(crate) fn first_roots(&self) -> anyhow::Result<Digest> {
        let first = self
            .policy_note(1)?
            .with_context(|| format!("{} has no policy/1", self.name))?;
        let policy: Policy = parse(&first).with_context(|| format!("in {}", self.policy_path(1).display()))?;
        Ok(policy.fingerprint())
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

/// The key that `policy` gives `publisher` and its successors at `backend`, as hosts believe them; the oldest first.
fn successors(
    backend: &BackendFolder,
    policy: &Policy,
    publisher: &Publisher,
    out: &mut dyn Write,
) -> anyhow::Result<Vec<VerifyingKey>> {
    let mut memory = Memory::pinned(policy.tenant, policy.fingerprint());
    match follow_successions(backend, policy, publisher, &mut memory) {
        Err(SignedError::Refused { path, refusal }) => writeln!(out, "{path} counts for nothing: {refusal}")?,
        followed => followed?,
    }
    Ok(memory.keys(publisher).cloned().collect())
}

/// Whoever signed them in addition: one text, or the backend shows another policy than was signed here.
fn same(version: u64, here: &[u8], there: &[u8]) -> anyhow::Result<()> {
    let text = |bytes: &[u8]| Note::parse(bytes, Policy::MOST).map(|note| note.digest());
    match (text(here), text(there)) {
        (Ok(here), Ok(there)) if here == there => Ok(()),
        _ => bail!(
            "the backend has another policy {version} than the one here; compare both with the recovery sheet: if the backend's is \
             no policy of this tenant, an operator can delete it there"
        ),
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
