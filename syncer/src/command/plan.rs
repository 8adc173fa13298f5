use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use super::{EXIT_CHANGES, EXIT_HELD, Setting, progress};
use crate::cycle::Plan;
use crate::guard::{Changes, Verdict};
use crate::sources::{Hidden, overlap};

#[derive(Debug, clap::Args)]
pub(super) struct PlanArguments {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn plan(setting: &Setting<'_>, arguments: PlanArguments) -> anyhow::Result<ExitCode> {
    let access = setting.access()?;
    let sources = setting.sources();
    let mut plans = Vec::with_capacity(sources.len());
    for own in &sources {
        let source = setting.open(own).await?;
        let watch = progress::watch();
        let plan = setting.cycle(&access, own, source.as_ref())?.plan(watch.as_ref()).await;
        drop(watch);
        plans.push((own.name.as_str(), plan.with_context(|| format!("source {}", own.name))?));
    }
    let documents: Vec<_> = plans.iter().map(|(name, plan)| (*name, plan.document())).collect();
    let hidden = overlap(&documents);
    let text = if arguments.json {
        serde_json::to_string_pretty(&all_as_json(&plans, &hidden))?
    } else {
        all_as_text(&plans, &hidden)
    };
    Setting::print(text.trim_end())?;
    let held = plans.iter().any(|(_, plan)| matches!(plan.verdict, Verdict::Hold(_)));
    Ok(if held {
        ExitCode::from(EXIT_HELD)
    } else if plans.iter().all(|(_, plan)| plan.is_unchanged()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_CHANGES)
    })
}

/// One source alone is shown as ever; several under their names.
fn all_as_json(plans: &[(&str, Plan)], hidden: &[Hidden]) -> serde_json::Value {
    if let [(_, only)] = plans {
        return as_json(only);
    }
    let sources = plans
        .iter()
        .map(|(name, plan)| json!({"source": name, "plan": as_json(plan)}));
    json!({"sources": sources.collect::<Vec<_>>(), "hidden": hidden})
}

fn all_as_text(plans: &[(&str, Plan)], hidden: &[Hidden]) -> String {
    if let [(_, only)] = plans {
        return as_text(only);
    }
    let mut text = String::new();
    for (name, plan) in plans {
        let _ = write!(text, "source {name}\n{}\n", as_text(plan));
    }
    for hidden in hidden {
        let _ = writeln!(text, "! {hidden}");
    }
    text
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
