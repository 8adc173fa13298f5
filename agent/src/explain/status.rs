//! `dirless status`: how this host stands, on one screen.

use std::io::{self, Write};

use dirless_program::Clock;
use dirless_table::Table;

use super::why::Caller;
use super::{Level, Trust, ago, print_field, print_json};
use crate::daemon::state;
use crate::paths::Paths;
use crate::pipeline::{Dropped, Report, SourceReport, Taken, shown};

/// Most dropped entries that fit the screen.
const SCREEN: usize = 10;

/// What the running daemon says.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Live {
    /// Its version.
    pub version: String,
    /// The backend that answered last.
    pub backend: Option<String>,
    /// The backend that tells of changes as they happen; none: they are found at the interval.
    pub told_by: Option<String>,
    /// When a cycle last ended (RFC 3339).
    pub last_cycle_at: Option<String>,
    /// When a cycle last ended without a problem (RFC 3339).
    pub last_good_cycle_at: Option<String>,
    /// What an operator should know.
    pub problems: Vec<String>,
    /// Seconds until the next cycle.
    pub next_cycle_in: Option<u64>,
}

/// Whether the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// It does.
    Runs(Live),
    /// It is there, and did not answer in time: a cycle may take long.
    Busy,
    /// It is not, as far as the caller can know.
    Silent,
}

/// What is no file that everybody reads alike.
#[derive(Clone, Debug)]
pub struct Told {
    /// The daemon's answer.
    pub daemon: Daemon,
    /// What is trusted; none where nothing is signed, or for callers who may not know.
    pub trust: Option<Trust>,
}

#[derive(serde::Serialize)]
struct StatusView<'a> {
    daemon: Option<&'a Live>,
    generation: Option<u64>,
    table_written_at: Option<String>,
    table_users: Option<usize>,
    table_groups: Option<usize>,
    table_problem: Option<String>,
    /// What is trusted and why, where files are signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<&'a Trust>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a Report>,
    /// People whose sessions were ended, because they were removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions_ended: Option<u64>,
}

/// Prints the status. The exit code is 0 when all is well, 1 when something should be looked at: that the daemon does not
/// answer as well, if the caller is one whom it would answer.
///
/// # Errors
/// When `out` cannot be written.
pub fn status(
    paths: &Paths,
    owner: u32,
    caller: Caller,
    told: &Told,
    clock: &Clock,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let table = Table::open(&paths.table(), owner);
    let report = match caller {
        Caller::Root => Report::load(&paths.report()).ok().flatten(),
        Caller::Other => None,
    };
    let stats = table.as_ref().map(Table::stats).ok();
    let written = stats.and_then(|stats| jiff::Timestamp::from_second(i64::try_from(stats.created).ok()?).ok());
    let live = match &told.daemon {
        Daemon::Runs(live) => Some(live),
        Daemon::Busy | Daemon::Silent => None,
    };
    let view = StatusView {
        daemon: live,
        generation: stats.map(|stats| stats.generation),
        table_written_at: written.map(|written| written.to_string()),
        table_users: stats.map(|stats| stats.users as usize),
        table_groups: stats.map(|stats| stats.groups as usize),
        table_problem: table.as_ref().err().map(ToString::to_string),
        trust: told.trust.as_ref(),
        report: report.as_ref(),
        sessions_ended: match caller {
            Caller::Root => Some(state::load(&paths.daemon_state()).sessions_ended).filter(|ended| *ended > 0),
            Caller::Other => None,
        },
    };
    if json {
        print_json(&view, out)?;
    } else {
        print(&view, &told.daemon, caller, clock.now(), written, out)?;
    }
    let daemon_well = match &told.daemon {
        Daemon::Runs(live) => live.problems.is_empty(),
        Daemon::Busy => true,
        Daemon::Silent => caller == Caller::Other,
    };
    let trust_well = told.trust.as_ref().is_none_or(|trust| trust.level == Level::Ok);
    let report_well = report.is_none_or(|report| !report.degraded());
    Ok(u8::from(!(table.is_ok() && daemon_well && trust_well && report_well)))
}

fn print(
    view: &StatusView<'_>,
    daemon: &Daemon,
    caller: Caller,
    now: jiff::Timestamp,
    written: Option<jiff::Timestamp>,
    out: &mut dyn Write,
) -> io::Result<()> {
    print_daemon(daemon, caller, now, out)?;
    let table = match (&view.table_problem, view.generation) {
        (Some(problem), _) => format!("none: {problem}"),
        (None, generation) => format!(
            "generation {} written {}: {} users, {} groups",
            generation.unwrap_or_default(),
            written.map_or_else(|| "at an unknown time".to_owned(), |written| ago(written, now)),
            view.table_users.unwrap_or_default(),
            view.table_groups.unwrap_or_default()
        ),
    };
    print_field("table", &[table], out)?;
    print_field("trust", &view.trust.map(Trust::lines).unwrap_or_default(), out)?;
    let ended = view
        .sessions_ended
        .map(|ended| format!("ended for {ended} people who were removed"));
    print_field("sessions", &ended.into_iter().collect::<Vec<_>>(), out)?;
    match (view.report, caller) {
        (Some(report), _) => print_report(report, now, out),
        (None, Caller::Root) => print_field(
            "last run",
            &["none yet; see what the daemon says in the log".to_owned()],
            out,
        ),
        (None, Caller::Other) => print_field("more", &["sudo dirless status tells the rest".to_owned()], out),
    }
}

fn print_daemon(daemon: &Daemon, caller: Caller, now: jiff::Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let without = |line: &str, out| print_field("agent", &[line.to_owned()], out);
    let live = match (daemon, caller) {
        (Daemon::Runs(live), _) => live,
        (Daemon::Busy, _) => return without("is busy with a cycle, and did not answer in time", out),
        (Daemon::Silent, Caller::Root) => {
            let line = "DOES NOT ANSWER: nothing new comes to this host, the table is served on. systemctl status dirless-agent";
            return without(line, out);
        }
        (Daemon::Silent, Caller::Other) => return without("only root may ask it", out),
    };
    let since = |text: &Option<String>| {
        let then: Option<jiff::Timestamp> = text.as_deref().and_then(|text| text.parse().ok());
        then.map_or_else(|| "never".to_owned(), |then| ago(then, now))
    };
    let next = live
        .next_cycle_in
        .map_or(String::new(), |next| format!(", next in {next} s"));
    print_field("agent", &[format!("version {} runs{next}", live.version)], out)?;
    let backend = live.backend.as_deref().unwrap_or("none answered yet");
    let contact = format!(
        "{backend}; last contact {}, last without a problem {}",
        since(&live.last_cycle_at),
        since(&live.last_good_cycle_at)
    );
    let told = match &live.told_by {
        Some(backend) => format!("{backend} tells of changes as they happen"),
        None => "changes are found at the interval: no backend tells of them".to_owned(),
    };
    print_field("backend", &[contact, told], out)?;
    print_field("problems", &live.problems, out)
}

fn print_report(report: &Report, now: jiff::Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let finished: Option<jiff::Timestamp> = report.finished_at.parse().ok();
    let finished = finished.map_or_else(|| "at an unknown time".to_owned(), |then| ago(then, now));
    let took = report.durations;
    let took = took.read + took.decide + took.publish;
    print_field(
        "last run",
        &[format!("{} {finished}, in {took} ms", report.ending)],
        out,
    )?;
    if let Some(problem) = &report.problem {
        print_field("PROBLEM", &[problem.reason.clone(), problem.hint.clone()], out)?;
    }
    print_field(
        "sources",
        &report.sources.iter().flat_map(source_lines).collect::<Vec<_>>(),
        out,
    )?;
    let access = &report.access;
    let rules = if access.enforced {
        format!(
            "enforced: {} rules, {} for host {:?}; {} users excluded",
            access.rules, access.rules_here, access.hostname, report.excluded_total
        )
    } else {
        "not enforced: everyone in the directory may be here".to_owned()
    };
    let rules: Vec<_> = std::iter::once(rules).chain(access.problem.clone()).collect();
    print_field("access", &rules, out)?;
    print_field("dropped", &dropped_lines(report), out)?;
    if !report.duplicates.is_empty() {
        let first: Vec<_> = report.duplicates.iter().take(SCREEN).map(String::as_str).collect();
        let more = report.duplicates.len().saturating_sub(SCREEN);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        print_field("duplicates", &[format!("{}{more}", first.join(", "))], out)?;
    }
    let cautions: Vec<_> = report.cautions.iter().map(|caution| caution.text.clone()).collect();
    print_field("cautions", &cautions, out)
}

fn source_lines(source: &SourceReport) -> Vec<String> {
    let taken = match source.taken {
        Taken::Fetched => "as fetched",
        Taken::LastGood => "LAST GOOD, the fetched one cannot be used",
        Taken::Empty => "empty: the backend has none",
        Taken::Nothing => "NOTHING USABLE",
    };
    let sequence = source
        .sequence
        .map_or(String::new(), |sequence| format!(", sequence {sequence}"));
    let made = source
        .generated_at
        .as_deref()
        .map_or(String::new(), |made| format!(", made {}", shown(made)));
    let mut lines = vec![format!(
        "{}: {taken}; {} users, {} groups, {} with keys{sequence}{made}",
        source.name, source.users, source.groups, source.keys
    )];
    if let Some(problem) = &source.problem {
        lines.push(format!("  {}", problem.reason));
        lines.push(format!("  {}", problem.hint));
    }
    lines
}

fn dropped_lines(report: &Report) -> Vec<String> {
    let dropped = &report.dropped;
    if dropped.total == 0 {
        return vec!["nothing".to_owned()];
    }
    let line = |entry: &Dropped| format!("{} {} of {}: {}", entry.kind, entry.name, entry.source, entry.reason);
    let mut lines: Vec<_> = dropped.entries.iter().take(SCREEN).map(line).collect();
    if dropped.total > lines.len() {
        let codes: Vec<_> = dropped
            .by_code
            .iter()
            .map(|(code, count)| format!("{code} {count}"))
            .collect();
        lines.push(format!(
            "{} in all: {}; dirless list-users lists more",
            dropped.total,
            codes.join(", ")
        ));
    }
    lines
}
