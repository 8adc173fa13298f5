//! Join codes, and the requests of hosts that were given one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use dirless_seal::trust::{JoinCode, JoinRequest, JoinSecret, Node, NodeList, Object, Policy};
use dirless_seal::{Digest, Label, Limits, Note, open_file};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::book::{load, save};
use super::{NodeFacts, SignedError, Signer, paths};

/// Longest sealed request that is read.
const LONGEST: u64 = 16 * 1024;
/// Most requests that are looked at in one go; the rest waits for the next.
const MOST: usize = 2_000;

/// A join code as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    secret: String,
    compartments: BTreeSet<String>,
    made: Timestamp,
    expires: Timestamp,
    uses: u32,
    /// Nodes that it admitted.
    used_by: BTreeSet<String>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Wiped: it lets hosts in.
        drop(Zeroizing::new(std::mem::take(&mut self.secret)));
    }
}

/// What a new code is to be.
#[derive(Clone, Debug)]
pub struct NewCode {
    /// What its hosts will read.
    pub compartments: BTreeSet<Label>,
    /// How many hosts it admits.
    pub uses: u32,
    /// Until when.
    pub expires: Timestamp,
    /// Where its hosts find the tenant.
    pub url: String,
}

/// A join code without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeFacts {
    /// Its name.
    pub code: Label,
    /// What its hosts read.
    pub compartments: BTreeSet<String>,
    /// Until when it admits hosts.
    pub expires: Timestamp,
    /// How many hosts it admits.
    pub uses: u32,
    /// How many it has admitted.
    pub used: usize,
}

/// What came of looking at the mailbox.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    pub(super) nodes: Vec<NodeFacts>,
    pub(super) refused: Vec<String>,
    /// Files of the mailbox that are done with.
    done: Vec<String>,
}

impl Signer {
    /// Makes a join code. It is shown once; what is kept lets hosts in.
    ///
    /// # Errors
    /// When a compartment is none of the policy's, or the state cannot be written.
    pub fn create_code(&self, new: &NewCode) -> Result<JoinCode, SignedError> {
        let _lock = self.state.lock()?;
        let mut memory = self.book()?.memory(self.tenant, self.config.roots)?;
        let policy = self.policy(&mut memory, &mut Vec::new())?;
        self.check_enroller(&policy)?;
        let known = |name: &&Label| policy.compartments.iter().any(|known| known.name == **name);
        if let Some(compartment) = new.compartments.iter().find(|name| !known(name)) {
            return Err(SignedError::NoCompartment {
                version: policy.version,
                compartment: compartment.clone(),
            });
        }
        let random = |_| SignedError::Custody(super::CustodyError::Random);
        let secret = JoinCode::secret().map_err(random)?;
        // A name of its own randomness, which says nothing about the secret.
        let other = JoinCode::secret().map_err(random)?;
        let tag: String = Digest::of(other.expose().as_bytes())
            .to_string()
            .chars()
            .take(12)
            .collect();
        let code: Label = format!("j{tag}")
            .parse()
            .map_err(|error| SignedError::damaged("join code", error))?;
        let kept = Kept {
            secret: secret.expose().to_string(),
            compartments: new.compartments.iter().map(ToString::to_string).collect(),
            made: self.now(),
            expires: new.expires,
            uses: new.uses,
            used_by: BTreeSet::new(),
        };
        save(self.state.as_ref(), &paths::code(&code), &kept)?;
        Ok(JoinCode {
            url: new.url.clone(),
            tenant: self.tenant,
            roots: policy.fingerprint(),
            policy: policy.version,
            compartments: new.compartments.clone(),
            code,
            secret,
        })
    }

    /// All join codes that are kept.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn codes(&self) -> Result<Vec<CodeFacts>, SignedError> {
        let mut all = Vec::new();
        for name in self.state.list(paths::CODES)? {
            let code = name.strip_suffix(".json").and_then(|name| name.parse::<Label>().ok());
            let Some(code) = code else { continue };
            if let Some(kept) = self.kept(&code)? {
                all.push(CodeFacts {
                    code,
                    compartments: kept.compartments.clone(),
                    expires: kept.expires,
                    uses: kept.uses,
                    used: kept.used_by.len(),
                });
            }
        }
        Ok(all)
    }

    /// Ends a join code; false when there is none.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn revoke_code(&self, code: &Label) -> Result<bool, SignedError> {
        let _lock = self.state.lock()?;
        let was = self.state.has(&paths::code(code))?;
        self.state.remove(&paths::code(code))?;
        Ok(was)
    }

    fn kept(&self, code: &Label) -> Result<Option<Kept>, SignedError> {
        load(self.state.as_ref(), &paths::code(code))
    }

    /// Is anything in the mailbox?
    pub(super) fn has_mail(&self) -> Result<bool, SignedError> {
        for code in self.tenant_folder.list(paths::JOIN)? {
            let mailbox = code.parse::<Label>().map(|code| paths::mailbox(&code));
            if let Ok(mailbox) = mailbox
                && self
                    .tenant_folder
                    .list(&mailbox)?
                    .iter()
                    .any(|name| name.parse::<Digest>().is_ok())
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Admits the hosts whose requests are in the mailbox and hold.
    pub(super) fn admit(&self, policy: &Policy) -> Result<Admitted, SignedError> {
        let mut admitted = Admitted::default();
        let mut new: Vec<Node> = Vec::new();
        let list = self.node_list()?.map(|(list, _)| list);
        let mut hosts = self.hosts()?;
        let mut codes: BTreeMap<Label, Kept> = BTreeMap::new();
        for (path, sealed) in self.mail()? {
            match self.request(&sealed, list.as_ref(), &new, &mut codes, policy) {
                Ok(Some((node, host))) => {
                    hosts.insert(node.key.name().to_string(), host.clone());
                    admitted.nodes.push(NodeFacts {
                        name: node.key.name().clone(),
                        host: Some(host),
                        compartments: node.compartments.clone(),
                        joined: node.joined,
                    });
                    new.push(node);
                }
                // Asked before, and still a host.
                Ok(None) => {}
                Err(reason) => admitted.refused.push(format!("{path}: {reason}")),
            }
            admitted.done.push(path);
        }
        if !new.is_empty() {
            // The uses first: a code that admits one host too few is better than one that admits one too many.
            for (code, kept) in &codes {
                save(self.state.as_ref(), &paths::code(code), kept)?;
            }
            self.set_hosts(&hosts)?;
            self.change_nodes(|nodes, _, _| nodes.extend(new))?;
        }
        Ok(admitted)
    }

    /// Empties the mailbox of what was looked at.
    pub(super) fn clear_mail(&self, admitted: &Admitted) -> Result<(), SignedError> {
        for path in &admitted.done {
            self.tenant_folder.remove(path)?;
        }
        Ok(())
    }

    /// The sealed requests, whole ones alone: their names are their digests.
    fn mail(&self) -> Result<Vec<(String, Vec<u8>)>, SignedError> {
        let mut all = Vec::new();
        for code in self.tenant_folder.list(paths::JOIN)? {
            let Ok(code) = code.parse::<Label>() else { continue };
            let mailbox = paths::mailbox(&code);
            for name in self.tenant_folder.list(&mailbox)? {
                let Ok(digest) = name.parse::<Digest>() else { continue };
                if all.len() == MOST {
                    return Ok(all);
                }
                let path = format!("{mailbox}/{name}");
                match self.tenant_folder.get(&path, LONGEST) {
                    Ok(Some(bytes)) if Digest::of(&bytes) == digest => all.push((path, bytes)),
                    Ok(_) => {}
                    // Longer than any request: nothing that opens.
                    Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => all.push((path, Vec::new())),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(all)
    }

    /// The node that a request makes, and what it calls itself; none when it is one already.
    fn request(
        &self,
        sealed: &[u8],
        list: Option<&NodeList>,
        new: &[Node],
        codes: &mut BTreeMap<Label, Kept>,
        policy: &Policy,
    ) -> Result<Option<(Node, String)>, String> {
        let note = self.open(sealed)?;
        let request = JoinRequest::read(&note).map_err(|error| error.to_string())?;
        if !codes.contains_key(&request.code) {
            let kept = self.kept(&request.code).map_err(|error| error.to_string())?;
            let kept = kept.ok_or("its join code is unknown, or was revoked")?;
            codes.insert(request.code.clone(), kept);
        }
        let kept = codes.get_mut(&request.code).ok_or("its join code is unknown")?;
        let secret: JoinSecret = kept.secret.parse().map_err(str::to_owned)?;
        request
            .check(&note, self.tenant, &secret)
            .map_err(|error| error.to_string())?;
        let name = request.key.name();
        if list.is_some_and(|list| list.is_revoked(name)) {
            return Err(format!(
                "host {:?} ({name}) was revoked; it has to join with new keys",
                request.host
            ));
        }
        let known = list
            .and_then(|list| list.node(name))
            .or_else(|| new.iter().find(|node| node.key.name() == name));
        if let Some(known) = known {
            return match known.recipient == request.recipient {
                true => Ok(None),
                false => Err(format!(
                    "host {:?} ({name}) is in already, with another age key",
                    request.host
                )),
            };
        }
        let now = self.now();
        if kept.expires <= now {
            return Err(format!("join code {} expired at {}", request.code, kept.expires));
        }
        if !kept.used_by.contains(name.as_str()) && kept.used_by.len() >= kept.uses as usize {
            return Err(format!(
                "join code {} has admitted all of its {} hosts",
                request.code, kept.uses
            ));
        }
        let known = |name: &Label| policy.compartments.iter().any(|own| own.name == *name);
        let compartments: BTreeSet<Label> = kept.compartments.iter().filter_map(|name| name.parse().ok()).collect();
        if let Some(gone) = compartments.iter().find(|name| !known(name)) {
            return Err(format!("the policy has no compartment {gone} any more"));
        }
        kept.used_by.insert(name.to_string());
        let node = Node {
            key: request.key,
            recipient: request.recipient,
            compartments,
            joined: now,
        };
        Ok(Some((node, request.host)))
    }

    fn open(&self, sealed: &[u8]) -> Result<Note, String> {
        let limits = Limits {
            header: 4096,
            stanzas: 8,
            plaintext: LONGEST,
        };
        let mut bytes = Vec::new();
        let mut opened = open_file(&self.keys.identity, sealed, limits).map_err(|error| error.to_string())?;
        opened.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Note::parse(&bytes, 2 * JoinRequest::MOST).map_err(|error| error.to_string())
    }
}
