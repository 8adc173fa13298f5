use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use dirless_client::Backoff;
use dirless_program::service;
use tokio::time::{Instant, MissedTickBehavior};

use super::extras::Extras;
use super::{Setting, enroll, once};
use crate::cycle::Outcome;
use crate::engines::Engines;
use crate::keys::{self, Access, KeyFolder};
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
    let reason = tokio::select! {
        ended = forever(setting) => {
            return ended.map(|never| match never {});
        }
        reason = &mut stop => reason.context("installing signal handlers")?,
    };
    service::stopping();
    tracing::info!(event = "syncer.stopping", signal = reason, "stopping");
    Ok(ExitCode::SUCCESS)
}

/// The loop. Everything it writes is published whole, so that it may be dropped at any await.
async fn forever(setting: &Setting<'_>) -> anyhow::Result<std::convert::Infallible> {
    let config = &setting.config;
    if !KeyFolder::of(config).is_enrolled() {
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
    loop {
        let extras = ticks
            .during(Instant::now() + BEYOND_READ, Extras::run(setting, &access, None))
            .await;
        extras.log();
        let mut failed = extras.has_failed();
        // Anew each time: people may have entered the first account into the tree.
        for own in &setting.sources() {
            failed |= !one(setting, &access, own, &mut ticks).await;
        }
        failed |= !tree(setting, &access, &mut ticks).await;
        let wait = if failed {
            backoff.wait().min(interval)
        } else {
            backoff = Backoff::new(FIRST_WAIT, interval, rand::random());
            // Spread over a tenth, so that syncers that started together drift apart.
            interval.mul_f64(0.95 + 0.1 * rand::random::<f64>())
        };
        sleep(&setting.state_folders(), &mut folders, &mut ticks, wait).await;
    }
}

/// One cycle of one source; did it go well? One that fails holds up no other.
async fn one(setting: &Setting<'_>, access: &Access, own: &SourceSetting, ticks: &mut Ticks) -> bool {
    let started = Instant::now();
    let cycle = async {
        // Opened anew each time: region, store and credentials may have come up since.
        let source = setting.open(own).await?;
        let watch: &dyn Progress = &Unwatched;
        setting.cycle(access, own, source.as_ref())?.once(None, watch).await
    };
    let limit = Duration::from_secs(own.deadline_seconds(&setting.config)) + BEYOND_READ;
    match ticks.during(started + limit, cycle).await {
        Ok(outcome) => {
            report(&own.name, &outcome, started.elapsed());
            true
        }
        Err(error) => {
            tracing::error!(event = "cycle.failed", source = own.name, "{error:#}");
            service::status(&format!("last cycle failed: {error:#}"));
            false
        }
    }
}

/// Publishes the tree; did it go well?
async fn tree(setting: &Setting<'_>, access: &Access, ticks: &mut Ticks) -> bool {
    let started = Instant::now();
    let published = setting.publish_tree(access, None);
    let failed = |name: &str, error: &anyhow::Error| {
        tracing::error!(event = "cycle.failed", source = name, "{error:#}");
        service::status(&format!("last cycle failed: {error:#}"));
    };
    let went = match ticks.during(started + BEYOND_READ, published).await {
        Ok(went) => went,
        Err(error) => {
            failed(crate::audience::REST, &error);
            return false;
        }
    };
    let mut good = true;
    for went in went {
        match went.outcome {
            Ok(outcome) => report(&went.name, &outcome, started.elapsed()),
            Err(error) => {
                failed(&went.name, &error);
                good = false;
            }
        }
    }
    good
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

/// Waits, but not while a held change has been accepted, nor when a folder of files has changed.
async fn sleep(states: &[PathBuf], folders: &mut Watch, ticks: &mut Ticks, wait: Duration) {
    let until = Instant::now() + wait;
    while Instant::now() < until {
        let next = until.min(Instant::now() + ACCEPTED_EVERY);
        let changed = ticks.during(next + ACCEPTED_EVERY, folders.changed_before(next)).await;
        if changed || states.iter().any(|folder| is_accepted(folder)) {
            return;
        }
    }
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
