//! Following the logs of signed bodies: a publish at a cost that follows what changed.
//!
//! Beside the table stands a file with the records that it was made from ([`Store`]). While everything else is as it was
//! when the table was made, new records of a log are put there, checked against the content root that came with them, and
//! what they change goes into an overlay of the table, and into the copy for LDAP as an edit of single entries. In every
//! other case nothing is done here and a whole run follows, after which the file is made anew where logs are written at all.
//!
//! The edit is made ready first; then the overlay is put in place, then the copy, then the file says so. Whoever is killed in
//! between leaves a table or a copy of which neither file nor report tells, and the next run is a whole one.
//!
//! The file is a cache: what it says of itself is compared with table, bodies and logs each time, and a doubt removes it. While
//! it is changed it has another name, so that one that was left half-changed is nobody's and there is no journal.

mod records;
mod remember;
mod told;

use std::fs::File;
use std::path::{Path, PathBuf};

use dirless_copy::{CopyError, Edit, Reader};
use dirless_directory::Schema;
use dirless_model::NameRule;
use dirless_program::Clock;
use dirless_seal::Digest;
use dirless_seal::trust::log::{Chain, Changes, LogKey, Place};
use dirless_table::overlay::{self, Draft};
use dirless_table::{GroupRecord, Table, TableMeta, UserRecord, WriteError};
use rusqlite::Connection;

use super::directory::{self, FollowCopyError, Held};
use super::partial::{Effect, GroupChange, PartialError, Shown, Store, StoreError, TreeChange, TreeRules, effect};
use super::{Body, Ending, Inputs, Opener, Options, Outcome, Published, Report, SourceInput, SourceState, unchanged};
use crate::paths::Paths;
use crate::trust::{KeptLog, SignedBody};

use records::take;
use told::tell;

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
    /// The copy for LDAP cannot be changed.
    #[error(transparent)]
    Copy(#[from] FollowCopyError),
    /// What was accepted cannot be kept.
    #[error("{0}")]
    Keep(String),
}

impl From<CopyError> for FollowError {
    fn from(error: CopyError) -> Self {
        Self::Copy(error.into())
    }
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

fn note_of(place: u8, source: &SourceInput) -> String {
    format!("source {place} {}", source.name)
}

/// What records of logs say that were not followed before.
#[derive(Default)]
struct News {
    /// Whether there are any, or a body took the place of another one.
    any: bool,
    effects: Vec<Effect>,
    tree: TreeChange,
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
        let held = self.held(published)?;
        let mut store = open_store(&path, self.inputs.name_rule.clone())?;
        let surroundings = unchanged::surroundings(self.options, self.inputs);
        if generation != published.generation
            || store.note(TABLE)? != Some(generation.to_string())
            || store.note(SURROUNDINGS)? != Some(surroundings)
        {
            return Err(whole("the records are of another table"));
        }
        if let Some(held) = &held {
            store = store.with_tree(self.tree_rules(held.reader.schema())?)?;
        }
        let aside = aside(&path);
        dirless_program::fs::rename(&path, &aside).map_err(|error| unkept(&path, &error))?;
        let outcome = store.change(|store| self.follow_in(store, before, generation, held.as_ref(), keep))?;
        drop(store);
        put_in_place(&aside, &path)?;
        Ok(outcome)
    }

    /// The copy for LDAP, where there is to be one.
    fn held(&self, published: &Published) -> Result<Option<Held<'_>>, FollowError> {
        let Some(directory) = &self.inputs.directory else {
            return Ok(None);
        };
        let path = self.paths.directory_copy();
        if published.copy.is_none() || dirless_copy::Draft::content(&path) != published.copy {
            return Err(FollowError::Whole("the copy for LDAP is another one"));
        }
        Ok(Some(Held {
            base: &directory.base,
            reader: Reader::open(&path, Schema::standard())?,
        }))
    }

    /// All sources by their places: those of accounts, then those of the tree.
    fn sources(&self) -> impl Iterator<Item = (u8, &SourceInput)> {
        let tree = self.inputs.directory.iter().flat_map(|directory| &directory.sources);
        (0u8..).zip(self.inputs.sources.iter().chain(tree))
    }

    fn tree_rules(&self, schema: &Schema) -> Result<TreeRules, FollowError> {
        let directory = self.inputs.directory.as_ref();
        let directory = directory.ok_or(FollowError::Whole("there is no copy for LDAP"))?;
        let first = self.inputs.sources.len();
        let place = |place| u8::try_from(place).map_err(|_| FollowError::Whole("there are more than 255 sources"));
        let places = place(first)?..place(first + directory.sources.len())?;
        TreeRules::new(schema.clone(), directory.base.clone(), places)
            .ok_or(FollowError::Whole("the base of the copy for LDAP is no name"))
    }

    fn follow_in(
        &self,
        store: &Store,
        before: &Report,
        generation: u64,
        held: Option<&Held<'_>>,
        keep: &dyn Fn(&Outcome) -> Result<(), String>,
    ) -> Result<Outcome, FollowError> {
        let start = self.clock.now();
        let news = self.read(store)?;
        let mut outcome = Outcome {
            content: None,
            tree: None,
            report: before.clone(),
            ratchet: self.inputs.ratchet.clone(),
        };
        let report = &mut outcome.report;
        tell(report, self.inputs, &news);
        let published = report.published.as_ref();
        let limits = &self.inputs.limits;
        if published.is_none_or(|told| told.users > limits.max_users || told.groups > limits.max_groups) {
            return Err(FollowError::Whole(
                "there are more users or groups than this host takes",
            ));
        }
        let edit = match held {
            Some(held) => self.edit(held, store, &news)?,
            None => None,
        };
        let read = self.clock.now();
        report.durations = super::Durations {
            read: super::milliseconds(start, read),
            ..super::Durations::default()
        };
        keep(&outcome).map_err(FollowError::Keep)?;
        let report = &mut outcome.report;
        report.ending = Ending::Unchanged;
        report.whole_because = None;
        if news.effects.iter().any(Effect::shows) {
            self.put(generation, &news.effects, report)?;
        }
        if let Some(published) = &mut report.published {
            if let Some(edit) = edit {
                let told = self.told(store, published)?;
                edit.finish(&told)?;
                published.copy = Some(told);
            }
            store.set_note(TABLE, &published.generation.to_string())?;
            published.made_from = unchanged::digest(self.options, self.inputs, &self.inputs.ratchet).ok();
        }
        let end = self.clock.now();
        report.durations.publish = super::milliseconds(read, end);
        report.finished_at = end.to_string();
        Ok(outcome)
    }

    /// Takes what the logs have beyond what is in the store into it.
    fn read(&self, store: &Store) -> Result<News, FollowError> {
        let mut news = News::default();
        for (place, source) in self.sources() {
            let (moved, records) = self.news(store, place, source)?;
            news.any |= moved;
            for changes in records {
                let changes = take(store, place, &changes)?;
                if usize::from(place) < self.inputs.sources.len() {
                    news.effects.push(effect(store, self.inputs, changes)?);
                } else {
                    news.tree.take(store, &source.name, changes)?;
                }
            }
        }
        if !news.any {
            return Err(FollowError::Whole("no log has anything new"));
        }
        Ok(news)
    }

    /// The copy's next generation, ready to be put in place; nothing when it stays as it is.
    fn edit(&self, held: &Held<'_>, store: &Store, news: &News) -> Result<Option<Edit>, FollowError> {
        let Some(plan) = directory::plan(held, store, self.inputs, &news.effects, &news.tree)? else {
            return Ok(None);
        };
        let schema = held.reader.schema().clone();
        let mut edit = Edit::begin(&self.paths.directory_copy(), schema, self.clock.now())?;
        plan.apply(held, &mut edit)?;
        Ok(Some(edit))
    }

    /// What the copy says of itself from now on: it was made of what it was, by the logs so far.
    fn told(&self, store: &Store, published: &Published) -> Result<String, FollowError> {
        let mut text = published.copy.clone().unwrap_or_default();
        for (place, source) in self.sources() {
            text.push('\n');
            text.push_str(&store.note(&note_of(place, source))?.unwrap_or_default());
        }
        Ok(format!("followed {}", dirless_seal::sha256_hex(text.as_bytes())))
    }

    /// The changes that a source has beyond those in the store, which is noted to have them, and whether its position is
    /// another one.
    fn news(&self, store: &Store, place: u8, source: &SourceInput) -> Result<(bool, Vec<Changes>), FollowError> {
        let noted = store.note(&note_of(place, source))?;
        let Some(found) = self.found(source)? else {
            return match noted.as_deref() {
                Some("-") => Ok((false, Vec::new())),
                _ => Err(FollowError::Whole("a source went")),
            };
        };
        let position = found.position();
        let held = noted.as_deref().and_then(Position::parse);
        let held = held.ok_or(FollowError::Whole("a source came"))?;
        let held = if held.manifest == position.manifest {
            held
        } else if store.content(place)? == found.body.manifest.content {
            // Sealed anew, in another epoch or because the log grew long: its publisher signed that it holds the
            // records that are here.
            let base = Chain::of(found.body.digest);
            Position {
                manifest: found.body.digest,
                length: base.length,
                hash: base.hash,
            }
        } else {
            return Err(FollowError::Whole("a body is another one"));
        };
        if held.length > position.length || (held.length == position.length && held.hash != position.hash) {
            return Err(FollowError::Whole("a log is another one"));
        }
        let text = position.text();
        if noted.as_deref() == Some(text.as_str()) {
            return Ok((false, Vec::new()));
        }
        store.set_note(&note_of(place, source), &text)?;
        if held.length == position.length {
            return Ok((true, Vec::new()));
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
        Ok((true, changes))
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
}

/// The name of the file of records while it is written.
fn aside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Gives the file of records its name, once all of it is on disk. That the name may be lost with power costs a whole run.
fn put_in_place(aside: &Path, path: &Path) -> Result<(), FollowError> {
    File::open(aside)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(aside, path))
        .map_err(|error| unkept(path, &error))
}

fn unkept(path: &Path, error: &std::io::Error) -> FollowError {
    FollowError::Keep(format!("{}: {error}", path.display()))
}

/// Opens the file of records to be written; nobody else reads it, or takes it up if that comes to no end.
fn open_store(path: &Path, rule: NameRule) -> Result<Store, FollowError> {
    let db = Connection::open(path).map_err(StoreError::from)?;
    db.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        .map_err(StoreError::from)?;
    Ok(Store::new(db, rule)?)
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
