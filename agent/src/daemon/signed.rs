//! A cycle where files are signed: say what was applied, walk over them, note what came of it, and have the worker publish.
//!
//! Nothing of the classic protocol has a part in it, whatever the configuration has of that: such a backend can neither
//! hold anything up nor put anything in.

use std::fs::File;
use std::io;
use std::time::Duration;

use dirless_client::{BackendFiles, Files, Standing};
use dirless_program::fs::{publish, remove};
use dirless_seal::trust::{Freshness, Head, Object, OnExpiry, ReceiptAlarm, parse};
use dirless_seal::{Label, Note};
use dirless_wire::SourceName;
use jiff::Timestamp;

use super::engine::{Engine, Outcome};
use super::fetch::read_note;
use super::patience::patiently;
use super::standing::standing_line;
use crate::pipeline::{SourceNote, SourceState};
use crate::trust::{
    ACCESS_RULES, Admission, Alarm, Applied, Keeper, KeptLog, SignedBody, Unserved, Walked, kept, of_alarms, on_wire,
    receipt, unsigned_rules_count, walk,
};

/// No walk takes longer: what was accepted before has to be judged again, and the backend to be told. Each answer in it has a
/// limit of its own, but there may be many, and a body of a gigabyte at its slowest would take most of a day.
const LONGEST_WALK: Duration = Duration::from_secs(60 * 60);

impl Engine {
    /// One walk over `files`, and what follows from it.
    pub(super) async fn signed_cycle(&mut self, files: &Files, outcome: &mut Outcome, alive: &mut dyn FnMut()) {
        let Some(signed) = self.config.signed().cloned() else {
            return;
        };
        let keeper = Keeper::new(self.paths.trust_folder(), signed.joined.clone());
        let mut unheard = None;
        let is_called = self.receipts.called.is_some();
        let (files, admission) = match files {
            Files::Backend(backend) => {
                let is_told = self.begin(backend);
                let admission = self.admission(backend, &signed, &keeper, outcome);
                let (backend, admission) = patiently(admission, alive).await;
                alive();
                if !is_told {
                    unheard = patiently(self.beat_signed(&backend, &keeper), alive).await;
                }
                (Files::Backend(backend), admission)
            }
            elsewhere => (elsewhere.clone(), Admission::None),
        };
        alive();
        let place = |source: &Label| self.paths.sealed(source.as_str());
        let now = self.clock.now();
        let walking = patiently(walk(&files, &keeper, &place, now), alive);
        let walked = tokio::time::timeout(LONGEST_WALK, walking).await;
        let walked = walked.unwrap_or_else(|_elapsed| broken_off(&keeper, self.clock.now()));
        alive();
        take_alarms(&walked, outcome);
        if let Files::Backend(backend) = &files {
            self.after_walk(backend, &signed, &keeper, &admission, outcome);
        }
        if let Err(error) = self.note(&walked, &standing_line(&signed, &files, &keeper, &admission)) {
            outcome.failed = true;
            outcome
                .problems
                .push(format!("{}: {error}", self.paths.agent_folder().display()));
        }
        self.publish_walked(&keeper, &walked, outcome, alive).await;
        let is_told = self.receipts.alarms == self.receipts.told;
        if let Files::Backend(backend) = &files {
            // What is new to the tenant's operators does not wait for the next cycle.
            if backend.standing() == Standing::Accepted {
                // A head that says nothing new to this host is waited for as well: by whoever revoked somebody.
                if outcome.worked || is_called || !self.receipts.sent || !is_told {
                    unheard = patiently(self.beat_signed(backend, &keeper), alive).await;
                }
                // Otherwise the walk has told of it already.
                outcome.problems.extend(unheard);
            }
            outcome.backend = backend.backend();
            outcome.retry_after = outcome.retry_after.max(backend.retry_after());
        }
    }

    /// Begins a round. True when a notice brought all that a heartbeat would tell.
    fn begin(&mut self, backend: &BackendFiles) -> bool {
        if let Some((head, note)) = self.receipts.called.take() {
            return backend.begin_told(&on_wire(&head.publisher), head.policy, note);
        }
        backend.begin();
        false
    }

    async fn publish_walked(
        &mut self,
        keeper: &Keeper,
        walked: &Walked,
        outcome: &mut Outcome,
        alive: &mut dyn FnMut(),
    ) {
        let unserved = self.publish_known(keeper, outcome, alive).await;
        let served = unserved.served(walked);
        if !served.is_empty()
            && let Ok(memory) = keeper.memory()
        {
            self.receipts.applied = Applied::after(self.receipts.applied.as_ref(), &memory, &served);
        }
        let alarms = &mut self.receipts.alarms;
        *alarms = of_alarms(&walked.alarms);
        alarms.extend(unserved.alarms());
        alarms.sort();
        alarms.truncate(ReceiptAlarm::MOST);
    }

    /// Publishes what is in place, once it is known who may come in. What of it is not served then.
    async fn publish_known(&mut self, keeper: &Keeper, outcome: &mut Outcome, alive: &mut dyn FnMut()) -> Unserved {
        if !self.rules_known(keeper) {
            outcome.failed = true;
            let text = "nothing is published before the access rules are known";
            outcome.problems.push(text.to_owned());
            return Unserved::All("table");
        }
        let failed = std::mem::take(&mut outcome.failed);
        self.publish(outcome, alive).await;
        let unserved = if outcome.failed {
            Unserved::All("table")
        } else {
            // Also when no worker had to run: what stood in for something the last time does so still.
            let has_copy = self.config.directory.is_some() && self.paths.directory_copy().exists();
            Unserved::of(self.report().as_ref(), has_copy)
        };
        outcome.failed |= failed;
        unserved
    }

    /// Says that this host is alive, and what it applied. What went wrong, if anything.
    async fn beat_signed(&mut self, backend: &BackendFiles, keeper: &Keeper) -> Option<String> {
        let alarms = self.receipts.alarms.clone();
        let applied = self.receipts.applied.clone().or_else(|| {
            // Who cannot follow since the start says why, and claims nothing.
            let memory = keeper.memory().ok().filter(|_| !alarms.is_empty())?;
            Applied::after(None, &memory, &[])
        });
        let note = applied.and_then(|applied| {
            let (key, report) = (keeper.signing_key().ok()?, self.report());
            receipt(
                keeper.joined(),
                &key,
                &applied,
                report.as_ref(),
                &alarms,
                self.clock.now(),
            )
        });
        let has_receipt = note.is_some();
        let bytes = note.map(|note| note.to_string().into_bytes().into());
        match backend.heartbeat(bytes).await {
            Ok(()) => {
                self.receipts.sent |= has_receipt;
                if has_receipt {
                    self.receipts.told = alarms;
                }
                None
            }
            Err(error) => Some(format!("heartbeat: {error}")),
        }
    }

    /// The head that a backend tells of, if it says more than that its publisher is alive. One that was only signed again can
    /// wait for the interval, spread as that is.
    pub(super) fn new_head(&self, bytes: &[u8]) -> Option<(Head, String)> {
        let note = Note::parse(bytes, Head::MOST).ok()?;
        let told = parse::<Head>(&note).ok()?;
        let signed = self.config.signed()?;
        let keeper = Keeper::new(self.paths.trust_folder(), signed.joined.clone());
        let kept = keeper.head(&told.publisher).ok().flatten();
        let kept = kept.and_then(|note| parse::<Head>(&note).ok());
        told.says_more(kept.as_ref()).then(|| (told, note.to_string()))
    }

    /// Is it known who may come in?
    fn rules_known(&self, keeper: &Keeper) -> bool {
        let paths = &self.paths;
        let files = [
            paths.sealed(ACCESS_RULES),
            paths.good_signed_rules(),
            paths.trust_closed(),
        ];
        files.iter().any(|file| file.exists()) || unsigned_rules_count(keeper).unwrap_or(false)
    }

    /// Notes for the worker what the walk found of each source, and for people what is trusted.
    fn note(&self, walked: &Walked, standing: &str) -> io::Result<()> {
        let summary = format!("{}\n{standing}", walked.summary());
        let path = self.paths.trust_summary();
        publish_changed(&path, summary.as_bytes())?;
        // When that was so. Lost with the power it is an earlier time, and does nobody harm.
        File::options()
            .append(true)
            .open(&path)?
            .set_modified(self.clock.now().into())?;
        let Some(policy) = &walked.policy else {
            return Ok(());
        };
        // Only all heads together can say that a source is nobody's.
        let whole = walked.heads.len() == policy.publishers.len();
        let named = |source: &str| {
            let mut entries = walked.heads.iter().flat_map(|(head, _)| &head.entries);
            entries.any(|entry| entry.source.as_str() == source)
        };
        let withdrawn = |source: &str| walked.withdrawn.iter().any(|gone| gone.as_str() == source);
        for source in self.config.fetched() {
            let installed = walked
                .installed
                .iter()
                .any(|installed| installed.source.as_str() == source.as_str());
            if installed {
                self.set_note(source, SourceState::Present)?;
            } else if withdrawn(source.as_str()) || (whole && !named(source.as_str())) {
                self.set_note(source, SourceState::Deleted)?;
            }
        }
        let expired = walked
            .heads
            .iter()
            .any(|(_, freshness)| *freshness == Freshness::Expired);
        let own = self
            .config
            .signed()
            .map(|signed| signed.joined.compartments.as_slice())
            .unwrap_or_default();
        let closes = policy
            .compartments
            .iter()
            .any(|compartment| compartment.on_expiry == OnExpiry::Close && own.contains(&compartment.name));
        if closes && (expired || !walked.lapsed.is_empty()) {
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
        // Names the body with what its log made of it.
        let tag = |body: &SignedBody| {
            let log = KeptLog::beside(&path, body.digest);
            log.map_or(body.digest, |log| log.chain().hash).to_string()
        };
        let note = SourceNote {
            state,
            encrypted: true,
            etag: body.as_ref().map(tag),
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

/// What went wrong. That nobody answers, or lets this host in, is told once and not for each file.
fn take_alarms(walked: &Walked, outcome: &mut Outcome) {
    let mut told = false;
    for alarm in &walked.alarms {
        let for_all = matches!(alarm.code, "unreachable" | "refused");
        outcome.failed |= !is_notice(alarm);
        if !for_all || !told {
            outcome.problems.push(alarm.to_string());
        }
        told |= for_all;
    }
}

/// What is known at `now` of the walks before one that took too long.
fn broken_off(keeper: &Keeper, now: Timestamp) -> Walked {
    let mut walked = kept(keeper, now).unwrap_or_else(|alarm| Walked {
        alarms: vec![alarm],
        ..Walked::default()
    });
    walked.alarms.push(Alarm {
        code: "too-slow",
        what: "files".to_owned(),
        reason: format!(
            "what is new did not come within {} minutes, and the rest of it is fetched next time: see why the way to whoever serves \
             it is that slow, or have its publisher split the directory into more sources or compartments",
            LONGEST_WALK.as_secs() / 60
        ),
    });
    walked
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

#[cfg(test)]
mod tests {
    use dirless_seal::Digest;

    use super::*;
    use crate::trust::Joined;

    #[test]
    fn a_walk_that_takes_too_long_is_one_alarm_and_takes_nothing_back() {
        let folder = tempfile::tempdir().unwrap();
        let joined = Joined {
            tenant: Digest::of(b"tenant"),
            roots: Digest::of(b"roots"),
            policy: 1,
            compartments: Vec::new(),
        };
        let walked = broken_off(&Keeper::new(folder.path().to_owned(), joined), Timestamp::UNIX_EPOCH);
        let codes: Vec<_> = walked.alarms.iter().map(|alarm| alarm.code).collect();
        assert_eq!(codes, ["too-slow"]);
        assert!(walked.alarms[0].to_string().contains("within 60 minutes"));
        assert!(walked.complete.is_empty() && walked.withdrawn.is_empty());
    }
}
