use std::process::ExitCode;

use super::{EXIT_HELD, Setting, progress};
use crate::cycle::Outcome;
use crate::ledger::LedgerError;
use crate::state::{Held, State};

#[derive(Debug, clap::Args)]
pub(super) struct OnceArguments {
    /// Let exactly this held change pass; `status` and the log name it.
    #[arg(long, value_name = "ID")]
    accept: Option<String>,
}

pub(super) async fn once(setting: &Setting<'_>, arguments: OnceArguments) -> anyhow::Result<ExitCode> {
    let access = setting.access()?;
    let accept = arguments.accept.as_deref();
    if let Some(id) = accept {
        // Noted first: a syncer that runs already takes it from here.
        State::at(&setting.config.syncer.state_folder).set_accepted(Some(id))?;
    }
    let source = setting.source().await?;
    let cycle = setting.cycle(&access, source.as_ref())?;
    let watch = progress::watch();
    let outcome = cycle.once(accept, watch.as_ref()).await;
    drop(watch);
    match outcome {
        Ok(Outcome::Pushed { sequence, summary }) => {
            Setting::print(&format!("published snapshot {sequence}: {summary}"))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Outcome::Unchanged) => {
            Setting::print("nothing changed")?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Outcome::Held(held)) => {
            eprintln!("{}", explain(&held));
            Ok(ExitCode::from(EXIT_HELD))
        }
        Err(error) if accept.is_some() && is_locked(&error) => {
            Setting::print("a syncer is reading right now; it publishes the accepted change when it is done")?;
            Ok(ExitCode::SUCCESS)
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
