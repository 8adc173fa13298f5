//! Taking over from what the tenant folder holds, after the state was lost.

use std::io::Read;

use dirless_seal::trust::log::{LONGEST_RECORD, LogFile, LogKey, Place};
use dirless_seal::trust::{Head, Manifest, Memory, NodeList, Object, Policy, Refusal, Wrap};
use dirless_seal::{Digest, Identity, Label, Limits, Note, open_file};

use super::book::Current;
use super::grow::changed;
use super::publish::first_free;
use super::{Kind, SignedError, Signer, content_root, paths};

/// What a head names.
struct Published {
    manifest: Manifest,
    /// Of the manifest.
    digest: Digest,
    /// How many records its log has.
    length: u64,
}

/// What was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Version of the head.
    pub head: u64,
    /// How many snapshots it names.
    pub snapshots: usize,
    /// How many hosts there are.
    pub nodes: usize,
}

impl Signer {
    /// Continues from what this publisher signed in the tenant folder, so that no version is used twice, also when it has
    /// other keys than then. The keys of epochs are lost with a state: new ones begin at once, and every source is published
    /// anew when it is read.
    ///
    /// # Errors
    /// When there is no head, or what it names is not there or not signed with a key that a policy gave this publisher.
    pub fn adopt(&self) -> Result<Adopted, SignedError> {
        let _lock = self.state.lock()?;
        self.adopt_head().map(|(adopted, _)| adopted)
    }

    fn adopt_head(&self) -> Result<(Adopted, Vec<Published>), SignedError> {
        let mut book = self.book()?;
        let mut memory = book.memory(self.tenant, self.config.roots)?;
        let policy = self.policy(&mut memory, &mut Vec::new())?;
        self.role(&policy)?;
        // What signs from now on must be here.
        let ring = self.ring(&policy, &mut memory)?;
        let ours = self.publisher_of(&policy)?;
        self.look_at_succession(&ring, ours, &memory)?;
        let path = paths::head(self.publisher());
        let note = self.note(&path, "head", Head::MOST)?;
        let then = self.policy_of(&note, policy)?;
        self.follow_successions(&then, &mut memory)?;
        let (head, _) = memory
            .head(&then, &note, self.now())
            .map_err(SignedError::refused(path))?;
        book.head = book.head.max(head.version);
        book.head_digest = Some(note.digest().to_string());
        book.policy = head.policy;
        // A head of our own follows at once.
        book.signed_at = None;
        let mut manifests = Vec::with_capacity(head.entries.len());
        for entry in &head.entries {
            let pair = (entry.source.clone(), entry.compartment.clone());
            let path = paths::manifest(self.publisher(), &pair.0, &pair.1, entry.version);
            let note = self.note(&path, "manifest", Manifest::MOST)?;
            let digest = note.digest();
            // The log is the one that our own head vouches for.
            let manifest = memory
                .manifest_and_log(&then, &head, &note, entry.chain)
                .map_err(SignedError::refused(path))?;
            let floor = book.floors.entry(pair.1.to_string()).or_default();
            *floor = (*floor).max(manifest.epoch);
            book.set_current(
                &pair,
                Current {
                    version: entry.version,
                    manifest: digest.to_string(),
                    epoch: manifest.epoch,
                    plaintext: String::new(),
                    blob: manifest.ciphertext.to_string(),
                    base_bytes: manifest.ciphertext_size,
                    length: entry.chain.length,
                    hash: entry.chain.hash.to_string(),
                    log_bytes: 0,
                },
            );
            manifests.push(Published {
                manifest,
                digest,
                length: entry.chain.length,
            });
        }
        let nodes = self.adopt_nodes(&then, head.nodes)?;
        book.nodes = head.nodes;
        book.set_memory(&memory)?;
        book.save(self.state.as_ref(), self.publisher())?;
        let adopted = Adopted {
            head: head.version,
            snapshots: head.entries.len(),
            nodes,
        };
        Ok((adopted, manifests))
    }

    /// The newest policy whose publisher of our name signed `note`; `newest` when none did, so that it is refused by that.
    fn policy_of(&self, note: &Note, newest: Policy) -> Result<Policy, SignedError> {
        let signed = |policy: &Policy| {
            let Some(publisher) = policy.publisher(self.publisher()) else {
                return Ok(false);
            };
            let mut memory = Memory::pinned(self.tenant, self.config.roots);
            self.follow_successions(policy, &mut memory)?;
            Ok::<_, SignedError>(note.is_signed_by(memory.key(publisher)))
        };
        if signed(&newest)? {
            return Ok(newest);
        }
        let (mut memory, mut before) = (Memory::pinned(self.tenant, self.config.roots), None);
        let mut found = None;
        for version in self.config.policy..newest.version {
            let path = paths::policy(version);
            let note = self.note(&path, "policy", Policy::MOST)?;
            let policy = memory
                .policy_after(before.as_ref(), &note)
                .map_err(SignedError::refused(path))?;
            if signed(&policy)? {
                found = Some(policy.clone());
            }
            before = Some(policy);
        }
        Ok(found.unwrap_or(newest))
    }

    /// The hosts of the enrollers of `then`, as far as they are no more followed by themselves: those of our own enroller, and of
    /// one whose key was lost.
    fn adopt_nodes(&self, then: &Policy, named: Option<u64>) -> Result<usize, SignedError> {
        let Some(named) = named else {
            return Ok(0);
        };
        let now = self.enroller.policy(&mut Vec::new())?;
        let own = self.enroller.key();
        for enroller in &then.enrollers {
            let name = enroller.key.name();
            let still = now.enroller(name).is_some_and(|still| still.key == enroller.key);
            if still && enroller.key != *own {
                continue;
            }
            let Some((list, note)) = self.newest_list(then, name, named)? else {
                continue;
            };
            let known = self.enroller.node_list()?.map_or(0, |(list, _)| list.version);
            if name == own.name() && list.version > known {
                let path = paths::node_list(name);
                self.state.replace(&path, note.to_string().as_bytes())?;
            }
            if enroller.key != *own {
                // Under our key, so that it holds under the policy of now.
                self.enroller.change_nodes(|mine| {
                    mine.nodes.extend(list.nodes);
                    mine.nodes.sort_by(|left, right| left.key.name().cmp(right.key.name()));
                    mine.nodes.dedup_by(|left, right| left.key.name() == right.key.name());
                    mine.revoked.extend(list.revoked);
                    mine.revoked.sort_by(|left, right| left.name.cmp(&right.name));
                    mine.revoked.dedup_by(|left, right| left.name == right.name);
                    let revoked = std::mem::take(&mut mine.revoked);
                    mine.nodes
                        .retain(|node| !revoked.iter().any(|gone| gone.name == *node.key.name()));
                    mine.revoked = revoked;
                })?;
            }
        }
        Ok(self.enroller.node_list()?.map_or(0, |(list, _)| list.nodes.len()))
    }

    /// The newest list of `enroller` in the tenant folder, from version `from` upwards, as `policy` accepts it.
    fn newest_list(
        &self,
        policy: &Policy,
        enroller: &Label,
        from: u64,
    ) -> Result<Option<(NodeList, Note)>, SignedError> {
        let free = first_free(from, |version| {
            let path = paths::nodes(enroller, version);
            Ok((self.tenant_folder.has(&path)?, path))
        })?;
        if free == from {
            return Ok(None);
        }
        let path = paths::nodes(enroller, free - 1);
        let note = self.note(&path, "node list", NodeList::MOST)?;
        let list = NodeList::accept(policy, None, &note).map_err(SignedError::refused(path))?;
        Ok(Some((list, note)))
    }

    /// Takes over as [`Signer::adopt`] does, and opens everything that is published with a recovery key, so that it is published
    /// again without being read anew. What was opened: sources, and the lengths of their plaintexts.
    ///
    /// # Errors
    /// As [`Signer::adopt`]; and when the key opens no wrap, or a body is not what was signed.
    pub fn recover(&self, identity: &Identity) -> Result<(Adopted, Vec<(Label, u64)>), SignedError> {
        let lock = self.state.lock()?;
        let (adopted, manifests) = self.adopt_head()?;
        drop(lock);
        let mut opened: Vec<(Label, u64)> = Vec::new();
        for published in &manifests {
            let manifest = &published.manifest;
            if opened.iter().any(|(source, _)| *source == manifest.source) {
                continue;
            }
            let plaintext = self.recovered(published, identity)?;
            let says = format!("recovered {}", Digest::of(&plaintext));
            self.stock(&manifest.source, Kind::of(&manifest.source), &says, &plaintext)?;
            opened.push((manifest.source.clone(), plaintext.len() as u64));
        }
        Ok((adopted, opened))
    }

    fn recovered(&self, published: &Published, identity: &Identity) -> Result<Vec<u8>, SignedError> {
        let manifest = &published.manifest;
        let folder = paths::wraps(&manifest.compartment, manifest.epoch);
        let refused = |path: &str, refusal| SignedError::Refused {
            path: path.to_owned(),
            refusal,
        };
        let names = self.tenant_folder.list(&folder)?;
        let mut wrap = None;
        for name in names.iter().filter(|name| name.starts_with("recovery-")) {
            let sealed = self.tenant_folder.get(&format!("{folder}/{name}"), 64 * 1024)?;
            wrap = wrap.or_else(|| Wrap::open(sealed.as_deref()?, identity).ok());
        }
        let wrap = wrap.ok_or_else(|| {
            SignedError::Nothing(format!(
                "the recovery key opens none of the wraps in {folder}: it is another tenant's, or was \
                 added to the policy after this epoch began"
            ))
        })?;
        if wrap.identity.recipient() != manifest.recipient {
            return Err(refused(&folder, Refusal::Epoch(manifest.epoch)));
        }
        let path = paths::blob(&manifest.ciphertext);
        let sealed = self.tenant_folder.get(&path, manifest.ciphertext_size)?;
        let sealed = sealed.ok_or_else(|| SignedError::Nothing(format!("there is no {path} in the tenant folder")))?;
        if Digest::of(&sealed) != manifest.ciphertext {
            return Err(refused(&path, Refusal::Body));
        }
        let limits = Limits {
            plaintext: manifest.plaintext_size,
            ..Limits::default()
        };
        let unreadable = |reason: String| SignedError::Unreadable {
            source_name: manifest.source.clone(),
            reason,
        };
        let mut plaintext = Vec::new();
        let mut body =
            open_file(&wrap.identity, sealed.as_slice(), limits).map_err(|error| unreadable(error.to_string()))?;
        body.read_to_end(&mut plaintext)
            .map_err(|error| unreadable(error.to_string()))?;
        let root = content_root(Kind::of(&manifest.source), plaintext.as_slice()).map_err(unreadable)?;
        if root != manifest.content {
            return Err(refused(&path, Refusal::Content));
        }
        let place = Place::of(manifest, published.digest);
        let key = LogKey::new(&wrap.identity, &place);
        let kind = Kind::of(&manifest.source);
        for number in 0..published.length {
            let path = place.path(LogFile::Record(number));
            let sealed = self.tenant_folder.get(&path, LONGEST_RECORD as u64)?;
            let missing = || SignedError::Nothing(format!("there is no {path} in the tenant folder"));
            let changes = key.open(number, &sealed.ok_or_else(missing)?);
            let changes = changes.map_err(|error| unreadable(error.to_string()))?;
            plaintext = changed(kind, &plaintext, &changes).map_err(unreadable)?;
            if content_root(kind, plaintext.as_slice()).map_err(unreadable)? != changes.content {
                return Err(refused(&path, Refusal::Content));
            }
        }
        Ok(plaintext)
    }

    fn note(&self, path: &str, kind: &'static str, most: usize) -> Result<Note, SignedError> {
        let bytes = self.tenant_folder.get(path, 2 * most as u64)?;
        let bytes = bytes.ok_or_else(|| SignedError::Nothing(format!("there is no {path} in the tenant folder")))?;
        Note::parse(&bytes, 2 * most).map_err(SignedError::no_note(path, kind))
    }
}

/// What the signer says of itself, for `status`.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The policy's version.
    pub policy: u64,
    /// Compartment, epoch, since when, and how many hold its key.
    pub epochs: Vec<(String, u64, jiff::Timestamp, usize)>,
}

impl Signer {
    /// What is known here of policy and epochs.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn facts(&self) -> Result<Facts, SignedError> {
        let mut epochs = Vec::new();
        for compartment in self.known_compartments()? {
            if let Some((number, since, holders)) = self.epoch_facts(&compartment)? {
                epochs.push((compartment.to_string(), number, since, holders));
            }
        }
        Ok(Facts {
            policy: self.book()?.policy,
            epochs,
        })
    }
}
