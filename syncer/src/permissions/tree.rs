//! Who somebody is in the directory tree, and which roles that gives them.
//!
//! A name is looked up where it was written: a role or group that an entry of a tenant names is first
//! sought in that tenant, then in the platform's own units; what an entry of the platform names, in the
//! platform's only. A tenant's people, groups and roles count in questions about that tenant alone.

use std::collections::{BTreeSet, VecDeque};

use dirless_directory::schema::object_class;
use dirless_directory::{AttributeName, Dn, DnKey, Entry, Filter, Rdn, Value};

use super::{Answer, Assignment, Permission, Role, Step, StepKind, check};
use crate::tree::skeleton::{tenant, unit};
use crate::tree::{Query, Reader, Scope, TreeError};

/// Groups of groups that one answer looks at.
const MOST_GROUPS: usize = 1000;
/// States of an account in which it may do nothing.
const CLOSED: [&str; 3] = ["suspended", "locked", "disabled"];

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// `uid` of a user or agent, or a DN.
    pub user: String,
    /// What they want to do.
    pub permission: Permission,
    /// The tenant that it is about; the platform itself when none is named.
    pub tenant: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// Nobody of that name.
    #[error("there is no user or agent {0:?} there")]
    NoUser(String),
    /// No such tenant.
    #[error("there is no tenant {0:?}")]
    NoTenant(String),
    /// The tree cannot answer.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Answers from one state of the tree.
///
/// # Errors
/// When user or tenant are not there, or the tree cannot answer.
pub fn ask(reader: Reader<'_>, question: &Question) -> Result<Answer, QuestionError> {
    let platform = reader.base().clone();
    let place = match &question.tenant {
        None => None,
        Some(name) => {
            let dn = tenant(&platform, name);
            let there = reader.get(&dn)?;
            let record = there.ok_or_else(|| QuestionError::NoTenant(name.clone()))?;
            Some(record.dn().clone())
        }
    };
    let places = Places {
        reader,
        platform,
        place,
    };
    let user = places
        .user(&question.user)?
        .ok_or_else(|| QuestionError::NoUser(question.user.clone()))?;
    let status = texts(&user.entry, "aitherAccountStatus").into_iter().next();
    if let Some(status) = status.filter(|status| CLOSED.iter().any(|closed| closed.eq_ignore_ascii_case(status))) {
        return Ok(Answer {
            notes: vec![format!("{} is {status}", user.entry.dn())],
            ..Answer::default()
        });
    }
    let assignments = places.assignments(&user)?;
    Ok(check(&question.permission, assignments, |name, place| {
        places.role(name, place)
    })?)
}

/// An entry and where the names in it are looked up first: a tenant, or the platform.
struct Placed {
    entry: Entry,
    place: Dn,
}

struct Places<'a> {
    reader: Reader<'a>,
    platform: Dn,
    /// The tenant that the question is about.
    place: Option<Dn>,
}

impl Places<'_> {
    /// The tenant first, then the platform.
    fn all(&self) -> impl Iterator<Item = &Dn> {
        self.place.iter().chain(std::iter::once(&self.platform))
    }

    /// Where names in an entry are looked up; none for entries of other tenants, which do not count.
    fn place_of(&self, dn: &Dn) -> Result<Option<Dn>, TreeError> {
        let key = self.key(dn)?;
        if let Some(place) = &self.place
            && key.is_within(&self.key(place)?)
        {
            return Ok(Some(place.clone()));
        }
        let tenants = self.key(&unit(&self.platform, "tenants"))?;
        Ok((!key.is_within(&tenants)).then(|| self.platform.clone()))
    }

    fn key(&self, dn: &Dn) -> Result<DnKey, TreeError> {
        self.reader
            .schema()
            .dn_key(dn)
            .ok_or_else(|| TreeError::Name(dn.clone()))
    }

    fn placed(&self, dn: &Dn) -> Result<Option<Placed>, TreeError> {
        let Some(record) = self.reader.get(dn)? else {
            return Ok(None);
        };
        let place = self.place_of(record.dn())?;
        Ok(match place {
            Some(place) => Some(Placed {
                entry: record.entry()?,
                place,
            }),
            None => None,
        })
    }

    /// The one entry of that name in a unit of `place`.
    fn named(
        &self,
        place: &Dn,
        unit_name: &str,
        attribute: &'static str,
        value: &str,
    ) -> Result<Option<Placed>, TreeError> {
        let base = unit(place, unit_name);
        if let Some(found) = self.placed(&base.child(Rdn::new(name(attribute), Value::from(value))))? {
            return Ok(Some(found));
        }
        let filter = Filter::Equality(name(attribute), Value::from(value));
        let query = Query {
            base: &base,
            scope: Scope::Subtree,
            filter: &filter,
            after: None,
        };
        let page = match self.reader.search(&query, 1) {
            Err(TreeError::Absent { .. }) => return Ok(None),
            other => other?,
        };
        match page.records.first() {
            Some(record) => self.placed(record.dn()),
            None => Ok(None),
        }
    }

    fn user(&self, text: &str) -> Result<Option<Placed>, TreeError> {
        if let Some(dn) = as_dn(text) {
            return self.placed(&dn);
        }
        for place in self.all() {
            for (unit, attribute) in [("users", "uid"), ("agents", "uid"), ("agents", "cn")] {
                if let Some(found) = self.named(place, unit, attribute, text)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The role of that name as an entry of `place` means it, and where its own names are looked up.
    fn role(&self, text: &str, place: &Dn) -> Result<Option<(Role, Dn)>, TreeError> {
        let found = match as_dn(text) {
            // A platform's entry means no role of a tenant, however it is spelled.
            Some(dn) => self
                .placed(&dn)?
                .filter(|found| found.place == self.platform || found.place == *place),
            None => match self.named(place, "roles", "cn", text)? {
                None if *place != self.platform => self.named(&self.platform, "roles", "cn", text)?,
                found => found,
            },
        };
        Ok(found
            .filter(|found| has_class(&found.entry, "aitherRole"))
            .map(|found| {
                let role = Role {
                    id: found.entry.dn().to_string(),
                    permissions: texts(&found.entry, "aitherPermission"),
                    inherits: texts(&found.entry, "aitherInherits"),
                };
                (role, found.place)
            }))
    }

    /// The roles that an entry names by itself and through its groups, nearest first.
    fn assignments(&self, user: &Placed) -> Result<Vec<Assignment<Dn>>, TreeError> {
        let own = vec![Step::new(StepKind::User, user.entry.dn().to_string())];
        let mut assignments = Vec::new();
        let note = |entry: &Entry, via: &[Step], place: &Dn, all: &mut Vec<_>| {
            all.extend(texts(entry, "aitherRoles").into_iter().map(|role| Assignment {
                role,
                via: via.to_vec(),
                place: place.clone(),
            }));
        };
        note(&user.entry, &own, &user.place, &mut assignments);
        let mut seen = BTreeSet::from([self.key(user.entry.dn())?]);
        let mut open = VecDeque::new();
        for group in self.groups_of(user, true)? {
            open.push_back((group, own.clone()));
        }
        while let Some((group, mut via)) = open.pop_front() {
            if seen.len() > MOST_GROUPS || !seen.insert(self.key(group.entry.dn())?) {
                continue;
            }
            via.push(Step::new(StepKind::Group, group.entry.dn().to_string()));
            note(&group.entry, &via, &group.place, &mut assignments);
            for above in self.groups_of(&group, false)? {
                open.push_back((above, via.clone()));
            }
        }
        Ok(assignments)
    }

    /// The groups that name the entry as a member and those that it names itself.
    fn groups_of(&self, of: &Placed, is_user: bool) -> Result<Vec<Placed>, TreeError> {
        let dn = Value::from(of.entry.dn().to_string());
        let mut any = vec![
            Filter::Equality(name("member"), dn.clone()),
            Filter::Equality(name("uniqueMember"), dn),
        ];
        let uid = texts(&of.entry, "uid").into_iter().next().filter(|_| is_user);
        if let Some(uid) = &uid {
            any.push(Filter::Equality(name("memberUid"), Value::from(uid.as_str())));
        }
        let filter = Filter::Or(any);
        let query = Query {
            base: &self.platform,
            scope: Scope::Subtree,
            filter: &filter,
            after: None,
        };
        let mut groups = Vec::new();
        for record in self.reader.search(&query, MOST_GROUPS)?.records {
            let Some(place) = self.place_of(record.dn())? else {
                continue;
            };
            let entry = record.entry()?;
            // A bare uid means somebody of the group's own place; a DN means exactly one entry.
            if place == of.place || self.names_by_dn(&entry, of.entry.dn())? {
                groups.push(Placed { entry, place });
            }
        }
        for text in texts(&of.entry, "aitherGroups").into_iter().filter(|_| is_user) {
            let found = match as_dn(&text) {
                Some(dn) => self.placed(&dn)?,
                None => match self.named(&of.place, "groups", "cn", &text)? {
                    None if of.place != self.platform => self.named(&self.platform, "groups", "cn", &text)?,
                    found => found,
                },
            };
            // As with roles: a platform's entry means no group of a tenant.
            groups.extend(found.filter(|found| found.place == self.platform || found.place == of.place));
        }
        Ok(groups)
    }

    fn names_by_dn(&self, group: &Entry, dn: &Dn) -> Result<bool, TreeError> {
        let wanted = self.key(dn)?;
        let mut members = texts(group, "member").into_iter().chain(texts(group, "uniqueMember"));
        Ok(members.any(|member| {
            let key = Dn::parse(&member).ok().and_then(|dn| self.reader.schema().dn_key(&dn));
            key.as_ref() == Some(&wanted)
        }))
    }
}

fn as_dn(text: &str) -> Option<Dn> {
    text.contains('=').then(|| Dn::parse(text).ok()).flatten()
}

fn name(text: &'static str) -> AttributeName {
    AttributeName::parse(text).expect("attribute names in this program are letters")
}

fn texts(entry: &Entry, attribute: &'static str) -> Vec<String> {
    let values = entry.values(&name(attribute)).iter();
    values.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn has_class(entry: &Entry, class: &str) -> bool {
    let mut classes = entry.values(&object_class()).iter().filter_map(Value::as_str);
    classes.any(|held| held.eq_ignore_ascii_case(class))
}
