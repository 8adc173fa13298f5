//! The last step of a cycle: the SSH certificate authority, as far as this host accepts what the
//! backend proposes.

use std::io;

use dirless_client::Cycle;

use super::engine::{Engine, Outcome};
use crate::host::ca::{self, Decision, Proposal};

impl Engine {
    /// Brings the certificate authority up to date. True when the same proposal again would change
    /// nothing, and no operator is awaited.
    pub(super) fn authority(&mut self, proposal: &Proposal, outcome: &mut Outcome) -> bool {
        let accepted = ca::accepted(&self.paths, &self.config.trusted_ca_keys);
        let trusted = match std::fs::read_to_string(self.paths.ca_key()) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let (accepted, trusted) = match (accepted, trusted) {
            (Ok(accepted), Ok(trusted)) => (accepted, trusted),
            (Err(error), _) | (_, Err(error)) => {
                outcome.problems.push(format!("SSH certificate authority: {error}"));
                return false;
            }
        };
        let (decision, next, notice) = ca::decide(proposal, &self.state.ca, trusted.as_deref(), &accepted);
        outcome.problems.extend(notice);
        let rests = decision == Decision::Keep && next == self.state.ca && next.proposed.is_none();
        self.state.ca = next;
        match &decision {
            Decision::Keep => {}
            Decision::Trust(key) => tracing::info!(
                name: "agent.ca_trusted", fingerprint = key.fingerprint(), "sshd trusts the accepted certificate authority"
            ),
            Decision::Withdraw(reason) => tracing::warn!(
                name: "agent.ca_withdrawn", reason, "sshd no longer trusts the certificate authority: {reason}"
            ),
        }
        match ca::apply(&decision, &self.paths, &self.sshd) {
            Ok(changed) => self.state.ca.reload_due |= changed,
            Err(error) => outcome.problems.push(format!("SSH certificate authority: {error}")),
        }
        if self.state.ca.reload_due {
            match self.sshd.reload() {
                Ok(()) => self.state.ca.reload_due = false,
                Err(error) => outcome.problems.push(format!("{error}; it is tried again")),
            }
        }
        rests && !self.state.ca.reload_due
    }
}

/// Asks the backend what it proposes.
pub(super) async fn proposal(cycle: &Cycle) -> Proposal {
    match cycle.get_ca_public_key().await {
        // Deployed portals withdraw a key by setting it to nothing.
        Ok(Some(text)) if text.trim().is_empty() => Proposal::Answer(None),
        Ok(answer) => Proposal::Answer(answer),
        Err(_) => Proposal::Unknown,
    }
}
