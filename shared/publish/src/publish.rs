//! Sealing bodies, and signing the manifests and the head that name them.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use dirless_seal::trust::{Entry, Head, Manifest, Memory, Policy, Refusal, parse, print};
use dirless_seal::{Digest, Identity, Label, Note, SigningKey, seal_file};
use jiff::{SignedDuration, Timestamp};

use super::book::{Book, Current, Pair, Retired};
use super::grow::Differences;
use super::line::Ring;
use super::stock::{Stocked, packed};
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

/// What a tenant folder shows as our head.
#[derive(Debug)]
pub(super) enum Shown {
    /// The last one that was signed.
    Newest,
    /// One from before that, or none: putting the last one in place broke off, or somebody went back.
    Older,
    /// Something that is not ours, for people.
    Foreign(String),
}

/// A pair as it was published.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) pair: Pair,
    /// The manifest of a new base; none when the log of the one before grew.
    pub(super) note: Option<Note>,
    pub(super) current: Current,
}

impl Book {
    /// Takes `pair` out of what `publisher` publishes; its body and log linger.
    pub(super) fn drop_pair(&mut self, publisher: &Label, pair: &Pair, now: Timestamp) {
        if let Some(before) = self.forget(pair) {
            let log = paths::log(publisher, &pair.0, &pair.1, before.version);
            self.retired.push(Retired {
                blob: before.blob,
                log: (before.length > 0).then_some(log),
                since: now,
            });
        }
    }
}

impl Signer {
    /// Seals and signs what is due: one more record of a log where that will do; else a new base, numbers on disk first, then
    /// bodies, then manifests. No head names any of it yet.
    pub(super) fn make(&self, due: Vec<Due<'_>>, book: &mut Book, ring: &Ring) -> Result<Vec<Made>, SignedError> {
        let (mut made, mut bases) = (Vec::with_capacity(due.len()), Vec::new());
        let mut differences = Differences::new();
        for due in due {
            match self.grow(&due, book, &mut differences)? {
                Some(grown) => made.push(grown),
                None => bases.push(due),
            }
        }
        made.extend(self.make_bases(&bases, book, &self.signing(ring))?);
        Ok(made)
    }

    fn make_bases(&self, due: &[Due<'_>], book: &mut Book, keys: &[&SigningKey]) -> Result<Vec<Made>, SignedError> {
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let mut versions = Vec::with_capacity(due.len());
        for Due { pair, .. } in due {
            let mut version = first_free(book.used(pair) + 1, |version| {
                let path = self.manifest_path(pair, version);
                Ok((self.tenant_folder.has(&path)?, path))
            })?;
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
            made.push(self.make_one(due, version, book, keys)?);
        }
        Ok(made)
    }

    fn manifest_path(&self, (source, compartment): &Pair, version: u64) -> String {
        paths::manifest(self.publisher(), source, compartment, version)
    }

    fn make_one(&self, due: &Due<'_>, version: u64, book: &Book, keys: &[&SigningKey]) -> Result<Made, SignedError> {
        let (source, compartment) = &due.pair;
        let compressed = packed(&self.body(due.stocked)?)?;
        let recipient = due.identity.recipient();
        let mut sealed = Vec::with_capacity(compressed.len() + 1024);
        seal_file(&[&recipient], &mut sealed, |out| out.write_all(&compressed))?;
        let ciphertext = Digest::of(&sealed);
        let size = sealed.len() as u64;
        self.tenant_folder.create(&[(paths::blob(&ciphertext), sealed)])?;
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
            content: self.content(due)?,
        };
        let text = print(&manifest).map_err(SignedError::unwritable("manifest"))?;
        let note = sign(text, keys, "manifest")?;
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
                base_bytes: size,
                length: 0,
                hash: String::new(),
                log_bytes: 0,
            },
            note: Some(note),
        })
    }

    /// The content root of what is due.
    pub(super) fn content(&self, due: &Due<'_>) -> Result<Digest, SignedError> {
        let content = due.stocked.content.parse();
        content.map_err(|error| SignedError::damaged(paths::stock(&due.pair.0), error))
    }

    /// What signs now.
    fn signing<'r>(&self, ring: &'r Ring) -> Vec<&'r SigningKey> {
        ring.signing(self.now(), self.config.overlap_days)
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
        ring: &Ring,
    ) -> Result<u64, SignedError> {
        let now = self.now();
        for one in &made {
            if one.note.is_some() {
                book.drop_pair(self.publisher(), &one.pair, now);
            }
            book.set_current(&one.pair, one.current.clone());
        }
        let mut entries = Vec::new();
        for ((source, compartment), current) in book.published() {
            entries.push(Entry {
                source,
                compartment,
                version: current.version,
                chain: current.chain()?,
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
        let text = print(&head).map_err(SignedError::unwritable("head"))?;
        let note = sign(text, &self.signing(ring), "head")?;
        // What a host would refuse is never shown to one.
        let path = paths::head(self.publisher());
        let _ = memory
            .head(policy, &note, now)
            .map_err(SignedError::refused(path.clone()))?;
        for one in &made {
            let path = self.manifest_path(&one.pair, one.current.version);
            let accepted = match (&one.note, head.entry(&one.pair.0, &one.pair.1)) {
                (Some(note), _) => memory.manifest(policy, &head, note).map(drop),
                (None, Some(entry)) => memory.log(&head, entry, entry.chain),
                (None, None) => Err(Refusal::Mixed("log")),
            };
            accepted.map_err(SignedError::refused(path))?;
        }
        book.head = version;
        book.head_digest = Some(note.digest().to_string());
        book.signed_at = Some(now);
        book.policy = policy.version;
        book.nodes = nodes;
        book.set_memory(&memory)?;
        book.save(self.state.as_ref(), self.publisher())?;
        if let Err(error) = self.tenant_folder.replace(&path, note.to_string().as_bytes()) {
            // Perhaps nobody sees it: one is due at once.
            book.signed_at = None;
            book.save(self.state.as_ref(), self.publisher())?;
            return Err(error.into());
        }
        Ok(version)
    }

    /// Removes bodies and logs that no head has named for long.
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
            if let Some(folder) = &retired.log {
                for name in self.tenant_folder.list(folder)? {
                    self.tenant_folder.remove(&format!("{folder}/{name}"))?;
                }
            }
        }
        Ok(!old.is_empty())
    }

    /// What the tenant folder shows as our head.
    pub(super) fn look_at_head(&self, book: &Book, ring: &Ring) -> Result<Shown, SignedError> {
        let path = paths::head(self.publisher());
        let Some(bytes) = self.tenant_folder.get(&path, 1 << 20)? else {
            return Ok(Shown::Older);
        };
        let signed = Note::parse(&bytes, 1 << 20).ok().filter(|note| ring.signed(note));
        let read = signed.and_then(|note| Some((parse::<Head>(&note).ok()?.version, note)));
        let Some((version, note)) = read else {
            return Ok(Shown::Foreign(format!(
                "{path} is not what this syncer wrote: somebody else writes into the tenant folder"
            )));
        };
        let other = book.head_digest.as_deref() != Some(note.digest().to_string().as_str());
        match version.cmp(&book.head) {
            Ordering::Less => Ok(Shown::Older),
            Ordering::Equal if !other => Ok(Shown::Newest),
            Ordering::Equal | Ordering::Greater => Err(SignedError::Copy {
                publisher: self.publisher().clone(),
                found: version,
                known: book.head,
            }),
        }
    }
}

/// The first number from `from` on that nothing stands under. Whoever serves the folder can say of each that something does:
/// after ten thousand that is an error.
pub(super) fn first_free(
    from: u64,
    taken: impl Fn(u64) -> Result<(bool, String), SignedError>,
) -> Result<u64, SignedError> {
    let mut path = String::new();
    for number in from..from.saturating_add(10_000) {
        match taken(number)? {
            (false, _) => return Ok(number),
            (true, at) => path = at,
        }
    }
    Err(SignedError::Taken { path })
}

fn sign(text: String, keys: &[&SigningKey], what: &'static str) -> Result<Note, SignedError> {
    Note::sign(text, keys).map_err(|error| SignedError::Unwritable {
        what,
        reason: error.to_string(),
    })
}
