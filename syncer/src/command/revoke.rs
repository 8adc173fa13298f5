//! `revoke`: takes people away now, whatever their sources say.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

use super::{EXIT_BEHIND, Setting};
use crate::keys::{self, Access};
use crate::remote::Remote;
use crate::revoked::{Desk, Identity, Place, Revocation, Revocations, Took};
use crate::signed::{Settled, Waited, Wish};
use crate::state::State;

/// Where people stand who were entered with `local`.
const LOCAL: &str = "local";

#[derive(Debug, clap::Args)]
pub(super) struct RevokeArguments {
    /// Login names, as hosts have them.
    #[arg(required_unless_present = "list")]
    names: Vec<String>,
    /// Wait until every connected host has applied it. Exits with 13 when one has not in time.
    #[arg(long, conflicts_with_all = ["undo", "list"])]
    wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait")]
    timeout: u64,
    /// Why, for those who read the list later.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["undo", "list"])]
    reason: Option<String>,
    /// Also when nobody is published under this name: nobody will be.
    #[arg(long, conflicts_with_all = ["undo", "list"])]
    unknown: bool,
    /// Let them come back with the next read of their sources.
    #[arg(long, conflicts_with = "list")]
    undo: bool,
    /// List who is revoked.
    #[arg(long, conflicts_with = "names")]
    list: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn revoke(setting: &Setting<'_>, arguments: RevokeArguments) -> anyhow::Result<ExitCode> {
    if arguments.list {
        return list(setting, arguments.json);
    }
    if arguments.undo {
        return undo(setting, &arguments.names);
    }
    let began = Instant::now();
    let access = setting.access()?;
    let mut outcome = Outcome {
        names: arguments.names.clone(),
        is_classic: access.classic,
        ..Outcome::default()
    };
    take_away(setting, &access, &arguments, &mut outcome).await?;
    if setting.config.signed.is_some() {
        outcome.settle(setting).await;
    }
    outcome.look_for_locals(setting, &access).await;
    if arguments.wait {
        outcome
            .wait(setting, began, Duration::from_secs(arguments.timeout))
            .await;
    }
    outcome.tell(arguments.json)
}

/// Puts them on the list, and publishes everything without them.
async fn take_away(
    setting: &Setting<'_>,
    access: &Access,
    arguments: &RevokeArguments,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let folder = &setting.config.syncer.state_folder;
    // Until all of it is published nobody else publishes what was read before.
    let mut desk = Desk::open(folder)?;
    let found = who(setting, &arguments.names)?;
    if let Some(name) = arguments
        .names
        .iter()
        .find(|name| !found.contains_key(*name) && !arguments.unknown)
    {
        bail!(
            "nobody is published under the name {name:?}, so nothing was done; see `dirless-syncer plan`. To have nobody \
             published under it from now on: --unknown"
        );
    }
    for name in &arguments.names {
        desk.add(Revocation {
            name: name.clone(),
            identities: found.get(name).cloned().unwrap_or_default(),
            since: setting.clock.now(),
            reason: arguments.reason.clone(),
            agreed: BTreeMap::new(),
        })?;
        tracing::warn!(event = "user.revoked", user = name, "{name} was revoked by hand");
    }
    for place in places(setting, access)? {
        match place.take_away(&desk).await {
            Ok(None) => {}
            Ok(Some(took)) => outcome.published.push(took),
            Err(error) => outcome.problems.push(format!("{}: {error:#}", place.name)),
        }
    }
    Ok(())
}

/// Who bears these names in what is published.
fn who(setting: &Setting<'_>, names: &[String]) -> anyhow::Result<BTreeMap<String, BTreeSet<Identity>>> {
    let mut found: BTreeMap<String, BTreeSet<Identity>> = BTreeMap::new();
    for source in setting.sources() {
        let published = State::at(&source.state_folder).published()?;
        let users = published.into_iter().flat_map(|published| published.shape.users);
        for (id, user) in users.filter(|(_, user)| names.contains(&user.name)) {
            let of = found.entry(user.name).or_default();
            of.insert(Identity {
                source: source.name.clone(),
                id,
            });
        }
    }
    for own in Revocations::load(&setting.config.syncer.state_folder)?.iter() {
        if names.contains(&own.name) {
            found.entry(own.name.clone()).or_default();
        }
    }
    Ok(found)
}

/// Everything that is published.
fn places<'s>(setting: &'s Setting<'_>, access: &'s Access) -> anyhow::Result<Vec<Place<'s>>> {
    let folder = &setting.config.syncer.state_folder;
    let sources = setting.sources().into_iter();
    let sources = sources.map(|source| (source.name, source.state_folder, source.names));
    let audiences = setting.audiences().into_iter().map(|target| {
        let state = target.state_folder(folder);
        (target.name, state, setting.config.names.clone())
    });
    let all = sources.chain(audiences).map(|(name, state_folder, names)| {
        Ok(Place {
            config: &setting.config,
            access,
            client: keys::client(&setting.config, &access.bearer, Some(&access.tenant))?,
            name,
            state_folder,
            names,
            signer: setting.signer()?,
            clock: setting.clock.clone(),
        })
    });
    all.collect()
}

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    names: Vec<String>,
    published: Vec<Took>,
    head: Option<u64>,
    waited: Option<Waited>,
    problems: Vec<String>,
    is_classic: bool,
}

impl Outcome {
    async fn settle(&mut self, setting: &Setting<'_>) {
        let settled: anyhow::Result<Option<Settled>> = setting.settle(Wish::default()).await;
        match settled {
            Ok(settled) => {
                let settled = settled.unwrap_or_default();
                self.problems.extend(settled.problems);
                // A syncer that runs may have been faster.
                let signed = settled.head.map(Ok).or_else(|| {
                    let signer = setting.needed_signer();
                    Some(signer.and_then(|signer| Ok(signer.book()?.head)))
                });
                match signed {
                    Some(Ok(head)) => self.head = Some(head),
                    Some(Err(error)) => self.problems.push(format!("{error:#}")),
                    None => {}
                }
            }
            Err(error) => self.problems.push(format!("{error:#}")),
        }
    }

    /// Users that people entered with `local` are no source's.
    async fn look_for_locals(&mut self, setting: &Setting<'_>, access: &Access) {
        let text = async {
            if !access.classic {
                return Ok(setting.needed_signer()?.stocked_text(&LOCAL.parse()?)?);
            }
            let client = keys::client(&setting.config, &access.bearer, Some(&access.tenant))?;
            Remote::new(client, LOCAL.parse()?, access).text_if_any().await
        };
        match text.await {
            Ok(text) => {
                let named = |name: &&String| {
                    text.as_ref()
                        .is_some_and(|text| text.contains(&format!("\"username\":\"{name}\"")))
                };
                for name in self.names.iter().filter(named) {
                    self.problems.push(format!(
                        "{name} is a local user as well, who stays: dirless-syncer local user remove {name}"
                    ));
                }
            }
            Err(error) => self
                .problems
                .push(format!("whether they are local users is not known: {error:#}")),
        }
    }

    async fn wait(&mut self, setting: &Setting<'_>, began: Instant, timeout: Duration) {
        let Some(head) = self.head else { return };
        let waited = async {
            let signer = setting.needed_signer()?;
            // Asking waits, and a runtime may not.
            let waited = tokio::task::spawn_blocking(move || {
                let mut problems = Vec::new();
                let waited = signer.wait(head, began, timeout, &mut problems)?;
                anyhow::Ok((waited, problems))
            });
            waited.await.context("waiting for hosts")?
        };
        match waited.await {
            Ok((waited, problems)) => {
                self.problems.extend(problems);
                if waited.is_none() {
                    self.problems
                        .push("hosts that read a folder tell nobody what they applied".to_owned());
                }
                self.waited = waited;
            }
            Err(error) => self
                .problems
                .push(format!("what hosts have applied is not known: {error:#}")),
        }
    }

    fn tell(&self, as_json: bool) -> anyhow::Result<ExitCode> {
        if as_json {
            Setting::print(&format!("{:#}", self.to_json()))?;
        } else {
            self.tell_in_words()?;
        }
        let is_behind = self.waited.as_ref().is_some_and(|waited| !waited.behind.is_empty());
        match (self.problems.is_empty(), is_behind) {
            (false, _) => bail!("not everything could be done; see above"),
            (true, true) => Ok(ExitCode::from(EXIT_BEHIND)),
            (true, false) => Ok(ExitCode::SUCCESS),
        }
    }

    fn tell_in_words(&self) -> anyhow::Result<()> {
        for name in &self.names {
            Setting::print(&format!("revoked {name}: kept out until the sources agree"))?;
        }
        for took in &self.published {
            Setting::print(&format!("published {} of {}", took.sequence, took.source))?;
        }
        if let Some(head) = self.head {
            Setting::print(&format!("signed head {head}"))?;
        }
        if let Some(waited) = &self.waited {
            Setting::print(&waited.to_string())?;
            for node in &waited.behind {
                Setting::print(&format!("not applied by {node}"))?;
            }
            for problem in waited.problems.iter().chain(&waited.splits) {
                Setting::print(&format!("problem: {problem}"))?;
            }
        }
        if self.is_classic {
            Setting::print(
                "hosts of the classic protocol do not say what they have applied: those that keep a request open apply it at \
                 once, others within their interval",
            )?;
        }
        for problem in &self.problems {
            Setting::print(&format!("problem: {problem}"))?;
        }
        Ok(())
    }

    fn to_json(&self) -> serde_json::Value {
        let hosts = self.waited.as_ref().map(|waited| {
            let names = |nodes: &[dirless_seal::Label]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
            json!({
                "connected": waited.connected(),
                "applied": waited.applied,
                "behind": names(&waited.behind),
                "offline": names(&waited.offline),
                "slowest_seconds": waited.slowest.map(|slowest| slowest.as_secs_f64()),
                "leases_end": waited.leases_end,
                "serve_on": waited.serve_on,
                "problems": waited.problems,
                "split_views": waited.splits,
            })
        });
        json!({
            "revoked": self.names,
            "published": self.published,
            "head": self.head,
            "hosts": hosts,
            "classic_hosts": self.is_classic.then_some("unknown"),
            "problems": self.problems,
        })
    }
}

fn undo(setting: &Setting<'_>, names: &[String]) -> anyhow::Result<ExitCode> {
    let mut desk = Desk::open(&setting.config.syncer.state_folder)?;
    for name in names {
        if desk.remove(name)?.is_none() {
            bail!("{name} is not revoked; see: dirless-syncer revoke --list");
        }
        tracing::warn!(
            event = "user.restored",
            user = name,
            "the revocation of {name} was undone by hand"
        );
        Setting::print(&format!(
            "{name} comes back with the next read of the sources; to read now: dirless-syncer once"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(setting: &Setting<'_>, as_json: bool) -> anyhow::Result<ExitCode> {
    let all = Revocations::load(&setting.config.syncer.state_folder)?;
    if as_json {
        let all: Vec<_> = all.iter().collect();
        Setting::print(&serde_json::to_string_pretty(&all)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for own in all.iter() {
        let sources: BTreeSet<&str> = own.identities.iter().map(|own| own.source.as_str()).collect();
        let of: Vec<_> = sources
            .iter()
            .map(|source| match own.agreed.get(*source) {
                Some(since) => format!("{source} (agrees since {})", since.strftime("%Y-%m-%d %H:%M:%SZ")),
                None => format!("{source} (still has them)"),
            })
            .collect();
        let reason = own
            .reason
            .as_ref()
            .map(|reason| format!(": {reason}"))
            .unwrap_or_default();
        Setting::print(&format!(
            "{} since {}, {}{reason}",
            own.name,
            own.since.strftime("%Y-%m-%d %H:%M:%SZ"),
            if of.is_empty() {
                "nobody's".to_owned()
            } else {
                of.join(", ")
            },
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
