//! Following the trust policy, by the rules of hosts, and looking at what it lets this program do.

use std::collections::BTreeSet;

use dirless_seal::trust::{Memory, Object, Policy, Publisher};
use dirless_seal::{Label, Note};

use super::{SignedError, Signer, paths};

impl Signer {
    /// The newest policy that holds, from the one that `memory` knows upwards. What stands in place of the next one
    /// and does not hold goes to `problems`.
    pub(super) fn policy(&self, memory: &mut Memory, problems: &mut Vec<String>) -> Result<Policy, SignedError> {
        let first = memory.policy().map_or(self.config.policy, |seen| seen.version);
        let note = self.policy_note(first)?.ok_or(SignedError::NoPolicy(first))?;
        let mut policy = memory
            .policy_after(None, &note)
            .map_err(SignedError::refused(paths::policy(first)))?;
        loop {
            let next = policy.version + 1;
            let after = match self.policy_note(next) {
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
        if policy.expires < self.now() {
            problems.push(format!(
                "policy {} expired at {}: let the roots sign a new one",
                policy.version, policy.expires
            ));
        }
        Ok(policy)
    }

    fn policy_note(&self, version: u64) -> Result<Option<Note>, SignedError> {
        let path = paths::policy(version);
        let Some(bytes) = self.tenant_folder.get(&path, 2 * Policy::MOST as u64)? else {
            return Ok(None);
        };
        let note = Note::parse(&bytes, Policy::MOST).map_err(SignedError::no_note(path, "policy"))?;
        Ok(Some(note))
    }

    /// What `policy` says of our publisher key.
    pub(super) fn role<'p>(&self, policy: &'p Policy) -> Result<&'p Publisher, SignedError> {
        let own = self.keys.publisher.verifying();
        let role = policy.publisher(own.name()).filter(|publisher| publisher.key == *own);
        let role = role.ok_or_else(|| SignedError::NoPublisher {
            version: policy.version,
            publisher: own.name().clone(),
        })?;
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

    /// May our enroller key sign node lists?
    pub(super) fn check_enroller(&self, policy: &Policy) -> Result<(), SignedError> {
        let own = self.keys.enroller.verifying();
        let recipient = self.keys.identity.recipient();
        let role = policy.enroller(own.name());
        if role.is_some_and(|role| role.key == *own && role.recipient == recipient) {
            return Ok(());
        }
        Err(SignedError::NoEnroller {
            version: policy.version,
            enroller: own.name().clone(),
        })
    }
}
