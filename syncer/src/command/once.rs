use std::process::ExitCode;

use super::extras::Extras;
use super::{EXIT_HELD, Setting, progress, settle};
use crate::cycle::Outcome;
use crate::keys::Access;
use crate::ledger::LedgerError;
use crate::signed::Wish;
use crate::sources::SourceSetting;
use crate::state::{Held, State};

#[derive(Debug, clap::Args)]
pub(super) struct OnceArguments {
    /// Let exactly this held change pass; `status` and the log name it.
    #[arg(long, value_name = "ID")]
    pub(super) accept: Option<String>,
}

pub(super) async fn once(setting: &Setting<'_>, arguments: OnceArguments) -> anyhow::Result<ExitCode> {
    let access = setting.access()?;
    let accept = arguments.accept.as_deref();
    let sources = setting.sources();
    let extras = Extras::run(setting, &access, accept).await;
    for line in extras.lines() {
        Setting::print(&line)?;
    }
    let (mut held, mut failed) = (extras.is_held(), None);
    for own in &sources {
        match one(setting, &access, own, accept, sources.len() > 1).await {
            Ok(code) => held |= code,
            // One source that fails holds up no other.
            Err(error) if sources.len() > 1 => {
                note(&mut failed, error.context(format!("source {}", own.name)));
            }
            Err(error) if !setting.config.tree.publish && setting.config.signed.is_none() => return Err(error),
            Err(error) => note(&mut failed, error),
        }
    }
    match setting.publish_tree(&access, accept).await {
        Ok(all) => {
            for went in all {
                match tell(&format!("{}: ", went.name), went.outcome, accept) {
                    Ok(code) => held |= code,
                    Err(error) => note(&mut failed, error.context(went.name)),
                }
            }
        }
        Err(error) => note(&mut failed, error),
    }
    match setting.settle(Wish::default()).await {
        Ok(None) => {}
        Ok(Some(settled)) => {
            if let Err(error) = settle::tell(&settled) {
                note(&mut failed, error);
            }
        }
        Err(error) => note(&mut failed, error),
    }
    match failed {
        Some(error) => Err(error),
        None if extras.has_failed() => anyhow::bail!("not everything was done; see above"),
        None if held => Ok(ExitCode::from(EXIT_HELD)),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Keeps the last error for the end; those before it are told now.
fn note(failed: &mut Option<anyhow::Error>, error: anyhow::Error) {
    if let Some(earlier) = failed.replace(error) {
        eprintln!("{earlier:#}");
    }
}

/// Publishes one source; was its change held back?
async fn one(
    setting: &Setting<'_>,
    access: &Access,
    own: &SourceSetting,
    accept: Option<&str>,
    several: bool,
) -> anyhow::Result<bool> {
    let prefix = if several {
        format!("{}: ", own.name)
    } else {
        String::new()
    };
    if let Some(id) = accept {
        // Noted first: a syncer that runs already takes it from here.
        State::at(&own.state_folder).set_accepted(Some(id))?;
    }
    let source = setting.open(own).await?;
    let cycle = setting.cycle(access, own, source.as_ref())?;
    let watch = progress::watch();
    let outcome = cycle.once(accept, watch.as_ref()).await;
    drop(watch);
    tell(&prefix, outcome, accept)
}

/// Tells how a publication went; was it held back?
fn tell(prefix: &str, outcome: anyhow::Result<Outcome>, accept: Option<&str>) -> anyhow::Result<bool> {
    match outcome {
        Ok(Outcome::Pushed { sequence, summary }) => {
            Setting::print(&format!("{prefix}published snapshot {sequence}: {summary}"))?;
            Ok(false)
        }
        Ok(Outcome::Unchanged) => {
            Setting::print(&format!("{prefix}nothing changed"))?;
            Ok(false)
        }
        Ok(Outcome::Held(held)) => {
            eprintln!("{prefix}{}", explain(&held));
            Ok(true)
        }
        Err(error) if accept.is_some() && is_locked(&error) => {
            Setting::print("a syncer is reading right now; it publishes the accepted change when it is done")?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn is_locked(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(LedgerError::Locked { .. }))
}

/// What an operator has to know about a held change.
pub(super) fn explain(held: &Held) -> String {
    let mut text = format!("held back: {}\n", held.difference.summary());
    for reason in &held.reasons {
        text.push_str(&format!("  {reason}\n"));
    }
    let renumbered = held.difference.users.changed.iter();
    let renumbered = renumbered
        .filter(|change| change.fields.iter().any(|field| field.starts_with("uid ")))
        .count();
    if renumbered > 0 {
        text.push_str(&format!(
            "  {renumbered} users would get another uid; to keep the ids that hosts use now, first run: \
             dirless-syncer import --from-backend\n"
        ));
    }
    text.push_str(&format!(
        "what was published before keeps serving; if this is what you want, run: dirless-syncer once --accept {}",
        held.id
    ));
    text
}
