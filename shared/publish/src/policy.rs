//! Following the trust policy, by the rules of hosts, and looking at what it lets this program do.

use std::collections::BTreeSet;

use dirless_seal::trust::{Memory, Object, Policy, Publisher};
use dirless_seal::{Label, Note};
use jiff::Timestamp;

use super::{Folder, SignedError, Signer, paths};

/// The newest policy in `folder` that holds, from the one that `memory` knows upwards, or from version `first` on. What
/// stands in place of the next one and does not hold goes to `problems`.
pub(super) fn follow(
    folder: &dyn Folder,
    first: u64,
    memory: &mut Memory,
    now: Timestamp,
    problems: &mut Vec<String>,
) -> Result<Policy, SignedError> {
    let first = memory.policy().map_or(first, |seen| seen.version);
    let note = policy_note(folder, first)?.ok_or(SignedError::NoPolicy(first))?;
    let mut policy = memory
        .policy_after(None, &note)
        .map_err(SignedError::refused(paths::policy(first)))?;
    loop {
        let next = policy.version + 1;
        let after = match policy_note(folder, next) {
            Ok(None) => break,
            Ok(Some(note)) => memory
                .policy_after(Some(&policy), &note)
                .map_err(SignedError::refused(paths::policy(next))),
            Err(error) => Err(error),
        };
        match after {
            Ok(after) => policy = after,
            Err(error) => {
                problems.push(format!("{error}; policy {} holds on", policy.version));
                break;
            }
        }
    }
    if policy.expires < now {
        problems.push(format!(
            "policy {} expired at {}: let the roots sign a new one",
            policy.version, policy.expires
        ));
    }
    Ok(policy)
}

fn policy_note(folder: &dyn Folder, version: u64) -> Result<Option<Note>, SignedError> {
    let path = paths::policy(version);
    let Some(bytes) = folder.get(&path, 2 * Policy::MOST as u64)? else {
        return Ok(None);
    };
    let note = Note::parse(&bytes, Policy::MOST).map_err(SignedError::no_note(path, "policy"))?;
    Ok(Some(note))
}

impl Signer {
    /// The newest policy that holds; see [`follow`].
    pub(super) fn policy(&self, memory: &mut Memory, problems: &mut Vec<String>) -> Result<Policy, SignedError> {
        let folder = self.tenant_folder.as_ref();
        follow(folder, self.config.policy, memory, self.now(), problems)
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
