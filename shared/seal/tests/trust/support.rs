//! A tenant with two roots, a publisher and an enroller.

use std::collections::BTreeSet;

use dirless_seal::trust::log::Chain;
use dirless_seal::trust::{
    Compartment, Enroller, Entry, Head, Lease, Manifest, Memory, Object, OnExpiry, Policy, Publisher, Right, Scope,
    Succession, print,
};
use dirless_seal::{Digest, Identity, Label, Note, SigningKey};
use jiff::{SignedDuration, Timestamp};

pub(crate) fn label(text: &str) -> Label {
    text.parse().unwrap()
}

pub(crate) fn at(minutes: i64) -> Timestamp {
    "2026-11-22T08:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
}

pub(crate) fn signed<T: Object>(object: &T, keys: &[&SigningKey]) -> Note {
    Note::sign(print(object).unwrap(), keys).unwrap()
}

/// The keys of a tenant.
pub(crate) struct Tenant {
    pub(crate) id: Digest,
    pub(crate) roots: Vec<SigningKey>,
    pub(crate) publisher: SigningKey,
    pub(crate) enroller: SigningKey,
    pub(crate) enroller_identity: Identity,
    pub(crate) epoch: Identity,
}

impl Tenant {
    pub(crate) fn new() -> Self {
        let key = |name| SigningKey::generate(label(name)).unwrap();
        Self {
            id: Digest::of(b"tenant"),
            roots: vec![key("root-1"), key("root-2"), key("root-3")],
            publisher: key("syncer-1"),
            enroller: key("enroller-1"),
            enroller_identity: Identity::generate(),
            epoch: Identity::generate(),
        }
    }

    pub(crate) fn root_keys(&self) -> BTreeSet<dirless_seal::VerifyingKey> {
        self.roots.iter().map(|key| key.verifying().clone()).collect()
    }

    /// The first policy: two of three roots.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            tenant: self.id,
            version: 1,
            previous: None,
            issued: at(-60),
            expires: at(60 * 24 * 365),
            format: 1,
            lease: 86_400,
            threshold: 2,
            roots: self.root_keys(),
            publishers: vec![Publisher {
                key: self.publisher.verifying().clone(),
                scope: Scope {
                    sources: BTreeSet::from([label("aws-identity-center"), label("local")]),
                    ids: vec!["10000-19999".parse().unwrap()],
                    names: vec!["*".parse().unwrap()],
                    may: BTreeSet::from(Right::ALL),
                },
            }],
            enrollers: vec![Enroller {
                key: self.enroller.verifying().clone(),
                recipient: self.enroller_identity.recipient(),
            }],
            recovery: vec![],
            compartments: vec![Compartment {
                name: label("all"),
                on_expiry: OnExpiry::Serve,
            }],
        }
    }

    pub(crate) fn sign_policy(&self, policy: &Policy) -> Note {
        signed(policy, &[&self.roots[0], &self.roots[1]])
    }

    pub(crate) fn manifest(&self, version: u64, previous: Option<Digest>) -> Manifest {
        Manifest {
            tenant: self.id,
            publisher: label("syncer-1"),
            source: label("local"),
            compartment: label("all"),
            version,
            previous,
            issued: at(0),
            epoch: 1,
            recipient: self.epoch.recipient(),
            ciphertext: Digest::of(b"sealed"),
            ciphertext_size: 6,
            plaintext_size: 2,
            content: Digest::of(b"root"),
        }
    }

    /// A head of this version, signed at this minute, that names these manifests.
    pub(crate) fn head(&self, version: u64, minute: i64, manifests: &[&Note]) -> Head {
        let entries = manifests.iter().map(|note| {
            let manifest: Manifest = dirless_seal::trust::parse(note).unwrap();
            Entry {
                source: manifest.source,
                compartment: manifest.compartment,
                version: manifest.version,
                chain: Chain::of(note.digest()),
            }
        });
        Head {
            tenant: self.id,
            publisher: label("syncer-1"),
            version,
            issued: at(minute),
            lease: Lease {
                fresh: 900,
                expires: 86_400,
            },
            policy: 1,
            nodes: None,
            entries: entries.collect(),
        }
    }

    /// The succession by which the publisher's first key names `key`.
    pub(crate) fn succession(&self, key: &SigningKey) -> Succession {
        Succession {
            tenant: self.id,
            publisher: label("syncer-1"),
            version: 1,
            previous: None,
            issued: at(0),
            anchor: self.publisher.verifying().clone(),
            key: key.verifying().clone(),
        }
    }

    pub(crate) fn sign_head(&self, head: &Head) -> Note {
        signed(head, &[&self.publisher])
    }

    /// A host that has joined and accepted the first policy.
    pub(crate) fn host(&self) -> (Memory, Policy) {
        let mut memory = Memory::pinned(self.id, self.policy().fingerprint());
        let policy = memory.policy_after(None, &self.sign_policy(&self.policy())).unwrap();
        (memory, policy)
    }
}
