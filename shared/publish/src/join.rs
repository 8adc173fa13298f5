//! Join codes, and the requests of hosts that were given one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use dirless_seal::trust::{JoinCode, JoinRequest, JoinSecret, Node, NodeList, Object, Policy};
use dirless_seal::{Digest, Label, Limits, Note, open_file};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::book::{load, save};
use super::enroller::known_compartments;
use super::lists::is_revoked;
use super::{Enroller, NodeFacts, SignedError, paths};

/// Longest sealed request that is read.
const LONGEST: u64 = 16 * 1024;
/// Most requests that are looked at in one go; the rest waits for the next.
const MOST: usize = 2_000;

/// A join code as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    secret: String,
    compartments: BTreeSet<String>,
    /// What its hosts may call themselves, as patterns; empty for anything.
    #[serde(default)]
    hosts: BTreeSet<String>,
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
    /// What its hosts may call themselves: `*` stands for any text, nothing at all for anything.
    pub hosts: BTreeSet<String>,
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

/// Whom to let in of those who wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Whoever has a code that holds.
    Everybody,
    /// Of those only these, by node name or by what they call themselves.
    Only(BTreeSet<String>),
    /// Nobody.
    Nobody,
}

/// A request that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The code whose mailbox it lies in.
    pub code: Label,
    /// Digest of its bytes.
    pub request: Digest,
    /// Who asks; or why it will not be granted.
    pub found: Result<NodeFacts, String>,
}

/// What came of looking at the mailbox.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    pub(super) nodes: Vec<NodeFacts>,
    pub(super) refused: Vec<String>,
    /// Files of the mailbox that are done with.
    done: Vec<String>,
}

/// What a request says.
enum Asked {
    /// A host that is none yet: what it calls itself, and its code.
    New(Node, String, Label),
    /// A host that asked before.
    Known,
    /// With a code that another enroller may know.
    Foreign,
}

impl Enroller {
    /// Makes a join code. It is shown once; what is kept lets hosts in.
    ///
    /// # Errors
    /// When a compartment is none of the policy's, the state cannot be written, or the backend does not take it.
    pub fn create_code(&self, new: &NewCode) -> Result<JoinCode, SignedError> {
        let _lock = self.state().lock()?;
        let policy = self.policy(&mut Vec::new())?;
        self.check(&policy)?;
        known_compartments(&policy, &new.compartments)?;
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
        // One that the backend knows and nobody has is worth nothing; the other way round it would be shown in vain.
        if let Some(registry) = self.folder().registry() {
            let bearer = Digest::of(secret.bearer(self.office.tenant, &code).as_bytes());
            registry.register_code(&code, bearer, new.expires, new.uses)?;
        }
        let kept = Kept {
            secret: secret.expose().to_string(),
            compartments: new.compartments.iter().map(ToString::to_string).collect(),
            hosts: new.hosts.clone(),
            made: self.now(),
            expires: new.expires,
            uses: new.uses,
            used_by: BTreeSet::new(),
        };
        save(self.state(), &paths::code(&code), &kept)?;
        Ok(JoinCode {
            url: new.url.clone(),
            tenant: self.office.tenant,
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
        for name in self.state().list(paths::CODES)? {
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
    /// When the state cannot be written, or the backend does not take it.
    pub fn revoke_code(&self, code: &Label) -> Result<bool, SignedError> {
        let _lock = self.state().lock()?;
        let was = self.state().has(&paths::code(code))?;
        self.state().remove(&paths::code(code))?;
        if let Some(registry) = self.folder().registry().filter(|_| was) {
            registry.end_code(code)?;
        }
        Ok(was)
    }

    fn kept(&self, code: &Label) -> Result<Option<Kept>, SignedError> {
        load(self.state(), &paths::code(code))
    }

    /// Is anything in the mailbox that was not looked at?
    pub(super) fn has_mail(&self) -> Result<bool, SignedError> {
        let left = self.left()?;
        let waiting = self.folder().mailbox(MOST)?;
        Ok(waiting.iter().any(|(_, digest)| !left.contains(&digest.to_string())))
    }

    /// Requests that were left to other enrollers.
    fn left(&self) -> Result<BTreeSet<String>, SignedError> {
        Ok(load(self.state(), paths::LEFT)?.unwrap_or_default())
    }

    /// Who waits in the mailbox.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn waiting(&self) -> Result<Vec<Waiting>, SignedError> {
        let _lock = self.state().lock()?;
        let mut problems = Vec::new();
        let policy = self.policy(&mut problems)?;
        let mut lists: Vec<NodeList> = self.node_list()?.map(|(list, _)| list).into_iter().collect();
        lists.extend(self.others(&policy, &mut problems)?);
        let mut codes = BTreeMap::new();
        let mut all = Vec::new();
        for (code, request, sealed) in self.mail()? {
            let found = match self.request(&sealed, &lists, &[], &mut codes, &policy) {
                Ok(Asked::New(node, host, _)) => Ok(self.facts(&node, host)),
                Ok(Asked::Known) => continue,
                Ok(Asked::Foreign) => Err("its join code is another enroller's, or unknown".to_owned()),
                Err(reason) => Err(reason),
            };
            all.push(Waiting { code, request, found });
        }
        Ok(all)
    }

    fn facts(&self, node: &Node, host: String) -> NodeFacts {
        NodeFacts {
            name: node.key.name().clone(),
            host: Some(host),
            compartments: node.compartments.clone(),
            joined: node.joined,
            enroller: self.name().clone(),
        }
    }

    /// Admits the hosts whose requests are in the mailbox and hold, as far as `admission` means them.
    pub(super) fn admit(
        &self,
        policy: &Policy,
        others: &[NodeList],
        admission: &Admission,
    ) -> Result<Admitted, SignedError> {
        let mut admitted = Admitted::default();
        if *admission == Admission::Nobody {
            return Ok(admitted);
        }
        let mut new: Vec<Node> = Vec::new();
        let mut lists: Vec<NodeList> = self.node_list()?.map(|(list, _)| list).into_iter().collect();
        lists.extend(others.iter().cloned());
        let mut hosts = self.hosts()?;
        let mut codes: BTreeMap<Label, Kept> = BTreeMap::new();
        let mut left = BTreeSet::new();
        for (code, digest, sealed) in self.mail()? {
            let path = format!("{}/{digest}", paths::mailbox(&code));
            match self.request(&sealed, &lists, &new, &mut codes, policy) {
                Ok(Asked::New(node, host, code)) if admission.means(&node, &host) => {
                    if let Some(kept) = codes.get_mut(&code) {
                        kept.used_by.insert(node.key.name().to_string());
                    }
                    hosts.insert(node.key.name().to_string(), host.clone());
                    admitted.nodes.push(self.facts(&node, host));
                    new.push(node);
                }
                Ok(Asked::New(..)) => continue,
                Ok(Asked::Known) => {}
                Ok(Asked::Foreign) => {
                    left.insert(digest.to_string());
                    continue;
                }
                Err(reason) => admitted.refused.push(format!("{path}: {reason}")),
            }
            admitted.done.push(path);
        }
        if left != self.left()? {
            save(self.state(), paths::LEFT, &left)?;
        }
        if !new.is_empty() {
            // The uses first: a code that admits one host too few is better than one that admits one too many.
            for (code, kept) in &codes {
                save(self.state(), &paths::code(code), kept)?;
            }
            self.set_hosts(&hosts)?;
            self.change_nodes(|list| list.nodes.extend(new))?;
        }
        Ok(admitted)
    }

    /// Empties the mailbox of what was looked at.
    pub(super) fn clear_mail(&self, admitted: &Admitted) -> Result<(), SignedError> {
        for path in &admitted.done {
            self.folder().remove(path)?;
        }
        Ok(())
    }

    /// The sealed requests, whole ones alone: their names are their digests.
    fn mail(&self) -> Result<Vec<(Label, Digest, Vec<u8>)>, SignedError> {
        let mut all = Vec::new();
        for (code, digest) in self.folder().mailbox(MOST)? {
            let path = format!("{}/{digest}", paths::mailbox(&code));
            match self.folder().get(&path, LONGEST) {
                Ok(Some(bytes)) if Digest::of(&bytes) == digest => all.push((code, digest, bytes)),
                Ok(_) => {}
                // Longer than any request: nothing that opens.
                Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => all.push((code, digest, Vec::new())),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(all)
    }

    /// What a request asks for.
    fn request(
        &self,
        sealed: &[u8],
        lists: &[NodeList],
        new: &[Node],
        codes: &mut BTreeMap<Label, Kept>,
        policy: &Policy,
    ) -> Result<Asked, String> {
        let note = self.open(sealed)?;
        let request = JoinRequest::read(&note).map_err(|error| error.to_string())?;
        if !codes.contains_key(&request.code) {
            match self.kept(&request.code).map_err(|error| error.to_string())? {
                Some(kept) => drop(codes.insert(request.code.clone(), kept)),
                None if policy.enrollers.len() > 1 => return Ok(Asked::Foreign),
                None => return Err("its join code is unknown, or was revoked".to_owned()),
            }
        }
        let kept = codes.get(&request.code).ok_or("its join code is unknown")?;
        let secret: JoinSecret = kept.secret.parse().map_err(str::to_owned)?;
        request
            .check(&note, self.office.tenant, &secret)
            .map_err(|error| error.to_string())?;
        let name = request.key.name();
        if is_revoked(lists, name) {
            return Err(format!(
                "host {:?} ({name}) was revoked; it has to join with new keys",
                request.host
            ));
        }
        let known = lists
            .iter()
            .find_map(|list| list.node(name))
            .or_else(|| new.iter().find(|node| node.key.name() == name));
        if let Some(known) = known {
            return match known.recipient == request.recipient {
                true => Ok(Asked::Known),
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
        let host = &request.host;
        if !kept.hosts.is_empty() && !kept.hosts.iter().any(|one| dirless_model::pattern::fits(one, host)) {
            return Err(format!(
                "join code {} is for hosts called otherwise than {host:?}: {}",
                request.code,
                kept.hosts.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
            ));
        }
        let known = |name: &Label| policy.compartments.iter().any(|own| own.name == *name);
        let compartments: BTreeSet<Label> = kept.compartments.iter().filter_map(|name| name.parse().ok()).collect();
        if let Some(gone) = compartments.iter().find(|name| !known(name)) {
            return Err(format!("the policy has no compartment {gone} any more"));
        }
        let node = Node {
            key: request.key,
            recipient: request.recipient,
            compartments,
            joined: now,
        };
        Ok(Asked::New(node, request.host, request.code))
    }

    fn open(&self, sealed: &[u8]) -> Result<Note, String> {
        let limits = Limits {
            header: 4096,
            stanzas: 8,
            plaintext: JoinRequest::MOST as u64,
        };
        let mut bytes = Vec::new();
        let mut opened = open_file(&self.identity, sealed, limits).map_err(|error| error.to_string())?;
        opened.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Note::parse(&bytes, JoinRequest::MOST).map_err(|error| error.to_string())
    }
}

impl Admission {
    /// Does it mean this host?
    fn means(&self, node: &Node, host: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Only(names) => names.contains(node.key.name().as_str()) || names.contains(host),
            Self::Nobody => false,
        }
    }
}
