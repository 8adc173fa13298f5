//! Node lists of other enrollers, and what all lists together say.

use std::collections::BTreeMap;

use dirless_seal::trust::{NodeList, Object, Policy, Seen};
use dirless_seal::{Label, Note, VerifyingKey};
use jiff::Timestamp;

use super::book::{load, save};
use super::epochs::Members;
use super::{Enroller, SignedError, paths};

/// Most lists of one enroller that are looked at in one go; the next go continues.
const MOST_LISTS: u64 = 10_000;
/// After so many in a row that are refused nothing is expected to hold any more: enrollers leave the last hundred.
const MOST_REFUSED: usize = 128;

/// The hosts of `compartment`: on some list, and revoked on none.
pub(super) fn members(lists: &[NodeList], compartment: &Label) -> Members {
    let mut members = Members::new();
    let all = lists.iter().flat_map(|list| &list.nodes);
    for node in all.filter(|node| node.compartments.contains(compartment)) {
        let name = node.key.name();
        if !is_revoked(lists, name) {
            members.entry(name.clone()).or_insert_with(|| node.recipient.clone());
        }
    }
    members
}

/// Is the host of this name revoked on any list?
pub(super) fn is_revoked(lists: &[NodeList], name: &Label) -> bool {
    lists.iter().any(|list| list.is_revoked(name))
}

/// When a new epoch of `compartment` was asked for last.
pub(super) fn asked(lists: &[NodeList], compartment: &Label) -> Option<Timestamp> {
    let all = lists.iter().flat_map(|list| &list.renewals);
    all.filter(|renewal| renewal.compartment == *compartment)
        .map(|renewal| renewal.at)
        .max()
}

fn accept_list(policy: &Policy, seen: Option<Seen>, path: &str, bytes: &[u8]) -> Result<(NodeList, Note), SignedError> {
    let note = Note::parse(bytes, 2 * NodeList::MOST).map_err(SignedError::no_note(path, "node list"))?;
    let list = NodeList::accept(policy, seen, &note).map_err(SignedError::refused(path))?;
    Ok((list, note))
}

impl Enroller {
    /// Sees that our newest list is in the tenant's folder, and returns it. What somebody else put in the place of the next one
    /// goes to `problems`; it is no list of ours, whoever signed it.
    pub(super) fn put_own(&self, policy: &Policy, problems: &mut Vec<String>) -> Result<Vec<NodeList>, SignedError> {
        let own = self.node_list()?;
        let seen = own.as_ref().map(|(list, note)| Seen {
            version: list.version,
            digest: note.digest(),
        });
        if let Some((list, note)) = &own {
            self.put_node_list(list, note)?;
        }
        let path = paths::nodes(self.name(), seen.map_or(1, |seen| seen.version + 1));
        if let Some(bytes) = self.folder().get(&path, 2 * NodeList::MOST as u64)? {
            let refused = accept_list(policy, seen, &path, &bytes).err();
            problems.push(refused.unwrap_or(SignedError::Taken { path }).to_string());
        }
        Ok(own.into_iter().map(|(list, _)| list).collect())
    }

    /// The newest list of each other enroller of `policy`, followed from the one known here. What does not hold goes to
    /// `problems`, and the one before it goes on.
    pub(super) fn others(&self, policy: &Policy, problems: &mut Vec<String>) -> Result<Vec<NodeList>, SignedError> {
        let mut lists = Vec::new();
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for enroller in policy.enrollers.iter().filter(|other| other.key.name() != self.name()) {
            let name = enroller.key.name();
            let list = self.follow_list(policy, name, problems)?;
            seen.insert(name.to_string(), list.as_ref().map_or(0, |list| list.version));
            lists.extend(list);
        }
        let before: Option<BTreeMap<String, u64>> = load(self.state(), paths::ENROLLERS)?;
        if before.unwrap_or_default() != seen {
            save(self.state(), paths::ENROLLERS, &seen)?;
        }
        Ok(lists)
    }

    fn follow_list(
        &self,
        policy: &Policy,
        enroller: &Label,
        problems: &mut Vec<String>,
    ) -> Result<Option<NodeList>, SignedError> {
        let known = self.kept_list(enroller)?;
        let mut seen = known.as_ref().map(|(list, note)| Seen {
            version: list.version,
            digest: note.digest(),
        });
        // Under another key than the one that signed it, a list says nothing any more.
        let mut newest = known.and_then(|(_, note)| NodeList::accept(policy, None, &note).ok());
        let first = match seen {
            Some(seen) => seen.version + 1,
            None => self.first_list(enroller)?,
        };
        let (mut last, mut doubts) = (None, Vec::new());
        // Whoever serves the folder can put something there for ever.
        for version in first..first.saturating_add(MOST_LISTS) {
            if doubts.len() > MOST_REFUSED {
                doubts.truncate(3);
                doubts.push(format!(
                    "{} and those before it: {MOST_REFUSED} lists in a row do not hold; nobody looked further",
                    paths::nodes(enroller, version)
                ));
                break;
            }
            let path = paths::nodes(enroller, version);
            let Some(bytes) = self.folder().get(&path, 2 * NodeList::MOST as u64)? else {
                break;
            };
            match accept_list(policy, seen, &path, &bytes) {
                Ok((list, note)) if list.version == version && list.enroller == *enroller => {
                    seen = Some(Seen {
                        version,
                        digest: note.digest(),
                    });
                    newest = Some(list);
                    last = Some(note);
                    // One that another key of the enroller signed before is none of today's, and no matter once a later one holds.
                    doubts.clear();
                }
                Ok((list, _)) => doubts.push(format!("{path}: it is list {} of {}", list.version, list.enroller)),
                Err(error) => doubts.push(error.to_string()),
            }
        }
        problems.append(&mut doubts);
        if let Some(note) = last {
            let path = paths::node_list(enroller);
            self.state().replace(&path, note.to_string().as_bytes())?;
        }
        Ok(newest)
    }

    /// The newest list of each enroller of `policy` that is known here, ours among them.
    pub(super) fn known_lists(&self, policy: &Policy) -> Result<Vec<NodeList>, SignedError> {
        let mut lists = Vec::new();
        for enroller in &policy.enrollers {
            let known = self.kept_list(enroller.key.name())?;
            // Under another key than the one that signed it, a list says nothing any more.
            lists.extend(known.and_then(|(_, note)| NodeList::accept(policy, None, &note).ok()));
        }
        Ok(lists)
    }

    /// The oldest list that is there.
    fn first_list(&self, enroller: &Label) -> Result<u64, SignedError> {
        if self.folder().has(&paths::nodes(enroller, 1))? {
            return Ok(1);
        }
        let names = self.folder().list(&paths::node_lists(enroller))?;
        let versions = names.iter().filter_map(|name| name.parse::<u64>().ok());
        Ok(versions.min().unwrap_or(1))
    }

    /// Has another enroller signed a list that was not looked at yet?
    pub(super) fn has_news(&self) -> Result<bool, SignedError> {
        let seen: Option<BTreeMap<String, u64>> = load(self.state(), paths::ENROLLERS)?;
        for (name, version) in seen.unwrap_or_default() {
            let Ok(name) = name.parse::<Label>() else { continue };
            if self.folder().has(&paths::nodes(&name, version + 1))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Says at the backend, if there is one, who of `lists` may ask it, and who no longer. What fails is told and tried
    /// again the next time.
    pub(super) fn register(&self, lists: &[NodeList], problems: &mut Vec<String>) -> Result<(), SignedError> {
        let Some(registry) = self.folder().registry() else {
            return Ok(());
        };
        let before: BTreeMap<String, String> = load(self.state(), paths::REGISTERED)?.unwrap_or_default();
        let mut now = before.clone();
        let nodes = lists.iter().flat_map(|list| &list.nodes);
        let wanted: BTreeMap<String, &VerifyingKey> = nodes
            .filter(|node| !is_revoked(lists, node.key.name()))
            .map(|node| (node.key.name().to_string(), &node.key))
            .collect();
        // Who is to be refused first.
        for (name, id) in before.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
            match registry.end_key(id) {
                Ok(()) => drop(now.remove(name)),
                Err(error) => problems.push(format!("the backend still lets {name} read: {error}")),
            }
        }
        for (name, key) in wanted.iter().filter(|(name, _)| !before.contains_key(*name)) {
            match registry.register_node(key) {
                Ok(()) => drop(now.insert(name.clone(), key_id(key))),
                Err(error) => problems.push(format!("the backend does not let {name} read: {error}")),
            }
        }
        if now != before {
            save(self.state(), paths::REGISTERED, &now)?;
        }
        Ok(())
    }
}

/// What a key is called in requests.
pub(super) fn key_id(key: &VerifyingKey) -> String {
    format!("{}+{}", key.name(), key.hash())
}
