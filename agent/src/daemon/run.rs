//! The loop: cycles on schedule or on request, probes, the watchdog, and a clean end.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use dirless_client::{Callers, Calls, Client, Looks, Notices};
use dirless_program::{Clock, service};
use dirless_wire::Notice;
use rand::Rng;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::control::{self, Request, Status};
use super::engine::{CycleOptions, Engine, Outcome};
use super::leavers::LOOK_AGAIN;

/// How long whoever waits for readiness waits for a first cycle; service managers give up after a minute and a half.
const FIRST: Duration = Duration::from_secs(30);

/// How the loop runs.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where the control socket is made; `None` for no socket.
    pub control: Option<std::path::PathBuf>,
    /// The time.
    pub clock: Clock,
}

/// Runs cycles until `stop` ends.
///
/// # Errors
/// When signal handlers or the control socket cannot be set up.
pub async fn run(mut engine: Engine, options: RunOptions, stop: impl Future<Output = ()>) -> io::Result<()> {
    let mut loop_state = Loop::new(&options);
    let mut hangup = signal(SignalKind::hangup())?;
    let listener =
        match &options.control {
            Some(path) => Some(control::listen(path).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()))
            })?),
            None => None,
        };
    let has_table = engine.has_table();
    if has_table {
        // Lookups never wait for the daemon; neither does whoever waits for it at boot.
        service::ready("serving the last published table");
        loop_state.ready = true;
    }
    let timing = engine.config().timing;
    let mut next = Instant::now() + timing.rhythm().first(has_table, rand::rng().random());
    let mut probe = Timer::new(timing.probe_interval);
    let mut watchdog = Timer::new(service::watchdog_interval().unwrap_or_default());
    let mut looks = Timer::new(LOOK_AGAIN);
    let mut listening = Listening::default();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            _ = hangup.recv() => next = loop_state.cycle(&mut engine, &CycleOptions::thorough()).await,
            accepted = accept(listener.as_ref()) => {
                loop_state.status.told_by = listening.backend();
                if let Some(request) = loop_state.serve(&mut engine, accepted, next).await {
                    next = request;
                }
            }
            heard = listening.next() => {
                let Some(notice) = listening.callers.choose(heard, |notice| engine.is_news(notice)) else {
                    continue;
                };
                match listening.calls.pause(Instant::now().into_std()) {
                    None => {
                        engine.called(&notice);
                        next = loop_state.cycle(&mut engine, &CycleOptions::default()).await;
                        next = listening.settle(&engine, notice, next);
                    }
                    Some(pause) => {
                        listening.callers.put_off();
                        listening.looks.begin(notice);
                        next = next.min(Instant::now() + pause);
                    }
                }
            }
            () = tokio::time::sleep_until(next) => {
                next = loop_state.cycle(&mut engine, &CycleOptions::default()).await;
                next = listening.after_cycle(&engine, next);
            }
            () = probe.tick() => {
                // With one address there is nothing to choose, and the cycle itself tells.
                if let Some(client) = engine.client().filter(|client| client.backends().len() > 1) {
                    client.probe().await;
                }
            }
            () = looks.tick(), if engine.has_leavers() => engine.look_again(&mut service::alive).await,
            () = watchdog.tick() => service::alive(),
        }
    }
    service::stopping();
    if let Some(path) = &options.control {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Listening for notices, from the first cycle on: a host that starts has asked for everything then.
#[derive(Default)]
struct Listening {
    notices: Option<Notices>,
    /// With which of the engine's keys it began.
    begun: Option<u32>,
    callers: Callers,
    looks: Looks,
    calls: Calls,
}

impl Listening {
    /// Who tells now.
    fn backend(&self) -> Option<String> {
        self.notices.as_ref().and_then(Notices::backend)
    }

    /// Notices that were not looked at, or that are to be looked at once more.
    async fn next(&mut self) -> Vec<Notice> {
        if let Some(notice) = self.callers.again() {
            return vec![notice];
        }
        match &mut self.notices {
            Some(notices) => notices.next().await,
            None => std::future::pending().await,
        }
    }

    /// When the next cycle is due after one that `notice` has called.
    fn settle(&mut self, engine: &Engine, notice: Notice, next: Instant) -> Instant {
        self.looks.begin(notice);
        self.after_cycle(engine, next)
    }

    fn after_cycle(&mut self, engine: &Engine, next: Instant) -> Instant {
        self.callers.cycle_ended();
        if self.begun != Some(engine.keys()) {
            self.begun = Some(engine.keys());
            self.notices = engine.notices();
        }
        match self.looks.pause(|notice| engine.is_ahead(notice)) {
            Some(pause) => next.min(Instant::now() + pause),
            None => next,
        }
    }
}

async fn accept(listener: Option<&tokio::net::UnixListener>) -> io::Result<tokio::net::UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Ticks at an interval; never when the interval is zero.
struct Timer(Option<tokio::time::Interval>);

impl Timer {
    fn new(every: Duration) -> Self {
        Self((!every.is_zero()).then(|| {
            let mut interval = tokio::time::interval_at(Instant::now() + every, every);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            interval
        }))
    }

    async fn tick(&mut self) {
        match &mut self.0 {
            Some(interval) => {
                interval.tick().await;
            }
            None => std::future::pending().await,
        }
    }
}

/// What the loop knows about itself.
struct Loop {
    clock: Clock,
    ready: bool,
    failures: u32,
    status: Status,
    /// Problems of the last cycle, so that each is logged when it begins and not every minute.
    known: BTreeSet<String>,
}

impl Loop {
    fn new(options: &RunOptions) -> Self {
        Self {
            clock: options.clock.clone(),
            ready: false,
            failures: 0,
            status: Status {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Status::default()
            },
            known: BTreeSet::new(),
        }
    }

    /// Runs one cycle and says when the next is due.
    async fn cycle(&mut self, engine: &mut Engine, options: &CycleOptions) -> Instant {
        let (begun, ready) = (Instant::now(), &mut self.ready);
        let mut alive = || {
            service::alive();
            if !*ready && begun.elapsed() >= FIRST {
                service::ready("fetching the directory for the first time");
                *ready = true;
            }
        };
        let outcome = engine.cycle(options, &mut alive).await;
        self.failures = if outcome.failed {
            self.failures.saturating_add(1)
        } else {
            0
        };
        self.log(&outcome);
        let now = self.clock.now().to_string();
        if outcome.problems.is_empty() {
            self.status.last_good_cycle_at = Some(now.clone());
        }
        self.status.last_cycle_at = Some(now);
        self.status.failures = self.failures;
        self.status.generation = engine.report().and_then(|report| Some(report.published?.generation));
        self.status.changed = outcome.changed;
        self.status.backend = outcome.backend;
        self.status.problems = outcome.problems;
        let generation = self.status.generation.unwrap_or_default();
        let line = match self.status.problems.first() {
            Some(problem) => format!("table {generation}; {problem}"),
            None => format!("table {generation}, up to date"),
        };
        if self.ready {
            service::status(&line);
        } else {
            // Tried once: whoever waits for readiness learns that this host serves what it can.
            service::ready(&line);
            self.ready = true;
        }
        let rhythm = engine.config().timing.rhythm();
        Instant::now() + rhythm.next(self.failures, outcome.retry_after, rand::rng().random())
    }

    fn log(&mut self, outcome: &Outcome) {
        if outcome.changed {
            tracing::info!(name: "agent.published", backend = outcome.backend, "a new table is published");
        }
        let now: BTreeSet<String> = outcome.problems.iter().cloned().collect();
        for problem in now.difference(&self.known) {
            tracing::warn!(name: "agent.problem", "{problem}");
        }
        if !self.known.is_empty() && now.is_empty() {
            tracing::info!(name: "agent.recovered", "everything is in order again");
        }
        self.known = now;
    }

    /// Serves one caller of the control socket; gives the time of the next cycle when one was run.
    async fn serve(
        &mut self,
        engine: &mut Engine,
        accepted: io::Result<tokio::net::UnixStream>,
        next: Instant,
    ) -> Option<Instant> {
        let mut stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a caller of the control socket could not be served");
                return None;
            }
        };
        let request = match control::read(&mut stream).await {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%error, "a request on the control socket was refused");
                return None;
            }
        };
        let due = match request {
            Request::Refresh { accept_absent } => {
                let options = CycleOptions {
                    accept_absent,
                    ..CycleOptions::thorough()
                };
                Some(self.cycle(engine, &options).await)
            }
            Request::Status => None,
        };
        let states = engine.client().map(Client::backends).unwrap_or_default();
        self.status.backends = states
            .into_iter()
            .map(|state| (state.name, state.failure.map(|(_, reason)| reason)))
            .collect();
        let wait = due.unwrap_or(next).saturating_duration_since(Instant::now());
        self.status.next_cycle_in = Some(wait.as_secs());
        control::answer(&mut stream, &self.status).await;
        due
    }
}
