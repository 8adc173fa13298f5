//! Following the trust policy, by the rules of hosts, and looking at what it lets this program do.

use std::collections::BTreeSet;

use dirless_seal::trust::{Memory, Object, Policy, Publisher};
use dirless_seal::{Label, Note};
use jiff::Timestamp;

use super::{Folder, SignedError, Signer, paths};

/// The newest policy in `folder` that holds, from the one that `memory` knows upwards, or from version `first` on; each is
/// given to `holds`, with its path. What stands in place of the next one and does not hold goes to `problems`.
pub(super) fn follow(
    folder: &dyn Folder,
    first: u64,
    memory: &mut Memory,
    holds: &mut dyn FnMut(&str, &[u8]),
    problems: &mut Vec<String>,
) -> Result<Policy, SignedError> {
    let first = memory.policy().map_or(first, |seen| seen.version);
    let mut accept = |before: Option<&Policy>, version| -> Result<Option<Policy>, SignedError> {
        let path = paths::policy(version);
        let Some(bytes) = folder.get(&path, 2 * Policy::MOST as u64)? else {
            return Ok(None);
        };
        let note = Note::parse(&bytes, Policy::MOST).map_err(SignedError::no_note(path.clone(), "policy"))?;
        let policy = memory.policy_after(before, &note);
        let policy = policy.map_err(SignedError::refused(path.clone()))?;
        holds(&path, &bytes);
        Ok(Some(policy))
    };
    let mut policy = accept(None, first)?.ok_or(SignedError::NoPolicy(first))?;
    loop {
        match accept(Some(&policy), policy.version + 1) {
            Ok(None) => break,
            Ok(Some(after)) => policy = after,
            Err(error) => {
                problems.push(format!("{error}; policy {} holds on", policy.version));
                break;
            }
        }
    }
    Ok(policy)
}

/// What is to be told of a policy whose time is over.
pub(super) fn expired(policy: &Policy, now: Timestamp) -> Option<String> {
    (policy.expires < now).then(|| {
        format!(
            "policy {} expired at {}: let the roots sign a new one",
            policy.version, policy.expires
        )
    })
}

impl Signer {
    /// The newest policy that holds; see [`follow`].
    pub(super) fn policy(&self, memory: &mut Memory, problems: &mut Vec<String>) -> Result<Policy, SignedError> {
        let folder = self.tenant_folder.as_ref();
        let mut holds = |path: &str, bytes: &[u8]| folder.vouch(path, bytes);
        let policy = follow(folder, self.config.policy, memory, &mut holds, problems)?;
        problems.extend(expired(&policy, self.now()));
        Ok(policy)
    }

    /// What `policy` says of the publisher of our name.
    pub(super) fn publisher_of<'p>(&self, policy: &'p Policy) -> Result<&'p Publisher, SignedError> {
        policy.publisher(self.publisher()).ok_or_else(|| self.nobody(policy))
    }

    pub(super) fn nobody(&self, policy: &Policy) -> SignedError {
        SignedError::NoPublisher {
            version: policy.version,
            publisher: self.publisher().clone(),
        }
    }

    /// The publisher of our name, if `policy` has all our compartments. Whether its key is ours the [ring](Signer::ring) says.
    pub(super) fn role<'p>(&self, policy: &'p Policy) -> Result<&'p Publisher, SignedError> {
        let role = self.publisher_of(policy)?;
        let known: BTreeSet<&Label> = policy
            .compartments
            .iter()
            .map(|compartment| &compartment.name)
            .collect();
        match self.compartments().iter().find(|name| !known.contains(name)) {
            None => Ok(role),
            Some(name) => Err(SignedError::NoCompartment {
                version: policy.version,
                compartment: name.clone(),
            }),
        }
    }
}
