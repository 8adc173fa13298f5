//! May somebody do something? Roles bundle permissions `resource:action:scope` and inherit from other
//! roles; people have roles by themselves and through their groups.
//!
//! Here is the pure part: what a permission covers, and the walk from the roles that somebody has to
//! the permission that answers. [`mod@tree`] reads the roles of somebody from the directory tree.
//! Permissions only add up: nothing takes one away, and what nothing grants is not allowed.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

pub mod tree;

/// Roles that one answer looks at; more is no model of rights but a mistake.
const MOST_ROLES: usize = 1000;

/// One part of a permission.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// `*`
    Any,
    /// `text*`
    Starting(String),
    /// `text`
    Exactly(String),
}

/// `resource:action:scope`. Each part is a text, `text*` for all that start so, or `*`; `*` alone is
/// `*:*:*`. Case does not matter. The scope may contain colons.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission([Part; 3]);

/// Why a text is no [`Permission`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no permission: write resource:action:scope, with * for any and text* for all that start so, \
     for instance document:read:*"
)]
pub struct PermissionError(String);

impl Part {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase();
        match text.strip_suffix('*') {
            Some("") => Some(Self::Any),
            Some(start) if !start.contains('*') => Some(Self::Starting(start.to_owned())),
            None if !text.is_empty() && !text.contains('*') => Some(Self::Exactly(text)),
            _ => None,
        }
    }

    /// Does it cover all that `other` covers?
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Starting(start), Self::Starting(text) | Self::Exactly(text)) => text.starts_with(start.as_str()),
            (Self::Exactly(a), Self::Exactly(b)) => a == b,
            (Self::Starting(_) | Self::Exactly(_), _) => false,
        }
    }
}

impl Permission {
    /// Reads `resource:action:scope`.
    ///
    /// # Errors
    /// When a part is missing or has a `*` anywhere but at its end.
    pub fn parse(text: &str) -> Result<Self, PermissionError> {
        let wrong = || PermissionError(text.chars().take(200).collect());
        if text.trim() == "*" {
            return Ok(Self([Part::Any, Part::Any, Part::Any]));
        }
        let mut parts = text.splitn(3, ':').map(Part::parse);
        let mut next = || parts.next().flatten().ok_or_else(wrong);
        Ok(Self([next()?, next()?, next()?]))
    }

    /// Does it allow all that `asked` asks for?
    #[must_use]
    pub fn covers(&self, asked: &Self) -> bool {
        self.0.iter().zip(&asked.0).all(|(own, asked)| own.covers(asked))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("*"),
            Self::Starting(text) => write!(formatter, "{text}*"),
            Self::Exactly(text) => formatter.write_str(text),
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [resource, action, scope] = &self.0;
        write!(formatter, "{resource}:{action}:{scope}")
    }
}

/// A role as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// What tells it from all others, for instance its DN.
    pub id: String,
    /// Its permissions, unchecked.
    pub permissions: Vec<String>,
    /// Names of the roles whose permissions it has too.
    pub inherits: Vec<String>,
}

/// A role that somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment<P> {
    /// The role's name.
    pub role: String,
    /// From the person to what names the role: the person alone, or groups after it.
    pub via: Vec<Step>,
    /// Where the name is looked up.
    pub place: P,
}

/// What a step of a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// The one who asks.
    User,
    /// A group of the one before.
    Group,
    /// A role of the one before, or inherited by it.
    Role,
    /// The permission that answers.
    Permission,
}

/// One step of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Step {
    /// What it is.
    pub kind: StepKind,
    /// Which one: a DN, or the text of the permission.
    pub name: String,
}

impl Step {
    /// A step.
    #[must_use]
    pub fn new(kind: StepKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
        }
    }
}

/// An answer and how it came about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Answer {
    /// May they?
    pub allowed: bool,
    /// From the user over groups and roles to the permission, when allowed. The shortest one.
    pub chain: Vec<Step>,
    /// What was found wrong on the way: roles that are not there, cycles, texts that are no
    /// permissions, a locked account.
    pub notes: Vec<String>,
}

/// A role on the way, and how the way led there.
struct Visit {
    role: Role,
    from: Option<usize>,
    via: Vec<Step>,
}

/// Walks from `assignments` to the nearest role with a permission that covers `asked`. `look_up` finds
/// a role by name and place; the place that it answers is where the role's `inherits` are looked up.
///
/// # Errors
/// What `look_up` reports.
pub fn check<P: Clone, E>(
    asked: &Permission,
    assignments: Vec<Assignment<P>>,
    mut look_up: impl FnMut(&str, &P) -> Result<Option<(Role, P)>, E>,
) -> Result<Answer, E> {
    let mut answer = Answer::default();
    let mut seen = BTreeSet::new();
    let mut visits: Vec<Visit> = Vec::new();
    let mut open: VecDeque<(String, P, Option<usize>, Vec<Step>)> = assignments
        .into_iter()
        .map(|one| (one.role, one.place, None, one.via))
        .collect();
    while let Some((name, place, from, via)) = open.pop_front() {
        let Some((role, place)) = look_up(&name, &place)? else {
            let by = via.last().map_or("?", |step| step.name.as_str());
            let by = from.and_then(|at| visits.get(at)).map_or(by, |visit| &visit.role.id);
            answer
                .notes
                .push(format!("{by} names the role {name:?}, which is not there"));
            continue;
        };
        if !seen.insert(role.id.clone()) {
            let above = std::iter::successors(from, |at| visits.get(*at).and_then(|visit| visit.from));
            if above
                .filter_map(|at| visits.get(at))
                .any(|visit| visit.role.id == role.id)
            {
                answer.notes.push(format!("{} inherits from itself", role.id));
            }
            continue;
        }
        if visits.len() == MOST_ROLES {
            answer
                .notes
                .push(format!("over {MOST_ROLES} roles: the others were not looked at"));
            break;
        }
        let granted = granting(asked, &role, &mut answer.notes);
        let at = visits.len();
        let inherits = role.inherits.clone();
        visits.push(Visit { role, from, via });
        if let Some(permission) = granted {
            answer.allowed = true;
            answer.chain = chain(&visits, at, permission);
            return Ok(answer);
        }
        open.extend(
            inherits
                .into_iter()
                .map(|name| (name, place.clone(), Some(at), Vec::new())),
        );
    }
    Ok(answer)
}

/// The first permission of the role that covers what is asked.
fn granting(asked: &Permission, role: &Role, notes: &mut Vec<String>) -> Option<String> {
    for text in &role.permissions {
        match Permission::parse(text) {
            Ok(permission) if permission.covers(asked) => return Some(text.clone()),
            Ok(_) => {}
            Err(error) => notes.push(format!("{}: {error}", role.id)),
        }
    }
    None
}

fn chain(visits: &[Visit], last: usize, permission: String) -> Vec<Step> {
    let mut roles: Vec<usize> = std::iter::successors(Some(last), |at| visits.get(*at)?.from).collect();
    roles.reverse();
    let mut chain = Vec::new();
    for visit in roles.into_iter().filter_map(|at| visits.get(at)) {
        chain.extend(visit.via.iter().cloned());
        chain.push(Step::new(StepKind::Role, visit.role.id.clone()));
    }
    chain.push(Step::new(StepKind::Permission, permission));
    chain
}

#[cfg(test)]
mod tests;
