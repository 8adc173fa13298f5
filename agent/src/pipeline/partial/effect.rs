//! Two runs over a part of the directory, and the difference between them.

use std::collections::{BTreeMap, BTreeSet};

use dirless_model::snapshot::Joined;
use dirless_model::texts::Texts;

use super::facts::Plain;
use super::store::Store;
use super::widen::{Both, Names};
use super::{Change, Changed, PartialError};
use crate::pipeline::drops::Drops;
use crate::pipeline::open::Opening;
use crate::pipeline::report::Report;
use crate::pipeline::{Content, Inputs, Opener, access, decide, read};

/// A user as the host shows one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// User id.
    pub(crate) uid: u32,
    /// Primary group.
    pub(crate) gid: u32,
    /// Comment.
    pub(crate) gecos: String,
    /// Home directory.
    pub(crate) home: String,
    /// Login shell.
    pub(crate) shell: String,
    /// authorized_keys lines.
    pub(crate) keys: String,
}

/// A user and their groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    /// The user.
    pub(crate) shown: Shown,
    /// The groups that list the user.
    pub(crate) groups: BTreeSet<String>,
}

/// What becomes of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupChange {
    /// It has this gid and these members now, whatever there was.
    Put(u32, BTreeSet<String>),
    /// It stays, but for members.
    Members {
        /// Who joined.
        joined: BTreeSet<String>,
        /// Who left.
        left: BTreeSet<String>,
    },
    /// It is gone.
    Drop,
}

/// What changes of all that the host shows.
#[derive(Debug, Default)]
pub(crate) struct Effect {
    /// Users that are new, others, or gone.
    pub(crate) users: BTreeMap<String, Option<Shown>>,
    /// Groups, private ones included.
    pub(crate) groups: BTreeMap<String, GroupChange>,
    /// Users of whom anything changed, memberships included.
    pub(crate) people: BTreeMap<String, Option<Person>>,
    /// What was left out of the part before and is now.
    pub(crate) dropped: (Drops, Drops),
    /// How many users the access rules kept off before and keep off now.
    pub(crate) excluded: (usize, usize),
    /// How many users, groups and users with keys the part showed before, and shows now.
    pub(crate) shown: ([usize; 3], [usize; 3]),
    /// For each source how many users, groups and keys of the part could be used before, and now.
    pub(crate) taken: Vec<([usize; 3], [usize; 3])>,
}

impl Effect {
    /// Does the host show anything else?
    #[must_use]
    pub(crate) fn shows(&self) -> bool {
        !self.users.is_empty() || !self.groups.is_empty()
    }
}

/// Puts `changes` into `store` and says what they change of what a run of `inputs` publishes. Sources stand in the store by
/// their place among the inputs.
///
/// # Errors
/// When only a run over everything can tell; the store has the changes then, unless it failed.
pub(crate) fn effect(store: &Store, inputs: &Inputs, changes: Vec<Change>) -> Result<Effect, PartialError> {
    let changed = Changed::replace(store, changes)?;
    let names = Names {
        users: changed.users.clone(),
        groups: changed.groups.clone(),
    };
    let (old, new) = runs(store, inputs, &changed, names)?;
    Ok(difference(old, new))
}

/// Those of `users` whom a run of `inputs` over what `store` holds publishes.
///
/// # Errors
/// When only a run over everything can tell.
pub(crate) fn seen(
    store: &Store,
    inputs: &Inputs,
    users: &BTreeSet<String>,
) -> Result<BTreeMap<String, Person>, PartialError> {
    let names = Names {
        users: users.clone(),
        groups: BTreeSet::new(),
    };
    let (_, run) = runs(store, inputs, &Changed::default(), names)?;
    let mut people = run.people();
    people.retain(|name, _| users.contains(name));
    Ok(people)
}

/// The runs before and after what changed, over all that has to do with it and with `names`.
fn runs(store: &Store, inputs: &Inputs, changed: &Changed, mut names: Names) -> Result<(Run, Run), PartialError> {
    let both = Both { store, changed };
    // Two of them may be mapped to one number, whatever theirs are.
    let mapped = inputs.limits.map_groups.iter();
    names.groups.extend(mapped.map(|name| name.as_str().to_owned()));
    for group in both.renewed()? {
        names.users.extend(both.members_of(&group)?);
        names.groups.insert(group);
    }
    loop {
        both.widen(&mut names)?;
        let (old, new) = both.records(&names)?;
        let (old, new) = (Run::over(inputs, &old)?, Run::over(inputs, &new)?);
        let more = more(&both, &names, &old, &new)?;
        let size = (names.users.len(), names.groups.len());
        names.users.extend(more);
        if (names.users.len(), names.groups.len()) == size {
            return Ok((old, new));
        }
    }
}

/// What a run over a part shows.
struct Run {
    users: BTreeMap<String, Shown>,
    groups: BTreeMap<String, Team>,
    dropped: Drops,
    excluded: usize,
    /// For each source.
    taken: Vec<[usize; 3]>,
}

/// A group as a run shows it.
#[derive(PartialEq, Eq)]
struct Team {
    gid: u32,
    /// Made for the user of its name.
    is_private: bool,
    members: BTreeSet<String>,
}

impl Team {
    /// What of it other names may depend on.
    fn nature(&self) -> (u32, bool) {
        (self.gid, self.is_private)
    }
}

impl Run {
    fn over(inputs: &Inputs, records: &[Plain]) -> Result<Self, PartialError> {
        let rules = access::choose(&inputs.access).map_err(PartialError::Unfit)?;
        let mut texts = Texts::new();
        let mut parts = Vec::new();
        let mut taken = Vec::new();
        let mut report = Report::begin();
        for (place, source) in (0u8..).zip(&inputs.sources) {
            let own = records.iter().filter(|record| record.source == place);
            let mut joined = Joined::default();
            own.for_each(|record| joined.add(record.part, &record.bytes));
            let document = joined.finish();
            let opening = Opening::of_part(&document, scope(inputs, &source.name)?);
            let read = read::read(&source.name, opening, &inputs.name_rule, &mut texts, None);
            let read = read.map_err(|error| PartialError::Unfit(error.reason))?;
            report.dropped.append(read.drops);
            taken.push([read.part.users.len(), read.part.groups.len(), read.part.keys.len()]);
            parts.push(read.part);
        }
        match decide(inputs, &rules, texts, parts, &mut report, None) {
            Some(content) => Ok(Self::of(&content, report, taken)),
            None => Err(PartialError::Unfit("it may not be published".to_owned())),
        }
    }

    /// The users, each with their groups.
    fn people(&self) -> BTreeMap<String, Person> {
        let person = |(name, shown): (&String, &Shown)| {
            let person = Person {
                shown: shown.clone(),
                groups: BTreeSet::new(),
            };
            (name.clone(), person)
        };
        let mut people: BTreeMap<String, Person> = self.users.iter().map(person).collect();
        for (group, team) in &self.groups {
            for member in &team.members {
                if let Some(person) = people.get_mut(member) {
                    person.groups.insert(group.clone());
                }
            }
        }
        people
    }

    fn counts(&self) -> [usize; 3] {
        let with_keys = self.users.values().filter(|user| !user.keys.is_empty()).count();
        [self.users.len(), self.groups.len(), with_keys]
    }

    fn of(content: &Content, report: Report, taken: Vec<[usize; 3]>) -> Self {
        let (texts, directory) = (&content.texts, &content.directory);
        let name = |place: u32| {
            let user = directory.users.get(place as usize);
            user.map(|user| texts.name(user.name).to_owned())
        };
        let users = directory.users.iter().map(|user| {
            let shown = Shown {
                uid: user.uid.number(),
                gid: user.gid.number(),
                gecos: texts.get(user.gecos).to_owned(),
                home: texts.get(user.home).to_owned(),
                shell: texts.name(user.shell).to_owned(),
                keys: texts.get(user.keys).to_owned(),
            };
            (texts.name(user.name).to_owned(), shown)
        });
        let groups = directory.groups.iter().map(|group| {
            let members = directory.members(group).iter().filter_map(|place| name(*place));
            let team = Team {
                gid: group.gid.number(),
                is_private: false,
                members: members.collect(),
            };
            (texts.name(group.name).to_owned(), team)
        });
        let private = content.private.users.iter().filter_map(|place| {
            let user = directory.users.get(*place as usize)?;
            let team = Team {
                gid: user.gid.number(),
                is_private: true,
                members: BTreeSet::new(),
            };
            Some((texts.name(user.name).to_owned(), team))
        });
        Self {
            users: users.collect(),
            groups: groups.chain(private).collect(),
            excluded: report.excluded_total,
            dropped: report.dropped,
            taken,
        }
    }
}

/// What the publisher of a source may say; none when everybody may say everything.
fn scope<'a>(inputs: &'a Inputs, source: &str) -> Result<Option<&'a dirless_seal::trust::Scope>, PartialError> {
    let Opener::Signed { policy, .. } = &inputs.opener else {
        return Ok(None);
    };
    let label = source
        .parse()
        .map_err(|_other| PartialError::Unfit(format!("{source:?} is no label")))?;
    let mut scopes = policy.publishers.iter().map(|publisher| &publisher.scope);
    let scope = scopes.find(|scope| scope.covers_source(&label));
    scope
        .map(Some)
        .ok_or_else(|| PartialError::Unfit(format!("nobody may speak of {source}")))
}

/// Users that have to do with how the two runs ended.
fn more(both: &Both<'_>, names: &Names, old: &Run, new: &Run) -> Result<BTreeSet<String>, PartialError> {
    let mut users = BTreeSet::new();
    for run in [old, new] {
        let groups = run.groups.values().filter(|team| !team.is_private);
        let gids: BTreeSet<u32> = groups.map(|team| team.gid).collect();
        for user in run.users.values().filter(|user| !gids.contains(&user.gid)) {
            users.extend(both.users_of_gid(user.gid)?);
        }
    }
    for name in &names.groups {
        let nature = |run: &Run| run.groups.get(name).map(Team::nature);
        let (was, is) = (nature(old), nature(new));
        if was == is {
            continue;
        }
        users.extend(both.members_of(name)?);
        for (gid, _) in [was, is].into_iter().flatten() {
            users.extend(both.users_of_gid(gid)?);
        }
        // One of that name may get a private group, or lose it.
        users.insert(name.clone());
    }
    Ok(users)
}

fn difference(mut old: Run, new: Run) -> Effect {
    let mut effect = Effect {
        excluded: (old.excluded, new.excluded),
        shown: (old.counts(), new.counts()),
        taken: old.taken.iter().copied().zip(new.taken.iter().copied()).collect(),
        ..Effect::default()
    };
    let mut before = old.people();
    for (name, person) in new.people() {
        if before.remove(&name).as_ref() != Some(&person) {
            effect.people.insert(name, Some(person));
        }
    }
    effect.people.extend(before.into_keys().map(|name| (name, None)));
    for (name, shown) in new.users {
        if old.users.remove(&name).as_ref() != Some(&shown) {
            effect.users.insert(name, Some(shown));
        }
    }
    effect.users.extend(old.users.into_keys().map(|name| (name, None)));
    for (name, team) in new.groups {
        let change = match old.groups.remove(&name) {
            Some(before) if before == team => continue,
            Some(before) if before.nature() == team.nature() => GroupChange::Members {
                joined: team.members.difference(&before.members).cloned().collect(),
                left: before.members.difference(&team.members).cloned().collect(),
            },
            _ => GroupChange::Put(team.gid, team.members),
        };
        effect.groups.insert(name, change);
    }
    effect
        .groups
        .extend(old.groups.into_keys().map(|name| (name, GroupChange::Drop)));
    effect.dropped = (old.dropped, new.dropped);
    effect
}
