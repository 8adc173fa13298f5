use std::fmt::Write;
use std::process::ExitCode;

use serde_json::json;

use super::{Setting, once};
use crate::audience::Target;
use crate::engines;
use crate::keys::KeyFolder;
use crate::ledger::{Ledger, LedgerError};
use crate::sources::SourceSetting;
use crate::state::State;

#[derive(Debug, clap::Args)]
pub(super) struct StatusArguments {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn status(setting: &Setting<'_>, arguments: StatusArguments) -> anyhow::Result<ExitCode> {
    let sources = setting.sources();
    for own in &sources {
        if sources.len() > 1 && !arguments.json {
            Setting::print(&format!("\nsource {}", own.name))?;
        }
        of_one(setting, own, arguments.json)?;
    }
    for target in setting.audiences() {
        of_audience(setting, &target, arguments.json)?;
    }
    let engines = engines::recall(&setting.config.syncer.state_folder);
    if arguments.json && !engines.is_empty() {
        Setting::print(&serde_json::to_string_pretty(&json!({ "engines": engines }))?)?;
    } else if !arguments.json {
        for ran in engines {
            Setting::print(&ran.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What an audience has of the tree.
fn of_audience(setting: &Setting<'_>, target: &Target, json: bool) -> anyhow::Result<()> {
    let state = State::at(&target.state_folder(&setting.config.syncer.state_folder));
    let (published, held) = (state.published()?, state.held()?);
    if json {
        let value = json!({
            "source": target.name,
            "host_groups": target.host_groups,
            "sequence": state.sequence()?,
            "published_at": published.as_ref().map(|published| &published.at),
            "entries": published.as_ref().map(|published| published.entries),
            "held": held,
            "accepted": state.accepted()?,
        });
        return Setting::print(&serde_json::to_string_pretty(&value)?);
    }
    let mut text = match published {
        None => format!("{}: not published yet", target.name),
        Some(published) => format!(
            "{}: snapshot {} of {}, {} entries",
            target.name, published.sequence, published.at, published.entries
        ),
    };
    if let Some(held) = &held {
        let _ = write!(text, "\nsince {}: {}", held.since, once::explain(held));
    }
    Setting::print(&format!("\n{text}"))
}

fn of_one(setting: &Setting<'_>, own: &SourceSetting, json: bool) -> anyhow::Result<()> {
    let state = State::at(&own.state_folder);
    let report = state.report()?;
    let held = state.held()?;
    let published = state.published()?;
    let enrolled = KeyFolder::of(&setting.config).is_enrolled();
    let numbers = match Ledger::open_to_read(&setting.config.ledger_path()) {
        Ok(ledger) => Some(ledger.entries()?),
        Err(LedgerError::Missing { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let counts = numbers.map(|entries| {
        let retired = entries.iter().filter(|entry| entry.retired).count();
        (entries.len(), retired)
    });
    if json {
        let value = json!({
            "source": own.name,
            "enrolled": enrolled,
            "sequence": state.sequence()?,
            "published_at": published.as_ref().map(|published| &published.at),
            "report": report,
            "held": held,
            "accepted": state.accepted()?,
            "ledger": counts.map(|(all, retired)| json!({"numbers": all, "retired": retired})),
        });
        return Setting::print(&serde_json::to_string_pretty(&value)?);
    }
    let mut text = String::new();
    let or_never = |time: &Option<String>| time.clone().unwrap_or_else(|| "never".to_owned());
    // Without the classic protocol there is nothing to enrol with.
    if setting.config.is_classic() {
        let enrolled = if enrolled {
            "yes"
        } else {
            "no: run `dirless-syncer enroll`"
        };
        let _ = writeln!(text, "enrolled       {enrolled}");
    }
    let _ = writeln!(text, "last read      {}", or_never(&report.last_read));
    let _ = writeln!(text, "last push      {}", or_never(&report.last_push));
    let _ = writeln!(text, "last verified  {}", or_never(&report.last_verified));
    let _ = writeln!(text, "published      {} users, {} groups", report.users, report.groups);
    if let Some((all, retired)) = counts {
        let _ = writeln!(
            text,
            "ledger         {all} numbers, {retired} of them of objects that are gone"
        );
    }
    for left_out in &report.left_out {
        let _ = writeln!(text, "left out       {}: {}", left_out.object, left_out.reason);
    }
    if let Some(error) = &report.error {
        let _ = writeln!(text, "last error     {error}");
    }
    if let Some(held) = &held {
        let _ = writeln!(text, "\nsince {}: {}", held.since, once::explain(held));
    }
    Setting::print(text.trim_end())
}
