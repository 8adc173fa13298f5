//! A cycle where files are signed: walk over them, note what came of it, and have the worker publish.

use std::io;

use dirless_client::Files;
use dirless_program::fs::{publish, remove};
use dirless_seal::Label;
use dirless_seal::trust::{Freshness, OnExpiry};
use dirless_wire::SourceName;

use super::engine::{Engine, Outcome};
use super::fetch::read_note;
use crate::pipeline::{SourceNote, SourceState};
use crate::trust::{ACCESS_RULES, Alarm, Keeper, SignedBody, Walked, walk};

/// Access rules that admit everybody: those of a tenant whose publishers never made any.
const NO_RULES: &[u8] = br#"{"enforce_group_memberships":false,"host_group_rules":[]}"#;

impl Engine {
    /// One walk over `files`, and what follows from it.
    pub(super) async fn signed_cycle(&mut self, files: &Files, outcome: &mut Outcome, alive: &mut dyn FnMut()) {
        let Some(signed) = self.config.signed() else {
            return;
        };
        let keeper = Keeper::new(self.paths.trust_folder(), signed.joined.clone());
        let place = |source: &Label| self.paths.sealed(source.as_str());
        let walked = walk(files, &keeper, &place, self.clock.now()).await;
        alive();
        outcome.failed = walked.alarms.iter().any(|alarm| !is_notice(alarm));
        outcome.problems = walked.alarms.iter().map(Alarm::to_string).collect();
        if let Err(error) = self.note(&walked) {
            outcome.failed = true;
            outcome
                .problems
                .push(format!("{}: {error}", self.paths.agent_folder().display()));
        }
        if self.rules_known() {
            self.publish(outcome, alive).await;
        } else {
            outcome.failed = true;
            outcome
                .problems
                .push("nothing is published before the access rules are known".to_owned());
        }
    }

    fn rules_known(&self) -> bool {
        self.paths.access_rules().exists() || self.paths.sealed(ACCESS_RULES).exists()
    }

    /// Notes for the worker what the walk found of each source.
    fn note(&self, walked: &Walked) -> io::Result<()> {
        let Some(policy) = &walked.policy else {
            return Ok(());
        };
        publish_changed(&self.paths.trust_summary(), walked.summary().as_bytes())?;
        // Only all heads together can say that a source is nobody's.
        let whole = walked.heads.len() == policy.publishers.len();
        let named = |source: &str| {
            let mut entries = walked.heads.iter().flat_map(|(head, _)| &head.entries);
            entries.any(|entry| entry.source.as_str() == source)
        };
        for source in self.config.fetched() {
            let installed = walked
                .installed
                .iter()
                .any(|installed| installed.source.as_str() == source.as_str());
            if installed {
                self.set_note(source, SourceState::Present)?;
            } else if whole && !named(source.as_str()) {
                self.set_note(source, SourceState::Deleted)?;
            }
        }
        if whole && !named(ACCESS_RULES) && !self.rules_known() {
            publish(&self.paths.access_rules(), 0o600, NO_RULES)?;
        }
        let expired = |freshness: &Freshness| *freshness == Freshness::Expired;
        let own = self
            .config
            .signed()
            .map(|signed| signed.joined.compartments.as_slice())
            .unwrap_or_default();
        let closes = policy
            .compartments
            .iter()
            .any(|compartment| compartment.on_expiry == OnExpiry::Close && own.contains(&compartment.name));
        if closes && walked.heads.iter().any(|(_, freshness)| expired(freshness)) {
            publish_changed(&self.paths.trust_closed(), b"")
        } else if whole {
            remove(&self.paths.trust_closed())
        } else {
            Ok(())
        }
    }

    fn set_note(&self, source: &SourceName, state: SourceState) -> io::Result<()> {
        let path = self.paths.sealed(source.as_str());
        let body = match state {
            SourceState::Present => SignedBody::open(&path).ok().flatten(),
            SourceState::Absent | SourceState::Deleted => None,
        };
        let note = SourceNote {
            state,
            encrypted: true,
            etag: body.as_ref().map(|body| body.digest.to_string()),
            registered_key: None,
            snapshot_recipient: None,
            fetched_at: body.map(|body| body.manifest.issued.to_string()),
        };
        if read_note(&self.paths, source).as_ref() == Some(&note) {
            return Ok(());
        }
        publish(
            &self.paths.source_note(source.as_str()),
            0o600,
            &serde_json::to_vec(&note)?,
        )
    }
}

/// Is it to be known, though nothing failed?
fn is_notice(alarm: &Alarm) -> bool {
    matches!(alarm.code, "policy-expired" | "clock-behind")
}

fn publish_changed(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    match std::fs::read(path) {
        Ok(there) if there == bytes => Ok(()),
        _ => publish(path, 0o600, bytes),
    }
}
