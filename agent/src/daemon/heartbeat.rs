//! What a host tells the backend about itself: counts, tags and reasons, never a person's data beyond
//! the names of what was dropped, and never more than a heartbeat may hold.

use std::collections::BTreeMap;

use dirless_wire::{AppliedSource, DroppedEntry, ETag, Heartbeat, HostReport, SourceName};

use crate::pipeline::{Kind, OUT_OF_SCOPE, Report};

/// The heartbeat of this host, from the last worker's report and the problems of this cycle.
pub(crate) fn heartbeat(agent_id: &str, hostname: &str, report: Option<&Report>, problems: &[String]) -> Heartbeat {
    let mut host = HostReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: 0,
        published_at: None,
        sources: BTreeMap::new(),
        users: 0,
        groups: 0,
        ssh_keys: 0,
        dropped_total: 0,
        dropped: Vec::new(),
        problems: problems.to_vec(),
        sessions_ended: 0,
    };
    if let Some(report) = report {
        add_report(&mut host, report);
    }
    host.cap();
    Heartbeat {
        agent_id: agent_id.to_owned(),
        hostname: hostname.to_owned(),
        report: Some(host),
    }
}

fn add_report(host: &mut HostReport, report: &Report) {
    if let Some(published) = &report.published {
        host.generation = published.generation;
        host.published_at = Some(published.at.clone());
        host.users = published.users as u64;
        host.groups = published.groups as u64;
        host.ssh_keys = published.users_with_keys as u64;
    }
    for source in &report.sources {
        if let Ok(name) = SourceName::new(&source.name) {
            let applied = AppliedSource {
                etag: source.etag.as_deref().and_then(|tag| ETag::parse(tag).ok()),
                sequence: source.sequence,
                users: source.users as u64,
                groups: source.groups as u64,
            };
            host.sources.insert(name, applied);
        }
    }
    host.dropped_total = report.dropped.total as u64;
    host.dropped = report
        .dropped
        .entries
        .iter()
        .take(HostReport::MAX_DROPPED)
        .map(|dropped| DroppedEntry {
            kind: wire_kind(dropped.kind).to_owned(),
            name: dropped.name.clone(),
            reason: dropped.reason.clone(),
        })
        .collect();
    for problem in problems_of(report) {
        if !host.problems.contains(&problem) {
            host.problems.push(problem);
        }
    }
}

/// The wire's word for what an entry is.
fn wire_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::User => "user",
        Kind::Group => "group",
        Kind::Member => "member",
        Kind::Keys => "key",
        Kind::Entry => "entry",
        Kind::Definition => "definition",
    }
}

/// What a report says is wrong, one line each.
pub(crate) fn problems_of(report: &Report) -> Vec<String> {
    let of_sources = report.sources.iter().filter_map(|source| {
        let problem = source.problem.as_ref()?;
        let told = format!("{}: {}", source.name, problem.reason);
        Some(format!("{told} ({}); {}", problem.code, problem.hint))
    });
    let whole = report
        .problem
        .iter()
        .map(|problem| format!("{} ({}); {}", problem.reason, problem.code, problem.hint));
    let access = report
        .access
        .problem
        .iter()
        .map(|problem| format!("access rules: {problem}"));
    of_sources
        .chain(beyond_scope(report))
        .chain(whole)
        .chain(access)
        .collect()
}

/// Records that their publisher had no right to make are dropped one by one, but they say something about the publisher.
fn beyond_scope(report: &Report) -> Option<String> {
    let count = report.dropped.by_code.get(OUT_OF_SCOPE)?;
    let first = report.dropped.entries.iter().find(|entry| entry.code == OUT_OF_SCOPE);
    let first = first.map_or_else(String::new, |entry| {
        format!(", the first is {} {} of {}", entry.kind, entry.name, entry.source)
    });
    Some(format!(
        "{count} records lie outside what their publisher may say{first} ({OUT_OF_SCOPE}); look at that publisher: a mistake, or a \
         stolen key"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Dropped, Problem, Published, SourceReport, Taken};

    fn report() -> Report {
        let mut report = Report::begin();
        report.published = Some(Published {
            generation: 7,
            made_from: None,
            copy: None,
            at: "2026-11-22T00:00:00Z".into(),
            users: 3,
            groups: 2,
            users_with_keys: 1,
        });
        report.sources.push(SourceReport {
            name: "local".into(),
            taken: Taken::LastGood,
            problem: Some(Problem {
                code: "seal".into(),
                reason: "cannot be opened".into(),
                hint: "seal it again".into(),
            }),
            users: 3,
            groups: 2,
            keys: 1,
            sequence: Some(9),
            generated_at: None,
            fetched_at: None,
            etag: Some("\"x\"".into()),
        });
        report
    }

    #[test]
    fn a_host_without_a_table_still_beats_and_says_why() {
        let beat = heartbeat("node-a", "web-1", None, &["fetching local: boom".to_owned()]);
        let host = beat.report.unwrap();
        assert_eq!((beat.agent_id.as_str(), beat.hostname.as_str()), ("node-a", "web-1"));
        assert_eq!((host.generation, host.problems.len()), (0, 1));
    }

    #[test]
    fn counts_tags_and_reasons_come_from_the_report() {
        let mut report = report();
        for number in 0..300 {
            report.dropped.total += 1;
            report.dropped.entries.push(Dropped {
                source: "local".into(),
                kind: Kind::Keys,
                name: format!("user{number}"),
                code: "reserved".into(),
                reason: "x".repeat(5000),
                hint: String::new(),
            });
        }
        let host = heartbeat("node-a", "web-1", Some(&report), &[]).report.unwrap();
        assert_eq!((host.generation, host.users, host.groups, host.ssh_keys), (7, 3, 2, 1));
        assert_eq!(host.sources[&SourceName::local()].sequence, Some(9));
        assert_eq!((host.dropped_total, host.dropped.len()), (300, HostReport::MAX_DROPPED));
        assert_eq!(host.dropped[0].kind, "key");
        assert!(host.dropped[0].reason.len() <= HostReport::MAX_TEXT_BYTES);
        let text = serde_json::to_string(&host).unwrap();
        assert!(text.len() < 64 * 1024, "{} bytes", text.len());
    }

    #[test]
    fn a_problem_is_told_once() {
        let report = report();
        let problems = problems_of(&report);
        assert_eq!(problems, ["local: cannot be opened (seal); seal it again"]);
        let host = heartbeat("node-a", "web-1", Some(&report), &problems).report.unwrap();
        assert_eq!(host.problems.len(), 1);
    }
}
