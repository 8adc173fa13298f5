//! The short way of a cycle: a notice told what changed since the last one that left nothing to be done.

use dirless_client::{Changes, Cycle};
use dirless_wire::{AgePublicKey, SourceName};

use super::engine::{Engine, Outcome};
use super::fetch;
use super::patience::patiently;
use crate::host::ca::Proposal;

impl Engine {
    /// Fetches the sources that changed, publishes, and says what is served now: two requests for a change, and none for one
    /// that is of no concern to this host.
    pub(super) async fn changed_cycle(
        &mut self,
        cycle: &Cycle,
        changes: &Changes,
        own_key: Option<&AgePublicKey>,
        outcome: &mut Outcome,
        alive: &mut dyn FnMut(),
    ) {
        self.tenant.unsettle();
        let changed = self.config.fetched().filter(|source| changes.has(source));
        let changed: Vec<SourceName> = changed.cloned().collect();
        let reached = changed.is_empty()
            || self
                .sources(cycle, changed.clone(), None, own_key, outcome, alive)
                .await;
        let fetched_well = outcome.problems.is_empty();
        alive();
        self.publish(outcome, alive).await;
        let authority_rests = self.authority(&Proposal::Unknown, outcome);
        if reached {
            patiently(self.report_back(cycle, &Some(changes.tag().clone()), outcome), alive).await;
        }
        let found = changed
            .iter()
            .all(|source| changes.is_found(source, fetch::tag(&self.paths, source).as_ref()));
        if found && fetched_well && !outcome.failed && authority_rests && !self.state.has_streaks() {
            self.tenant.settle_changes(changes);
        }
    }
}
