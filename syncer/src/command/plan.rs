use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Context;
use dirless_wire::TenantId;

use super::{EXIT_CHANGES, EXIT_HELD, Setting, extras, progress};
use crate::cycle;
use crate::engines::{Outcome, Ran};
use crate::guard::Verdict;
use crate::keys::{self, Access};
use crate::radius::{Hosts, Radius, Rules, radius, views};
use crate::rules::RulesChange;
use crate::shape::Shape;
use crate::sources::{Hidden, overlap};

mod show;

#[derive(Debug, clap::Args)]
pub(super) struct PlanArguments {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn plan(setting: &Setting<'_>, arguments: PlanArguments) -> anyhow::Result<ExitCode> {
    let access = setting.access()?;
    let planned = Planned::of(setting, &access).await?;
    let text = if arguments.json {
        serde_json::to_string_pretty(&planned.as_json())?
    } else {
        planned.as_text()
    };
    Setting::print(text.trim_end())?;
    Ok(planned.code())
}

/// What a run would do, and to whom.
#[derive(Debug)]
pub(super) struct Planned {
    sources: Vec<(String, cycle::Plan)>,
    hidden: Vec<Hidden>,
    engines: Vec<Ran>,
    rules: Option<RulesChange>,
    radius: Radius,
    notes: Vec<String>,
}

impl Planned {
    /// Reads everything and writes nothing.
    ///
    /// # Errors
    /// Whatever would keep a source from being published.
    pub(super) async fn of(setting: &Setting<'_>, access: &Access) -> anyhow::Result<Self> {
        let mut sources = Vec::new();
        for own in &setting.sources() {
            let source = setting.open(own).await?;
            let watch = progress::watch();
            let plan = setting.cycle(access, own, source.as_ref())?.plan(watch.as_ref()).await;
            drop(watch);
            sources.push((own.name.clone(), plan.with_context(|| format!("source {}", own.name))?));
        }
        let documents: Vec<_> = sources
            .iter()
            .map(|(name, plan)| (name.as_str(), plan.document()))
            .collect();
        let hidden = overlap(&documents);
        let mut planned = Self {
            engines: extras::plan_engines(setting).await?,
            sources,
            hidden,
            rules: None,
            radius: Radius::default(),
            notes: Vec::new(),
        };
        planned.look_at_hosts(setting, access).await?;
        Ok(planned)
    }

    /// Finds out who gains and loses what. Hosts and rules that cannot be told are noted, for they do
    /// not keep a change from being made.
    async fn look_at_hosts(&mut self, setting: &Setting<'_>, access: &Access) -> anyhow::Result<()> {
        let config = &setting.config;
        let client = keys::client(config, &access.bearer, Some(&access.tenant))?;
        let fetched = match access.classic {
            true => client.cycle().get_access_rules().await.map_err(anyhow::Error::from),
            false => setting.signed_rules(),
        };
        let before = match &fetched {
            Ok(rules) => rules.as_ref().map(|rules| rules.config.clone()).unwrap_or_default(),
            Err(error) => {
                self.notes.push(format!(
                    "the access rules could not be fetched, so hosts are not told apart: {error:#}"
                ));
                dirless_wire::AuthzConfig::default()
            }
        };
        let pairs = before
            .host_group_rules
            .iter()
            .map(|rule| (rule.group.as_str(), rule.host.as_str()));
        let before = Rules::new(before.enforce_group_memberships, pairs, &config.names);
        let mut after = before.clone();
        let mut listed = std::collections::BTreeMap::new();
        if let Some(gathered) = extras::gathered(setting).await? {
            listed = gathered.host_groups;
            if let (Some(wanted), Ok(current)) = (&gathered.access, &fetched) {
                let json = current.as_ref().map(|current| &current.json);
                let change = RulesChange::between(json, wanted, config.guard.percent);
                self.rules = change.map_err(anyhow::Error::msg)?;
                let pairs = wanted
                    .rules
                    .iter()
                    .flat_map(|rule| rule.hosts.iter().map(|host| (rule.group.as_str(), host.as_str())));
                after = Rules::new(wanted.enforce, pairs, &config.names);
            }
        }
        let known = match config.plan.inventory() {
            Some(Ok(known)) => known,
            Some(Err(reason)) => {
                self.notes.push(reason);
                BTreeSet::new()
            }
            None if access.classic => self.alive(&client, access).await,
            None => BTreeSet::new(),
        };
        let hosts: Hosts = config.plan.hosts(known, &config.host_groups, &listed);
        let shapes: Vec<Shape> = self
            .sources
            .iter()
            .map(|(_, plan)| Shape::of(plan.document()))
            .collect();
        let sources = self.sources.iter().zip(&shapes);
        let sources: Vec<_> = sources
            .map(|((name, plan), after)| (name.as_str(), plan.before(), after))
            .collect();
        let (before, after) = views(&sources, before, after);
        self.radius = radius(&before, &after, &hosts);
        Ok(())
    }

    /// The hosts of this tenant that send heartbeats, as far as the backend shows them.
    async fn alive(&mut self, client: &dirless_client::Client, access: &Access) -> BTreeSet<String> {
        let details = match client.cycle().get_health().await {
            Ok(health) => health.details,
            Err(_) => None,
        };
        let Some(details) = details else {
            self.notes.push(
                "no list of hosts: the backend does not show heartbeats to this machine; name one with [plan] inventory"
                    .to_owned(),
            );
            return BTreeSet::new();
        };
        let own = details
            .agents
            .into_iter()
            .filter(|agent| TenantId::new(&agent.tenant_id).is_ok_and(|tenant| tenant == access.tenant));
        own.map(|agent| agent.hostname)
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// Must something wait for a person?
    pub(super) fn is_held(&self) -> bool {
        self.held().next().is_some()
    }

    /// The names of the changes that must wait for a person.
    pub(super) fn held(&self) -> impl Iterator<Item = String> {
        let sources = self
            .sources
            .iter()
            .filter(|(_, plan)| matches!(plan.verdict, Verdict::Hold(_)));
        let sources = sources.map(|(_, plan)| plan.difference.id());
        let engines = self.engines.iter().filter_map(|ran| match &ran.outcome {
            Outcome::Held { change, .. } => Some(change.clone()),
            _ => None,
        });
        let rules = self
            .rules
            .iter()
            .filter(|rules| rules.is_held())
            .map(|rules| rules.change.clone());
        sources.chain(engines).chain(rules)
    }

    /// Would a run change nothing at all?
    pub(super) fn is_unchanged(&self) -> bool {
        self.changes() == 0
    }

    /// How many sources, engines and sets of rules would change.
    pub(super) fn changes(&self) -> usize {
        // What is neither user nor group stands in the tree without being pushed with the source.
        let changes = |plan: &cycle::Plan| !plan.is_unchanged() || !plan.difference.entries.is_empty();
        let sources = self.sources.iter().filter(|(_, plan)| changes(plan)).count();
        let engines = self.engines.iter();
        let engines = engines.filter(|ran| matches!(ran.outcome, Outcome::Changed { .. } | Outcome::Held { .. }));
        sources + engines.count() + usize::from(self.rules.is_some())
    }

    fn code(&self) -> ExitCode {
        if self.is_held() {
            ExitCode::from(EXIT_HELD)
        } else if self.is_unchanged() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(EXIT_CHANGES)
        }
    }
}
