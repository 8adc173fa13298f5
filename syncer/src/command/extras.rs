//! What a cycle does besides its sources: access rules out of files.

use anyhow::Context;

use super::Setting;
use crate::keys::{self, Access};
use crate::rules::{self, RulesOutcome};
use crate::sources::files::{FileSource, FilesConfig, Gathered};
use crate::sources::{SourceKind, SourceSetting};

/// How it all got on.
#[derive(Debug, Default)]
pub(super) struct Extras {
    pub(super) rules: Option<anyhow::Result<RulesOutcome>>,
}

impl Extras {
    /// Puts the access rules; a change called `accept` passes. What fails is part of the outcome, and
    /// holds up nothing else.
    pub(super) async fn run(setting: &Setting<'_>, access: &Access, accept: Option<&str>) -> Self {
        let rules = match owner(&setting.sources()) {
            Some(_) => Some(put_rules(setting, access, accept).await),
            None => None,
        };
        Self { rules }
    }

    /// Did something fail?
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.rules, Some(Err(_)))
    }

    /// Does something wait for a person?
    pub(super) fn is_held(&self) -> bool {
        matches!(self.rules, Some(Ok(RulesOutcome::Held(_))))
    }

    /// Says in the log how it got on; what is as it was is not worth a line.
    pub(super) fn log(&self) {
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

    /// The same for people, one line each.
    pub(super) fn lines(&self) -> Vec<String> {
        match &self.rules {
            None => Vec::new(),
            Some(Ok(RulesOutcome::Unchanged)) => vec!["access rules: nothing changed".to_owned()],
            Some(Ok(RulesOutcome::Put(change))) => vec![change.summary()],
            Some(Ok(RulesOutcome::Held(change))) => vec![held_rules(change)],
            Some(Err(error)) => vec![format!("access rules: {error:#}")],
        }
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
    let client = keys::client(&setting.config, &access.bearer, Some(&access.tenant))?;
    rules::put(&client, &wanted, setting.config.guard.percent, accept).await
}
