//! One cycle, in the order of deployed agents: sources, access rules, publish, duplicates, heartbeat,
//! certificate authority. All of it goes to one backend.

use std::io;

use dirless_client::{BuildError, Client, ClientBuilder, Cycle, Files, Found, Notices, RetryPolicy, TenantState};
use dirless_program::fs::lock_patiently;
use dirless_program::{Clock, Secret};
use dirless_seal::Identity;
use dirless_seal::trust::{Head, ReceiptAlarm};
use dirless_wire::{AgePublicKey, Duplicates, ETag, Notice, SourceName};

use super::authority::proposal;
use super::fetch::{self, Step};
use super::heartbeat::{heartbeat, problems_of};
use super::patience::patiently;
use super::state::{self, DaemonState};
use super::worker::{Spawn, WorkerCommand};
use super::{inputs, prepare, sessions};
use crate::config::{Classic, Config, Timing, Upstream};
use crate::host::ca::Proposal;
use crate::host::sshd_program::SshdProgram;
use crate::paths::Paths;
use crate::pipeline::Report;
use crate::trust::{Applied, Keeper, KeeperError, ReachError, believed_tenant, files, timeouts};

/// Whose the host's limits and the table have to be: root's.
pub(super) const OWNER: u32 = 0;

/// Everything a cycle works with.
#[derive(Debug)]
pub struct Engine {
    pub(super) config: Config,
    pub(super) paths: Paths,
    hostname: String,
    pub(super) upstream: Source,
    pub(super) receipts: Receipts,
    pub(super) clock: Clock,
    worker: WorkerCommand,
    pub(super) sshd: SshdProgram,
    pub(super) state: DaemonState,
    pub(super) tenant: TenantState,
    /// The problems that the last heartbeat named.
    told: Vec<String>,
    pub(super) saved: DaemonState,
    /// Held as long as the engine lives, so that there is one at a time.
    _lock: std::fs::File,
}

/// What this host says of itself where files are signed. In memory only: a receipt is made of what a walk saw.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// What the table was made from.
    pub(super) applied: Option<Applied>,
    /// Whether a receipt was sent since the start, by the keys in use.
    pub(super) sent: bool,
    /// How often new keys came into use since the start.
    pub(super) keys: u32,
    /// The head that calls for the next cycle.
    pub(super) called: Option<(Head, String)>,
    /// What was wrong when it was looked at last.
    pub(super) alarms: Vec<ReceiptAlarm>,
    /// What the last receipt said was wrong.
    pub(super) told: Vec<ReceiptAlarm>,
}

/// Who is asked.
#[derive(Debug)]
pub(super) enum Source {
    Classic(Client),
    Signed(Files),
}

/// Why there can be no cycles at all.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Another daemon, or another `run --once`, is at it.
    #[error("another dirless-agent is running on this host; to have it look now, run: dirless refresh")]
    Running,
    /// The state folders cannot be made.
    #[error("cannot prepare {path}: {source}")]
    State {
        /// The folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration would go back to what nobody signed.
    #[error(
        "this host joined tenant {0} and believes its signed files alone, but {1} speaks the classic protocol for the same \
         tenant (downgrade): put the [trust] of its join back, or run dirless join --again; to leave the verified protocol \
         for good, remove {2}"
    )]
    Downgrade(String, std::path::PathBuf, std::path::PathBuf),
    /// What this host keeps of its tenant cannot be read.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// The client cannot be made from the configuration.
    #[error(transparent)]
    Client(#[from] BuildError),
    /// There is no way to signed files.
    #[error(transparent)]
    Reach(#[from] ReachError),
}

/// What a caller asks of one cycle.
#[derive(Clone, Debug, Default)]
pub struct CycleOptions {
    /// The operator said that this source may be empty.
    pub accept_absent: Option<SourceName>,
    /// Ask for everything, also when the backend says that nothing has changed.
    pub thorough: bool,
}

impl CycleOptions {
    /// Everything anew, because somebody wants it.
    #[must_use]
    pub fn thorough() -> Self {
        Self {
            thorough: true,
            ..Self::default()
        }
    }
}

/// What came of one cycle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What an operator should know, most important first.
    pub problems: Vec<String>,
    /// The next cycle should come later than usual.
    pub failed: bool,
    /// How long the backend asks to wait.
    pub retry_after: Option<std::time::Duration>,
    /// Whether the worker ran.
    pub worked: bool,
    /// Whether the table is another one than before.
    pub changed: bool,
    /// The backend that answered.
    pub backend: Option<String>,
}

impl Outcome {
    fn take(&mut self, step: Step) {
        self.problems.extend(step.problem);
        self.failed |= step.failed;
        self.retry_after = self.retry_after.max(step.retry_after);
    }
}

impl Engine {
    /// Prepares the state folders, takes the lock and makes the client. Nothing is sent yet.
    ///
    /// # Errors
    /// When another daemon runs, or the folders or the configuration cannot be used.
    pub fn new(
        config: Config,
        paths: Paths,
        clock: Clock,
        worker: WorkerCommand,
        sshd: SshdProgram,
    ) -> Result<Self, EngineError> {
        let failed = |source| EngineError::State {
            path: paths.state_folder(),
            source,
        };
        prepare(&paths).map_err(failed)?;
        let lock = std::fs::File::create(paths.cycle_lock()).map_err(failed)?;
        lock_patiently(|| Ok(lock.try_lock()?)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => EngineError::Running,
            _ => failed(error),
        })?;
        for folder in [paths.sources_folder(), paths.agent_folder(), paths.table_folder()] {
            fetch::remove_leftovers(&folder);
        }
        let upstream = match &config.upstream {
            Upstream::Classic(classic) => {
                no_way_back(classic, &paths)?;
                Source::Classic(client(classic, &config.timing, &clock)?)
            }
            Upstream::Signed(signed) => {
                let keeper = Keeper::new(paths.trust_folder(), signed.joined.clone());
                Source::Signed(files(signed, &keeper, &config.timing, &clock)?)
            }
        };
        let paths = paths.with_age_key(config.age_key_path.clone());
        let state = state::load(&paths.daemon_state());
        Ok(Self {
            hostname: crate::pipeline::local_hostname(),
            upstream,
            receipts: Receipts::default(),
            clock,
            worker,
            sshd,
            tenant: TenantState::default(),
            told: Vec::new(),
            saved: state.clone(),
            state,
            config,
            paths,
            _lock: lock,
        })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The client, for probing and for what it knows of its backends; none where files lie in a folder or on a web server.
    #[must_use]
    pub fn client(&self) -> Option<&Client> {
        match &self.upstream {
            Source::Classic(client) => Some(client),
            Source::Signed(Files::Backend(backend)) => Some(backend.client()),
            Source::Signed(_) => None,
        }
    }

    /// Begins to listen for notices, where somebody sends them and the configuration wants them.
    pub(super) fn notices(&self) -> Option<Notices> {
        let client = self.client().filter(|_| self.config.watch)?;
        Some(Notices::start(client.clone(), self.config.timing.rhythm()))
    }

    /// Changes when whoever listens has to do so anew, with another key.
    pub(super) fn keys(&self) -> u32 {
        self.receipts.keys
    }

    /// Does a notice tell of something that the last cycles have not seen to?
    pub(super) fn is_news(&self, notice: &Notice) -> bool {
        match notice {
            Notice::Head(note) => self.new_head(note).is_some(),
            Notice::State(..) | Notice::Changed => self.tenant.is_news(notice),
        }
    }

    /// A notice calls for the cycle that follows.
    pub(super) fn called(&mut self, notice: &Notice) {
        self.tenant.called(notice);
        self.receipts.called = match notice {
            Notice::Head(note) => self.new_head(note),
            Notice::State(..) | Notice::Changed => None,
        };
    }

    /// Is a notice of something that the backend which was asked did not know of?
    pub(super) fn is_ahead(&self, notice: &Notice) -> bool {
        self.tenant.is_ahead(notice)
    }

    /// Whether there is a table to serve from.
    #[must_use]
    pub fn has_table(&self) -> bool {
        self.paths.table().exists()
    }

    /// The last worker's report.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        Report::load(&self.paths.report()).ok().flatten()
    }

    /// Runs one cycle. It never fails as a whole: what went wrong is in the outcome, and everything
    /// else was done. `alive` is called between the steps.
    ///
    /// Where the backend tells the tenant's state in answer to heartbeats, the heartbeat comes first, and
    /// while that state is the one of the last cycle that left nothing to do, it is the only request.
    ///
    /// Where files are signed they are walked over and published; a backend is told what was applied.
    pub async fn cycle(&mut self, options: &CycleOptions, alive: &mut dyn FnMut()) -> Outcome {
        let mut outcome = Outcome::default();
        match &self.upstream {
            Source::Classic(client) => {
                let cycle = client.cycle();
                self.classic_cycle(&cycle, options, &mut outcome, alive).await;
                outcome.backend = cycle.backend();
            }
            Source::Signed(files) => {
                let files = files.clone();
                self.signed_cycle(&files, &mut outcome, alive).await;
            }
        }
        if let Err(error) = state::save(&self.paths.daemon_state(), &self.state, &mut self.saved) {
            outcome.failed = true;
            outcome
                .problems
                .push(format!("{}: {error}", self.paths.daemon_state().display()));
        }
        outcome
    }

    async fn classic_cycle(
        &mut self,
        cycle: &Cycle,
        options: &CycleOptions,
        outcome: &mut Outcome,
        alive: &mut dyn FnMut(),
    ) {
        let own_key = self.own_key(outcome);
        let asks = options.thorough || options.accept_absent.is_some() || outcome.failed;
        if let Some(changes) = self.tenant.changes().filter(|_| !asks) {
            return self
                .changed_cycle(cycle, &changes, own_key.as_ref(), outcome, alive)
                .await;
        }
        let before = if self.tenant.is_told() {
            let told = std::mem::take(&mut self.told);
            patiently(self.beat(cycle, told), alive).await.ok().flatten()
        } else {
            None
        };
        alive();
        if !asks && self.tenant.is_settled(before.as_ref()) {
            self.publish(outcome, alive).await;
            if !self.authority(&Proposal::Unknown, outcome) || outcome.worked {
                self.tenant.unsettle();
            }
            patiently(self.report_back(cycle, &before, outcome), alive).await;
        } else {
            self.tenant.unsettle();
            let found = self
                .ask(cycle, options, own_key.as_ref(), &before, outcome, alive)
                .await;
            if let (Some(found), Some(tag)) = (found, before) {
                let parts = match self.tenant.parts(&tag) {
                    Some(parts) => Some(parts),
                    None => patiently(cycle.get_state(&tag), alive).await.ok().flatten(),
                };
                if let Some(parts) = parts {
                    self.tenant.settle(&tag, parts, &found);
                }
            }
        }
    }

    /// Asks for everything and publishes. What was found, when the same answers again would change nothing, here
    /// or in what is remembered.
    async fn ask(
        &mut self,
        cycle: &Cycle,
        options: &CycleOptions,
        own_key: Option<&AgePublicKey>,
        before: &Option<ETag>,
        outcome: &mut Outcome,
        alive: &mut dyn FnMut(),
    ) -> Option<Found> {
        let sources = self.config.fetched().cloned().collect();
        let accept = options.accept_absent.as_ref();
        let mut reached = self.sources(cycle, sources, accept, own_key, outcome, alive).await;
        alive();
        let mut rules_known = self.paths.access_rules().exists();
        let mut rules = None;
        if reached {
            let (step, known, tag) = patiently(fetch::rules(cycle, &self.paths), alive).await;
            (rules_known, rules) = (known, tag);
            reached = !step.give_up;
            outcome.take(step);
        }
        alive();
        let fetched_well = outcome.problems.is_empty();
        if rules_known {
            self.publish(outcome, alive).await;
        }
        alive();
        // Without anybody to talk to, each further call would only cost its time limit.
        let proposal = if reached {
            patiently(self.report_back(cycle, before, outcome), alive).await;
            alive();
            patiently(proposal(cycle), alive).await
        } else {
            Proposal::Unknown
        };
        let authority_rests = self.authority(&proposal, outcome);
        let streaks = !self.state.has_streaks();
        let rests = reached && fetched_well && !outcome.failed && streaks && authority_rests;
        (rests && proposal != Proposal::Unknown).then(|| {
            let fetched = self.config.fetched();
            let tag = |source| fetch::tag(&self.paths, source);
            Found {
                sources: fetched.map(|source| (source.clone(), tag(source))).collect(),
                rules,
            }
        })
    }

    /// Reports duplicate names, and what this host serves now unless the heartbeat before said the same.
    pub(super) async fn report_back(&mut self, cycle: &Cycle, before: &Option<ETag>, outcome: &mut Outcome) {
        let report = self.report();
        self.duplicates(cycle, report.as_ref(), outcome).await;
        if before.is_none() || outcome.worked || outcome.problems != self.told {
            let problems = outcome.problems.clone();
            if let Err(error) = self.beat(cycle, problems).await {
                outcome.problems.push(format!("heartbeat: {error}"));
            }
        }
    }

    /// Sends a heartbeat, and remembers what it said and is answered.
    async fn beat(&mut self, cycle: &Cycle, problems: Vec<String>) -> Result<Option<ETag>, dirless_client::Error> {
        let report = self.report();
        let mut beat = heartbeat(&self.config.agent_id, &self.hostname, report.as_ref(), &problems);
        if let Some(host) = &mut beat.report {
            host.sessions_ended = self.state.sessions_ended;
        }
        let answer = cycle.post_heartbeat(&beat).await;
        self.tenant.heard(answer.as_ref().ok().cloned().flatten());
        self.told = problems;
        answer
    }

    /// The public half of this host's key. Without one the cycle goes on: the worker says what is
    /// wrong with the key, and everything fetched meanwhile is there once it is mended.
    fn own_key(&self, outcome: &mut Outcome) -> Option<AgePublicKey> {
        let read = Secret::from_file(&self.paths.age_key()).map_err(|error| error.to_string());
        let identity = read.and_then(|text| Identity::parse(text.expose()).map_err(|error| error.to_string()));
        match identity {
            Ok(identity) => AgePublicKey::new(identity.recipient().as_str()).ok(),
            Err(error) => {
                outcome.failed = true;
                outcome.problems.push(format!(
                    "{error}; without the tenant's key nothing can be opened: put it there (dirless enroll)"
                ));
                None
            }
        }
    }

    /// Fetches every source. False when there is nobody to talk to.
    pub(super) async fn sources(
        &mut self,
        cycle: &Cycle,
        sources: Vec<SourceName>,
        accept_absent: Option<&SourceName>,
        own_key: Option<&AgePublicKey>,
        outcome: &mut Outcome,
        alive: &mut dyn FnMut(),
    ) -> bool {
        let mut answered = false;
        for source in sources {
            alive();
            let accept = accept_absent == Some(&source);
            let now = self.clock.now();
            let fetching = fetch::source(cycle, &self.paths, &mut self.state, &source, own_key, accept, now);
            let step = patiently(fetching, alive).await;
            let give_up = step.give_up;
            // One source that nobody answers for may be that source's fault: the others are asked.
            answered |= !step.unanswered;
            outcome.take(step);
            if give_up {
                return false;
            }
        }
        answered
    }

    /// Has the worker make the table when anything it is made from has changed, and ends the sessions of people who are in
    /// it no more, where the host's limits say so.
    pub(super) async fn publish(&mut self, outcome: &mut Outcome, alive: &mut dyn FnMut()) {
        let watch = sessions::Watch::begin(&self.paths, OWNER);
        self.make_table(outcome, alive).await;
        match watch {
            Some(watch) => self.end_sessions(watch, outcome, alive).await,
            None => self.forget_people(),
        }
    }

    /// Has the worker make the table when anything it is made from has changed.
    async fn make_table(&mut self, outcome: &mut Outcome, alive: &mut dyn FnMut()) {
        let unknown = |source: &&SourceName| fetch::read_note(&self.paths, source).is_none();
        if let Some(source) = self.config.sources.iter().find(unknown) {
            outcome.failed = true;
            outcome.problems.push(format!(
                "nothing is published before every source was asked for once; missing: {source}"
            ));
            return;
        }
        let digest = |engine: &Self| {
            inputs::digest(
                &engine.paths,
                &engine.config.fetched().cloned().collect::<Vec<_>>(),
                engine.config.enumerate,
                engine.config.directory.is_some(),
                &engine.hostname,
            )
        };
        let before = digest(self);
        if before.is_some() && before == self.state.built_from {
            if let Some(report) = self.report() {
                outcome.problems.extend(problems_of(&report));
            }
            return;
        }
        let generation = |report: Option<Report>| Some(report?.published?.generation);
        let old = generation(self.report());
        outcome.worked = true;
        let spawned = self.worker.run(&mut *alive).await;
        let report = self.report();
        match spawned {
            Spawn::Done => {
                // A directory copy that could not be written is tried again, though the table is good.
                let whole = !report.as_ref().is_some_and(Report::lacks_copy);
                self.state.built_from = digest(self).filter(|_| whole);
                if let Some(report) = &report {
                    outcome.problems.extend(problems_of(report));
                }
                outcome.changed = generation(report) != old;
            }
            Spawn::Refused(problem) => {
                // The same again would end the same; only something new can help.
                self.state.built_from = digest(self);
                outcome.failed = true;
                outcome.problems.extend(report.iter().flat_map(problems_of));
                outcome.problems.push(problem);
            }
            Spawn::Failed(problem) => {
                self.state.built_from = None;
                outcome.failed = true;
                outcome.problems.push(problem);
            }
        }
    }

    async fn duplicates(&mut self, cycle: &Cycle, report: Option<&Report>, outcome: &mut Outcome) {
        let Some(report) = report else {
            return;
        };
        let mut names = report.duplicates.clone();
        names.sort();
        names.truncate(Duplicates::MAX_NAMES);
        if names == self.state.duplicates {
            return;
        }
        let body = Duplicates {
            duplicate_usernames: names.clone(),
        };
        match cycle.put_duplicates(&body).await {
            Ok(()) => self.state.duplicates = names,
            Err(error) => outcome.problems.push(format!("reporting duplicate names: {error}")),
        }
    }
}

/// Refuses the classic protocol for a tenant whose signed files this host believes: otherwise whoever can write its
/// configuration file, or an old copy of it that a tool puts back, undoes what the join was for.
fn no_way_back(classic: &Classic, paths: &Paths) -> Result<(), EngineError> {
    let folder = paths.trust_folder();
    let believed = believed_tenant(&folder)?.map(|tenant| tenant.to_string());
    match believed {
        Some(tenant) if tenant == classic.tenant.as_str() => {
            Err(EngineError::Downgrade(tenant, paths.config(), folder.join("memory")))
        }
        _ => Ok(()),
    }
}

/// The client that the configuration asks for.
///
/// # Errors
/// When something in it cannot work.
pub(crate) fn client(config: &Classic, timing: &Timing, clock: &Clock) -> Result<Client, BuildError> {
    let mut builder = ClientBuilder::new()
        .urls(config.urls.iter().map(String::as_str))?
        .bearer(config.secret.duplicate())
        .tenant(config.tenant.clone())
        .timeouts(timeouts(timing))
        // The loop has its own pace.
        .retry(RetryPolicy::none())
        .readmit_after(timing.readmit_after)
        .user_agent(concat!("dirless-agent/", env!("CARGO_PKG_VERSION")))
        .clock(clock.clone());
    if let Some(file) = &config.ca_file {
        builder = builder.ca_file(file);
    }
    builder.build()
}
