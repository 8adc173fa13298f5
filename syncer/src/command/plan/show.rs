//! A plan in words and as JSON.

use std::fmt::Write;

use serde_json::json;

use super::Planned;
use crate::cycle::Plan;
use crate::guard::{Changes, Verdict};
use crate::sources::Hidden;

impl Planned {
    /// All of it for programs.
    pub(in crate::command) fn as_json(&self) -> serde_json::Value {
        let mut json = all_as_json(&self.sources, &self.hidden);
        if let Some(table) = json.as_object_mut() {
            table.insert("radius".to_owned(), json!(self.radius));
            table.insert("summary".to_owned(), self.radius.summary().into());
            table.insert("engines".to_owned(), json!(self.engines));
            table.insert("access_rules".to_owned(), json!(self.rules));
            table.insert("notes".to_owned(), json!(self.notes));
        }
        json
    }

    /// All of it for people.
    pub(in crate::command) fn as_text(&self) -> String {
        let mut text = all_as_text(&self.sources, &self.hidden);
        for ran in &self.engines {
            let _ = writeln!(text, "{ran}");
        }
        if let Some(rules) = &self.rules {
            for (sign, pairs) in [('+', &rules.added), ('-', &rules.removed)] {
                for (group, host) in pairs {
                    let _ = writeln!(text, "{sign} access {group} {host}");
                }
            }
            let _ = writeln!(text, "{}", rules.summary());
            for reason in &rules.reasons {
                let _ = writeln!(text, "would be held back: {reason}");
            }
            if rules.is_held() {
                let _ = writeln!(text, "to let it pass: dirless-syncer apply --accept {}", rules.change);
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        let _ = write!(text, "blast radius: {}", self.radius);
        text
    }
}

/// One source alone is shown as ever; several under their names.
fn all_as_json(plans: &[(String, Plan)], hidden: &[Hidden]) -> serde_json::Value {
    if let [(_, only)] = plans {
        return as_json(only);
    }
    let sources = plans
        .iter()
        .map(|(name, plan)| json!({"source": name, "plan": as_json(plan)}));
    json!({"sources": sources.collect::<Vec<_>>(), "hidden": hidden})
}

fn all_as_text(plans: &[(String, Plan)], hidden: &[Hidden]) -> String {
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
        "tree": plan.tree_summary(),
        "refused": plan.refused().iter().map(ToString::to_string).collect::<Vec<_>>(),
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
    entries(&mut text, "entry", &plan.difference.entries);
    for left_out in &plan.left_out {
        let _ = writeln!(text, "! left out: {left_out}");
    }
    for refused in plan.refused() {
        let _ = writeln!(text, "! not taken into the tree: {refused}");
    }
    if let Some(summary) = plan.tree_summary() {
        let _ = writeln!(text, "in the tree: {summary}");
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
