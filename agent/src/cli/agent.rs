//! `dirless-agent`: run, check, publish.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use dirless_model::NameRule;
use dirless_program::command::{EXIT_FAILURE, GenerateArguments, finish, generate};
use dirless_program::log::LogFormat;
use dirless_program::{Clock, Lookup, service};
use dirless_wire::SourceName;

use super::places::Places;
use crate::config::Config;
use crate::daemon::{CycleOptions, Engine, RunOptions, WorkerCommand, run};
use crate::host::sshd_program::SshdProgram;
use crate::pipeline::{DirectoryOptions, HostLimits, Options, local_hostname, publish_command};

/// Most address space a worker may take, in bytes: a million users with as many groups took three quarters of it at most.
const WORKER_MEMORY: u64 = 1024 * 1024 * 1024;

/// Keeps this host's users and groups up to date from sealed snapshots.
#[derive(Debug, Parser)]
#[command(name = "dirless-agent", version, about)]
struct Arguments {
    #[command(flatten)]
    places: Places,
    /// How log lines are written
    #[arg(long, global = true, value_enum)]
    log_format: Option<LogFormat>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch, publish and report, again and again
    Run {
        /// Run one cycle and end
        #[arg(long)]
        once: bool,
    },
    /// Say whether the configuration can be used
    Check {
        /// Check this file of host limits instead of /etc/dirless/limits.toml
        #[arg(long, value_name = "FILE")]
        limits: Option<PathBuf>,
    },
    /// Publish the lookup table from what was fetched (the daemon runs this by itself)
    Publish,
    /// Write man pages or shell completions
    #[command(hide = true)]
    Generate(GenerateArguments),
}

/// The whole program.
#[must_use]
pub fn main(environment: Lookup<'_>) -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(&arguments, environment) {
        Ok(code) => code,
        Err(error) => finish(Err(error)),
    }
}

fn dispatch(arguments: &Arguments, environment: Lookup<'_>) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Run { once } => daemon(arguments, *once, environment),
        Command::Check { limits } => check(arguments, limits.as_ref(), environment),
        Command::Publish => publish(arguments, environment),
        Command::Generate(what) => generate(Arguments::command(), what).map(|()| ExitCode::SUCCESS),
    }
}

fn start_log(arguments: &Arguments, config: &Config, environment: Lookup<'_>) -> anyhow::Result<()> {
    let mut log = config.log.clone();
    if let Some(format) = arguments.log_format {
        log.format = format;
    }
    dirless_program::log::start(&log, environment)?;
    Ok(())
}

fn daemon(arguments: &Arguments, once: bool, environment: Lookup<'_>) -> anyhow::Result<ExitCode> {
    let (config, paths) = arguments.places.load(environment)?;
    start_log(arguments, &config, environment)?;
    if !config.unknown_keys.is_empty() {
        let keys = config.unknown_keys.join(", ");
        tracing::warn!(name: "agent.unknown_keys", path = %paths.config().display(), keys, "keys that nothing reads: {keys}");
    }
    let mut words = vec!["publish".to_owned()];
    words.extend(arguments.places.arguments(&paths));
    let worker = WorkerCommand::of_this_program(words, config.timing.worker_timeout);
    let sshd = match arguments.places.root {
        Some(_) => SshdProgram::none(),
        None => SshdProgram::of_this_host(),
    };
    let control = paths.control_socket();
    let mut engine = Engine::new(config, paths, Clock::system(), worker, sshd)?;
    // One thread, and two for files: the daemon waits nearly all the time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    if once {
        let outcome = runtime.block_on(engine.cycle(&CycleOptions::default(), &mut || {}));
        for problem in &outcome.problems {
            eprintln!("{problem}");
        }
        let code = if outcome.failed { EXIT_FAILURE } else { 0 };
        return Ok(ExitCode::from(code));
    }
    let options = RunOptions {
        control: Some(control),
        clock: Clock::system(),
    };
    runtime.block_on(async {
        let stop = async {
            match service::stop_signal().await {
                Ok(signal) => tracing::info!(name: "agent.stopping", signal, "stopping on {signal}"),
                Err(error) => tracing::error!(%error, "cannot wait for signals"),
            }
        };
        run(engine, options, stop).await
    })?;
    Ok(ExitCode::SUCCESS)
}

fn check(arguments: &Arguments, limits: Option<&PathBuf>, environment: Lookup<'_>) -> anyhow::Result<ExitCode> {
    let (config, paths) = arguments.places.load(environment)?;
    for key in &config.unknown_keys {
        eprintln!("warning: {}: nothing reads the key {key}", paths.config().display());
    }
    let limits_path = limits.cloned().unwrap_or_else(|| paths.limits());
    let owner = limits.map_or(arguments.places.owner(), |_| rustix::process::geteuid().as_raw());
    HostLimits::load(&limits_path, owner)?;
    println!("{} and the host limits can be used", paths.config().display());
    Ok(ExitCode::SUCCESS)
}

fn publish(arguments: &Arguments, environment: Lookup<'_>) -> anyhow::Result<ExitCode> {
    let (config, paths) = arguments.places.load(environment)?;
    start_log(arguments, &config, environment)?;
    let options = publish_options(&config, arguments.places.owner());
    crate::daemon::prepare(&paths).context("preparing the state folders")?;
    let mut out = std::io::stdout().lock();
    match publish_command(&paths, &options, &Clock::system(), &mut out) {
        Ok(code) => {
            out.flush()?;
            Ok(ExitCode::from(code))
        }
        Err(error) => {
            eprintln!("error: {error}");
            Ok(ExitCode::from(error.exit_code()))
        }
    }
}

/// What the configuration says about publishing. `local` comes first, then the order of the file.
pub(crate) fn publish_options(config: &Config, owner: u32) -> Options {
    let mut sources: Vec<String> = config.sources.iter().map(ToString::to_string).collect();
    sources.sort_by_key(|source| source != SourceName::LOCAL);
    Options {
        sources,
        name_rule: NameRule::default(),
        enumerate: config.enumerate,
        hostname: local_hostname(),
        owner,
        joined: config.signed().map(|signed| signed.joined.clone()),
        directory: config.directory.as_ref().map(|directory| DirectoryOptions {
            base: directory.base.clone(),
            sources: directory.sources.iter().map(ToString::to_string).collect(),
        }),
        memory: Some(WORKER_MEMORY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }
}
