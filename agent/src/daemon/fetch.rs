//! Steps 1 to 3 of a cycle: sources and access rules, from a backend to files. Decisions are in
//! `cycle`; here they take effect.

use std::io;
use std::path::{Path, PathBuf};

use dirless_client::{AccessRules, Cycle, Error, FetchedBody, SnapshotSink};
use dirless_program::fs::publish;
use dirless_wire::{AgePublicKey, ETag, SourceName};
use tokio::io::AsyncWriteExt;

use super::cycle::{Action, Known, RulesAnswer, RulesDecision, decide, decide_rules};
use super::state::{DaemonState, Refused};
use crate::paths::Paths;
use crate::pipeline::{SourceNote, SourceState};

/// Largest sealed body that is kept, in bytes. A backend's usual limit is 50 MiB.
const LARGEST: u64 = 256 * 1024 * 1024;

/// What came of fetching one thing.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// What an operator should know.
    pub(crate) problem: Option<String>,
    /// The next cycle comes later than usual.
    pub(crate) failed: bool,
    /// Every further call of this cycle would get the same answer.
    pub(crate) give_up: bool,
    /// No backend gave an answer to this.
    pub(crate) unanswered: bool,
    /// How long the backend asks to wait.
    pub(crate) retry_after: Option<std::time::Duration>,
}

impl Step {
    fn io(what: &str, error: &io::Error) -> Self {
        Self {
            problem: Some(format!("{what}: {error}; the last good copy stays")),
            failed: true,
            ..Self::default()
        }
    }
}

/// Reads the note of a source. A damaged one counts as none: the next answer makes it anew.
pub(crate) fn read_note(paths: &Paths, source: &SourceName) -> Option<SourceNote> {
    let bytes = std::fs::read(paths.source_note(source.as_str())).ok()?;
    let note: SourceNote = serde_json::from_slice(&bytes).ok()?;
    // A note without its body (a disk that lost it) must not lead to "not modified".
    let lost = note.state == SourceState::Present && !paths.sealed(source.as_str()).exists();
    (!lost).then_some(note)
}

/// The tag of the body of a source that is here.
pub(crate) fn tag(paths: &Paths, source: &SourceName) -> Option<ETag> {
    ETag::parse(&read_note(paths, source)?.etag?).ok()
}

/// One source.
pub(crate) async fn source(
    cycle: &Cycle,
    paths: &Paths,
    state: &mut DaemonState,
    source: &SourceName,
    own_key: Option<&AgePublicKey>,
    accept_absent: bool,
    now: jiff::Timestamp,
) -> Step {
    let note = read_note(paths, source);
    let own = own_key.map(|key| key.as_str().to_owned());
    // With another key than at the time of the refusal the body may be welcome.
    let refused = state
        .refused
        .get(source)
        .filter(|refused| refused.own_key == own)
        .cloned();
    let kept_tag = note.as_ref().and_then(|note| ETag::parse(note.etag.as_deref()?).ok());
    let tag = refused.as_ref().map(|refused| refused.etag.clone()).or(kept_tag);
    let mut sink = match Aside::new(&paths.sources_folder()) {
        Ok(sink) => sink,
        Err(error) => return Step::io(&format!("storing {source}"), &error),
    };
    let answer = cycle.get_snapshot(source, tag.as_ref(), LARGEST, &mut sink).await;
    let known = Known {
        note: note.as_ref(),
        deleted_streak: state.deleted.get(source).copied().unwrap_or(0),
        refused: refused.as_ref().map(|refused| refused.reason.as_str()),
        own_key,
        accept_absent,
    };
    let decision = decide(source.as_str(), known, answer.as_ref());
    let mut step = Step {
        problem: decision.problem.clone(),
        failed: decision.failed,
        ..answer.as_ref().err().map(consequences).unwrap_or_default()
    };
    if decision.deleted_streak == 0 {
        state.deleted.remove(source);
    } else {
        state.deleted.insert(source.clone(), decision.deleted_streak);
    }
    let done = match decision.action {
        Action::Keep => Ok(()),
        Action::Refuse(body) => {
            remember_refusal(state, source, body, own, step.problem.clone());
            Ok(())
        }
        Action::Store(body) => {
            state.refused.remove(source);
            store(paths, source, sink, body, now)
        }
        Action::MarkAbsent => mark(paths, source, SourceState::Absent, now),
        Action::MarkDeleted => {
            state.deleted.remove(source);
            state.refused.remove(source);
            mark(paths, source, SourceState::Deleted, now)
        }
    };
    if let Err(error) = done {
        step = Step::io(&format!("storing {source}"), &error);
    }
    step
}

fn remember_refusal(
    state: &mut DaemonState,
    source: &SourceName,
    body: FetchedBody,
    own_key: Option<String>,
    reason: Option<String>,
) {
    match body.etag {
        Some(etag) => {
            let reason = reason.unwrap_or_default();
            state.refused.insert(source.clone(), Refused { etag, reason, own_key });
        }
        None => {
            state.refused.remove(source);
        }
    }
}

fn store(paths: &Paths, source: &SourceName, sink: Aside, body: FetchedBody, now: jiff::Timestamp) -> io::Result<()> {
    let path = paths.sealed(source.as_str());
    let note = SourceNote {
        state: SourceState::Present,
        encrypted: body.encrypted,
        etag: body.etag.as_ref().map(|etag| etag.header().to_owned()),
        registered_key: body.registered_key.map(|key| key.as_str().to_owned()),
        snapshot_recipient: body.recipient.map(|key| key.as_str().to_owned()),
        fetched_at: Some(now.to_string()),
    };
    // A backend without entity tags sends everything each time: what is the same is not written.
    if sink.equals(&path)? && read_note(paths, source).is_some_and(|old| same_but_time(&old, &note)) {
        return Ok(());
    }
    // The body first: a note with the tag of a body that is not there would never be corrected.
    sink.publish(&path)?;
    publish(&paths.source_note(source.as_str()), 0o600, &serde_json::to_vec(&note)?)
}

fn same_but_time(left: &SourceNote, right: &SourceNote) -> bool {
    let left = SourceNote {
        fetched_at: right.fetched_at.clone(),
        ..left.clone()
    };
    left == *right
}

fn mark(paths: &Paths, source: &SourceName, state: SourceState, now: jiff::Timestamp) -> io::Result<()> {
    let note = SourceNote {
        state,
        encrypted: false,
        etag: None,
        registered_key: None,
        snapshot_recipient: None,
        fetched_at: Some(now.to_string()),
    };
    publish(&paths.source_note(source.as_str()), 0o600, &serde_json::to_vec(&note)?)
}

/// The access rules. `known` tells whether anything may be published.
pub(crate) async fn rules(cycle: &Cycle, paths: &Paths) -> (Step, bool, Option<ETag>) {
    let answer = cycle.get_access_rules().await;
    let etag = answer.as_ref().ok().and_then(|rules| rules.as_ref()?.etag.clone());
    let mut step = answer.as_ref().err().map(consequences).unwrap_or_default();
    let stored = stored_rules(paths);
    let decision = decide_rules(stored.as_deref(), rules_answer(answer));
    match decision {
        RulesDecision::Keep(problem) => {
            step.problem = problem;
            (step, true, etag)
        }
        RulesDecision::Store(text) => match publish(&paths.access_rules(), 0o600, &text) {
            Ok(()) => (step, true, etag),
            Err(error) => (Step::io("storing the access rules", &error), stored.is_some(), None),
        },
        RulesDecision::Unknown(problem) => {
            step.problem = Some(problem);
            (step, false, None)
        }
    }
}

/// The last good answer, if the file still holds one: a damaged file counts as none, so that it
/// cannot pass for "no rules".
fn stored_rules(paths: &Paths) -> Option<Vec<u8>> {
    let text = std::fs::read(paths.access_rules()).ok()?;
    serde_json::from_slice::<dirless_wire::AuthzConfig>(&text)
        .is_ok()
        .then_some(text)
}

fn rules_answer(answer: Result<Option<AccessRules>, Error>) -> RulesAnswer {
    match answer {
        Ok(Some(rules)) => match serde_json::to_vec(&rules.json) {
            Ok(text) => RulesAnswer::Rules(text),
            Err(error) => RulesAnswer::Failed(error.to_string()),
        },
        Ok(None) => RulesAnswer::Absent,
        Err(error) => RulesAnswer::Failed(error.to_string()),
    }
}

/// What an error means for the rest of the cycle.
pub(crate) fn consequences(error: &Error) -> Step {
    Step {
        problem: None,
        failed: true,
        give_up: matches!(
            error,
            Error::Unauthorized | Error::Suspended { .. } | Error::RateLimited { .. }
        ),
        unanswered: matches!(error, Error::Unavailable { .. }),
        retry_after: match error {
            Error::RateLimited { retry_after } => *retry_after,
            _ => None,
        },
    }
}

/// A file beside the final one, with no name until a body begins.
struct Aside {
    folder: PathBuf,
    file: Option<(tempfile::NamedTempFile, tokio::fs::File)>,
}

impl Aside {
    fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            folder: folder.to_owned(),
            file: None,
        })
    }

    fn open(&self) -> io::Result<&tempfile::NamedTempFile> {
        self.file
            .as_ref()
            .map(|(file, _)| file)
            .ok_or_else(|| io::Error::other("no body was received"))
    }

    /// Whether `path` holds the same bytes.
    fn equals(&self, path: &Path) -> io::Result<bool> {
        let new = self.open()?;
        match std::fs::metadata(path) {
            Ok(old) if old.len() == new.as_file().metadata()?.len() => same_content(path, new.path()),
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn publish(self, path: &Path) -> io::Result<()> {
        let (file, _) = self.file.ok_or_else(|| io::Error::other("no body was received"))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        std::fs::File::open(&self.folder)?.sync_all()
    }
}

fn same_content(left: &Path, right: &Path) -> io::Result<bool> {
    use std::io::Read;
    let (mut left, mut right) = (std::fs::File::open(left)?, std::fs::File::open(right)?);
    let (mut ours, mut theirs) = ([0u8; 8192], [0u8; 8192]);
    loop {
        let read = left.read(&mut ours)?;
        if read == 0 {
            return Ok(right.read(&mut theirs)? == 0);
        }
        let (Some(ours), Some(theirs)) = (ours.get(..read), theirs.get_mut(..read)) else {
            return Ok(false);
        };
        right.read_exact(theirs)?;
        if ours != theirs {
            return Ok(false);
        }
    }
}

impl SnapshotSink for Aside {
    async fn begin(&mut self) -> io::Result<()> {
        let file = tempfile::Builder::new().prefix(".fetch-").tempfile_in(&self.folder)?;
        let writer = tokio::fs::File::from_std(file.as_file().try_clone()?);
        self.file = Some((file, writer));
        Ok(())
    }

    async fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some((_, writer)) => writer.write_all(piece).await,
            None => Err(io::Error::other("a piece before the beginning")),
        }
    }

    async fn finish(&mut self) -> io::Result<()> {
        match &mut self.file {
            Some((_, writer)) => writer.flush().await,
            None => Ok(()),
        }
    }
}

/// Removes what a killed daemon left half-fetched.
pub(crate) fn remove_leftovers(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".fetch-") || name.starts_with(".publish-") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
