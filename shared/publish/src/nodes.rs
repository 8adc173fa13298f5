//! The node list: who is a host of the tenant.

use std::collections::{BTreeMap, BTreeSet};

use dirless_seal::trust::{Node, NodeList, Object, Policy, Revoked, parse, print};
use dirless_seal::{Label, Note};
use jiff::Timestamp;

use super::book::{load, save};
use super::epochs::Members;
use super::{SignedError, Signer, paths};

/// Node lists before the newest that stay in the tenant folder, for whoever follows how it came about.
const KEPT: u64 = 100;

/// A host, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: Label,
    /// What it calls itself, as it said when it joined.
    pub host: Option<String>,
    /// What it reads.
    pub compartments: BTreeSet<Label>,
    /// When it was admitted.
    pub joined: Timestamp,
}

impl Signer {
    /// The newest node list; none before the first host.
    pub(super) fn node_list(&self) -> Result<Option<(NodeList, Note)>, SignedError> {
        let path = paths::node_list(self.keys.enroller.verifying().name());
        let Some(bytes) = self.state.get(&path, 2 * NodeList::MOST as u64)? else {
            return Ok(None);
        };
        let note =
            Note::parse(&bytes, 2 * NodeList::MOST).map_err(|error| SignedError::damaged(path.clone(), error))?;
        let list = parse(&note).map_err(|error| SignedError::damaged(path, error))?;
        Ok(Some((list, note)))
    }

    /// Sees that the newest node list is in the tenant folder.
    pub(super) fn put_node_list(&self, list: &NodeList, note: &Note) -> Result<(), SignedError> {
        let path = paths::nodes(&list.enroller, list.version);
        if self.tenant_folder.has(&path)? {
            return Ok(());
        }
        let bytes = note.to_string().into_bytes();
        self.tenant_folder.create(&[(path, bytes)])?;
        if let Some(old) = list.version.checked_sub(KEPT).filter(|old| *old > 0) {
            self.tenant_folder.remove(&paths::nodes(&list.enroller, old))?;
        }
        Ok(())
    }

    /// Signs the list that `change` makes of the newest one, and notes it. From here on it counts, whatever breaks
    /// off: [`Signer::settle`] draws its consequences.
    pub(super) fn change_nodes(
        &self,
        change: impl FnOnce(&mut Vec<Node>, &mut Vec<Revoked>, Timestamp),
    ) -> Result<NodeList, SignedError> {
        let now = self.now();
        let before = self.node_list()?;
        // Lists count up by one, so none may be skipped.
        if let Some((list, note)) = &before {
            self.put_node_list(list, note)?;
        }
        let (version, previous, mut nodes, mut revoked) = match before {
            None => (1, None, Vec::new(), Vec::new()),
            Some((list, note)) => (list.version + 1, Some(note.digest()), list.nodes, list.revoked),
        };
        change(&mut nodes, &mut revoked, now);
        nodes.sort_by(|left, right| left.key.name().cmp(right.key.name()));
        revoked.sort_by(|left, right| left.name.cmp(&right.name));
        let list = NodeList {
            tenant: self.tenant,
            enroller: self.keys.enroller.verifying().name().clone(),
            version,
            previous,
            issued: now,
            nodes,
            revoked,
        };
        let text = print(&list).map_err(SignedError::unwritable("node list"))?;
        let note =
            Note::sign(text, &[&self.keys.enroller]).map_err(|error| SignedError::damaged("node list", error))?;
        let path = paths::node_list(&list.enroller);
        self.state.replace(&path, note.to_string().as_bytes())?;
        Ok(list)
    }

    /// The hosts of `compartment`.
    pub(super) fn members(list: Option<&NodeList>, compartment: &Label) -> Members {
        let nodes = list.map_or(&[][..], |list| &list.nodes);
        let own = nodes.iter().filter(|node| node.compartments.contains(compartment));
        own.map(|node| (node.key.name().clone(), node.recipient.clone()))
            .collect()
    }

    /// All hosts.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn nodes(&self) -> Result<Vec<NodeFacts>, SignedError> {
        let hosts = self.hosts()?;
        let list = self.node_list()?.map(|(list, _)| list.nodes).unwrap_or_default();
        let facts = list.into_iter().map(|node| NodeFacts {
            host: hosts.get(node.key.name().as_str()).cloned(),
            name: node.key.name().clone(),
            compartments: node.compartments,
            joined: node.joined,
        });
        Ok(facts.collect())
    }

    /// What hosts call themselves, by node name. No other program sees it.
    pub(super) fn hosts(&self) -> Result<BTreeMap<String, String>, SignedError> {
        Ok(load(self.state.as_ref(), paths::HOSTS)?.unwrap_or_default())
    }

    pub(super) fn set_hosts(&self, hosts: &BTreeMap<String, String>) -> Result<(), SignedError> {
        save(self.state.as_ref(), paths::HOSTS, hosts)
    }

    /// Notes that these hosts, given by node name or by what they call themselves, are hosts no more. The next
    /// [`Signer::settle`] locks them out: whatever is published after it, they cannot open.
    ///
    /// # Errors
    /// When one is none, or a name means several; nothing is changed then.
    pub fn revoke(&self, wanted: &[String]) -> Result<Vec<NodeFacts>, SignedError> {
        let _lock = self.state.lock()?;
        let policy: Policy = self.policy(
            &mut self.book()?.memory(self.tenant, self.config.roots)?,
            &mut Vec::new(),
        )?;
        self.check_enroller(&policy)?;
        let nodes = self.nodes()?;
        let mut gone: BTreeMap<Label, NodeFacts> = BTreeMap::new();
        for text in wanted {
            let by_name = nodes.iter().find(|node| node.name.as_str() == text);
            let mut found = nodes.iter().filter(|node| node.host.as_deref() == Some(text));
            let node = match (by_name, found.next(), found.next()) {
                (Some(node), _, _) | (None, Some(node), None) => node,
                (None, None, _) => {
                    return Err(SignedError::Nothing(format!(
                        "there is no host {text:?}; see: dirless-syncer node list"
                    )));
                }
                (None, Some(_), Some(_)) => {
                    return Err(SignedError::Nothing(format!(
                        "several hosts call themselves {text:?}; name the node, see: dirless-syncer node list"
                    )));
                }
            };
            gone.insert(node.name.clone(), node.clone());
        }
        self.change_nodes(|nodes, revoked, at| {
            nodes.retain(|node| !gone.contains_key(node.key.name()));
            revoked.extend(gone.keys().map(|name| Revoked { name: name.clone(), at }));
        })?;
        Ok(gone.into_values().collect())
    }
}
