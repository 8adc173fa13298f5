//! `dirless why USER`: one chain from the sources to the table, with the line that decides.

use std::io::{self, Write};

use dirless_model::NameKind;
use dirless_program::Clock;
use dirless_table::Table;

use super::lookup::{self, KeyInTable, UserInTable};
use super::{print_field, print_json};
use crate::paths::Paths;
use crate::pipeline::{
    AccessVerdict, Dropped, Entry, GroupSeen, Inputs, Kind, Options, Outcome, Problem, Sighting, Watch, gather, run,
    shown,
};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Root sees the sealed inputs.
    Root,
    /// Anybody else sees what the table says, which is world-readable.
    Other,
}

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The table has the user.
    Present,
    /// The sources and rules give the user, but the table in place does not have it yet.
    Pending,
    /// The table in place still has the user; the next one will not.
    Leaving,
    /// The user is not on this host.
    Absent,
    /// The chain cannot be followed.
    Unknown,
}

/// The whole answer.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Why {
    /// The name, after the name rule.
    pub name: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// The same in a sentence.
    pub because: String,
    /// What to change, where something should be.
    pub change: Option<String>,
    /// The records of the sources.
    pub records: Vec<Sighting>,
    /// Sources that could not be used as fetched.
    pub source_problems: Vec<(String, Problem)>,
    /// The user after the merge.
    pub merged: Option<Entry>,
    /// What the access rules say.
    pub access: Option<AccessVerdict>,
    /// The host name that they were compared with.
    pub hostname: String,
    /// Did the user pass the host limits? Absent when it never came to them.
    pub within_limits: Option<bool>,
    /// Everything that was left out about this name.
    pub dropped: Vec<Dropped>,
    /// Groups that list the user, and what became of them.
    pub groups: Vec<GroupSeen>,
    /// Why groups of the user are not published.
    pub dropped_groups: Vec<Dropped>,
    /// What the table in place says.
    pub table: Option<UserInTable>,
    /// Generation of the table in place.
    pub generation: Option<u64>,
    /// Why there is no table to ask.
    pub table_problem: Option<String>,
    /// Were the sealed inputs looked at?
    pub sealed_inputs: bool,
}

/// Follows `asked` through everything that decides.
#[must_use]
pub fn explain(paths: &Paths, options: &Options, clock: &Clock, caller: Caller, asked: &str) -> Why {
    let name = options.name_rule.apply(NameKind::User, asked);
    let name = name.map_or_else(|_| asked.to_owned(), |name| name.to_string());
    let mut why = Why {
        verdict: Verdict::Unknown,
        because: String::new(),
        change: None,
        records: Vec::new(),
        source_problems: Vec::new(),
        merged: None,
        access: None,
        hostname: options.hostname.clone(),
        within_limits: None,
        dropped: Vec::new(),
        groups: Vec::new(),
        dropped_groups: Vec::new(),
        table: None,
        generation: None,
        table_problem: None,
        sealed_inputs: caller == Caller::Root,
        name,
    };
    match Table::open(&paths.table(), options.owner) {
        Ok(table) => {
            why.generation = Some(table.stats().generation);
            match lookup::user(&table, &why.name) {
                Ok(user) => why.table = user,
                Err(error) => why.table_problem = Some(error.to_string()),
            }
        }
        Err(error) => why.table_problem = Some(error.to_string()),
    }
    match caller {
        Caller::Root => match gather(paths, options) {
            Ok(inputs) => follow(&mut why, &inputs, clock),
            Err(error) => {
                why.because = format!("the inputs cannot be read: {error}");
                why.change = Some("`dirless doctor` looks at each of them".to_owned());
            }
        },
        Caller::Other => ask_the_table(&mut why),
    }
    why
}

/// Prints the answer. The exit code is 0 when the table has the user or will have it with the next
/// publish, else 1.
///
/// # Errors
/// When `out` cannot be written.
pub fn why(
    paths: &Paths,
    options: &Options,
    clock: &Clock,
    caller: Caller,
    asked: &str,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let why = explain(paths, options, clock, caller, asked);
    if json {
        print_json(&why, out)?;
    } else {
        print(&why, out)?;
    }
    Ok(u8::from(!matches!(why.verdict, Verdict::Present | Verdict::Pending)))
}

fn ask_the_table(why: &mut Why) {
    let hint = format!("sudo dirless why {} shows the whole chain", shown(&why.name));
    (why.verdict, why.because) = match (&why.table, &why.table_problem) {
        (Some(_), _) => (Verdict::Present, "the table in place has this user".to_owned()),
        (None, None) => (Verdict::Absent, "the table in place does not have this user".to_owned()),
        (None, Some(problem)) => (Verdict::Unknown, format!("there is no table to ask: {problem}")),
    };
    why.change = Some(hint);
}

fn follow(why: &mut Why, inputs: &Inputs, clock: &Clock) {
    let mut watch = Watch::new(&why.name);
    let outcome = run(inputs, clock, Some(&mut watch));
    let problems = outcome.report.sources.iter();
    let problems = problems.filter_map(|source| Some((source.name.clone(), source.problem.clone()?)));
    why.source_problems = problems.collect();
    let about = |entry: &&Dropped| entry.name == shown(&why.name) && entry.kind != Kind::Group;
    why.dropped = outcome.report.dropped.entries.iter().filter(about).cloned().collect();
    // Records are dropped under the spelling of the source.
    let raw = |entry: &&Dropped| {
        let spelled = |seen: &Sighting| seen.refused.is_some() && seen.raw.contains(&format!("{:?}", entry.name));
        entry.kind == Kind::User && entry.name != shown(&why.name) && watch.sightings.iter().any(spelled)
    };
    let more: Vec<_> = outcome.report.dropped.entries.iter().filter(raw).cloned().collect();
    why.dropped.extend(more);
    let lost = |entry: &&Dropped| {
        entry.kind == Kind::Group
            && watch
                .groups
                .iter()
                .any(|group| !group.published && group.name == entry.name)
    };
    why.dropped_groups = outcome.report.dropped.entries.iter().filter(lost).cloned().collect();
    judge(why, &watch, &outcome);
    why.records = watch.sightings;
    why.merged = watch.merged;
    why.access = watch.access;
    why.within_limits = watch.within_limits;
    why.groups = watch.groups;
}

/// Finds the line that decides.
fn judge(why: &mut Why, watch: &Watch, outcome: &Outcome) {
    let there = why.table.is_some();
    if let (None, Some(problem)) = (&outcome.content, &outcome.report.problem) {
        why.verdict = if there { Verdict::Present } else { Verdict::Unknown };
        why.because = format!(
            "nothing new can be published, so the table in place stays: {}",
            problem.reason
        );
        why.change = Some(problem.hint.clone());
        return;
    }
    let decided = decide(why, watch);
    (why.verdict, why.because, why.change) = match decided {
        None if there => (Verdict::Present, format!("{} is a user of this host", why.name), None),
        None => (
            Verdict::Pending,
            format!("{} will be a user of this host with the next publish", why.name),
            Some("sudo dirless refresh publishes now".to_owned()),
        ),
        Some((because, change)) if there => (
            Verdict::Leaving,
            format!("{because}; the table in place still has the user, the next one will not"),
            Some(change),
        ),
        Some((because, change)) => (Verdict::Absent, because, Some(change)),
    };
}

/// Why the next table does not have the user, and what to change; `None` when it has.
fn decide(why: &Why, watch: &Watch) -> Option<(String, String)> {
    let name = &why.name;
    let dropped = why.dropped.iter().rev().find(|entry| entry.kind == Kind::User);
    let as_dropped = |entry: &Dropped| {
        (
            format!("{} of {} {}", entry.name, entry.source, entry.reason),
            entry.hint.clone(),
        )
    };
    if watch.merged.is_none() {
        return Some(dropped.map_or_else(
            || {
                (
                    format!("no source has a user called {}", shown(name)),
                    "add the user at the source; a change there reaches this host after one sync of the syncer and one of the agent".to_owned(),
                )
            },
            as_dropped,
        ));
    }
    if let Some(AccessVerdict::Excluded { wanted }) = &watch.access {
        let (rules, change) = if wanted.is_empty() {
            (
                "access rules are enforced and none names this host".to_owned(),
                format!(
                    "add a rule for host {:?} and a group of the user to the access rules",
                    why.hostname
                ),
            )
        } else {
            let list: Vec<_> = wanted.iter().map(|group| format!("{:?}", shown(group))).collect();
            (
                format!("the access rules for this host want a member of {}", list.join(" or ")),
                format!(
                    "add {name} to one of these groups, or a rule for host {:?} and a group of the user",
                    why.hostname
                ),
            )
        };
        return Some((rules, change));
    }
    match watch.within_limits {
        Some(true) => None,
        _ => Some(dropped.map_or_else(
            || {
                (
                    format!("{name} was left out"),
                    "`dirless status` lists what is dropped".to_owned(),
                )
            },
            as_dropped,
        )),
    }
}

fn print(why: &Why, out: &mut dyn Write) -> io::Result<()> {
    let name = shown(&why.name);
    for (source, problem) in &why.source_problems {
        print_field("source", &[format!("{source}: {}", problem.reason)], out)?;
    }
    let records = why.records.iter().map(|record| {
        let end = match (&record.refused, &record.name) {
            (Some(refused), _) => format!(" -> refused: {refused}"),
            (None, Some(name)) => format!(" -> {name}"),
            (None, None) => String::new(),
        };
        format!("{}: {}{end}", record.source, record.raw)
    });
    print_field("record", &records.collect::<Vec<_>>(), out)?;
    if let Some(merged) = &why.merged {
        print_merged(why, merged, out)?;
    }
    let dropped = why.dropped.iter();
    let dropped = dropped.map(|entry| format!("{} of {}: {} {}", entry.kind, entry.source, entry.name, entry.reason));
    print_field("dropped", &dropped.collect::<Vec<_>>(), out)?;
    let table = match (&why.table, &why.table_problem, why.generation) {
        (Some(user), _, generation) => format!(
            "generation {}: {name}:x:{}:{}:{}:{}:{}",
            generation.unwrap_or_default(),
            user.uid,
            user.gid,
            user.gecos,
            user.home,
            user.shell
        ),
        (None, None, generation) => format!("generation {}: no {name}", generation.unwrap_or_default()),
        (None, Some(problem), _) => format!("none to ask: {problem}"),
    };
    print_field("table", &[table], out)?;
    if let (Some(user), false) = (&why.table, why.sealed_inputs) {
        let groups = user.groups.iter();
        let groups = groups.map(|group| format!("{} ({})", group.name.as_deref().unwrap_or("(no name)"), group.gid));
        print_field("groups", &[groups.collect::<Vec<_>>().join(", ")], out)?;
        print_field("keys", &user.keys.iter().map(KeyInTable::line).collect::<Vec<_>>(), out)?;
    }
    print_field("verdict", std::slice::from_ref(&why.because), out)?;
    print_field("change", why.change.as_slice(), out)
}

fn print_merged(why: &Why, merged: &Entry, out: &mut dyn Write) -> io::Result<()> {
    let others = why.records.iter().filter(|record| record.source != merged.source);
    let others: Vec<_> = others.map(|record| record.source.as_str()).collect();
    let over = if others.is_empty() {
        String::new()
    } else {
        format!(", which wins over {}", others.join(", "))
    };
    print_field("merge", &[format!("taken from {}{over}", merged.source)], out)?;
    print_field("ids", &[format!("uid {}, primary gid {}", merged.uid, merged.gid)], out)?;
    let access = match &why.access {
        None => "not reached".to_owned(),
        Some(AccessVerdict::NotEnforced) => "no rules are enforced".to_owned(),
        Some(AccessVerdict::Admitted { rule, group, host }) => {
            format!("rule {rule} admits members of {:?} on {:?}", shown(group), shown(host))
        }
        Some(AccessVerdict::Excluded { .. }) => format!("no rule for {:?} names a group of {}", why.hostname, why.name),
    };
    print_field("access", &[access], out)?;
    let limits = match why.within_limits {
        None => "not reached",
        Some(true) => "within the host limits",
        Some(false) => "outside of the host limits",
    };
    print_field("limits", &[limits.to_owned()], out)?;
    let groups = why.groups.iter().map(|group| {
        let lost = why.dropped_groups.iter().find(|entry| entry.name == group.name);
        let lost = lost.map(|entry| format!(" not published: it {}", entry.reason));
        format!("{} ({}){}", group.name, group.gid, lost.unwrap_or_default())
    });
    print_field("groups", &groups.collect::<Vec<_>>(), out)?;
    let keys = merged.keys.iter().filter_map(|line| KeyInTable::of(line));
    print_field("keys", &keys.map(|key| key.line()).collect::<Vec<_>>(), out)
}
