//! What a cycle does besides its sources: engines, and access rules out of files.

use anyhow::Context;

use super::Setting;
use crate::engines::{self, Engine, Engines, Outcome, Ran};
use crate::keys::{self, Access};
use crate::rules::{self, RulesOutcome};
use crate::serve::triggers::{self, Part};
use crate::sources::files::{FileSource, FilesConfig, Gathered};
use crate::sources::{SourceKind, SourceSetting};
use crate::tree::TreeStore;

/// How it all got on.
#[derive(Debug, Default)]
pub(super) struct Extras {
    pub(super) engines: Vec<Ran>,
    pub(super) rules: Option<anyhow::Result<RulesOutcome>>,
}

impl Extras {
    /// Runs all engines and puts the access rules; changes called `accept` pass. What fails is part of
    /// the outcome, and holds up nothing else.
    pub(super) async fn run(setting: &Setting<'_>, access: &Access, accept: Option<&str>) -> Self {
        let engines = match has_engines(setting) {
            true => match open_tree(setting) {
                Ok(store) => run_engines(setting, &store, &Engine::ALL, accept).await,
                Err(error) => Engine::ALL
                    .map(|engine| Ran::failed(engine, format!("{error:#}")))
                    .into(),
            },
            false => Vec::new(),
        };
        let rules = match owner(&setting.sources()) {
            Some(_) => Some(put_rules(setting, access, accept).await),
            None => None,
        };
        Self { engines, rules }
    }

    /// Did something fail?
    pub(super) fn has_failed(&self) -> bool {
        let engine = self
            .engines
            .iter()
            .any(|ran| matches!(ran.outcome, Outcome::Failed { .. }));
        engine || matches!(self.rules, Some(Err(_)))
    }

    /// Does something wait for a person?
    pub(super) fn is_held(&self) -> bool {
        let engine = self
            .engines
            .iter()
            .any(|ran| matches!(ran.outcome, Outcome::Held { .. }));
        engine || matches!(self.rules, Some(Ok(RulesOutcome::Held(_))))
    }

    /// Says in the log how it got on; what is as it was is not worth a line.
    pub(super) fn log(&self) {
        for ran in &self.engines {
            let engine = ran.engine.name();
            match &ran.outcome {
                Outcome::Unchanged | Outcome::Unset => {}
                Outcome::Changed { summary } => {
                    tracing::info!(event = "engine.changed", engine, "{summary}");
                }
                Outcome::Held { change, .. } => {
                    tracing::error!(event = "engine.held", engine, change, "{ran}");
                }
                Outcome::Failed { .. } => tracing::error!(event = "engine.failed", engine, "{ran}"),
            }
            for refused in &ran.refused {
                tracing::warn!(event = "entry.refused", engine, "not taken into the tree: {refused}");
            }
        }
        match &self.rules {
            None | Some(Ok(RulesOutcome::Unchanged)) => {}
            Some(Ok(RulesOutcome::Put(change))) => {
                tracing::info!(event = "access_rules.put", "{}", change.summary());
            }
            Some(Ok(RulesOutcome::Held(change))) => {
                let id = change.change.as_str();
                tracing::error!(event = "access_rules.held", change = id, "{}", held_rules(change));
            }
            Some(Err(error)) => tracing::error!(event = "access_rules.failed", "access rules: {error:#}"),
        }
    }

    /// The same for those who asked for a cycle.
    pub(super) fn parts(&self) -> Vec<Part> {
        let set = self.engines.iter().filter(|ran| ran.outcome != Outcome::Unset);
        let mut parts: Vec<Part> = set
            .map(|ran| Part {
                name: triggers::engine_part(ran.engine.name()),
                outcome: match ran.outcome {
                    Outcome::Changed { .. } => triggers::Outcome::Changed,
                    Outcome::Held { .. } => triggers::Outcome::Held,
                    Outcome::Failed { .. } => triggers::Outcome::Failed,
                    Outcome::Unchanged | Outcome::Unset => triggers::Outcome::Unchanged,
                },
                detail: ran.to_string(),
            })
            .collect();
        let rules = self.rules.as_ref().map(|rules| match rules {
            Ok(RulesOutcome::Unchanged) => (triggers::Outcome::Unchanged, "nothing changed".to_owned()),
            Ok(RulesOutcome::Put(change)) => (triggers::Outcome::Changed, change.summary()),
            Ok(RulesOutcome::Held(change)) => (triggers::Outcome::Held, held_rules(change)),
            Err(error) => (triggers::Outcome::Failed, format!("{error:#}")),
        });
        parts.extend(rules.map(|(outcome, detail)| Part {
            name: "access rules".to_owned(),
            outcome,
            detail,
        }));
        parts
    }

    /// The same for people, one line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let set = self.engines.iter().filter(|ran| ran.outcome != Outcome::Unset);
        let mut lines: Vec<String> = set.map(ToString::to_string).collect();
        match &self.rules {
            None => {}
            Some(Ok(RulesOutcome::Unchanged)) => lines.push("access rules: nothing changed".to_owned()),
            Some(Ok(RulesOutcome::Put(change))) => lines.push(change.summary()),
            Some(Ok(RulesOutcome::Held(change))) => lines.push(held_rules(change)),
            Some(Err(error)) => lines.push(format!("access rules: {error:#}")),
        }
        lines
    }
}

fn held_rules(change: &rules::RulesChange) -> String {
    format!(
        "held back: {}; {}; if this is what you want, run: dirless-syncer apply --accept {}",
        change.summary(),
        change.reasons.join("; "),
        change.change
    )
}

/// Are there engines with files?
pub(super) fn has_engines(setting: &Setting<'_>) -> bool {
    !setting.config.engines.all(&setting.sources()).is_empty()
}

/// Runs `engines` on a tree that is open, and notes for `status` how they got on.
pub(super) async fn run_engines(
    setting: &Setting<'_>,
    store: &TreeStore,
    engines: &[Engine],
    accept: Option<&str>,
) -> Vec<Ran> {
    let own = Engines::new(&setting.config, store);
    let set: Vec<Engine> = engines
        .iter()
        .copied()
        .filter(|engine| own.set().contains(engine))
        .collect();
    let all = own.run(&set, accept).await;
    if let Err(error) = engines::remember(&setting.config.syncer.state_folder, &all) {
        tracing::warn!(
            event = "engines.unnoted",
            "how the engines got on could not be noted for status: {error}"
        );
    }
    all
}

/// What the engines would do.
///
/// # Errors
/// When the tree cannot be opened.
pub(super) async fn plan_engines(setting: &Setting<'_>) -> anyhow::Result<Vec<Ran>> {
    if !has_engines(setting) {
        return Ok(Vec::new());
    }
    let config = &setting.config;
    let aside;
    let store = if config.tree.path(&config.syncer.state_folder).exists() {
        open_tree(setting)?
    } else {
        // There is no tree yet, and a plan makes none.
        aside = tempfile::tempdir().context("making a folder for a tree to compare with")?;
        config.tree.open(aside.path(), setting.clock.clone())?
    };
    let engines = Engines::new(config, &store);
    Ok(engines.plan(&engines.set()).await?)
}

fn open_tree(setting: &Setting<'_>) -> anyhow::Result<TreeStore> {
    let config = &setting.config;
    let folder = &config.syncer.state_folder;
    dirless_program::fs::ensure_folder(folder, 0o700).with_context(|| format!("making {}", folder.display()))?;
    crate::cycle::open_tree(config, setting.clock.clone())
}

/// The source whose files hold the access rules that are in force.
fn owner(sources: &[SourceSetting]) -> Option<(&SourceSetting, &FilesConfig)> {
    sources.iter().find_map(|source| match &source.kind {
        SourceKind::Files(files) if files.access => Some((source, files.as_ref())),
        _ => None,
    })
}

/// What stands in the files of the source that has the access rules.
///
/// # Errors
/// When they cannot be read.
pub(super) async fn gathered(setting: &Setting<'_>) -> anyhow::Result<Option<Gathered>> {
    let sources = setting.sources();
    let Some((source, files)) = owner(&sources) else {
        return Ok(None);
    };
    let gathered = FileSource::new(&source.name, files).gather().await;
    Ok(Some(gathered.with_context(|| format!("source {}", source.name))?))
}

async fn put_rules(setting: &Setting<'_>, access: &Access, accept: Option<&str>) -> anyhow::Result<RulesOutcome> {
    let gathered = gathered(setting).await?;
    let Some(wanted) = gathered.and_then(|gathered| gathered.access) else {
        // Files without a word on access leave the rules as they are.
        return Ok(RulesOutcome::Unchanged);
    };
    if !access.classic {
        let outcome = setting.stock_rules(&wanted, false, accept)?;
        return outcome.context("there is no [signed] to publish access rules with");
    }
    let client = keys::client(&setting.config, &access.bearer, Some(&access.tenant))?;
    let outcome = rules::put(&client, &wanted, setting.config.guard.percent, accept).await?;
    if !matches!(outcome, RulesOutcome::Held(_)) {
        // What passed on the one way passes on the other.
        let _ = setting.stock_rules(&wanted, true, accept)?;
    }
    Ok(outcome)
}
