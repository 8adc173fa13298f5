use std::fmt::Write;
use std::process::ExitCode;

use serde_json::json;

use super::{EXIT_CHANGES, EXIT_HELD, Setting, progress};
use crate::cycle::Plan;
use crate::guard::{Changes, Verdict};

#[derive(Debug, clap::Args)]
pub(super) struct PlanArguments {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn plan(setting: &Setting<'_>, arguments: PlanArguments) -> anyhow::Result<ExitCode> {
    let access = setting.access()?;
    let source = setting.source().await?;
    let watch = progress::watch();
    let plan = setting.cycle(&access, source.as_ref())?.plan(watch.as_ref()).await?;
    drop(watch);
    let text = if arguments.json {
        serde_json::to_string_pretty(&as_json(&plan))?
    } else {
        as_text(&plan)
    };
    Setting::print(text.trim_end())?;
    Ok(match &plan.verdict {
        Verdict::Hold(_) => ExitCode::from(EXIT_HELD),
        Verdict::Publish if plan.is_unchanged() => ExitCode::SUCCESS,
        Verdict::Publish => ExitCode::from(EXIT_CHANGES),
    })
}

fn as_json(plan: &Plan) -> serde_json::Value {
    let (held, reasons) = match &plan.verdict {
        Verdict::Publish => (false, Vec::new()),
        Verdict::Hold(reasons) => (true, reasons.clone()),
    };
    json!({
        "change": plan.difference.id(),
        "unchanged": plan.is_unchanged(),
        "lost_at_backend": plan.is_lost_at_backend(),
        "held": held,
        "reasons": reasons,
        "users": plan.counts.0,
        "groups": plan.counts.1,
        "new_ids": plan.settled.assigned,
        "returning_ids": plan.settled.returned,
        "retiring_ids": plan.settled.retired,
        "difference": plan.difference,
        "left_out": plan.left_out,
    })
}

fn as_text(plan: &Plan) -> String {
    let mut text = String::new();
    entries(&mut text, "user", &plan.difference.users);
    entries(&mut text, "group", &plan.difference.groups);
    for (sign, memberships) in [('+', &plan.difference.joined), ('-', &plan.difference.left)] {
        for membership in memberships {
            let _ = writeln!(text, "{sign} member {membership}");
        }
    }
    for left_out in &plan.left_out {
        let _ = writeln!(text, "! left out: {left_out}");
    }
    let _ = writeln!(
        text,
        "{} users and {} groups; {}; {} new ids, {} returning, {} retiring",
        plan.counts.0,
        plan.counts.1,
        plan.difference.summary(),
        plan.settled.assigned,
        plan.settled.returned,
        plan.settled.retired
    );
    match &plan.verdict {
        Verdict::Hold(reasons) => {
            for reason in reasons {
                let _ = writeln!(text, "would be held back: {reason}");
            }
            let _ = writeln!(
                text,
                "to let it pass: dirless-syncer once --accept {}",
                plan.difference.id()
            );
        }
        Verdict::Publish if plan.is_unchanged() => text.push_str("nothing to publish\n"),
        Verdict::Publish if plan.is_lost_at_backend() => {
            text.push_str("would be published (the backend does not hold what was published last)\n");
        }
        Verdict::Publish => text.push_str("would be published\n"),
    }
    text
}

fn entries(text: &mut String, kind: &str, changes: &Changes) {
    for (sign, list) in [('+', &changes.added), ('-', &changes.removed), ('~', &changes.changed)] {
        for change in list {
            let fields = change.fields.join(", ");
            let _ = writeln!(text, "{}", format!("{sign} {kind} {} {fields}", change.name).trim_end());
        }
    }
}
