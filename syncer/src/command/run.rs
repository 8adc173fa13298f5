use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use dirless_client::Backoff;
use dirless_program::service;
use tokio::time::{Instant, MissedTickBehavior};

use super::extras::Extras;
use super::poke::{self, Pokes, Round};
use super::{Setting, enroll, once};
use crate::cycle::Outcome;
use crate::engines::Engines;
use crate::keys::{self, Access, KeyFolder};
use crate::serve::triggers::{self, Part};
use crate::sources::files::Watch;
use crate::sources::{Progress, SourceSetting, Unwatched};
use crate::state::State;

/// How often a held change is looked at for an acceptance.
const ACCEPTED_EVERY: Duration = Duration::from_secs(5);
/// What a cycle may take beyond the read's own deadline before the watchdog is left to bite: the
/// client's longest transfers, twice.
const BEYOND_READ: Duration = Duration::from_secs(900);
/// Waits after a failed cycle: from five seconds up to the interval.
const FIRST_WAIT: Duration = Duration::from_secs(5);

pub(super) async fn run(setting: &Setting<'_>) -> anyhow::Result<ExitCode> {
    let stop = service::stop_signal();
    tokio::pin!(stop);
    let mut pokes = Pokes::none();
    note_classic(setting);
    let reason = tokio::select! {
        never = setting.keep_signed() => match never {},
        ended = forever(setting, &mut pokes) => {
            return ended.map(|never| match never {});
        }
        reason = &mut stop => reason.context("installing signal handlers")?,
    };
    service::stopping();
    tracing::info!(event = "syncer.stopping", signal = reason, "stopping");
    Ok(ExitCode::SUCCESS)
}

/// The loop, started over when it cannot even begin, for instance because the backend is down.
pub(super) async fn always(setting: &Setting<'_>, pokes: &mut Pokes) -> std::convert::Infallible {
    let interval = Duration::from_secs(setting.config.syncer.interval_seconds);
    let mut backoff = Backoff::new(FIRST_WAIT, interval, rand::random());
    let mut ticks = Ticks::new();
    note_classic(setting);
    loop {
        let error = match forever(setting, pokes).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        let wait = backoff.wait().min(interval);
        tracing::error!(event = "cycles.failed", wait_ms = wait.as_millis(), "{error:#}");
        service::status(&format!("no cycles: {error:#}"));
        pokes.begin();
        pokes.end(&[failed(poke::NO_CYCLE, &error)]);
        let until = Instant::now() + wait;
        tokio::select! {
            () = ticks.during(until + ACCEPTED_EVERY, tokio::time::sleep_until(until)) => {}
            () = pokes.next() => {}
        }
    }
}

fn note_classic(setting: &Setting<'_>) {
    if let Some(note) = setting.config.classic_note() {
        tracing::warn!(event = "protocol.classic", "{note}");
    }
}

fn failed(name: &str, error: &anyhow::Error) -> Part {
    Part {
        name: name.to_owned(),
        outcome: triggers::Outcome::Failed,
        detail: format!("{error:#}"),
    }
}

/// The loop. Everything it writes is published whole, so that it may be dropped at any await.
async fn forever(setting: &Setting<'_>, pokes: &mut Pokes) -> anyhow::Result<std::convert::Infallible> {
    let config = &setting.config;
    if config.is_classic() && !KeyFolder::of(config).is_enrolled() {
        let token = keys::bearer(config, setting.environment)?;
        let tenant = enroll::register(setting, &token).await?;
        tracing::info!(event = "syncer.enrolled", tenant = %tenant, "enrolled");
    }
    let access = setting.access()?;
    service::ready("reading for the first time");
    let interval = Duration::from_secs(config.syncer.interval_seconds);
    let mut backoff = Backoff::new(FIRST_WAIT, interval, rand::random());
    let mut ticks = Ticks::new();
    // What is there before the first read; what changes during a read is then seen after it.
    let mut folders = Watch::new(&setting.sources()).and(Engines::watch(config));
    let (mut round, mut due) = (Round::All, Instant::now());
    loop {
        round = round.max(pokes.begin());
        let parts = cycle(setting, &access, &mut ticks, round).await;
        pokes.end(&parts);
        if parts.iter().any(|part| part.outcome == triggers::Outcome::Failed) {
            let again = Instant::now() + backoff.wait().min(interval);
            due = if round == Round::All { again } else { due.min(again) };
        } else if round == Round::All {
            backoff = Backoff::new(FIRST_WAIT, interval, rand::random());
            // Spread over a tenth, so that syncers that started together drift apart.
            due = Instant::now() + interval.mul_f64(0.95 + 0.1 * rand::random::<f64>());
        }
        let states = setting.state_folders();
        round = tokio::select! {
            next = sleep(&states, &mut folders, &mut ticks, due) => next,
            // As much as was asked for.
            () = pokes.next() => Round::Local,
        };
    }
}

/// One cycle, and how its parts went. One that fails holds up no other.
async fn cycle(setting: &Setting<'_>, access: &Access, ticks: &mut Ticks, round: Round) -> Vec<Part> {
    let extras = ticks
        .during(Instant::now() + BEYOND_READ, Extras::run(setting, access, None))
        .await;
    extras.log();
    let mut parts = extras.parts();
    // Anew each time: people may have entered the first account into the tree.
    for own in setting.sources().iter().filter(|own| round.reads(&own.kind)) {
        parts.push(one(setting, access, own, ticks).await);
    }
    parts.append(&mut tree(setting, access, ticks).await);
    let until = Instant::now() + BEYOND_READ;
    parts.extend(ticks.during(until, setting.settled_part()).await);
    parts
}

/// One cycle of one source, and how it went. One that fails holds up no other.
async fn one(setting: &Setting<'_>, access: &Access, own: &SourceSetting, ticks: &mut Ticks) -> Part {
    let started = Instant::now();
    let cycle = async {
        // Opened anew each time: region, store and credentials may have come up since.
        let source = setting.open(own).await?;
        let watch: &dyn Progress = &Unwatched;
        setting.cycle(access, own, source.as_ref())?.once(None, watch).await
    };
    let limit = Duration::from_secs(own.deadline_seconds(&setting.config)) + BEYOND_READ;
    let outcome = ticks.during(started + limit, cycle).await;
    match &outcome {
        Ok(outcome) => {
            report(&own.name, outcome, started.elapsed());
        }
        Err(error) => {
            tracing::error!(event = "cycle.failed", source = own.name, "{error:#}");
            service::status(&format!("last cycle failed: {error:#}"));
        }
    }
    part(&own.name, &outcome)
}

/// Publishes the tree, and how each part of it went.
async fn tree(setting: &Setting<'_>, access: &Access, ticks: &mut Ticks) -> Vec<Part> {
    let started = Instant::now();
    let published = setting.publish_tree(access, None);
    let note = |name: &str, error: &anyhow::Error| {
        tracing::error!(event = "cycle.failed", source = name, "{error:#}");
        service::status(&format!("last cycle failed: {error:#}"));
    };
    let went = match ticks.during(started + BEYOND_READ, published).await {
        Ok(went) => went,
        Err(error) => {
            note(crate::audience::REST, &error);
            return vec![failed(crate::audience::REST, &error)];
        }
    };
    let mut parts = Vec::with_capacity(went.len());
    for went in went {
        match &went.outcome {
            Ok(outcome) => report(&went.name, outcome, started.elapsed()),
            Err(error) => note(&went.name, error),
        }
        parts.push(part(&went.name, &went.outcome));
    }
    parts
}

/// How a cycle went, for those who asked for it.
fn part(name: &str, outcome: &anyhow::Result<Outcome>) -> Part {
    let (outcome, detail) = match outcome {
        Ok(Outcome::Pushed { sequence, summary }) => (
            triggers::Outcome::Changed,
            format!("published snapshot {sequence}: {summary}"),
        ),
        Ok(Outcome::Unchanged) => (triggers::Outcome::Unchanged, "nothing changed".to_owned()),
        Ok(Outcome::Held(held)) => (triggers::Outcome::Held, once::explain(held)),
        Err(error) => return failed(name, error),
    };
    Part {
        name: name.to_owned(),
        outcome,
        detail,
    }
}

fn report(source: &str, outcome: &Outcome, took: Duration) {
    let took_ms = took.as_millis();
    match outcome {
        Outcome::Pushed { sequence, summary } => {
            tracing::info!(
                event = "snapshot.published",
                source,
                sequence,
                took_ms,
                "published snapshot {sequence}: {summary}"
            );
            service::status(&format!("published snapshot {sequence}"));
        }
        Outcome::Unchanged => {
            tracing::info!(event = "snapshot.unchanged", source, took_ms, "nothing changed");
            service::status("up to date");
        }
        Outcome::Held(held) => {
            tracing::error!(
                event = "change.held",
                source,
                change = held.id,
                took_ms,
                "{}",
                once::explain(held)
            );
            service::status(&format!("change {} is held back; see `dirless-syncer status`", held.id));
        }
    }
}

/// Waits until a cycle is due, a held change has been accepted, or a folder of files has changed; for
/// the latter nobody on another machine needs to be asked.
async fn sleep(states: &[PathBuf], folders: &mut Watch, ticks: &mut Ticks, due: Instant) -> Round {
    while Instant::now() < due {
        let next = due.min(Instant::now() + ACCEPTED_EVERY);
        if ticks.during(next + ACCEPTED_EVERY, folders.changed_before(next)).await {
            tracing::info!(event = "files.changed", "files have changed: reading them");
            return Round::Local;
        }
        if states.iter().any(|folder| is_accepted(folder)) {
            break;
        }
    }
    Round::All
}

fn is_accepted(state_folder: &Path) -> bool {
    let state = State::at(state_folder);
    let held = state.held().ok().flatten();
    let accepted = state.accepted().ok().flatten();
    held.is_some_and(|held| Some(held.id) == accepted)
}

/// Tells the watchdog that the loop is alive while something is awaited, but only for as long as
/// that may take: past the deadline the watchdog is right to bite.
struct Ticks(Option<tokio::time::Interval>);

impl Ticks {
    fn new() -> Self {
        Self(service::watchdog_interval().map(|every| {
            let mut interval = tokio::time::interval(every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        }))
    }

    async fn during<T>(&mut self, until: Instant, work: impl Future<Output = T>) -> T {
        let mut work = Box::pin(work);
        let Some(interval) = &mut self.0 else {
            return work.await;
        };
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = interval.tick() => {
                    if Instant::now() < until {
                        service::alive();
                    }
                }
            }
        }
    }
}
