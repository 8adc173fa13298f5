//! The checks of a host, in the order of docs/protocol.md, on what a backend serves.

use dirless_client::{Files, FilesError};
use dirless_seal::trust::log::{Chain, Follower, LogFile, LogKey, Place};
use dirless_seal::trust::{Entry, Head, Manifest, Object as _, Policy, Refusal, Wrap};
use dirless_seal::{Digest, Note};

use super::Verified;
use super::copy::{Copy, Odd};
use crate::event::{Mark, mark_of};

/// No wrap is longer.
const LONGEST_WRAP: usize = 16 * 1024;

/// What of a source is in place.
#[derive(Debug)]
pub(super) struct Body {
    manifest: Manifest,
    digest: Digest,
    key: LogKey,
    chain: Chain,
    /// Of the sealed records.
    bytes: u64,
    copy: Copy,
}

impl Body {
    pub(super) fn users(&self) -> u64 {
        self.copy.users()
    }

    /// Is it of the manifest that `entry` speaks of?
    fn is_of(&self, entry: &Entry, accepted: Option<Digest>) -> bool {
        let known = accepted == Some(self.digest) || entry.chain == Chain::of(self.digest);
        self.manifest.version == entry.version && self.manifest.compartment == entry.compartment && known
    }
}

/// Ends a walk.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("{0} is not there")]
    Missing(String),
}

impl From<Odd> for Stop {
    fn from(odd: Odd) -> Self {
        match odd {
            Odd::Content => Self::Refused(Refusal::Content),
            Odd::Record => Self::Refused(Refusal::Mixed("log")),
        }
    }
}

impl Verified {
    /// Fetches and checks what is new. The mark of all records, if they are others than before.
    pub(super) async fn walk(&mut self) -> Result<Option<Mark>, Stop> {
        let policy = self.policies().await?;
        let path = format!("head/{}", self.common.publisher);
        let note = self.note(&path, "head", Head::MOST).await?.ok_or(Stop::Missing(path))?;
        let mut memory = self.memory.clone();
        let (head, _freshness) = memory.head(&policy, &note, super::whole_second(&self.clock))?;
        self.memory = memory;
        let before = self.body.as_ref().map(|body| body.copy.root());
        for entry in &head.entries {
            self.memory.check_entry(&head, entry)?;
            self.entry(&policy, &head, entry).await?;
        }
        self.applied = self.memory.heads().next().map(|(_, seen)| seen);
        self.head = Some(head);
        let after = self.body.as_ref().map(|body| body.copy.root());
        Ok(after.filter(|_| after != before).map(|root| mark_of(root.as_bytes())))
    }

    async fn policies(&mut self) -> Result<Policy, Stop> {
        let mut next = self.policy.as_ref().map_or(1, |policy| policy.version + 1);
        loop {
            let path = format!("policy/{next}");
            let Some(note) = self.note(&path, "policy", Policy::MOST).await? else {
                return self.policy.clone().ok_or(Stop::Missing(path));
            };
            let policy = self.memory.policy_after(self.policy.as_ref(), &note)?;
            next = policy.version + 1;
            self.policy = Some(policy);
        }
    }

    /// Brings the one source up to date.
    async fn entry(&mut self, policy: &Policy, head: &Head, entry: &Entry) -> Result<(), Stop> {
        let accepted = self.memory.manifest_digest(&head.publisher, entry);
        match self.body.take_if(|body| body.is_of(entry, accepted)) {
            Some(body) if body.chain == entry.chain => self.body = Some(body),
            Some(mut body) => {
                let followed = self.follow(head, entry, &body.manifest, body.digest, (body.chain, body.bytes));
                match followed.await {
                    Ok(records) => {
                        let mut memory = self.memory.clone();
                        memory.log(head, entry, entry.chain)?;
                        self.memory = memory;
                        body.take(&records)?;
                        self.body = Some(body);
                    }
                    // Whoever serves it cannot be reached; what is there stays.
                    Err(stop @ Stop::Files(_)) => {
                        self.body = Some(body);
                        return Err(stop);
                    }
                    Err(_) => self.base(policy, head, entry).await?,
                }
            }
            None => self.base(policy, head, entry).await?,
        }
        Ok(())
    }

    /// Everything anew.
    async fn base(&mut self, policy: &Policy, head: &Head, entry: &Entry) -> Result<(), Stop> {
        let Entry {
            source,
            compartment,
            version,
            ..
        } = entry;
        let path = format!("manifest/{}/{source}/{compartment}/{version}", head.publisher);
        let note = self.note(&path, "manifest", Manifest::MOST).await?;
        let note = note.ok_or(Stop::Missing(path))?;
        let manifest = self.memory.look_at_manifest(policy, head, &note)?;
        if (&manifest.source, &manifest.compartment) != (source, compartment) {
            return Err(Refusal::Mixed("manifest").into());
        }
        let digest = note.digest();
        self.key(&manifest).await?;
        let records = self
            .follow(head, entry, &manifest, digest, (Chain::of(digest), 0))
            .await?;
        let mut memory = self.memory.clone();
        memory.manifest_and_log(policy, head, &note, entry.chain)?;
        self.memory = memory;
        let sealed = self.blob(&manifest).await?;
        let identity = &self.wrap.as_ref().ok_or(Refusal::Epoch(manifest.epoch))?.identity;
        let base = self.common.bases.open(&manifest, &sealed, identity)?;
        let mut body = Body {
            key: LogKey::new(identity, &Place::of(&manifest, digest)),
            digest,
            manifest,
            chain: Chain::of(digest),
            bytes: 0,
            copy: Copy::of(base),
        };
        body.take(&records)?;
        self.body = Some(body);
        Ok(())
    }

    async fn blob(&self, manifest: &Manifest) -> Result<Vec<u8>, Stop> {
        let path = format!("blob/{}", manifest.ciphertext);
        let signed = manifest.ciphertext_size;
        let sealed = self.get(&path, usize::try_from(signed).unwrap_or(usize::MAX)).await?;
        let sealed = sealed.ok_or(Stop::Missing(path))?;
        let found = sealed.len() as u64;
        if found != signed {
            return Err(Refusal::Size { found, signed }.into());
        }
        if Digest::of(&sealed) != manifest.ciphertext {
            return Err(Refusal::Body.into());
        }
        Ok(sealed)
    }

    /// Sees that the key which opens what `manifest` describes is there.
    async fn key(&mut self, manifest: &Manifest) -> Result<(), Stop> {
        let fits = |wrap: &Wrap| {
            let own = (wrap.tenant, wrap.epoch) == (manifest.tenant, manifest.epoch);
            own && wrap.compartment == manifest.compartment && wrap.identity.recipient() == manifest.recipient
        };
        if self.wrap.as_ref().is_some_and(fits) {
            return Ok(());
        }
        let name = self.node.key.verifying().name();
        let path = format!("wrap/{}/{}/{name}", manifest.compartment, manifest.epoch);
        let sealed = self.get(&path, LONGEST_WRAP).await?.ok_or(Stop::Missing(path))?;
        let wrap = Wrap::open(&sealed, &self.node.identity).ok().filter(fits);
        self.wrap = Some(wrap.ok_or(Refusal::Epoch(manifest.epoch))?);
        Ok(())
    }

    /// The records of the log beside a manifest after `from`, as far as `entry` says; they lead there.
    async fn follow(
        &self,
        head: &Head,
        entry: &Entry,
        manifest: &Manifest,
        digest: Digest,
        (from, bytes): (Chain, u64),
    ) -> Result<Vec<Vec<u8>>, Stop> {
        let place = Place::of(manifest, digest);
        let known = self.memory.chain(&head.publisher, entry);
        let mut follower = Follower::new(from, bytes, known.unwrap_or(Chain::of(digest)), entry.chain);
        let mut records = Vec::new();
        while follower.left() > 0 {
            let (file, bytes) = self.log_file(&place, follower.files()).await?;
            follower.take_file(file, &bytes, |record, _| records.push(record.to_vec()))?;
        }
        follower.finish()?;
        Ok(records)
    }

    /// The first of these files that is there.
    async fn log_file(&self, place: &Place, files: impl Iterator<Item = LogFile>) -> Result<(LogFile, Vec<u8>), Stop> {
        let mut missing = place.folder();
        for file in files {
            missing = place.path(file);
            if let Some(bytes) = self.get(&missing, file.longest()).await? {
                return Ok((file, bytes));
            }
        }
        Err(Stop::Missing(missing))
    }

    async fn note(&self, path: &str, kind: &'static str, most: usize) -> Result<Option<Note>, Stop> {
        let Some(bytes) = self.get(path, most).await? else {
            return Ok(None);
        };
        let note = Note::parse(&bytes, most).map_err(|error| Refusal::NoNote(kind, error))?;
        Ok(Some(note))
    }

    async fn get(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, Stop> {
        let bytes = Files::Backend(self.files.clone()).get(path, most).await?;
        Ok(bytes.map(|bytes| bytes.to_vec()))
    }
}

impl Body {
    /// Opens records that were followed, and has each proved.
    fn take(&mut self, records: &[Vec<u8>]) -> Result<(), Odd> {
        for sealed in records {
            let changes = self.key.open(self.chain.length, sealed).map_err(|_| Odd::Record)?;
            self.copy.follow(&changes)?;
            self.chain = self.chain.then(sealed);
            self.bytes += sealed.len() as u64;
        }
        Ok(())
    }
}
