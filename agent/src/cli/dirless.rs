//! `dirless`: enrol, look, ask why, refresh, install; and what an operator does for a whole tenant, which needs no agent.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{CommandFactory, Parser, Subcommand};
use dirless_operator::Surroundings;
use dirless_program::command::{EXIT_FAILURE, GenerateArguments, finish, generate};
use dirless_program::{Clock, Lookup};
use dirless_wire::SourceName;

use super::authority;
use super::places::Places;
use super::report::{Question, answer};
use super::revoke;
use crate::daemon::control::{self, Request};
use crate::enroll::{EnrollArguments, RotateArguments, SystemTerminal, enroll, rotate};
use crate::host::install::{Plan, Wanted, carry_out, plan_install, plan_uninstall};
use crate::host::sshd_program::SshdProgram;
use crate::pipeline::forget_sequence;
use crate::trust::{JoinArguments, join};

/// Looks after this host's part of Dirless, and after a tenant's keys and policy.
#[derive(Debug, Parser)]
#[command(name = "dirless", version, about)]
struct Arguments {
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enrol this host with a backend
    Enroll(Box<EnrollArguments>),
    /// Join a tenant whose files are signed, with a join code
    Join(Box<JoinArguments>),
    /// Register another age key for the tenant
    RotateKey(Box<RotateArguments>),
    /// List the users that may use this host, and those whom the access rules keep off
    ListUsers {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Say how things stand
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Look for what is wrong, and say what to do about it
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Follow one user from the source to this host, and show the step that decides
    Why {
        /// The login name
        user: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Have the daemon look for news now, and wait for the outcome
    Refresh {
        /// Accept that this source is empty, if the backend still says so
        #[arg(long, value_name = "SOURCE")]
        accept_absent: Option<SourceName>,
        /// Forget the sequence number of this source: its syncer lost its numbers, or a backend forged one
        #[arg(long, value_name = "SOURCE")]
        forget_sequence: Option<SourceName>,
    },
    /// Have this host use Dirless: look-ups and SSH keys, unless only some are asked for
    Install {
        /// Look-ups through glibc (/etc/nsswitch.conf)
        #[arg(long)]
        nss: bool,
        /// SSH keys (/etc/ssh)
        #[arg(long)]
        ssh: bool,
        /// Home folders at the first login (/etc/pam.d/sshd); only when asked for
        #[arg(long)]
        mkhomedir: bool,
        /// Show what would change and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Take back everything that install added
    Uninstall {
        /// Show what would change and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// SSH certificate authorities
    Ssh {
        #[command(subcommand)]
        command: authority::Command,
    },
    /// Take people away from all hosts now, whatever their sources say
    ///
    /// On the syncer's machine, or from anywhere with --syncer URL. Exits with 0 when it is done (with --wait: on all
    /// connected hosts), 13 when a connected host has not applied it in time, 1 when not everything could be done.
    Revoke(Box<dirless_operator::Revoke>),
    #[command(flatten)]
    Operator(Box<dirless_operator::Command>),
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
    let places = &arguments.places;
    match &arguments.command {
        Command::Enroll(given) => {
            let done = block_on(enroll(
                given,
                &places.paths(environment),
                environment,
                &mut SystemTerminal,
            ))??;
            println!("enrolled as tenant {} with the key {}", done.tenant, done.key);
            for file in done.files {
                println!("wrote {}", file.display());
            }
            println!("next: dirless install, then systemctl enable --now dirless-agent");
        }
        Command::Join(given) => {
            let paths = places.paths(environment);
            let done = block_on(join(given, &paths, &Clock::system(), &mut SystemTerminal))??;
            println!("{done}");
        }
        Command::RotateKey(given) => {
            let (config, paths) = match places.load(environment) {
                Ok((config, paths)) => (Some(config), paths),
                Err(_) => (None, places.paths(environment)),
            };
            let key = block_on(rotate(given, &paths, config.as_ref(), &mut SystemTerminal))??;
            println!("the backend now has {key} registered; the syncer has to seal for it before hosts see news");
        }
        Command::ListUsers { json } => return answer(places, environment, &Question::ListUsers, *json),
        Command::Status { json } => return answer(places, environment, &Question::Status, *json),
        Command::Doctor { json } => return answer(places, environment, &Question::Doctor, *json),
        Command::Why { user, json } => return answer(places, environment, &Question::Why(user), *json),
        Command::Refresh {
            accept_absent,
            forget_sequence,
        } => return refresh(places, environment, accept_absent.as_ref(), forget_sequence.as_ref()),
        Command::Install {
            nss,
            ssh,
            mkhomedir,
            dry_run,
        } => {
            let all = !nss && !ssh && !mkhomedir;
            let wanted = Wanted {
                nss: *nss || all,
                ssh: *ssh || all,
                mkhomedir: *mkhomedir,
            };
            let plan = plan_install(&places.paths(environment), wanted)?;
            finish_plan(places, environment, &plan, *dry_run)?;
        }
        Command::Uninstall { dry_run } => {
            let plan = plan_uninstall(&places.paths(environment))?;
            finish_plan(places, environment, &plan, *dry_run)?;
        }
        Command::Ssh { command } => authority::run(places, environment, command)?,
        Command::Revoke(revoke) => {
            return match revoke.here()? {
                Some(arguments) => Err(revoke::run(arguments, places.config.as_deref())),
                None => operate(environment, |surroundings| revoke.run(surroundings)),
            };
        }
        Command::Operator(command) => operate(environment, |surroundings| command.run(surroundings))?,
        Command::Generate(what) => generate(Arguments::command(), what)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs an operator's command.
fn operate<T>(environment: Lookup<'_>, command: impl FnOnce(&mut Surroundings<'_>) -> T) -> T {
    command(&mut Surroundings {
        out: &mut std::io::stdout(),
        terminal: &mut dirless_operator::SystemTerminal,
        clock: Clock::system(),
        environment,
    })
}

/// Runs one asynchronous command on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context("starting the runtime")?.block_on(future))
}

fn finish_plan(places: &Places, environment: Lookup<'_>, plan: &Plan, dry_run: bool) -> anyhow::Result<()> {
    for change in &plan.changes {
        print!("{}", change.difference());
    }
    if plan.changes.is_empty() {
        println!("nothing to change");
    }
    if dry_run {
        for notice in &plan.notices {
            eprintln!("note: {notice}");
        }
        return Ok(());
    }
    let sshd = match places.root {
        Some(_) => SshdProgram::none(),
        None => SshdProgram::of_this_host(),
    };
    for notice in carry_out(plan, &places.paths(environment), &sshd)? {
        eprintln!("note: {notice}");
    }
    Ok(())
}

fn refresh(
    places: &Places,
    environment: Lookup<'_>,
    accept_absent: Option<&SourceName>,
    forget: Option<&SourceName>,
) -> anyhow::Result<ExitCode> {
    let (config, paths) = places.load(environment)?;
    for source in [accept_absent, forget].into_iter().flatten() {
        if !config.fetched().any(|one| one == source) {
            let known: Vec<&str> = config.fetched().map(SourceName::as_str).collect();
            bail!("this host has no source {source}; it has {}", known.join(", "));
        }
    }
    if let Some(source) = forget {
        match forget_sequence(&paths, source.as_str())? {
            Some(number) => println!("forgot that {source} had come to sequence {number}"),
            None => println!("{source} had no sequence number here"),
        }
    }
    let request = Request::Refresh {
        accept_absent: accept_absent.cloned(),
    };
    // A cycle is bounded by its own limits; this only ends a wait for a daemon that hangs.
    let limit = config.timing.worker_timeout + config.timing.fetch_timeout * 10;
    let answer = block_on(control::ask(&paths.control_socket(), &request, limit))?;
    let status = answer.with_context(|| {
        format!(
            "dirless-agent does not answer on {}; start it: systemctl start dirless-agent (or run one cycle: \
             dirless-agent run --once)",
            paths.control_socket().display()
        )
    })?;
    for problem in &status.problems {
        eprintln!("{problem}");
    }
    let generation = status
        .generation
        .map_or_else(|| "none".to_owned(), |number| number.to_string());
    println!(
        "table {generation}{}",
        if status.changed { ", new" } else { ", unchanged" }
    );
    Ok(ExitCode::from(if status.failures > 0 { EXIT_FAILURE } else { 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_belongs_to_a_revocation_stands_anywhere() {
        for line in [
            "dirless revoke --config /x alice --wait",
            "dirless revoke alice --config /x --wait",
            "dirless --config /x revoke --wait alice",
            "dirless revoke --wait alice --timeout 300 --config=/x",
        ] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            let Command::Revoke(revoke) = &arguments.command else {
                panic!("{line}");
            };
            let command = revoke::command(revoke.here().unwrap().unwrap(), arguments.places.config.as_deref());
            let words: Vec<_> = command.get_args().map(|word| word.to_str().unwrap()).collect();
            let wanted = ["--config", "/x", "revoke", "--wait", "--timeout=300", "--", "alice"];
            assert_eq!(words, wanted, "{line}");
        }
        let elsewhere = |line: &str| match Arguments::try_parse_from(line.split(' ')).unwrap().command {
            Command::Revoke(revoke) => revoke.here().map(|here| here.is_none()),
            _ => panic!("{line}"),
        };
        assert!(elsewhere("dirless revoke alice --syncer https://s --token-file /t").unwrap());
        assert!(elsewhere("dirless revoke alice --token-file /t").is_err());
    }
}
