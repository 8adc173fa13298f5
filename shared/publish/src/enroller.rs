//! Who lets hosts in: an enroller of the policy, beside the publisher or on a machine of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use dirless_program::Clock;
use dirless_seal::trust::{Memory, Policy, Renewal};
use dirless_seal::{Digest, Identity, Label, Recipient, SigningKey, VerifyingKey};
use jiff::Timestamp;

use super::book::unsigned;
use super::policy::{expired, follow};
use super::{Admission, Folder, NodeFacts, SignedError, paths, whole_second};

/// What an enroller works on.
#[derive(Clone, Debug)]
pub struct Office {
    /// The tenant.
    pub tenant: Digest,
    /// Fingerprint of its roots.
    pub roots: Digest,
    /// The first policy that has these roots.
    pub first: u64,
    /// What only this program reads: lists, join codes, what hosts call themselves.
    pub state: Arc<dyn Folder>,
    /// The tenant's files.
    pub folder: Arc<dyn Folder>,
    /// The time.
    pub clock: Clock,
}

/// An enroller of the policy.
#[derive(Debug)]
pub struct Enroller {
    pub(super) key: SigningKey,
    pub(super) identity: Identity,
    pub(super) office: Office,
}

/// What came of an enroller's look at the tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attended {
    /// Hosts that were admitted.
    pub admitted: Vec<NodeFacts>,
    /// Join requests that were not granted, and why.
    pub refused: Vec<String>,
    /// What does not hold, or could not be done.
    pub problems: Vec<String>,
}

impl Enroller {
    /// One that signs with `key` and opens join requests with `identity`.
    #[must_use]
    pub fn new(key: SigningKey, identity: Identity, office: Office) -> Self {
        Self { key, identity, office }
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &VerifyingKey {
        self.key.verifying()
    }

    /// What join requests are sealed to.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        self.identity.recipient()
    }

    pub(super) fn name(&self) -> &Label {
        self.key.verifying().name()
    }

    pub(super) fn now(&self) -> Timestamp {
        whole_second(&self.office.clock)
    }

    pub(super) fn state(&self) -> &dyn Folder {
        self.office.state.as_ref()
    }

    pub(super) fn folder(&self) -> &dyn Folder {
        self.office.folder.as_ref()
    }

    /// The newest policy that holds, followed from the one known here.
    ///
    /// # Errors
    /// When there is none, or the state cannot be written.
    pub fn policy(&self, problems: &mut Vec<String>) -> Result<Policy, SignedError> {
        let path = paths::memory(self.name());
        let damaged = |reason: String| SignedError::damaged(path.clone(), reason);
        let mut memory = match self.state().get(&path, 1 << 20)? {
            None => Memory::pinned(self.office.tenant, self.office.roots),
            Some(bytes) => {
                let text = String::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
                unsigned(&text).map_err(damaged)?
            }
        };
        let before = memory.clone();
        let mut holds = |path: &str, bytes: &[u8]| self.folder().vouch(path, bytes);
        let policy = follow(self.folder(), self.office.first, &mut memory, &mut holds, problems)?;
        problems.extend(expired(&policy, self.now()));
        if memory != before {
            let text = dirless_seal::trust::print(&memory).map_err(SignedError::unwritable("memory"))?;
            self.state().replace(&path, text.as_bytes())?;
        }
        Ok(policy)
    }

    /// May our key sign node lists?
    pub(super) fn check(&self, policy: &Policy) -> Result<(), SignedError> {
        let role = policy.enroller(self.name());
        if role.is_some_and(|role| role.key == *self.key() && role.recipient == self.recipient()) {
            return Ok(());
        }
        Err(SignedError::NoEnroller {
            version: policy.version,
            enroller: self.name().clone(),
        })
    }

    /// Lets in whom `admission` means of those who wait, puts the node list in place and says at the backend who may ask.
    /// For an enroller that does not publish; [`Signer::settle`](super::Signer::settle) does it for one that does. Whoever
    /// publishes wraps keys for the new hosts, and begins new epochs, when it sees the list.
    ///
    /// # Errors
    /// When nothing may be signed, or a file cannot be written.
    pub fn attend(&self, admission: &Admission) -> Result<Attended, SignedError> {
        let _lock = self.state().lock()?;
        let mut attended = Attended::default();
        let policy = self.policy(&mut attended.problems)?;
        self.check(&policy)?;
        let others = self.others(&policy, &mut attended.problems)?;
        let admitted = self.admit(&policy, &others, admission)?;
        let mut lists = self.put_own(&policy, &mut attended.problems)?;
        lists.extend(others);
        self.register(&lists, &mut attended.problems)?;
        self.clear_mail(&admitted)?;
        attended.admitted = admitted.nodes;
        attended.refused = admitted.refused;
        Ok(attended)
    }

    /// Asks whoever publishes for a new epoch of each of these compartments, by the next node list.
    ///
    /// # Errors
    /// When the policy has no such compartment, or the list cannot be written.
    pub fn renew(&self, compartments: &BTreeSet<Label>) -> Result<(), SignedError> {
        let _lock = self.state().lock()?;
        let policy = self.policy(&mut Vec::new())?;
        self.check(&policy)?;
        known_compartments(&policy, compartments)?;
        self.change_nodes(|list| {
            // Later than the last one, whatever the clock says: else it would ask for nothing.
            let last = list.renewals.iter().map(|renewal| renewal.at).max();
            let at = last.map_or(list.issued, |last| {
                let next = last.as_second() + 1;
                list.issued.max(Timestamp::from_second(next).unwrap_or(last))
            });
            list.renewals
                .retain(|renewal| !compartments.contains(&renewal.compartment));
            let asked = compartments.iter().cloned();
            list.renewals
                .extend(asked.map(|compartment| Renewal { compartment, at }));
        })?;
        self.put_own(&policy, &mut Vec::new()).map(drop)
    }
}

/// Refuses what the policy does not have.
pub(super) fn known_compartments(policy: &Policy, compartments: &BTreeSet<Label>) -> Result<(), SignedError> {
    let known = |name: &&Label| policy.compartments.iter().any(|known| known.name == **name);
    match compartments.iter().find(|name| !known(name)) {
        None => Ok(()),
        Some(compartment) => Err(SignedError::NoCompartment {
            version: policy.version,
            compartment: compartment.clone(),
        }),
    }
}
