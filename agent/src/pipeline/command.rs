//! The worker: gathers the inputs of a run from files, runs it, and puts its outcome in place.
//!
//! Order of the writes: good bodies are linked, the good access rules and the ratchet are written, all
//! of it synced; then the table, then the report. A worker that dies in between leaves a table that is
//! whole and a ratchet that is at least as high.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use dirless_copy::Draft;
use dirless_model::NameRule;
use dirless_model::access::AccessRules;
use dirless_program::fs::same;
use dirless_program::{Clock, Secret, SecretError};
use dirless_seal::Identity;
use dirless_table::{Table, TableMeta};

use super::follow::Worker;
use super::{
    AccessInput, Body, Content, DirectoryInput, Durations, Ending, HostFiles, HostLimits, Inputs, LimitsError, Opener,
    Outcome, Problem, Published, Ratchet, RatchetError, Report, RulesFrom, SourceInput, SourceNote, Taken, Tree, run,
    unchanged,
};
use crate::paths::Paths;
use crate::trust::{ACCESS_RULES, Joined, Keeper, KeeperError, KeptLog, unsigned_rules_count};

/// Longest text of the access rules, in bytes.
const LONGEST_RULES: u64 = 16 << 20;
/// Longest note beside a body, in bytes.
const LONGEST_NOTE: u64 = 64 << 10;

/// Access rules that admit nobody.
const NOBODY: &[u8] = br#"{"enforce_group_memberships":true,"host_group_rules":[]}"#;
/// Access rules that admit everybody: those of a tenant whose publishers never made any.
const EVERYBODY: &[u8] = br#"{"enforce_group_memberships":false,"host_group_rules":[]}"#;

/// What the configuration says about publishing.
#[derive(Clone, Debug)]
pub struct Options {
    /// The sources in the order of precedence; see [`super::SOURCES`].
    pub sources: Vec<String>,
    /// How raw names become names.
    pub name_rule: NameRule,
    /// Do `getpwent` and `getgrent` list the directory?
    pub enumerate: bool,
    /// The host name that access rules are compared with; see [`local_hostname`].
    pub hostname: String,
    /// Who must own the limits and the table; 0 on a real host.
    pub owner: u32,
    /// What this host was given when it joined; none where bodies are not signed.
    pub joined: Option<Joined>,
    /// The directory copy for LDAP; none when there is to be no copy.
    pub directory: Option<DirectoryOptions>,
    /// Most address space that the worker may take, in bytes; `None` leaves it alone, for callers
    /// that are no worker.
    pub memory: Option<u64>,
}

/// What is asked of the directory copy.
#[derive(Clone, Debug)]
pub struct DirectoryOptions {
    /// Where it begins.
    pub base: dirless_directory::Dn,
    /// Sources with entries of the tree, in the order of precedence.
    pub sources: Vec<String>,
}

impl Options {
    /// The usual options for a host called `hostname`.
    #[must_use]
    pub fn new(hostname: String) -> Self {
        Self {
            sources: super::SOURCES.map(str::to_owned).to_vec(),
            name_rule: NameRule::default(),
            enumerate: true,
            hostname,
            owner: 0,
            joined: None,
            directory: None,
            memory: None,
        }
    }
}

/// Why a worker could not even begin, or could not finish.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The host limits cannot be used.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The tenant's key cannot be read.
    #[error(transparent)]
    Key(#[from] SecretError),
    /// The tenant's key file holds no identity.
    #[error("{path} cannot be used: {reason}")]
    Identity {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The ratchet cannot be used.
    #[error(transparent)]
    Ratchet(#[from] RatchetError),
    /// What the host keeps of its tenant cannot be used.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// No policy was accepted yet.
    #[error("no policy of this tenant was accepted yet; `dirless status` tells what was refused and why")]
    NoPolicy,
    /// Another worker is at it.
    #[error("another publish is running; it will do")]
    Busy,
    /// A file could not be read or written.
    #[error("cannot {doing} {path}: {source}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl PublishError {
    fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::File { doing, path, source }
    }

    /// The worker's exit code (sysexits(3)): 78 something on this host is set up wrongly, 75 try
    /// again, 74 a file cannot be read or written.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Limits(_) | Self::Key(_) | Self::Identity { .. } => 78,
            Self::Busy | Self::NoPolicy => 75,
            Self::Ratchet(_) | Self::Keeper(_) | Self::File { .. } => 74,
        }
    }
}

/// The worker's exit code for a run that came to its end: 0 published or unchanged, 75 not ready yet,
/// 65 what there is may not be published, 74 the table cannot be written.
#[must_use]
fn exit_code(ending: Ending) -> u8 {
    match ending {
        Ending::Published | Ending::Unchanged => 0,
        Ending::NotReady => 75,
        Ending::Refused => 65,
        Ending::Failed => 74,
    }
}

/// The kernel's host name.
#[must_use]
pub fn local_hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Publishes from what lies in the agent's folder: `dirless-agent publish`. Prints one line of JSON to
/// `out` and returns the exit code.
///
/// # Errors
/// When the worker cannot begin or cannot keep its own state; see [`PublishError::exit_code`]. The
/// report then has the reason.
pub fn publish_command(
    paths: &Paths,
    options: &Options,
    clock: &Clock,
    out: &mut dyn Write,
) -> Result<u8, PublishError> {
    let result = publish(paths, options, clock, out);
    match &result {
        Ok(_) | Err(PublishError::Busy) => {}
        Err(error) => tell(paths, clock, error),
    }
    result
}

/// Notes in the report why there was no run, and leaves what it says about the table.
fn tell(paths: &Paths, clock: &Clock, error: &PublishError) {
    let mut report = Report::begin();
    report.published = Report::load(&paths.report())
        .ok()
        .flatten()
        .and_then(|before| before.published);
    report.ending = Ending::Refused;
    report.finished_at = clock.now().to_string();
    report.problem = Some(Problem {
        code: "setup".to_owned(),
        reason: error.to_string(),
        hint: "the table in place keeps serving; `dirless doctor` looks at everything".to_owned(),
    });
    // The error itself is returned; where it cannot be noted there is nobody else to tell.
    let _ = report.save(&paths.report());
}

fn publish(paths: &Paths, options: &Options, clock: &Clock, out: &mut dyn Write) -> Result<u8, PublishError> {
    if let Some(memory) = options.memory {
        limit_memory(memory);
    }
    let lock_path = paths.publish_lock();
    let lock = File::create(&lock_path).map_err(PublishError::file("create", &lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Err(PublishError::Busy),
        Err(fs::TryLockError::Error(error)) => return Err(PublishError::file("lock", &lock_path)(error)),
    }
    let before = Report::load(&paths.report()).unwrap_or_default();
    let inputs = gather(paths, options)?;
    let worker = Worker {
        paths,
        options,
        clock,
        inputs: &inputs,
    };
    let (outcome, is_whole) = match again(&worker, before.as_ref()) {
        Some(outcome) => {
            keep(paths, &inputs, &outcome)?;
            (outcome, false)
        }
        None => anew(&worker, before)?,
    };
    let report = &outcome.report;
    let saved = match report.save(&paths.report()) {
        // On a full disk the old report's own room is what is left.
        Err(_) if report.ending == Ending::Failed => report.save_in_place(&paths.report()),
        saved => saved,
    };
    let mut line = serde_json::to_string(&report.line()).unwrap_or_default();
    line.push('\n');
    out.write_all(line.as_bytes())
        .map_err(PublishError::file("write", Path::new("standard output")))?;
    // A disk too full for the report is told by the exit code when it was too full for the table.
    if report.ending != Ending::Failed {
        saved.map_err(PublishError::file("write", &paths.report()))?;
    }
    let code = exit_code(report.ending);
    // Last, for it may take as much time and memory as the run itself, and nothing of that is lost without it.
    if is_whole && let Err(error) = worker.remember(outcome) {
        // It makes the next change dearer, and nothing else.
        tracing::debug!(%error, "changes are not followed");
    }
    Ok(code)
}

/// Publishes something new: what a log says, if that can be followed, and a run over everything otherwise. Was it one?
fn anew(worker: &Worker<'_>, before: Option<Report>) -> Result<(Outcome, bool), PublishError> {
    let &Worker {
        paths, clock, inputs, ..
    } = worker;
    let kept = |outcome: &Outcome| keep(paths, inputs, outcome).map_err(|error| error.to_string());
    let followed = before.as_ref().map(|before| worker.follow(before, &kept));
    let because = match followed {
        Some(Ok(followed)) => return Ok((followed, false)),
        Some(Err(error)) => Some(error.to_string()),
        None => None,
    };
    let mut outcome = run(inputs, clock, None);
    // Where nothing is signed there is no log that could have been followed.
    outcome.report.whole_because = because.filter(|_| matches!(inputs.opener, Opener::Signed { .. }));
    keep(paths, inputs, &outcome)?;
    if outcome.report.ending != Ending::Unchanged {
        finish(worker, before, &mut outcome);
    }
    Ok((outcome, true))
}

/// The outcome of the last run, when it was of the same inputs and its table is in place.
fn again(worker: &Worker<'_>, before: Option<&Report>) -> Option<Outcome> {
    let Worker {
        paths, options, inputs, ..
    } = *worker;
    let published = before?.published.as_ref()?;
    if options.directory.is_some() {
        let copy = published.copy.as_ref()?;
        if Draft::content(&paths.directory_copy()).as_ref() != Some(copy) {
            return None;
        }
    } else if paths.directory_copy().exists() {
        return None;
    }
    let in_place = Table::open(&paths.table(), options.owner).ok()?.stats().generation;
    // A body that cannot be read is for the run to tell.
    let digest = unchanged::digest(options, inputs, &inputs.ratchet).ok()?;
    if published.generation != in_place || published.made_from.as_ref() != Some(&digest) {
        return None;
    }
    let mut report = before?.clone();
    report.ending = Ending::Unchanged;
    report.durations = Durations::default();
    report.finished_at = worker.clock.now().to_string();
    Some(Outcome {
        content: None,
        tree: None,
        report,
        ratchet: inputs.ratchet.clone(),
    })
}

/// A bomb that gets past the caps ends this worker and nothing else.
fn limit_memory(bytes: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let current = getrlimit(Resource::As);
    let limit = current.maximum.map_or(bytes, |maximum| maximum.min(bytes));
    // The caps on the input hold without it, so a system that refuses costs only the second line.
    let _ = setrlimit(
        Resource::As,
        Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        },
    );
}

/// Reads everything that a run depends on.
///
/// # Errors
/// When the key, the limits, the ratchet or the host's account files cannot be read.
pub fn gather(paths: &Paths, options: &Options) -> Result<Inputs, PublishError> {
    let limits = HostLimits::load(&paths.limits(), options.owner)?;
    let opener = match &options.joined {
        Some(joined) => signed_opener(paths, joined)?,
        None => Opener::Key(tenant_key(paths)?),
    };
    let host = HostFiles {
        passwd: read_accounts(&paths.passwd())?,
        group: read_accounts(&paths.group())?,
        shells: read_small(&paths.shells(), LONGEST_RULES)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    };
    let inputs = |names: &[String]| -> Result<Vec<SourceInput>, PublishError> {
        names.iter().map(|name| source_input(paths, name)).collect()
    };
    let directory = options.directory.as_ref().map(|directory| {
        Ok::<_, PublishError>(DirectoryInput {
            base: directory.base.clone(),
            sources: inputs(&directory.sources)?,
        })
    });
    Ok(Inputs {
        sources: inputs(&options.sources)?,
        directory: directory.transpose()?,
        access: access(paths, options.joined.as_ref(), &opener)?,
        opener,
        name_rule: options.name_rule.clone(),
        hostname: options.hostname.clone(),
        limits,
        host,
        ratchet: Ratchet::load(&paths.ratchet())?,
    })
}

fn tenant_key(paths: &Paths) -> Result<Identity, PublishError> {
    let path = paths.age_key();
    let key = Secret::from_file(&path)?;
    Identity::parse(key.expose()).map_err(|error| PublishError::Identity {
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

/// The policy that was accepted last, and every key that the host was given.
fn signed_opener(paths: &Paths, joined: &Joined) -> Result<Opener, PublishError> {
    let keeper = Keeper::new(paths.trust_folder(), joined.clone());
    let policy = keeper.policy(&keeper.memory()?)?.ok_or(PublishError::NoPolicy)?;
    Ok(Opener::Signed {
        policy: Box::new(policy),
        keys: keeper.epoch_keys()?,
    })
}

/// The access rules: a source like others where everything is signed. What nobody signed counts there only while there are
/// no signed ones, and then no rules are rules too.
fn access(paths: &Paths, joined: Option<&Joined>, opener: &Opener) -> Result<AccessInput, PublishError> {
    let unsigned = || -> Result<AccessInput, PublishError> {
        Ok(AccessInput {
            fetched: read_small(&paths.access_rules(), LONGEST_RULES)?,
            last_good: read_small(&paths.good_access_rules(), LONGEST_RULES)?,
            from: RulesFrom::Backend,
        })
    };
    let (Opener::Signed { policy, keys }, Some(joined)) = (opener, joined) else {
        return unsigned();
    };
    let own = |text: &[u8]| AccessInput {
        fetched: Some(text.to_vec()),
        last_good: None,
        from: RulesFrom::Host,
    };
    if paths.trust_closed().exists() {
        return Ok(own(NOBODY));
    }
    let body = paths.sealed(ACCESS_RULES);
    let is_there = body.exists();
    if !is_there && unsigned_rules_count(&Keeper::new(paths.trust_folder(), joined.clone()))? {
        let unsigned = unsigned()?;
        let has_some = unsigned.fetched.is_some() || unsigned.last_good.is_some();
        return Ok(if has_some { unsigned } else { own(EVERYBODY) });
    }
    Ok(AccessInput {
        // Why it cannot be used is told where the last good ones stand in for it.
        fetched: is_there
            .then(|| super::open::signed_rules(&Body::File(body), policy, keys).ok())
            .flatten(),
        last_good: read_small(&paths.good_signed_rules(), LONGEST_RULES)?,
        from: RulesFrom::Publisher,
    })
}

/// Without the host's accounts no clash with them can be seen, so their absence is an error.
fn read_accounts(path: &Path) -> Result<String, PublishError> {
    let bytes = fs::read(path).map_err(PublishError::file("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A file of at most `longest` bytes; `None` when it is not there. What is longer is cut, which no
/// JSON survives.
fn read_small(path: &Path, longest: u64) -> Result<Option<Vec<u8>>, PublishError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PublishError::file("read", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(longest)
        .read_to_end(&mut bytes)
        .map_err(PublishError::file("read", path))?;
    Ok(Some(bytes))
}

fn source_input(paths: &Paths, name: &str) -> Result<SourceInput, PublishError> {
    let note = read_small(&paths.source_note(name), LONGEST_NOTE)?;
    // A damaged note is as good as none: the daemon writes it again with the next fetch.
    let note: Option<SourceNote> = note.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let there = |path: std::path::PathBuf| path.exists().then_some(Body::File(path));
    let (sealed, good) = (paths.sealed(name), paths.last_good(name));
    let last_good = if is_kept(&sealed, &good) { None } else { there(good) };
    Ok(SourceInput {
        name: name.to_owned(),
        note,
        fetched: there(sealed),
        last_good,
    })
}

/// Is the body at `good` the one at `sealed`, with as much of its log?
fn is_kept(sealed: &Path, good: &Path) -> bool {
    same(sealed, good) && KeptLog::told_beside(sealed) == KeptLog::told_beside(good)
}

/// Keeps what was accepted, before anything is published.
fn keep(paths: &Paths, inputs: &Inputs, outcome: &Outcome) -> Result<(), PublishError> {
    for source in &outcome.report.sources {
        let (sealed, good) = (paths.sealed(&source.name), paths.last_good(&source.name));
        match source.taken {
            Taken::Fetched if !is_kept(&sealed, &good) => {
                // Never a body without the log that was good with it.
                let keep = || {
                    if same(&sealed, &good) {
                        return KeptLog::keep_beside(&sealed, &good, link_whole);
                    }
                    dirless_program::fs::remove(&good)?;
                    KeptLog::keep_beside(&sealed, &good, link_whole)?;
                    link_whole(&sealed, &good)
                };
                keep().map_err(PublishError::file("keep", &good))?;
            }
            // An emptied source must not come back by way of its last good body.
            Taken::Empty => dirless_program::fs::remove(&good)
                .and_then(|()| KeptLog::remove_beside(&good))
                .map_err(PublishError::file("remove", &good))?,
            Taken::Fetched | Taken::LastGood | Taken::Nothing => {}
        }
    }
    keep_rules(paths, &inputs.access)?;
    if outcome.ratchet != inputs.ratchet {
        let path = paths.ratchet();
        outcome
            .ratchet
            .save(&path)
            .map_err(PublishError::file("write", &path))?;
    }
    Ok(())
}

/// Keeps the access rules that were fetched, if they are well-formed. From signed ones there is no way back to others.
fn keep_rules(paths: &Paths, access: &AccessInput) -> Result<(), PublishError> {
    let path = match access.from {
        RulesFrom::Backend => paths.good_access_rules(),
        RulesFrom::Publisher => paths.good_signed_rules(),
        RulesFrom::Host => return Ok(()),
    };
    let fetched = access.fetched.as_deref();
    let Some(text) = fetched.filter(|text| AccessRules::parse(text).is_ok()) else {
        return Ok(());
    };
    if access.last_good.as_deref() != Some(text) {
        dirless_program::fs::publish(&path, 0o600, text).map_err(PublishError::file("write", &path))?;
    }
    if access.from == RulesFrom::Publisher {
        for path in [paths.access_rules(), paths.good_access_rules()] {
            dirless_program::fs::remove(&path).map_err(PublishError::file("remove", &path))?;
        }
    }
    Ok(())
}

/// Gives the file `from` the second name `to`, replacing what has it. The daemon replaces bodies by
/// rename, so that the second name keeps the bytes it has.
fn link_whole(from: &Path, to: &Path) -> io::Result<()> {
    let aside = to.with_extension("good.new");
    dirless_program::fs::remove(&aside)?;
    fs::hard_link(from, &aside)?;
    fs::rename(&aside, to)?;
    to.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Writes the table when it says something new, and completes the report.
fn finish(worker: &Worker<'_>, before: Option<Report>, outcome: &mut Outcome) {
    let Worker { paths, options, .. } = *worker;
    let start = worker.clock.now();
    let report = &mut outcome.report;
    report.published = before.and_then(|report| report.published);
    if let Some(content) = &outcome.content {
        place(paths, options, start, content, report);
        copy(paths, options, start, content, outcome.tree.as_ref(), report);
    }
    let known = unchanged::depends_on_fetched_alone(report);
    if let Some(published) = &mut report.published {
        // With the ratchet that the next run will start from.
        published.made_from = known
            .then(|| unchanged::digest(options, worker.inputs, &outcome.ratchet).ok())
            .flatten();
    }
    let end = worker.clock.now();
    report.durations.publish = super::milliseconds(start, end);
    report.finished_at = end.to_string();
}

/// The copy is a service to others: that it cannot be written is told, and costs nobody their login.
fn copy(
    paths: &Paths,
    options: &Options,
    now: jiff::Timestamp,
    content: &Content,
    tree: Option<&Tree>,
    report: &mut Report,
) {
    let path = paths.directory_copy();
    if let Some(published) = &mut report.published {
        published.copy = None;
    }
    let outcome = match (&options.directory, tree) {
        (None, _) => Draft::remove_all(&path),
        // A source of the tree cannot be used, as its report tells: the copy in place says more.
        (Some(_), None) => Ok(()),
        (Some(directory), Some(tree)) => {
            let digest = content.digest(options.enumerate);
            let done = super::publish_directory(&path, &directory.base, content, tree, &digest, now);
            if let (Ok(_), Some(published)) = (&done, &mut report.published) {
                published.copy = Draft::content(&path);
            }
            done.map(drop)
        }
    };
    if let Err(error) = outcome {
        report.caution(super::report::NO_COPY, 1, |_| {
            format!("{error}; LDAP on this host answers from the copy before, and the next publish tries again")
        });
    }
}

/// Publishes `content`, and says how that ended.
fn place(paths: &Paths, options: &Options, now: jiff::Timestamp, content: &Content, report: &mut Report) {
    let told = report.published.as_ref().map_or(0, |published| published.generation);
    let found = Table::open(&paths.table(), options.owner).map_or(0, |table| table.stats().generation);
    let meta = TableMeta {
        generation: told.max(found).saturating_add(1),
        created: u64::try_from(now.as_second()).unwrap_or(0),
        enumerate: options.enumerate,
    };
    let written = if found != 0 && told == found {
        super::publish_changed(&paths.table(), options.owner, meta, content)
    } else {
        // What is in place is not what the report tells of, and is not kept.
        super::publish(&paths.table(), meta, content).map(Some)
    };
    match written {
        Ok(None) => report.ending = Ending::Unchanged,
        Ok(Some(_)) => {
            let users = &content.directory.users;
            report.ending = Ending::Published;
            report.published = Some(Published {
                generation: meta.generation,
                made_from: None,
                copy: None,
                at: now.to_string(),
                users: users.len(),
                groups: content.groups(),
                users_with_keys: users.iter().filter(|user| !user.keys.is_empty()).count(),
            });
        }
        Err(error) => {
            report.ending = Ending::Failed;
            report.problem = Some(Problem {
                code: "table".to_owned(),
                reason: format!(
                    "the lookup table {} cannot be written: {error}",
                    paths.table().display()
                ),
                hint: "the table in place keeps serving; make room on that disk, and see that the folder is root's"
                    .to_owned(),
            });
        }
    }
}
