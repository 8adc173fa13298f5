//! The node list: which hosts are in the tenant, signed by an enroller.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::scope::List;
use super::text::{Fields, FormatError, Lines, Object, Time, ascending, parse};
use super::{Policy, Refusal, Seen};
use crate::{Digest, Label, Note, Recipient, VerifyingKey};

/// Most nodes, and most revoked ones, of one list.
const MOST_NODES: usize = 200_000;

/// One host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Signs its requests and receipts. Its name follows from its bytes: [`node_name`].
    pub key: VerifyingKey,
    /// Epoch keys are wrapped to it.
    pub recipient: Recipient,
    /// What it may read.
    pub compartments: BTreeSet<Label>,
    /// When it was admitted.
    pub joined: Timestamp,
}

/// A host that is no longer one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Its key's name.
    pub name: Label,
    /// When.
    pub at: Timestamp,
}

/// A wish for a new key of a compartment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The compartment.
    pub compartment: Label,
    /// When it was asked for: whoever publishes begins an epoch when this is later than it was for the one before.
    pub at: Timestamp,
}

/// Which hosts are in the tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeList {
    /// Whose it is.
    pub tenant: Digest,
    /// Name of the enroller's key.
    pub enroller: Label,
    /// Counts up by one.
    pub version: u64,
    /// Digest of the list before; none for the first.
    pub previous: Option<Digest>,
    /// When it was signed.
    pub issued: Timestamp,
    /// The hosts, in the order of their names.
    pub nodes: Vec<Node>,
    /// Those that were revoked, in the order of their names. None of them is a node.
    pub revoked: Vec<Revoked>,
    /// New epochs that are asked for, at most 256, in the order of their compartments.
    pub renewals: Vec<Renewal>,
}

/// The name of a node with this key: `n` and the first 16 hexadecimal digits of the key's digest. It says
/// nothing about the host, and nobody can take another's.
#[must_use]
pub fn node_name(key: &[u8; 32]) -> Label {
    let digest = Digest::of(key).to_string();
    let text = format!("n{}", digest.get(..16).unwrap_or_default());
    text.parse().expect("a letter and hexadecimal digits are a label")
}

impl NodeList {
    /// Accepts `note` as a list of `policy`'s tenant that may follow on `before`, the one accepted last.
    ///
    /// # Errors
    /// When no enroller of the policy signed it, or it does not follow.
    pub fn accept(policy: &Policy, before: Option<Seen>, note: &Note) -> Result<Self, Refusal> {
        const KIND: &str = "node list";
        let list: Self = parse(note).map_err(|error| Refusal::Malformed(KIND, error))?;
        if list.tenant != policy.tenant {
            return Err(Refusal::OtherTenant(KIND));
        }
        let enroller = policy.enroller(&list.enroller).ok_or(Refusal::Forged(KIND))?;
        if !note.is_signed_by(&enroller.key) {
            return Err(Refusal::Forged(KIND));
        }
        let found = Seen {
            version: list.version,
            digest: note.digest(),
        };
        Seen::check(before, KIND, found)?;
        // The link can be followed only when nothing lies in between.
        if before.is_some_and(|seen| seen.version + 1 == found.version && list.previous != Some(seen.digest)) {
            return Err(Refusal::Chain(KIND));
        }
        Ok(list)
    }

    /// The node of this name.
    #[must_use]
    pub fn node(&self, name: &Label) -> Option<&Node> {
        let at = self.nodes.binary_search_by_key(&name, |node| node.key.name()).ok()?;
        self.nodes.get(at)
    }

    /// Was the node of this name revoked?
    #[must_use]
    pub fn is_revoked(&self, name: &Label) -> bool {
        self.revoked
            .binary_search_by_key(&name, |revoked| &revoked.name)
            .is_ok()
    }
}

impl Object for NodeList {
    const CONTEXT: &'static str = "dirless/nodes/v1";
    /// 200,000 nodes of some 250 bytes.
    const MOST: usize = 64 * 1024 * 1024;

    fn read(fields: &mut Fields<'_>) -> Result<Self, FormatError> {
        let list = Self {
            tenant: fields.value("tenant")?,
            enroller: fields.value("enroller")?,
            version: fields.version("version")?,
            previous: fields.optional("previous")?,
            issued: fields.value::<Time>("issued")?.0,
            nodes: nodes(fields)?,
            revoked: revoked(fields)?,
            renewals: renewals(fields)?,
        };
        list.check().map(|()| list)
    }

    fn write(&self, lines: &mut Lines) {
        lines.line("tenant", self.tenant);
        lines.line("enroller", &self.enroller);
        lines.line("version", self.version);
        lines.optional("previous", self.previous);
        lines.line("issued", Time(self.issued));
        for node in &self.nodes {
            let compartments = List(node.compartments.iter().collect());
            let (key, recipient, joined) = (&node.key, &node.recipient, Time(node.joined));
            lines.line(
                "node",
                format_args!("{key} {recipient} compartments={compartments} joined={joined}"),
            );
        }
        for Revoked { name, at } in &self.revoked {
            lines.line("revoked", format_args!("{name} {}", Time(*at)));
        }
        for Renewal { compartment, at } in &self.renewals {
            lines.line("renew", format_args!("{compartment} {}", Time(*at)));
        }
    }
}

fn nodes(fields: &mut Fields<'_>) -> Result<Vec<Node>, FormatError> {
    fields.rows("node", MOST_NODES, |fields, [key, recipient, compartments, joined]| {
        let compartments: List<Label> = fields.keyed("node", "compartments", compartments)?;
        Ok(Node {
            key: fields.convert("node", key)?,
            recipient: fields.convert("node", recipient)?,
            compartments: compartments.0.into_iter().collect(),
            joined: fields.keyed::<Time>("node", "joined", joined)?.0,
        })
    })
}

fn revoked(fields: &mut Fields<'_>) -> Result<Vec<Revoked>, FormatError> {
    fields.rows("revoked", MOST_NODES, |fields, [name, at]| {
        Ok(Revoked {
            name: fields.convert("revoked", name)?,
            at: fields.convert::<Time>("revoked", at)?.0,
        })
    })
}

fn renewals(fields: &mut Fields<'_>) -> Result<Vec<Renewal>, FormatError> {
    fields.rows("renew", 256, |fields, [compartment, at]| {
        Ok(Renewal {
            compartment: fields.convert("renew", compartment)?,
            at: fields.convert::<Time>("renew", at)?.0,
        })
    })
}

impl NodeList {
    fn check(&self) -> Result<(), FormatError> {
        if (self.version == 1) != self.previous.is_none() {
            return Err(FormatError::Contradiction(
                "the first list, and no other, has no previous one".to_owned(),
            ));
        }
        ascending("nodes", &self.nodes, |node| node.key.name())?;
        ascending("revoked nodes", &self.revoked, |revoked| &revoked.name)?;
        ascending("renewals", &self.renewals, |renewal| &renewal.compartment)?;
        for node in &self.nodes {
            let name = node.key.name();
            if *name != node_name(node.key.as_bytes()) {
                return Err(FormatError::Contradiction(format!(
                    "node {name} does not bear its own key's name"
                )));
            }
            if self.is_revoked(name) {
                return Err(FormatError::Contradiction(format!(
                    "node {name} is both listed and revoked"
                )));
            }
        }
        Ok(())
    }
}
