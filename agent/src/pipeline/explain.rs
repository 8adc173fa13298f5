//! What a run notes down about one name, for those who ask why.

use std::borrow::Cow;

use dirless_model::merge::{Directory, MergedGroup, MergedUser};
use dirless_model::snapshot::{Field, RawUser, RecordError};
use dirless_model::texts::Texts;
use dirless_model::{NameKind, NameRule};

use super::access::AccessVerdict;
use super::drops::shown;

/// Follows one name through a run.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// The name after the name rule.
    pub name: String,
    /// Records that carry it, raw.
    pub sightings: Vec<Sighting>,
    /// The merged user, if there is one.
    pub merged: Option<Entry>,
    /// Groups that list the user after the merge.
    pub groups: Vec<GroupSeen>,
    /// What the access rules say.
    pub access: Option<AccessVerdict>,
    /// Did the user pass the host limits? `None` when it never came to them.
    pub within_limits: Option<bool>,
}

/// A record of a source that carries the name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Sighting {
    /// The source.
    pub source: String,
    /// The record as it stands in the snapshot.
    pub raw: String,
    /// The name after the name rule; absent when the rule gives none.
    pub name: Option<String>,
    /// Why the record was refused.
    pub refused: Option<String>,
}

/// A user as passwd(5) has it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// The source that it comes from.
    pub source: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Comment.
    pub gecos: String,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// authorized_keys lines.
    pub keys: Vec<String>,
}

/// A group that lists the user.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct GroupSeen {
    /// Its name.
    pub name: String,
    /// Its gid after the merge.
    pub gid: u32,
    /// Did it pass the host limits?
    pub published: bool,
}

impl Watch {
    /// Follows `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn saw_user(&mut self, source: &str, rule: &NameRule, raw: &RawUser<'_>, refused: Option<&RecordError>) {
        let label = raw.label();
        let name = rule.apply(NameKind::User, label).ok();
        let same = name.as_ref().is_some_and(|name| name.as_str() == self.name);
        if !same && !label.eq_ignore_ascii_case(&self.name) {
            return;
        }
        self.sightings.push(Sighting {
            source: source.to_owned(),
            raw: raw_text(raw),
            name: name.map(|name| name.to_string()),
            refused: refused.map(ToString::to_string),
        });
    }

    pub(super) fn saw_merged(&mut self, sources: &[String], texts: &Texts, directory: &Directory) {
        let Some(place) = directory.user(texts, &self.name) else {
            return;
        };
        self.merged = directory.users.get(place).map(|user| entry(sources, texts, user));
        let lists = |group: &&MergedGroup| {
            directory
                .members(group)
                .contains(&u32::try_from(place).unwrap_or(u32::MAX))
        };
        let groups = directory.groups.iter().filter(lists).map(|group| GroupSeen {
            name: texts.name(group.name).to_owned(),
            gid: group.gid.number(),
            published: false,
        });
        self.groups = groups.collect();
    }

    pub(super) fn saw_published(&mut self, texts: &Texts, directory: &Directory) {
        if self.access.as_ref().is_some_and(AccessVerdict::stays) {
            self.within_limits = Some(directory.user(texts, &self.name).is_some());
        }
        for group in &mut self.groups {
            let kept = directory
                .group(texts, &group.name)
                .and_then(|at| directory.groups.get(at));
            if let Some(kept) = kept {
                group.published = true;
                group.gid = kept.gid.number();
            }
        }
    }
}

fn entry(sources: &[String], texts: &Texts, user: &MergedUser) -> Entry {
    Entry {
        source: sources.get(usize::from(user.source)).cloned().unwrap_or_default(),
        uid: user.uid.number(),
        gid: user.gid.number(),
        gecos: texts.get(user.gecos).to_owned(),
        home: texts.get(user.home).to_owned(),
        shell: texts.name(user.shell).to_owned(),
        keys: texts.get(user.keys).lines().map(str::to_owned).collect(),
    }
}

/// The fields of a record in one line, as the source has them.
fn raw_text(raw: &RawUser<'_>) -> String {
    fn text(field: &Field<Cow<'_, str>>) -> String {
        match field {
            Field::Absent => "(absent)".to_owned(),
            Field::Wrong(was) => format!("({was})"),
            Field::Value(text) => format!("{:?}", shown(text)),
        }
    }
    fn number(field: &Field<i64>) -> String {
        match field {
            Field::Absent => "(absent)".to_owned(),
            Field::Wrong(was) => format!("({was})"),
            Field::Value(number) => number.to_string(),
        }
    }
    let mut line = format!(
        "username {} uid {} gid {} gecos {} home {} shell {}",
        text(&raw.username),
        number(&raw.uid),
        number(&raw.gid),
        text(&raw.gecos),
        text(&raw.home),
        text(&raw.shell),
    );
    if raw.id != Field::Absent {
        line.push_str(&format!(" id {}", text(&raw.id)));
    }
    line
}
