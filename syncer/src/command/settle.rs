//! Publishing signed, where the configuration has `[signed]`.

use std::time::Duration;

use anyhow::Context;
use dirless_client::AccessRules;
use dirless_program::service;

use super::Setting;
use crate::rules::{RulesChange, RulesOutcome};
use crate::serve::triggers::{self, Part};
use crate::signed::{self, ACCESS_RULES, Kind, Settled, Signer, Wish};
use crate::sources::files;

/// What the part is called for those who asked for a cycle.
const PART: &str = "signed";
/// How often it is looked whether a host asks to come in, or the head grows old.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How long after a failure it is tried again.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

impl Setting<'_> {
    /// What signs, when the configuration says so.
    pub(super) fn signer(&self) -> anyhow::Result<Option<Signer>> {
        let signer = signed::signer(&self.config, self.environment, self.clock.clone(), &self.connections);
        signer.context("publishing signed")
    }

    /// The same, where it is needed.
    pub(super) fn needed_signer(&self) -> anyhow::Result<Signer> {
        let missing = || {
            format!(
                "{} has no [signed] table; see docs/publishing-signed.md",
                self.path.display()
            )
        };
        self.signer()?.with_context(missing)
    }

    /// Brings the tenant folder up to date.
    pub(super) async fn settle(&self, wish: Wish) -> anyhow::Result<Option<Settled>> {
        let Some(signer) = self.signer()? else {
            return Ok(None);
        };
        settle(signer, wish).await.map(Some)
    }

    /// Takes access rules out of files over; `None` without `[signed]`. What looks like an accident waits for a
    /// person, unless `passed` says that it was looked at already.
    pub(super) fn stock_rules(
        &self,
        access: &files::Access,
        passed: bool,
        accept: Option<&str>,
    ) -> anyhow::Result<Option<RulesOutcome>> {
        let Some(signer) = self.signer()? else {
            return Ok(None);
        };
        let before = self.signed_rules()?.map(|rules| rules.json);
        let change = RulesChange::between(before.as_ref(), access, self.config.guard.percent);
        let Some(change) = change.map_err(anyhow::Error::msg)? else {
            return Ok(Some(RulesOutcome::Unchanged));
        };
        if change.is_held() && !passed && accept != Some(change.change.as_str()) {
            return Ok(Some(RulesOutcome::Held(change)));
        }
        let json = serde_json::to_vec(change.json()).context("writing the access rules")?;
        let says = dirless_seal::sha256_hex(&json);
        let source = ACCESS_RULES.parse().context("naming the access rules")?;
        signer.stock(&source, Kind::AccessRules, &says, &json)?;
        Ok(Some(RulesOutcome::Put(change)))
    }

    /// The access rules that are published signed.
    pub(super) fn signed_rules(&self) -> anyhow::Result<Option<AccessRules>> {
        let Some(signer) = self.signer()? else {
            return Ok(None);
        };
        let text = signer.stocked_text(&ACCESS_RULES.parse().context("naming the access rules")?)?;
        let read = |text: String| -> serde_json::Result<AccessRules> {
            Ok(AccessRules {
                config: serde_json::from_str(&text)?,
                json: serde_json::from_str(&text)?,
                text: text.into_bytes(),
                etag: None,
            })
        };
        text.map(read)
            .transpose()
            .context("reading the access rules that are published")
    }

    /// Settles after a cycle, for those who asked for it.
    pub(super) async fn settled_part(&self) -> Option<Part> {
        let (outcome, detail) = match self.settle(Wish::default()).await {
            Ok(None) => return None,
            Ok(Some(settled)) => {
                log(&settled);
                let outcome = if !settled.problems.is_empty() {
                    triggers::Outcome::Failed
                } else if settled.published.is_empty() {
                    triggers::Outcome::Unchanged
                } else {
                    triggers::Outcome::Changed
                };
                (outcome, lines(&settled).join("; "))
            }
            Err(error) => {
                tracing::error!(event = "signed.failed", "{error:#}");
                (triggers::Outcome::Failed, format!("{error:#}"))
            }
        };
        Some(Part {
            name: PART.to_owned(),
            outcome,
            detail,
        })
    }

    /// Signs a head each minute and lets hosts in, for good: also while no source can be read.
    pub(super) async fn keep_signed(&self) -> std::convert::Infallible {
        if self.config.signed.is_none() {
            return std::future::pending().await;
        }
        let mut told = Vec::new();
        loop {
            let wait = match self.look_signed(&mut told).await {
                Ok(()) => LOOK_EVERY,
                Err(error) => {
                    tracing::error!(event = "signed.failed", "{error:#}");
                    service::status(&format!("nothing is signed: {error:#}"));
                    AFTER_FAILURE
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn look_signed(&self, told: &mut Vec<String>) -> anyhow::Result<()> {
        let Some(signer) = self.signer()? else {
            return Ok(());
        };
        let Some(mut settled) = settle_if_due(signer).await? else {
            return Ok(());
        };
        // What stays wrong is told once, not each minute.
        let problems = settled.problems.clone();
        settled.problems.retain(|problem| !told.contains(problem));
        *told = problems;
        log(&settled);
        Ok(())
    }
}

async fn settle(signer: Signer, wish: Wish) -> anyhow::Result<Settled> {
    // Sealing and waiting for the disk would hold up everything else.
    let settled = tokio::task::spawn_blocking(move || signer.settle(&wish)).await;
    settled.context("publishing signed")?.context("publishing signed")
}

async fn settle_if_due(signer: Signer) -> anyhow::Result<Option<Settled>> {
    let look = move || {
        if signer.is_due()? {
            signer.settle(&Wish::default()).map(Some)
        } else {
            Ok(None)
        }
    };
    let settled = tokio::task::spawn_blocking(look).await;
    settled.context("publishing signed")?.context("publishing signed")
}

fn log(settled: &Settled) {
    for (source, compartment, version) in &settled.published {
        tracing::info!(
            event = "signed.published",
            %source, %compartment, version,
            "signed version {version} of {source} for {compartment}"
        );
    }
    if let Some(key) = &settled.key {
        tracing::info!(event = "key.renewed", %key, "the publisher's key has a successor: {key}");
    }
    for begun in &settled.epochs {
        let (compartment, epoch) = (&begun.compartment, begun.number);
        tracing::info!(
            event = "epoch.begun",
            %compartment, epoch, wraps = begun.wraps,
            "epoch {epoch} of {compartment} began: {}", begun.why
        );
    }
    for node in &settled.admitted {
        let host = node.host.as_deref().unwrap_or_default();
        tracing::info!(event = "node.admitted", node = %node.name, host, "admitted host {host} as {}", node.name);
    }
    for refused in &settled.refused {
        tracing::warn!(event = "node.refused", "a host was not admitted: {refused}");
    }
    for problem in &settled.problems {
        tracing::error!(event = "signed.problem", "{problem}");
    }
}

/// What was done, one line each.
pub(super) fn lines(settled: &Settled) -> Vec<String> {
    let published = settled.published.iter();
    let mut lines: Vec<String> = published
        .map(|(source, compartment, version)| format!("signed version {version} of {source} for {compartment}"))
        .collect();
    let key = settled.key.as_ref();
    lines.extend(key.map(|key| format!("the publisher's key is {key} from now on")));
    lines.extend(settled.epochs.iter().map(|begun| {
        let (compartment, number, why, wraps) = (&begun.compartment, begun.number, begun.why, begun.wraps);
        format!("epoch {number} of {compartment} began ({why}), wrapped {wraps} times")
    }));
    lines.extend(settled.admitted.iter().map(|node| {
        let host = node.host.as_deref().unwrap_or("a host without a name");
        format!("admitted {host} as {}", node.name)
    }));
    lines.extend(settled.refused.iter().map(|reason| format!("not admitted: {reason}")));
    lines.extend(settled.head.map(|head| format!("signed head {head}")));
    lines.extend(settled.problems.iter().map(|problem| format!("problem: {problem}")));
    lines
}

/// Prints what was done; what is wrong is an error.
pub(super) fn tell(settled: &Settled) -> anyhow::Result<()> {
    for line in lines(settled) {
        Setting::print(&line)?;
    }
    match settled.problems.len() {
        0 => Ok(()),
        _ => anyhow::bail!("not everything could be published signed; see above"),
    }
}
