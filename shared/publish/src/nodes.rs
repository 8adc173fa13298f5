//! The node list: who is a host of the tenant.

use std::collections::{BTreeMap, BTreeSet};

use dirless_seal::trust::{NodeList, Object, Revoked, parse, print};
use dirless_seal::{Label, Note};
use jiff::Timestamp;

use super::book::{load, save};
use super::lists::is_revoked;
use super::{Enroller, SignedError, paths};

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
    /// By which enroller.
    pub enroller: Label,
}

impl Enroller {
    /// Our newest node list; none before the first host.
    pub(super) fn node_list(&self) -> Result<Option<(NodeList, Note)>, SignedError> {
        self.kept_list(self.name())
    }

    /// The newest list of an enroller that is known here.
    pub(super) fn kept_list(&self, enroller: &Label) -> Result<Option<(NodeList, Note)>, SignedError> {
        let path = paths::node_list(enroller);
        let Some(bytes) = self.state().get(&path, 2 * NodeList::MOST as u64)? else {
            return Ok(None);
        };
        let note =
            Note::parse(&bytes, 2 * NodeList::MOST).map_err(|error| SignedError::damaged(path.clone(), error))?;
        let list = parse(&note).map_err(|error| SignedError::damaged(path, error))?;
        Ok(Some((list, note)))
    }

    /// Sees that our newest node list is in the tenant folder.
    pub(super) fn put_node_list(&self, list: &NodeList, note: &Note) -> Result<(), SignedError> {
        let path = paths::nodes(&list.enroller, list.version);
        if self.folder().has(&path)? {
            return Ok(());
        }
        let bytes = note.to_string().into_bytes();
        self.folder().create(&[(path.clone(), bytes.clone())])?;
        if self.folder().get(&path, 2 * NodeList::MOST as u64)? != Some(bytes) {
            return Err(SignedError::Taken { path });
        }
        if let Some(old) = list.version.checked_sub(KEPT).filter(|old| *old > 0) {
            self.folder().remove(&paths::nodes(&list.enroller, old))?;
        }
        Ok(())
    }

    /// Signs the list that `change` makes of the newest one, and notes it. From here on it counts, whatever breaks
    /// off: the next look at the tenant draws its consequences.
    pub(super) fn change_nodes(&self, change: impl FnOnce(&mut NodeList)) -> Result<NodeList, SignedError> {
        let before = self.node_list()?;
        // Lists count up by one, so none may be skipped.
        if let Some((list, note)) = &before {
            self.put_node_list(list, note)?;
        }
        let mut list = match before {
            None => NodeList {
                tenant: self.office.tenant,
                enroller: self.name().clone(),
                version: 1,
                previous: None,
                issued: self.now(),
                nodes: Vec::new(),
                revoked: Vec::new(),
                renewals: Vec::new(),
            },
            Some((list, note)) => NodeList {
                version: list.version + 1,
                previous: Some(note.digest()),
                issued: self.now(),
                ..list
            },
        };
        change(&mut list);
        list.nodes.sort_by(|left, right| left.key.name().cmp(right.key.name()));
        list.revoked.sort_by(|left, right| left.name.cmp(&right.name));
        list.renewals
            .sort_by(|left, right| left.compartment.cmp(&right.compartment));
        let text = print(&list).map_err(SignedError::unwritable("node list"))?;
        let note = Note::sign(text, &[&self.key]).map_err(|error| SignedError::damaged("node list", error))?;
        let path = paths::node_list(&list.enroller);
        self.state().replace(&path, note.to_string().as_bytes())?;
        Ok(list)
    }

    /// All hosts, of all enrollers, as known here.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn nodes(&self) -> Result<Vec<NodeFacts>, SignedError> {
        let hosts = self.hosts()?;
        let seen: Option<BTreeMap<String, u64>> = load(self.state(), paths::ENROLLERS)?;
        let others = seen.unwrap_or_default();
        let others = others.keys().filter_map(|name| name.parse::<Label>().ok());
        let mut lists = Vec::new();
        for name in std::iter::once(self.name().clone()).chain(others) {
            lists.extend(self.kept_list(&name)?.map(|(list, _)| list));
        }
        let mut facts = BTreeMap::new();
        for list in &lists {
            for node in list.nodes.iter().filter(|node| !is_revoked(&lists, node.key.name())) {
                let name = node.key.name();
                facts.entry(name.clone()).or_insert_with(|| NodeFacts {
                    host: hosts.get(name.as_str()).cloned(),
                    name: name.clone(),
                    compartments: node.compartments.clone(),
                    joined: node.joined,
                    enroller: list.enroller.clone(),
                });
            }
        }
        Ok(facts.into_values().collect())
    }

    /// What hosts call themselves, by node name. No other program sees it.
    pub(super) fn hosts(&self) -> Result<BTreeMap<String, String>, SignedError> {
        Ok(load(self.state(), paths::HOSTS)?.unwrap_or_default())
    }

    pub(super) fn set_hosts(&self, hosts: &BTreeMap<String, String>) -> Result<(), SignedError> {
        save(self.state(), paths::HOSTS, hosts)
    }

    /// Notes that these hosts, given by node name or by what they call themselves, are hosts no more, whoever admitted
    /// them. The next [`Signer::settle`](super::Signer::settle) of whoever publishes locks them out: whatever is
    /// published after it, they cannot open.
    ///
    /// # Errors
    /// When one is none, or a name means several; nothing is changed then.
    pub fn revoke(&self, wanted: &[String]) -> Result<Vec<NodeFacts>, SignedError> {
        let _lock = self.state().lock()?;
        let policy = self.policy(&mut Vec::new())?;
        self.check(&policy)?;
        self.others(&policy, &mut Vec::new())?;
        let nodes = self.nodes()?;
        let mut gone: BTreeMap<Label, NodeFacts> = BTreeMap::new();
        for text in wanted {
            let by_name = nodes.iter().find(|node| node.name.as_str() == text);
            let mut found = nodes.iter().filter(|node| node.host.as_deref() == Some(text));
            let node = match (by_name, found.next(), found.next()) {
                (Some(node), _, _) | (None, Some(node), None) => node,
                (None, None, _) => {
                    return Err(SignedError::Nothing(format!(
                        "there is no host {text:?}; see the list of hosts"
                    )));
                }
                (None, Some(_), Some(_)) => {
                    return Err(SignedError::Nothing(format!(
                        "several hosts call themselves {text:?}; name the node, see the list of hosts"
                    )));
                }
            };
            gone.insert(node.name.clone(), node.clone());
        }
        self.change_nodes(|list| {
            list.nodes.retain(|node| !gone.contains_key(node.key.name()));
            let at = list.issued;
            list.revoked
                .extend(gone.keys().map(|name| Revoked { name: name.clone(), at }));
        })?;
        Ok(gone.into_values().collect())
    }
}
