//! What the hosts of a tenant say that they applied: their receipts, each checked with the key that an enroller's node list
//! has for the node. Whoever serves the receipts can hold them back, and nothing else.

mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dirless_seal::trust::{Node, NodeList, Object, OnExpiry, Policy, Receipt, Seen, SplitView};
use dirless_seal::{Label, Note};
use dirless_wire::trust::ReceiptReply;
use jiff::{SignedDuration, Timestamp};

use super::{Folder, SignedError, paths};

pub use waiting::{Awaited, Behind, Pace, Receipts, Waited};

/// How long after its last heartbeat a host counts as connected: three of the default interval.
pub const CONNECTED_FOR: Duration = Duration::from_secs(180);

/// Who may sign receipts: the nodes on the newest lists of the enrollers of a policy, without those that were revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    nodes: BTreeMap<Label, Node>,
    /// Of the lists, by enroller.
    versions: BTreeMap<Label, u64>,
    /// Compartments whose hosts serve on when their lease has run out.
    serve_on: BTreeSet<Label>,
}

impl Roster {
    /// The one that `folder` has for `policy`, and no older one than what is `known`: who serves the folder may hold lists
    /// back, and whoever is on those alone would be waited for by nobody. What is held back, or does not hold, goes to
    /// `problems`.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn read(
        folder: &dyn Folder,
        policy: &Policy,
        known: Vec<NodeList>,
        problems: &mut Vec<String>,
    ) -> Result<Self, SignedError> {
        let mut lists = known;
        for enroller in &policy.enrollers {
            let name = enroller.key.name();
            let known = lists.iter().position(|list| list.enroller == *name);
            let least = known.and_then(|at| lists.get(at)).map_or(0, |list| list.version);
            match Self::newest(folder, policy, name, least)? {
                Ok(Some(newest)) => {
                    lists.retain(|list| list.enroller != *name);
                    lists.push(newest);
                }
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
        let serve_on = policy
            .compartments
            .iter()
            .filter(|own| own.on_expiry == OnExpiry::Serve);
        Ok(Self {
            serve_on: serve_on.map(|own| own.name.clone()).collect(),
            ..Self::of(&lists)
        })
    }

    /// The newest list of an enroller in `folder`; none where `least`, the one that is known, is the newest. What is wrong
    /// there, for people.
    fn newest(
        folder: &dyn Folder,
        policy: &Policy,
        enroller: &Label,
        least: u64,
    ) -> Result<Result<Option<NodeList>, String>, SignedError> {
        let versions = folder.list(&paths::node_lists(enroller))?;
        let newest = versions.iter().filter_map(|version| version.parse::<u64>().ok()).max();
        let newest = newest.unwrap_or(0);
        if newest < least {
            return Ok(Err(format!(
                "node list {least} of {enroller} is held back: the newest that is shown is {newest}. See who keeps the backend \
                 from showing it; what is known here is gone by"
            )));
        }
        if newest == least {
            return Ok(Ok(None));
        }
        let path = paths::nodes(enroller, newest);
        let Some(bytes) = folder.get(&path, 2 * NodeList::MOST as u64)? else {
            return Ok(Err(format!(
                "{path} is held back: it is listed, and not there. Hosts that only it has are not waited for; see who keeps the \
                 backend from showing it"
            )));
        };
        let note = Note::parse(&bytes, 2 * NodeList::MOST).map_err(SignedError::no_note(&path, "node list"));
        let list = note.and_then(|note| NodeList::accept(policy, None, &note).map_err(SignedError::refused(&path)));
        Ok(match list {
            Ok(list) if list.enroller == *enroller && list.version == newest => Ok(Some(list)),
            Ok(list) => Err(format!("{path}: it is list {} of {}", list.version, list.enroller)),
            Err(error) => Err(error.to_string()),
        })
    }

    /// The version of this enroller's list that the roster is made of.
    #[must_use]
    pub fn version(&self, enroller: &Label) -> u64 {
        self.versions.get(enroller).copied().unwrap_or(0)
    }

    fn of(lists: &[NodeList]) -> Self {
        let is_revoked = |name: &Label| lists.iter().any(|list| list.is_revoked(name));
        let nodes = lists.iter().flat_map(|list| &list.nodes);
        let nodes = nodes.filter(|node| !is_revoked(node.key.name()));
        Self {
            nodes: nodes.map(|node| (node.key.name().clone(), node.clone())).collect(),
            versions: lists.iter().map(|list| (list.enroller.clone(), list.version)).collect(),
            serve_on: BTreeSet::new(),
        }
    }

    /// Does this node go on serving everybody it knows when its lease has run out?
    fn serves_on(&self, node: &Label) -> bool {
        let node = self.nodes.get(node);
        node.is_some_and(|node| !node.compartments.is_disjoint(&self.serve_on))
    }
}

/// What is known of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// When its last receipt came.
    pub received: Option<Timestamp>,
    /// What it says.
    pub receipt: Option<Receipt>,
}

/// How a host stands to a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has applied it, or a later one.
    Applied,
    /// It is heard of, and has not applied it.
    Behind,
    /// It is not heard of.
    Offline,
}

impl Host {
    /// This publisher's head that it applied.
    #[must_use]
    pub fn head(&self, publisher: &Label) -> Option<Seen> {
        let heads = &self.receipt.as_ref()?.heads;
        heads.iter().find(|(name, _)| name == publisher).map(|(_, seen)| *seen)
    }

    /// What it says is wrong, each as a code and what it is about.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        let alarms = self.receipt.iter().flat_map(|receipt| &receipt.alarms);
        alarms.map(ToString::to_string).collect()
    }

    /// When it stops believing what it has, at the latest, if it has not applied what is `awaited`; leases last so many
    /// seconds.
    #[must_use]
    pub fn lease_ends(&self, awaited: Awaited, lease: u32) -> Option<Timestamp> {
        // Its last head is from before the awaited one, and no later than when it was heard of.
        let latest = self.received.map_or(awaited.signed_by, |at| at.min(awaited.signed_by));
        latest.checked_add(SignedDuration::from_secs(lease.into())).ok()
    }

    /// Whether it was heard of lately. A time far ahead, of a backend whose clock was wrong, says nothing.
    #[must_use]
    pub fn is_connected(&self, now: Timestamp) -> bool {
        let lately =
            |at: Timestamp| now.duration_since(at).abs() < SignedDuration::try_from(CONNECTED_FOR).unwrap_or_default();
        self.received.is_some_and(lately)
    }

    /// How it stands to what is awaited of the publisher; `newest` is the last head of it, where that is known for sure.
    #[must_use]
    pub fn standing(&self, publisher: &Label, awaited: Awaited, newest: Option<Seen>, now: Timestamp) -> Standing {
        if self.has_applied(publisher, awaited, newest) {
            Standing::Applied
        } else if self.is_connected(now) {
            Standing::Behind
        } else {
            Standing::Offline
        }
    }

    /// A number alone says little: under another key, heads may begin at one again, and a thief of the one before can sign
    /// any. Who applied what is awaited knows its policy, and nothing that comes after the `newest`.
    fn has_applied(&self, publisher: &Label, awaited: Awaited, newest: Option<Seen>) -> bool {
        let policy = self.receipt.as_ref().map_or(0, |receipt| receipt.policy.version);
        let is_ours = |head: Seen| newest.is_none_or(|newest| head.version < newest.version || head == newest);
        self.head(publisher)
            .is_some_and(|head| head.version >= awaited.version && policy >= awaited.policy && is_ours(head))
    }
}

/// All hosts of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// By the name of the node; every host of the roster is there.
    pub hosts: BTreeMap<Label, Host>,
    /// Receipts that are not believed, and why.
    pub problems: Vec<String>,
}

impl Fleet {
    /// What `receipts` say of the hosts of `roster`.
    #[must_use]
    pub fn of(policy: &Policy, roster: &Roster, receipts: &[ReceiptReply]) -> Self {
        let mut fleet = Self::default();
        for name in roster.nodes.keys() {
            fleet.hosts.insert(name.clone(), Host::default());
        }
        for reply in receipts {
            if let Err(problem) = fleet.take(policy, roster, reply) {
                fleet.problems.push(format!("the receipt of {}: {problem}", reply.node));
            }
        }
        fleet
    }

    fn take(&mut self, policy: &Policy, roster: &Roster, reply: &ReceiptReply) -> Result<(), String> {
        let name: Label = reply
            .node
            .name()
            .as_str()
            .parse()
            .map_err(|_| "no node has this name")?;
        let Some(node) = roster.nodes.get(&name) else {
            return Err("no node list has this node".to_owned());
        };
        let bytes = reply.bytes().ok_or("it is no base64")?;
        let note = Note::parse(&bytes, Receipt::MOST).map_err(|error| error.to_string())?;
        let receipt = Receipt::accept(policy.tenant, &node.key, &note).map_err(|error| error.to_string())?;
        let seconds = i64::try_from(reply.received_at.unix_seconds()).unwrap_or(i64::MAX);
        let host = Host {
            received: Timestamp::from_second(seconds).ok(),
            receipt: Some(receipt),
        };
        self.hosts.insert(name, host);
        Ok(())
    }

    /// Different contents under one version, as the receipts tell.
    #[must_use]
    pub fn splits(&self) -> Vec<SplitView> {
        SplitView::find(self.hosts.values().filter_map(|host| host.receipt.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use dirless_seal::Digest;
    use dirless_seal::trust::Seen;

    use super::*;

    pub(super) fn label(text: &str) -> Label {
        text.parse().unwrap()
    }

    pub(super) fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    pub(super) fn host(head: u64, content: u8, received: i64) -> Host {
        let seen = |version| Seen {
            version,
            digest: Digest::of(&[content]),
        };
        Host {
            received: Some(time(received)),
            receipt: Some(Receipt {
                tenant: Digest::of(b"t"),
                node: label(&format!("n{head}{content}")),
                issued: time(received),
                policy: Seen {
                    version: 1,
                    digest: Digest::of(b"p"),
                },
                heads: vec![(label("syncer"), seen(head))],
                generation: 1,
                users: 1,
                groups: 1,
                dropped: 0,
                alarms: Vec::new(),
            }),
        }
    }
}
