//! From sealed bodies to a lookup table: the stages of a run, in their order.
//!
//! ```text
//! open → read → name rule → merge → access → limits → publish
//! ```
//!
//! [`run`] is a pure function of its [`Inputs`]: no clock, no network, no file but the sealed bodies it
//! is given. What always holds: a body in clear is never taken; nothing of a body is used before its
//! last byte was authenticated; what cannot be used leaves the last good state in place; one bad record
//! costs that record; nothing the backend fails to say lets anyone in.

mod access;
mod command;
mod directory;
mod drops;
mod entries;
mod explain;
mod follow;
mod input;
mod limits;
mod log;
mod merge;
mod open;
mod partial;
mod publish;
mod ratchet;
mod read;
mod report;
mod schema;
#[cfg(test)]
mod tests;
mod unchanged;

use dirless_model::Caution;
use dirless_model::merge::Part;
use dirless_model::texts::Texts;
use dirless_program::Clock;

pub use access::AccessVerdict;
pub use command::{DirectoryOptions, Options, PublishError, gather, local_hostname, publish_command};
pub use directory::publish as publish_directory;
pub use drops::{Dropped, Drops, Kind, shown};
pub use entries::Tree;
pub use explain::{Entry, GroupSeen, Sighting, Watch};
pub use input::{
    AccessInput, Body, DirectoryInput, HostFiles, Inputs, Opener, RulesFrom, SOURCES, SourceInput, SourceNote,
    SourceState,
};
pub use limits::{Accounts, HostLimits, Limit, LimitsError, PrivateGroups};
pub use open::{BodyError, OUT_OF_SCOPE};

pub use publish::{Content, publish, publish_changed};
pub use ratchet::{Ratchet, RatchetError, Rollback, forget_sequence};
pub use report::{
    AccessReport, CautionNote, Durations, Ending, ExcludedUser, Line, Problem, Published, Report, SourceReport, Taken,
};

/// What a run gives.
#[derive(Debug)]
pub struct Outcome {
    /// What to publish; `None` when nothing may be, for the reason in the report.
    pub content: Option<Content>,
    /// The tree for the directory copy; `None` when there is to be no copy, or when a source of it cannot
    /// be used and the copy in place has to stay.
    pub tree: Option<Tree>,
    /// What happened. The publishing part is still open.
    pub report: Report,
    /// The ratchet with the accepted sequences.
    pub ratchet: Ratchet,
}

/// Runs all stages but the last over `inputs`. `watch` follows one name through them.
#[must_use]
pub fn run(inputs: &Inputs, clock: &Clock, mut watch: Option<&mut Watch>) -> Outcome {
    let start = clock.now();
    let mut outcome = Outcome {
        content: None,
        tree: None,
        report: Report::begin(),
        ratchet: inputs.ratchet.clone(),
    };
    let report = &mut outcome.report;
    report.dropped = Drops::watching(watch.as_ref().map(|watch| watch.name.as_str()));
    let rules = match access::choose(&inputs.access) {
        Ok(rules) => Some(rules),
        Err(reason) => {
            report.problem = Some(Problem {
                code: "access-rules".to_owned(),
                reason: format!("no access rules to go by: {reason}"),
                hint:
                    "nobody is let in before they are known; see what the backend answers on /v1/snapshot/authz-config"
                        .to_owned(),
            });
            report.ending = Ending::NotReady;
            None
        }
    };
    let mut texts = Texts::new();
    let mut parts = Vec::new();
    for source in &inputs.sources {
        let (part, told) = take(
            source,
            inputs,
            &mut texts,
            watch.as_deref_mut(),
            &mut outcome.ratchet,
            report,
        );
        if told.taken == Taken::Nothing {
            let never = source.note.is_none();
            let (ending, code) = if never {
                (Ending::NotReady, "never-fetched")
            } else {
                (Ending::Refused, "source")
            };
            report.ending = ending;
            report.problem.get_or_insert_with(|| Problem {
                code: code.to_owned(),
                reason: if never {
                    format!("the source {} was never fetched", source.name)
                } else {
                    format!(
                        "the source {} cannot be used, and no earlier body of it can",
                        source.name
                    )
                },
                hint: told.problem.as_ref().map_or_else(
                    || "`dirless status` tells whether the backend is reached".to_owned(),
                    |problem| format!("{}; {}", problem.reason, problem.hint),
                ),
            });
        }
        report.sources.push(told);
        parts.push(part);
    }
    if let Some(directory) = &inputs.directory {
        outcome.tree = entries::gather(directory, inputs, &mut outcome.ratchet, report);
    }
    let read = clock.now();
    report.durations.read = milliseconds(start, read);
    if let (Some(rules), None) = (rules, &report.problem) {
        outcome.content = decide(inputs, &rules, texts, parts, report, watch);
    }
    outcome.report.durations.decide = milliseconds(read, clock.now());
    outcome
}

/// Merge, access rules and host limits.
fn decide(
    inputs: &Inputs,
    rules: &access::Rules,
    texts: Texts,
    parts: Vec<Part>,
    report: &mut Report,
    mut watch: Option<&mut Watch>,
) -> Option<Content> {
    let names: Vec<String> = inputs.sources.iter().map(|source| source.name.clone()).collect();
    let merged = merge::merge(&names, &texts, parts, &mut report.dropped);
    let mut directory = merged.directory;
    if let Some(watch) = watch.as_deref_mut() {
        watch.saw_merged(&names, &texts, &directory);
        watch.groups.iter().for_each(|group| report.dropped.watch(&group.name));
    }
    let duplicates = merged.duplicates.iter().take(report::LISTED_DUPLICATES);
    report.duplicates = duplicates.map(|name| texts.name(*name).to_owned()).collect();
    report.caution("unknown-members", merged.unknown_members, |count| {
        format!("{count} memberships name users that no source has; they are left out")
    });
    report.caution("unknown-keys", merged.unknown_keys, |count| {
        format!("{count} entries of ssh_keys name users that no source has; they are left out")
    });

    let host = inputs.hostname.as_str();
    report.access = AccessReport {
        enforced: rules.rules.enforced(),
        rules: rules.rules.rules().len(),
        rules_here: rules.rules.rules().iter().filter(|rule| rule.host == host).count(),
        hostname: host.to_owned(),
        problem: rules.problem.clone(),
    };
    access::apply(
        &rules.rules,
        &inputs.name_rule,
        host,
        &texts,
        &mut directory,
        watch.as_deref_mut(),
        |user| {
            report.excluded_total += 1;
            if report.excluded.len() < report::LISTED_EXCLUDED {
                report.excluded.push(ExcludedUser {
                    name: texts.name(user.name).to_owned(),
                    uid: user.uid.number(),
                    gid: user.gid.number(),
                    gecos: texts.get(user.gecos).to_owned(),
                    home: texts.get(user.home).to_owned(),
                    shell: texts.name(user.shell).to_owned(),
                });
            }
        },
    );

    let accounts = Accounts::parse(&inputs.host.passwd, &inputs.host.group);
    let shells = inputs.host.shells.as_deref();
    let private = limits::apply(
        &inputs.limits,
        &accounts,
        shells,
        &names,
        &texts,
        &mut directory,
        &mut report.dropped,
    );
    if let Some(watch) = watch {
        watch.saw_published(&texts, &directory);
    }
    report.caution("nameless-gid", private.nameless, |count| {
        format!("{count} users have a primary gid without a group; `id` shows its number")
    });
    caution_ids(&directory, report);
    let content = Content {
        texts,
        directory,
        private,
    };
    let most = [
        ("users", content.directory.users.len(), inputs.limits.max_users),
        ("groups", content.groups(), inputs.limits.max_groups),
    ];
    for (what, count, most) in most {
        if count > most {
            report.ending = Ending::Refused;
            report.problem = Some(Problem {
                code: "too-many".to_owned(),
                reason: format!("{count} {what} are more than the {most} that this host takes"),
                hint: format!("raise max_{what} in limits.toml if the directory is meant to be that large"),
            });
            return None;
        }
    }
    Some(content)
}

/// Takes a source from the fetched body, or else from the last good one.
fn take(
    source: &SourceInput,
    inputs: &Inputs,
    texts: &mut Texts,
    mut watch: Option<&mut Watch>,
    ratchet: &mut Ratchet,
    report: &mut Report,
) -> (Part, SourceReport) {
    let note = source.note.as_ref();
    let mut told = SourceReport::before(source);
    match note.map(|note| note.state) {
        None => return (Part::default(), told),
        Some(SourceState::Absent | SourceState::Deleted) => {
            told.taken = Taken::Empty;
            return (Part::default(), told);
        }
        Some(SourceState::Present) => {}
    }
    let mut bodies = vec![(Taken::Fetched, source.fetched.as_ref())];
    if source.last_good.is_some() {
        bodies.push((Taken::LastGood, source.last_good.as_ref()));
    }
    for (taken, body) in bodies {
        let sightings = watch.as_ref().map_or(0, |watch| watch.sightings.len());
        match read_body(source, body, inputs, texts, watch.as_deref_mut()) {
            Ok(read) => {
                told.taken = taken;
                (told.users, told.groups) = (read.part.users.len(), read.part.groups.len());
                told.keys = read.part.keys.len();
                told.sequence = read.meta.sequence;
                told.generated_at = read.meta.generated_at.as_deref().map(shown);
                if taken == Taken::LastGood {
                    told.etag = None;
                }
                ratchet.accept(&source.name, read.meta.sequence);
                report.dropped.append(read.drops);
                return (read.part, told);
            }
            Err(error) => {
                if let Some(watch) = watch.as_deref_mut() {
                    watch.sightings.truncate(sightings);
                }
                // The fetched body's problem is the one to solve.
                told.problem.get_or_insert_with(|| error.into());
            }
        }
    }
    (Part::default(), told)
}

fn read_body(
    source: &SourceInput,
    body: Option<&Body>,
    inputs: &Inputs,
    texts: &mut Texts,
    watch: Option<&mut Watch>,
) -> Result<read::Source, BodyError> {
    let Some(body) = body else {
        return Err(BodyError::new(
            "unreadable",
            "the fetched body is gone",
            "`dirless refresh` fetches it again",
        ));
    };
    let opening = open::open(body, source, inputs)?;
    // A signed body has the version of its manifest, which was checked before it was fetched.
    let signed = opening.scope().is_some();
    let mut read = read::read(&source.name, opening, &inputs.name_rule, texts, watch)?;
    if signed {
        read.meta.sequence = None;
        return Ok(read);
    }
    inputs
        .ratchet
        .check(&source.name, read.meta.sequence)
        .map_err(|rollback| {
            BodyError::new(
                "replayed",
                rollback.to_string(),
                format!(
                    "find out who serves old or forged snapshots; if the syncer lost its numbers, run: dirless refresh \
                     --forget-sequence {}",
                    source.name
                ),
            )
        })?;
    Ok(read)
}

fn caution_ids(directory: &dirless_model::merge::Directory, report: &mut Report) {
    let mut counts: Vec<(Caution, usize)> = Vec::new();
    for caution in directory.users.iter().filter_map(|user| user.uid.caution()) {
        match counts.iter_mut().find(|(known, _)| *known == caution) {
            Some((_, count)) => *count += 1,
            None => counts.push((caution, 1)),
        }
    }
    let mut counts: Vec<_> = counts
        .iter()
        .map(|(range, count)| (range.to_string(), *count))
        .collect();
    counts.sort();
    for (range, count) in counts {
        report.caution("uid-range", count, |count| {
            format!("{count} users have uids where {range}")
        });
    }
}

fn milliseconds(from: jiff::Timestamp, to: jiff::Timestamp) -> u64 {
    u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0)
}
