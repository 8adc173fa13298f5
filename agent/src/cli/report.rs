//! `dirless status`, `doctor`, `why` and `list-users`: the parts that need the daemon or the network;
//! everything else is in `explain`.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use dirless_client::{Files, Standing};
use dirless_program::{Clock, Lookup, Secret};
use dirless_seal::Identity;
use dirless_seal::trust::{Object, Policy};

use super::agent::publish_options;
use super::dirless::block_on;
use super::places::Places;
use crate::config::{Config, SignedConfig, Upstream};
use crate::daemon::control::{self, Request, Status};
use crate::daemon::{client, state};
use crate::explain::{self, Caller, Check, Daemon, Level, Live, Told, Trust};
use crate::paths::Paths;
use crate::pipeline::{Options, local_hostname};
use crate::trust::{Keeper, files};

/// Which of them.
pub(crate) enum Question<'a> {
    Status,
    Doctor,
    ListUsers,
    Why(&'a str),
}

/// Answers on standard output.
pub(crate) fn answer(
    places: &Places,
    environment: Lookup<'_>,
    question: &Question<'_>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let caller = if rustix::process::geteuid().is_root() {
        Caller::Root
    } else {
        Caller::Other
    };
    let clock = Clock::system();
    let owner = places.owner();
    let paths = places.paths(environment);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let code = match question {
        Question::Status => {
            let told = Told {
                daemon: live(&paths)?,
                trust: trust(places, environment, caller, clock.now()),
            };
            explain::status(&paths, owner, caller, &told, &clock, json, &mut out)?
        }
        Question::ListUsers => explain::list_users(&paths, owner, caller, json, &mut out)?,
        Question::Doctor => {
            if caller == Caller::Other && places.root.is_none() {
                anyhow::bail!("what it has to look at is readable for root alone: sudo dirless doctor");
            }
            let ask = |config: &Config| backend(config, &paths);
            explain::doctor(&paths, owner, &local_hostname(), &clock, ask, json, &mut out)?
        }
        Question::Why(user) => {
            let (paths, options) = match places.load(environment) {
                Ok((config, paths)) => (paths, publish_options(&config, owner)),
                // Whoever may not read the configuration is told what the table says.
                Err(_) if caller == Caller::Other => (paths, Options::new(local_hostname())),
                Err(error) => return Err(error.into()),
            };
            let options = Options {
                memory: None,
                ..options
            };
            explain::why(&paths, &options, &clock, caller, user, json, &mut out)?
        }
    };
    out.flush()?;
    Ok(ExitCode::from(code))
}

fn ask(paths: &Paths) -> anyhow::Result<std::io::Result<Status>> {
    block_on(control::ask(
        &paths.control_socket(),
        &Request::Status,
        Duration::from_secs(5),
    ))
}

/// What the daemon says.
fn live(paths: &Paths) -> anyhow::Result<Daemon> {
    Ok(match ask(paths)? {
        Ok(status) => Daemon::Runs(Live {
            version: status.version,
            backend: status.backend,
            told_by: status.told_by,
            last_cycle_at: status.last_cycle_at,
            last_good_cycle_at: status.last_good_cycle_at,
            problems: status.problems,
            next_cycle_in: status.next_cycle_in,
        }),
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Daemon::Busy,
        Err(_) => Daemon::Silent,
    })
}

/// What is trusted where files are signed. With a configuration that cannot be read it is what the last cycle said.
fn trust(places: &Places, environment: Lookup<'_>, caller: Caller, now: jiff::Timestamp) -> Option<Trust> {
    if caller == Caller::Other {
        return None;
    }
    match places.load(environment) {
        Ok((config, paths)) => config.signed().map(|signed| {
            let keeper = Keeper::new(paths.trust_folder(), signed.joined.clone());
            Trust::judge(&keeper, &paths, now)
        }),
        Err(_) => Trust::told(&places.paths(environment)),
    }
}

/// The daemon, and each backend as it answers now.
fn backend(config: &Config, paths: &Paths) -> Vec<Check> {
    let mut checks = vec![daemon(ask(paths))];
    match block_on(probe(config, paths)) {
        Ok(probed) => checks.extend(probed),
        Err(error) => checks.push(Check::new(Level::Fail, "backend", error.to_string(), "")),
    }
    if let Some(proposed) = state::load(&paths.daemon_state()).ca.proposed {
        checks.push(Check::new(
            Level::Note,
            "ssh authority",
            format!("the backend proposes {proposed}, which this host does not accept"),
            format!("if it is yours: dirless ssh accept-ca {proposed}"),
        ));
    }
    checks
}

fn daemon(asked: anyhow::Result<std::io::Result<Status>>) -> Check {
    let start = "systemctl start dirless-agent; its log: journalctl -u dirless-agent";
    match asked {
        Ok(Ok(status)) if status.problems.is_empty() => {
            Check::new(Level::Ok, "daemon", "it runs and has no problem", "")
        }
        Ok(Ok(status)) => Check::new(
            Level::Warning,
            "daemon",
            status.problems.join("; "),
            "see above, each problem says it",
        ),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut => Check::new(
            Level::Note,
            "daemon",
            "it is busy with a cycle and did not answer in 5 s",
            "",
        ),
        Ok(Err(error)) => Check::new(Level::Fail, "daemon", format!("it does not run ({error})"), start),
        Err(error) => Check::new(Level::Fail, "daemon", error.to_string(), start),
    }
}

async fn probe(config: &Config, paths: &Paths) -> Vec<Check> {
    let classic = match &config.upstream {
        Upstream::Classic(classic) => classic,
        Upstream::Signed(signed) => return signed_checks(signed, config, paths).await,
    };
    let client = match client(classic, &config.timing, &Clock::system()) {
        Ok(client) => client,
        Err(error) => {
            return vec![Check::new(
                Level::Fail,
                "backend",
                error.to_string(),
                "correct the configuration",
            )];
        }
    };
    let mut checks: Vec<Check> = client.probe().await.into_iter().map(alive).collect();
    let own = Secret::from_file(&paths.age_key())
        .ok()
        .and_then(|text| Identity::parse(text.expose()).ok())
        .map(|identity| identity.recipient().as_str().to_owned());
    checks.push(match client.cycle().get_public_key().await {
        Ok(Some(key)) if own.as_deref() == Some(key.as_str()) => Check::new(
            Level::Ok,
            "tenant",
            "the token is good and this host has the tenant's key",
            "",
        ),
        Ok(Some(key)) => Check::new(
            Level::Fail,
            "tenant",
            format!("the backend has the key {key} registered, which is not this host's"),
            "put that key's identity into age.key, or register this host's for everyone: dirless rotate-key",
        ),
        Ok(None) => Check::new(
            Level::Fail,
            "tenant",
            "the backend has no key for this tenant",
            "dirless rotate-key registers this host's",
        ),
        Err(error) => Check::new(Level::Fail, "tenant", error.to_string(), ""),
    });
    checks
}

/// What is trusted where files are signed, until when, and whether the backend accepts this host.
async fn signed_checks(signed: &SignedConfig, config: &Config, paths: &Paths) -> Vec<Check> {
    let clock = Clock::system();
    let keeper = Keeper::new(paths.trust_folder(), signed.joined.clone());
    let trust = Trust::judge(&keeper, paths, clock.now());
    let fix = match trust.level {
        Level::Ok => "",
        _ => "see the daemon's problems; dirless refresh walks over the tenant's files again",
    };
    let mut checks = vec![Check::new(trust.level, "trust", trust.line, fix)];
    let found = match files(signed, &keeper, &config.timing, &clock) {
        Ok(Files::Backend(backend)) => backend,
        Ok(Files::Folder(_) | Files::Web(_)) => return checks,
        Err(error) => {
            let fix = "correct the configuration, or join (dirless join)";
            checks.push(Check::new(Level::Fail, "backend", error.to_string(), fix));
            return checks;
        }
    };
    checks.extend(found.client().probe().await.into_iter().map(alive));
    // Reading what is known to be there tells it without reporting anything.
    let path = format!("policy/{}", signed.joined.policy);
    let policy = Files::Backend(found.clone()).get(&path, Policy::MOST).await;
    let waits = keeper.pending().ok().flatten();
    checks.push(match (found.standing(), waits) {
        (Standing::Accepted, _) => Check::new(Level::Ok, "credential", "the backend accepts this host's key", ""),
        (Standing::Refused, Some(pending)) => Check::new(
            Level::Warning,
            "credential",
            format!("this host waits to be admitted since {}", pending.asked_at),
            "have the enroller look at its mailbox: dirless-syncer node admit",
        ),
        (Standing::Refused, None) => Check::new(
            Level::Fail,
            "credential",
            "the backend refuses this host's key: it was revoked, or has ended; the last good state serves on",
            "with a join code: dirless join --again",
        ),
        (Standing::Barred(reason) | Standing::Down(reason), _) => Check::new(Level::Fail, "credential", reason, ""),
        (Standing::Unknown, _) => {
            let error = policy.err().map_or_else(String::new, |error| error.to_string());
            Check::new(Level::Fail, "credential", error, "see what stands at this URL")
        }
    });
    checks
}

fn alive(probed: dirless_client::ProbeResult) -> Check {
    match probed.outcome {
        Ok(status) => Check::new(
            Level::Ok,
            "backend",
            format!("{} answers ({status})", probed.backend),
            "",
        ),
        Err(reason) => Check::new(
            Level::Fail,
            "backend",
            format!("{}: {reason}", probed.backend),
            "check the address, the network and the firewall; lookups go on from the last table",
        ),
    }
}
