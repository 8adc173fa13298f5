//! Following the logs of signed bodies: a publish at a cost that follows what changed.
//!
//! Beside the table stands a file with the records that it was made from ([`Store`]). While everything else is as it was
//! when the table was made, new records of a log are put there, checked against the content root that came with them, and
//! what they change goes into an overlay of the table. In every other case nothing is done here and a whole run follows,
//! after which the file is made anew where logs are written at all.
//!
//! The file is a cache: what it says of itself is compared with table, bodies and logs each time, and a doubt removes it.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use dirless_model::snapshot::{Part, record_key};
use dirless_program::Clock;
use dirless_seal::trust::log::{Changes, LogKey, Place, Records};
use dirless_seal::{Content, Digest, RecordKind};
use dirless_table::overlay::{self, Draft};
use dirless_table::{GroupRecord, Table, TableMeta, UserRecord, WriteError};
use rusqlite::Connection;

use super::log::part;
use super::open::{self, kind};
use super::partial::{Change, Effect, GroupChange, PartialError, Shown, Store, StoreError, effect};
use super::{
    Body, Drops, Ending, Inputs, Opener, Options, Outcome, Report, SourceInput, SourceState, Taken, unchanged,
};
use crate::paths::Paths;
use crate::trust::{KeptLog, SignedBody};

/// The note of the table's generation.
const TABLE: &str = "table";
/// The note of everything but the bodies.
const SURROUNDINGS: &str = "surroundings";

/// Why there is no following.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    /// It is no case for it, as usual.
    #[error("{0}")]
    Whole(&'static str),
    /// The records cannot tell.
    #[error(transparent)]
    Partial(#[from] PartialError),
    /// A record of the log does not open, or does not fit.
    #[error("the log cannot be followed: {0}")]
    Log(String),
    /// The overlay cannot be written.
    #[error(transparent)]
    Table(#[from] WriteError),
    /// What was accepted cannot be kept.
    #[error("{0}")]
    Keep(String),
}

impl From<StoreError> for FollowError {
    fn from(error: StoreError) -> Self {
        Self::Partial(error.into())
    }
}

/// What is needed of the worker.
pub(super) struct Worker<'a> {
    pub paths: &'a Paths,
    pub options: &'a Options,
    pub clock: &'a Clock,
    pub inputs: &'a Inputs,
}

/// How far the log of a source goes.
struct Position {
    manifest: Digest,
    length: u64,
    hash: Digest,
}

/// A body and the log beside it.
struct Found {
    body: SignedBody,
    log: KeptLog,
}

impl Found {
    fn position(&self) -> Position {
        Position {
            manifest: self.body.digest,
            length: self.log.chain().length,
            hash: self.log.chain().hash,
        }
    }
}

impl Position {
    fn text(&self) -> String {
        format!("{} {} {}", self.manifest, self.length, self.hash)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        Some(Self {
            manifest: words.next()?.parse().ok()?,
            length: words.next()?.parse().ok()?,
            hash: words.next()?.parse().ok()?,
        })
    }
}

fn note_of(source: &SourceInput) -> String {
    format!("source {}", source.name)
}

impl Worker<'_> {
    /// Publishes what the logs changed since the last publish, which `before` tells of. `keep` keeps what was accepted,
    /// before anything is published.
    pub(super) fn follow(
        &self,
        before: &Report,
        keep: &dyn Fn(&Outcome) -> Result<(), String>,
    ) -> Result<Outcome, FollowError> {
        let whole = FollowError::Whole;
        let path = self.paths.records();
        if !path.exists() || !matches!(self.inputs.opener, Opener::Signed { .. }) {
            return Err(whole("there are no records"));
        }
        let published = before.published.as_ref().ok_or(whole("nothing was published"))?;
        if !unchanged::depends_on_fetched_alone(before) {
            return Err(whole("something stands in for what should be there"));
        }
        let table = Table::open(&self.paths.table(), self.options.owner).map_err(|_| whole("there is no table"))?;
        let generation = table.stats().generation;
        drop(table);
        let mut store = open_store(&path, self)?;
        let surroundings = unchanged::surroundings(self.options, self.inputs);
        if generation != published.generation
            || store.note(TABLE)? != Some(generation.to_string())
            || store.note(SURROUNDINGS)? != Some(surroundings)
        {
            return Err(whole("the records are of another table"));
        }
        store.change(|store| self.follow_in(store, before, generation, keep))
    }

    fn follow_in(
        &self,
        store: &Store,
        before: &Report,
        generation: u64,
        keep: &dyn Fn(&Outcome) -> Result<(), String>,
    ) -> Result<Outcome, FollowError> {
        let start = self.clock.now();
        let mut effects = Vec::new();
        for (place, source) in (0u8..).zip(&self.inputs.sources) {
            for changes in self.news(store, source)? {
                let changes = take(store, place, &changes)?;
                effects.push(effect(store, self.inputs, changes)?);
            }
        }
        if effects.is_empty() {
            return Err(FollowError::Whole("no log has anything new"));
        }
        let mut outcome = Outcome {
            content: None,
            tree: None,
            report: before.clone(),
            ratchet: self.inputs.ratchet.clone(),
        };
        let report = &mut outcome.report;
        tell(report, self.inputs, &effects);
        let published = report.published.as_ref();
        let limits = &self.inputs.limits;
        if published.is_none_or(|told| told.users > limits.max_users || told.groups > limits.max_groups) {
            return Err(FollowError::Whole(
                "there are more users or groups than this host takes",
            ));
        }
        let read = self.clock.now();
        report.durations = super::Durations {
            read: super::milliseconds(start, read),
            ..super::Durations::default()
        };
        keep(&outcome).map_err(FollowError::Keep)?;
        self.put(generation, &effects, &mut outcome.report)?;
        let report = &mut outcome.report;
        if let Some(published) = &mut report.published {
            store.set_note(TABLE, &published.generation.to_string())?;
            published.made_from = unchanged::digest(self.options, self.inputs, &self.inputs.ratchet).ok();
        }
        let end = self.clock.now();
        report.durations.publish = super::milliseconds(read, end);
        report.finished_at = end.to_string();
        Ok(outcome)
    }

    /// The changes that the log of a source has beyond those in the store, which is noted to have them.
    fn news(&self, store: &Store, source: &SourceInput) -> Result<Vec<Changes>, FollowError> {
        let Some(found) = self.found(source)? else {
            return match store.note(&note_of(source))?.as_deref() {
                Some("-") => Ok(Vec::new()),
                _ => Err(FollowError::Whole("a source went")),
            };
        };
        let position = found.position();
        let noted = store.note(&note_of(source))?;
        let held = noted.as_deref().and_then(Position::parse);
        let held = held.filter(|held| held.manifest == position.manifest && held.length <= position.length);
        let held = held.ok_or(FollowError::Whole("a body is another one"))?;
        if held.length == position.length {
            return if held.hash == position.hash {
                Ok(Vec::new())
            } else {
                Err(FollowError::Whole("a log is another one"))
            };
        }
        let Opener::Signed { keys, .. } = &self.inputs.opener else {
            return Err(FollowError::Whole("nothing is signed"));
        };
        let key = keys
            .iter()
            .find(|wrap| wrap.identity.recipient() == found.body.manifest.recipient);
        let key = key.ok_or(FollowError::Whole("a key is missing"))?;
        let key = LogKey::new(&key.identity, &Place::of(&found.body.manifest, found.body.digest));
        let sealed = found.log.records(held.length);
        let sealed = sealed.map_err(|error| FollowError::Log(error.to_string()))?;
        let opened = (held.length..)
            .zip(&sealed)
            .map(|(number, sealed)| key.open(number, sealed));
        let changes: Result<Vec<Changes>, _> = opened.collect();
        let changes = changes.map_err(|error| FollowError::Log(error.to_string()))?;
        store.set_note(&note_of(source), &position.text())?;
        Ok(changes)
    }

    /// The body and the log of a source; nothing where there is no body to be.
    fn found(&self, source: &SourceInput) -> Result<Option<Found>, FollowError> {
        let unfit = |reason: String| FollowError::Log(reason);
        match source.note.as_ref().map(|note| note.state) {
            None => return Err(FollowError::Whole("a source was never fetched")),
            Some(SourceState::Absent | SourceState::Deleted) => return Ok(None),
            Some(SourceState::Present) => {}
        }
        let Some(Body::File(path)) = &source.fetched else {
            return Err(FollowError::Whole("a body is gone"));
        };
        let body = SignedBody::open(path).map_err(|error| unfit(error.to_string()))?;
        let body = body.ok_or(FollowError::Whole("a body is gone"))?;
        let log = KeptLog::beside(path, body.digest).map_err(|error| unfit(error.to_string()))?;
        Ok(Some(Found { body, log }))
    }

    /// Lays the effects over the table.
    fn put(&self, generation: u64, effects: &[Effect], report: &mut Report) -> Result<(), FollowError> {
        let path = self.paths.table();
        let now = self.clock.now();
        let meta = TableMeta {
            generation: generation.saturating_add(1),
            created: u64::try_from(now.as_second()).unwrap_or(0),
            enumerate: self.options.enumerate,
        };
        let length = std::fs::metadata(&path).map_or(0, |about| about.len());
        let done = overlay::publish(&path, self.options.owner, meta, overlay::limit(length), |draft| {
            effects.iter().try_for_each(|effect| lay(draft, effect))
        })?;
        report.ending = match done {
            overlay::Published::Unchanged => Ending::Unchanged,
            overlay::Published::Overlay(_) => Ending::Published,
        };
        if let Some(published) = report.published.as_mut().filter(|_| report.ending == Ending::Published) {
            published.generation = meta.generation;
            published.at = now.to_string();
        }
        Ok(())
    }

    /// Makes the file of records anew from the bodies that a whole run has just taken, where logs are written. Failing that
    /// there is none, and each change costs a whole run.
    pub(super) fn remember(&self, report: &Report) -> Result<(), FollowError> {
        let path = self.paths.records();
        let gone = || dirless_program::fs::remove(&path).map_err(|error| FollowError::Keep(error.to_string()));
        gone()?;
        let Some(published) = &report.published else {
            return Ok(());
        };
        if !matches!(self.inputs.opener, Opener::Signed { .. }) || !unchanged::depends_on_fetched_alone(report) {
            return Ok(());
        }
        let mut positions = Vec::new();
        for source in &self.inputs.sources {
            positions.push(self.found(source)?.map(|found| found.position()));
        }
        if positions.iter().flatten().all(|position| position.length == 0) {
            return Ok(());
        }
        let aside = path.with_extension("new");
        dirless_program::fs::remove(&aside).map_err(|error| FollowError::Keep(error.to_string()))?;
        {
            // It says what the sources say, also of people whom this host does not show.
            let made = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&aside);
            made.map_err(|error| FollowError::Keep(format!("{}: {error}", aside.display())))?;
            let db = Connection::open(&aside).map_err(StoreError::from)?;
            // Nobody reads it before it is whole and has its name.
            db.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
                .map_err(StoreError::from)?;
            let mut store = Store::new(db, self.inputs.name_rule.clone())?;
            store.change(|store| self.fill(store, &positions, published.generation))?;
        }
        let synced = std::fs::File::open(&aside).and_then(|file| file.sync_all());
        let renamed = synced.and_then(|()| std::fs::rename(&aside, &path));
        renamed.map_err(|error| FollowError::Keep(format!("{}: {error}", path.display())))
    }

    fn fill(&self, store: &Store, positions: &[Option<Position>], generation: u64) -> Result<(), FollowError> {
        for (place, (source, position)) in (0u8..).zip(self.inputs.sources.iter().zip(positions)) {
            let Some(position) = position else {
                store.set_note(&note_of(source), "-")?;
                continue;
            };
            let body = source.fetched.as_ref().ok_or(FollowError::Whole("a body is gone"))?;
            let opening = open::open(body, source, self.inputs).map_err(|error| FollowError::Log(error.reason))?;
            let mut content = Content::default();
            let mut failed = None;
            let mut put = |part: Part, bytes: &[u8]| {
                if failed.is_some() {
                    return;
                }
                content.add(kind(part).leaf(bytes));
                let key = record_key(part, bytes).ok_or(StoreError::Odd);
                let held = key.and_then(|key| match store.get(place, part, &key)? {
                    // Of two under one key nobody can tell which one a log means.
                    Some(_) => Err(StoreError::Odd),
                    None => store.put(place, part, &key, bytes),
                });
                failed = held.err();
            };
            opening
                .records(&mut put)
                .map_err(|error| FollowError::Log(error.to_string()))?;
            if let Some(error) = failed {
                return Err(error.into());
            }
            store.keep_content(place, &content)?;
            store.set_note(&note_of(source), &position.text())?;
        }
        store.set_note(TABLE, &generation.to_string())?;
        store.set_note(SURROUNDINGS, &unchanged::surroundings(self.options, self.inputs))?;
        Ok(())
    }
}

fn open_store(path: &Path, worker: &Worker<'_>) -> Result<Store, FollowError> {
    let db = Connection::open(path).map_err(StoreError::from)?;
    // A change that power takes away is one that the notes do not speak of; the file stays whole.
    db.execute_batch("PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = FULL")
        .map_err(StoreError::from)?;
    Ok(Store::new(db, worker.inputs.name_rule.clone())?)
}

/// Records as a log sees them: what it reads is in the store, what it changes is collected.
struct Collected<'a> {
    store: &'a Store,
    place: u8,
    changes: Vec<Change>,
    gone: Vec<Digest>,
    come: Vec<Digest>,
}

impl Collected<'_> {
    fn note(&mut self, kind: RecordKind, key: &[u8], bytes: Option<Vec<u8>>) -> Result<bool, StoreError> {
        let old = self.store.get(self.place, part(kind), key)?;
        self.gone.extend(old.as_ref().map(|old| kind.leaf(old)));
        self.come.extend(bytes.as_ref().map(|new| kind.leaf(new)));
        self.changes.push(Change {
            source: self.place,
            part: part(kind),
            key: key.to_vec(),
            bytes,
        });
        Ok(old.is_some())
    }
}

impl Records for Collected<'_> {
    type Error = StoreError;

    fn get(&mut self, kind: RecordKind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(self.place, part(kind), key)
    }

    fn put(&mut self, kind: RecordKind, key: &[u8], bytes: Vec<u8>) -> Result<(), StoreError> {
        self.note(kind, key, Some(bytes)).map(drop)
    }

    fn remove(&mut self, kind: RecordKind, key: &[u8]) -> Result<bool, StoreError> {
        self.note(kind, key, None)
    }
}

/// What one record of the log changes, once the content root is the one it says.
fn take(store: &Store, place: u8, changes: &Changes) -> Result<Vec<Change>, FollowError> {
    let mut collected = Collected {
        store,
        place,
        changes: Vec::new(),
        gone: Vec::new(),
        come: Vec::new(),
    };
    let applied = changes.apply(&mut collected);
    applied.map_err(|error| FollowError::Log(error.to_string()))?;
    if store.update_content(place, &collected.gone, &collected.come)? == changes.content {
        Ok(collected.changes)
    } else {
        Err(FollowError::Log(
            "its records do not have the content root that it says".to_owned(),
        ))
    }
}

/// Puts an effect into the next overlay.
fn lay(draft: &mut Draft<'_>, effect: &Effect) -> Result<(), WriteError> {
    for (name, shown) in &effect.users {
        match shown {
            None => draft.drop_user(name),
            Some(Shown {
                uid,
                gid,
                gecos,
                home,
                shell,
                keys,
            }) => draft.put_user(&UserRecord {
                name,
                uid: *uid,
                gid: *gid,
                gecos,
                home,
                shell,
                keys,
            })?,
        }
    }
    for (name, change) in &effect.groups {
        match change {
            GroupChange::Drop => draft.drop_group(name),
            GroupChange::Put(gid, members) => {
                let record = GroupRecord { name, gid: *gid };
                draft.put_group(&record, members.iter().map(String::as_str))?;
            }
            GroupChange::Members { joined, left } => {
                let joined = joined.iter().map(String::as_str);
                draft.change_members(name, joined, left.iter().map(String::as_str))?;
            }
        }
    }
    Ok(())
}

/// Brings what the report of the last run says to what holds after `effects`.
fn tell(report: &mut Report, inputs: &Inputs, effects: &[Effect]) {
    let moved = |count: &mut usize, before: usize, now: usize| *count = (*count + now).saturating_sub(before);
    for effect in effects {
        if let Some(published) = &mut report.published {
            let ([users, groups, keys], now) = effect.shown;
            moved(&mut published.users, users, now[0]);
            moved(&mut published.groups, groups, now[1]);
            moved(&mut published.users_with_keys, keys, now[2]);
        }
        moved(&mut report.excluded_total, effect.excluded.0, effect.excluded.1);
        let (before, now) = &effect.dropped;
        report.dropped.replace(before, now);
        for (place, ([users, groups, keys], now)) in effect.taken.iter().enumerate() {
            if let Some(told) = report.sources.get_mut(place) {
                moved(&mut told.users, *users, now[0]);
                moved(&mut told.groups, *groups, now[1]);
                moved(&mut told.keys, *keys, now[2]);
            }
        }
    }
    for (told, source) in report.sources.iter_mut().zip(&inputs.sources) {
        if let Some(note) = source.note.as_ref().filter(|_| told.taken == Taken::Fetched) {
            told.etag.clone_from(&note.etag);
            told.fetched_at.clone_from(&note.fetched_at);
        }
    }
}

impl Drops {
    /// Takes out what was left out of a part before, and adds what is now.
    fn replace(&mut self, before: &Self, now: &Self) {
        self.total = self.total.saturating_sub(before.total);
        for (code, count) in &before.by_code {
            if let Some(told) = self.by_code.get_mut(code) {
                *told = told.saturating_sub(*count);
            }
        }
        self.by_code.retain(|_, count| *count > 0);
        self.entries.retain(|entry| !before.entries.contains(entry));
        self.append(now.clone());
    }
}
