//! Taking over from what the tenant folder holds, after the state was lost.

use dirless_seal::trust::{Head, Manifest, NodeList, Object, parse};
use dirless_seal::{Digest, Note};

use super::book::Current;
use super::{SignedError, Signer, paths};

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
    /// Continues from what this publisher's keys signed in the tenant folder, so that no version is used twice. The keys
    /// of epochs are lost with a state: new ones begin at once, and every source is published anew when it is read.
    ///
    /// # Errors
    /// When there is no head, or what it names is not there or not signed with our keys.
    pub fn adopt(&self) -> Result<Adopted, SignedError> {
        let _lock = self.state.lock()?;
        let mut book = self.book()?;
        let mut memory = book.memory(self.tenant, self.config.roots)?;
        let policy = self.policy(&mut memory, &mut Vec::new())?;
        self.role(&policy)?;
        let path = paths::head(self.publisher());
        let note = self.note(&path, "head", Head::MOST)?;
        let (head, _) = memory
            .head(&policy, &note, self.now())
            .map_err(SignedError::refused(path))?;
        book.head = book.head.max(head.version);
        book.head_digest = Some(note.digest().to_string());
        book.policy = head.policy;
        // A head of our own follows at once.
        book.signed_at = None;
        for entry in &head.entries {
            let pair = (entry.source.clone(), entry.compartment.clone());
            let path = paths::manifest(self.publisher(), &pair.0, &pair.1, entry.version);
            let note = self.note(&path, "manifest", Manifest::MOST)?;
            let manifest = memory
                .manifest(&policy, &head, &note)
                .map_err(SignedError::refused(path))?;
            let floor = book.floors.entry(pair.1.to_string()).or_default();
            *floor = (*floor).max(manifest.epoch);
            book.set_current(
                &pair,
                Current {
                    version: entry.version,
                    manifest: note.digest().to_string(),
                    epoch: manifest.epoch,
                    plaintext: String::new(),
                    blob: manifest.ciphertext.to_string(),
                },
            );
        }
        let nodes = self.adopt_nodes(head.nodes)?;
        book.nodes = head.nodes;
        book.set_memory(&memory)?;
        book.save(self.state.as_ref(), self.publisher())?;
        Ok(Adopted {
            head: head.version,
            snapshots: head.entries.len(),
            nodes,
        })
    }

    /// The newest node list in the tenant folder, from the one that the head names upwards.
    fn adopt_nodes(&self, named: Option<u64>) -> Result<usize, SignedError> {
        let Some(mut version) = named else {
            return Ok(0);
        };
        let enroller = self.enroller.key();
        let own = self.enroller.node_list()?.map_or(0, |(list, _)| list.version);
        while self.tenant_folder.has(&paths::nodes(enroller.name(), version + 1))? {
            version += 1;
        }
        let path = paths::nodes(enroller.name(), version);
        let note = self.note(&path, "node list", NodeList::MOST)?;
        let list: NodeList = parse(&note).map_err(|error| SignedError::damaged(path.clone(), error))?;
        if !note.is_signed_by(enroller) || list.tenant != self.tenant {
            let refusal = dirless_seal::trust::Refusal::Forged("node list");
            return Err(SignedError::Refused { path, refusal });
        }
        if version > own {
            let bytes = note.to_string();
            self.state
                .replace(&paths::node_list(enroller.name()), bytes.as_bytes())?;
        }
        Ok(list.nodes.len())
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
    /// Digest of the publisher's public key.
    pub key: Digest,
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
            key: Digest::of(self.key.verifying().as_bytes()),
            epochs,
        })
    }
}
