//! Sealing bodies, and signing the manifests and the head that name them.

use std::collections::BTreeSet;

use dirless_seal::trust::log::Chain;
use dirless_seal::trust::{Entry, Head, Manifest, Memory, Policy, print};
use dirless_seal::{Digest, Identity, Note, seal_file};
use jiff::{SignedDuration, Timestamp};

use super::book::{Book, Current, Pair, Retired};
use super::stock::Stocked;
use super::{SignedError, Signer, paths};

/// How long a body stays after the head that named it last: hosts may be in the middle of fetching it.
const LINGER: SignedDuration = SignedDuration::from_hours(24);

/// A pair that is to be published anew.
#[derive(Debug)]
pub(super) struct Due<'a> {
    pub(super) pair: Pair,
    pub(super) stocked: &'a Stocked,
    pub(super) epoch: u64,
    pub(super) identity: &'a Identity,
}

/// A pair as it was published.
#[derive(Debug)]
pub(super) struct Made {
    pair: Pair,
    note: Note,
    current: Current,
}

impl Book {
    /// Takes `pair` out of what is published; its body lingers.
    pub(super) fn drop_pair(&mut self, pair: &Pair, now: Timestamp) {
        if let Some(before) = self.forget(pair) {
            self.retire(before.blob, now);
        }
    }

    fn retire(&mut self, blob: String, since: Timestamp) {
        self.retired.push(Retired { blob, since });
    }
}

impl Signer {
    /// Seals and signs what is due: numbers on disk first, then bodies, then manifests. No head names them yet.
    pub(super) fn make(&self, due: &[Due<'_>], book: &mut Book) -> Result<Vec<Made>, SignedError> {
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let mut versions = Vec::with_capacity(due.len());
        for Due { pair, .. } in due {
            let mut version = book.used(pair) + 1;
            while self.tenant_folder.has(&self.manifest_path(pair, version))? {
                version += 1;
            }
            // What came before is not known, so no host may take this for the one right after it.
            if version > 1 && book.last_manifest(pair).is_none() {
                version += 1;
            }
            book.use_version(pair, version);
            versions.push(version);
        }
        book.save(self.state.as_ref(), self.publisher())?;
        let mut made = Vec::with_capacity(due.len());
        for (due, version) in due.iter().zip(versions) {
            made.push(self.make_one(due, version, book)?);
        }
        Ok(made)
    }

    fn manifest_path(&self, (source, compartment): &Pair, version: u64) -> String {
        paths::manifest(self.publisher(), source, compartment, version)
    }

    fn make_one(&self, due: &Due<'_>, version: u64, book: &Book) -> Result<Made, SignedError> {
        let (source, compartment) = &due.pair;
        let compressed = self.body(due.stocked)?;
        let recipient = due.identity.recipient();
        let mut sealed = Vec::with_capacity(compressed.len() + 1024);
        seal_file(&[&recipient], &mut sealed, |out| out.write_all(&compressed))?;
        let ciphertext = Digest::of(&sealed);
        let size = sealed.len() as u64;
        self.tenant_folder.create(&[(paths::blob(&ciphertext), sealed)])?;
        let read = |text: &str| {
            text.parse()
                .map_err(|error| SignedError::damaged(paths::stock(source), error))
        };
        let previous = book.last_manifest(&due.pair).map(str::parse);
        let previous = previous
            .transpose()
            .map_err(|error| SignedError::damaged("book", error))?;
        let manifest = Manifest {
            tenant: self.tenant,
            publisher: self.publisher().clone(),
            source: source.clone(),
            compartment: compartment.clone(),
            version,
            previous,
            issued: self.now(),
            epoch: due.epoch,
            recipient,
            ciphertext,
            ciphertext_size: size,
            plaintext_size: due.stocked.size,
            content: read(&due.stocked.content)?,
        };
        let text = print(&manifest).map_err(SignedError::unwritable("manifest"))?;
        let note = self.sign(text, "manifest")?;
        let path = self.manifest_path(&due.pair, version);
        self.tenant_folder
            .create(&[(path.clone(), note.to_string().into_bytes())])?;
        let there = self.tenant_folder.get(&path, 64 * 1024)?;
        if there != Some(note.to_string().into_bytes()) {
            return Err(SignedError::Taken { path });
        }
        Ok(Made {
            pair: due.pair.clone(),
            current: Current {
                version,
                manifest: note.digest().to_string(),
                epoch: due.epoch,
                plaintext: due.stocked.plaintext.clone(),
                blob: ciphertext.to_string(),
            },
            note,
        })
    }

    fn sign(&self, text: String, what: &'static str) -> Result<Note, SignedError> {
        Note::sign(text, &[&self.key]).map_err(|error| SignedError::Unwritable {
            what,
            reason: error.to_string(),
        })
    }

    /// Signs a head that names `made` beside what was published before, and puts it in place. What it names is all
    /// there; that it was signed is on disk before anybody sees it.
    pub(super) fn put_head(
        &self,
        policy: &Policy,
        nodes: Option<u64>,
        made: Vec<Made>,
        book: &mut Book,
        mut memory: Memory,
    ) -> Result<u64, SignedError> {
        let now = self.now();
        for one in &made {
            book.drop_pair(&one.pair, now);
            book.set_current(&one.pair, one.current.clone());
        }
        let mut entries = Vec::new();
        for ((source, compartment), current) in book.published() {
            let manifest = current.manifest.parse();
            entries.push(Entry {
                source,
                compartment,
                version: current.version,
                chain: Chain::of(manifest.map_err(|error| SignedError::damaged("book", error))?),
            });
        }
        entries.sort_by(|left, right| (&left.source, &left.compartment).cmp(&(&right.source, &right.compartment)));
        let version = book.head + 1;
        let head = Head {
            tenant: self.tenant,
            publisher: self.publisher().clone(),
            version,
            issued: now,
            lease: self.config.lease(policy.lease),
            policy: policy.version,
            nodes,
            entries,
        };
        let note = self.sign(print(&head).map_err(SignedError::unwritable("head"))?, "head")?;
        // What a host would refuse is never shown to one.
        let path = paths::head(self.publisher());
        let _ = memory
            .head(policy, &note, now)
            .map_err(SignedError::refused(path.clone()))?;
        for one in &made {
            let path = self.manifest_path(&one.pair, one.current.version);
            memory
                .manifest(policy, &head, &one.note)
                .map_err(SignedError::refused(path))?;
        }
        book.head = version;
        book.head_digest = Some(note.digest().to_string());
        book.signed_at = Some(now);
        book.policy = policy.version;
        book.nodes = nodes;
        book.set_memory(&memory)?;
        book.save(self.state.as_ref(), self.publisher())?;
        self.tenant_folder.replace(&path, note.to_string().as_bytes())?;
        Ok(version)
    }

    /// Removes bodies that no head has named for long.
    pub(super) fn sweep_blobs(&self, book: &mut Book) -> Result<bool, SignedError> {
        let before = self.now().checked_sub(LINGER).unwrap_or(Timestamp::MIN);
        let (old, kept): (Vec<_>, Vec<_>) = book.retired.drain(..).partition(|retired| retired.since < before);
        book.retired = kept;
        let named: BTreeSet<String> = book.published().map(|(_, current)| current.blob.clone()).collect();
        for retired in &old {
            if let Ok(digest) = retired.blob.parse::<Digest>()
                && !named.contains(&retired.blob)
            {
                self.tenant_folder.remove(&paths::blob(&digest))?;
            }
        }
        Ok(!old.is_empty())
    }

    /// Is the head in the tenant folder ours? What is wrong with it, if somebody else replaced it.
    pub(super) fn look_at_head(&self, book: &Book) -> Result<Option<String>, SignedError> {
        let path = paths::head(self.publisher());
        let Some(bytes) = self.tenant_folder.get(&path, 1 << 20)? else {
            return Ok(None);
        };
        let replaced = || {
            Some(format!(
                "{path} is not what this syncer wrote: somebody else writes into the tenant folder"
            ))
        };
        let note = match Note::parse(&bytes, 1 << 20) {
            Ok(note) if note.is_signed_by(self.key.verifying()) => note,
            _ => return Ok(replaced()),
        };
        let Ok(head) = dirless_seal::trust::parse::<Head>(&note) else {
            return Ok(replaced());
        };
        let other = book.head_digest.as_deref() != Some(note.digest().to_string().as_str());
        if head.version > book.head || (head.version == book.head && other) {
            return Err(SignedError::Copy {
                publisher: self.publisher().clone(),
                found: head.version,
                known: book.head,
            });
        }
        Ok(None)
    }
}
