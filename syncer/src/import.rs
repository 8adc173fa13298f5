//! Taking over numbers that hosts use today. Pure, but for the caller who reads the files.

mod parse;

use std::collections::{BTreeMap, HashMap, HashSet};

use dirless_model::snapshot::ObjectKind;
use dirless_model::{NameKind, NameRule, ObjectId, Uid};
use jiff::Timestamp;

use crate::ledger::{Entry, Object, Origin, kind_text, reservation};
use crate::sources::SourceDirectory;

pub use parse::{Foreign, Format, ParseError, parse};

/// What an import would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Lines for the ledger: objects of the source that get the number they have in the file.
    pub take: Vec<Entry>,
    /// Lines that keep a number from being given out: nobody of the source has the name.
    pub reserve: Vec<Entry>,
    /// Records that the ledger has already, just so.
    pub already: usize,
    /// Records that are passed over, with the reason.
    pub left_out: Vec<String>,
    /// Records that contradict each other or the ledger. With any of these nothing is imported.
    pub conflicts: Vec<String>,
    /// Users whose primary group in the file is not their own number.
    pub other_primary: usize,
    /// Numbers that lie where systems put their own users.
    pub cautions: usize,
}

/// Matches the file's records with the source's objects, by object id where the file has them, else
/// by name after the name rule; disabled people count too, for they keep their numbers.
#[must_use]
pub fn plan(
    records: &[Foreign],
    source: &str,
    directory: &SourceDirectory,
    rule: &NameRule,
    ledger: &[Entry],
    now: Timestamp,
) -> Plan {
    let mut planner = Planner {
        plan: Plan::default(),
        source,
        now,
        objects: objects(directory, rule),
        by_number: ledger
            .iter()
            .map(|entry| (entry.number, entry.object.clone()))
            .collect(),
        by_object: ledger
            .iter()
            .map(|entry| (entry.object.clone(), entry.number))
            .collect(),
    };
    let private: HashSet<(&str, i64)> = records
        .iter()
        .filter(|record| record.kind == ObjectKind::User)
        .map(|record| (record.name.as_str(), record.number))
        .collect();
    for record in records {
        if record.kind == ObjectKind::Group && private.contains(&(record.name.as_str(), record.number)) {
            planner
                .plan
                .left_out
                .push(format!("{}: the private group of that user", label(record)));
            continue;
        }
        planner.record(record, rule);
    }
    planner.plan
}

/// Object ids by kind and mapped name; `None` where several objects claim the name.
fn objects(directory: &SourceDirectory, rule: &NameRule) -> BTreeMap<(ObjectKind, String), Option<ObjectId>> {
    let mut objects = BTreeMap::new();
    let users = directory.users().chain(directory.disabled());
    let users = users.map(|user| (ObjectKind::User, NameKind::User, &user.name, &user.id));
    let groups = directory
        .groups()
        .map(|group| (ObjectKind::Group, NameKind::Group, &group.name, &group.id));
    for (kind, rule_kind, raw, id) in users.chain(groups) {
        if let (Ok(name), Ok(id)) = (rule.apply(rule_kind, raw), ObjectId::parse(id)) {
            let known = objects
                .entry((kind, name.to_string()))
                .or_insert_with(|| Some(id.clone()));
            if known.as_ref() != Some(&id) {
                *known = None;
            }
        }
    }
    objects
}

fn label(record: &Foreign) -> String {
    format!("{} {:?} ({})", kind_text(record.kind), record.name, record.number)
}

struct Planner<'a> {
    plan: Plan,
    source: &'a str,
    now: Timestamp,
    objects: BTreeMap<(ObjectKind, String), Option<ObjectId>>,
    by_number: HashMap<u32, Object>,
    by_object: HashMap<Object, u32>,
}

impl Planner<'_> {
    fn record(&mut self, record: &Foreign, rule: &NameRule) {
        let number = match u32::try_from(record.number)
            .map_err(|_| "no id".to_owned())
            .and_then(|number| Uid::parse(number).map_err(|error| error.to_string()))
        {
            Ok(number) if number.number() < 1000 => {
                self.plan.left_out.push(format!("{}: a system id", label(record)));
                return;
            }
            Ok(number) => number,
            Err(reason) => {
                self.plan.left_out.push(format!("{}: {reason}", label(record)));
                return;
            }
        };
        let rule_kind = match record.kind {
            ObjectKind::User => NameKind::User,
            ObjectKind::Group => NameKind::Group,
        };
        let mapped = rule.apply(rule_kind, &record.name).map(|name| name.to_string());
        let found = match (&record.id, &mapped) {
            (Some(id), _) => Some(Some(id.clone())),
            (None, Ok(name)) => self.objects.get(&(record.kind, name.clone())).cloned(),
            (None, Err(_)) => None,
        };
        let (id, matched) = match found {
            Some(Some(id)) => (id, true),
            Some(None) => {
                let reason = "several objects of the source have that name; rename all but one first";
                self.plan.conflicts.push(format!("{}: {reason}", label(record)));
                return;
            }
            None => match reservation(record.kind, mapped.as_deref().unwrap_or(&record.name)) {
                Ok(id) => (id, false),
                Err(error) => {
                    self.plan.left_out.push(format!("{}: the name {error}", label(record)));
                    return;
                }
            },
        };
        self.claim(record, number, id, matched);
    }

    fn claim(&mut self, record: &Foreign, number: Uid, id: ObjectId, matched: bool) {
        let object = Object {
            source: self.source.to_owned(),
            kind: record.kind,
            id,
        };
        match (self.by_number.get(&number.number()), self.by_object.get(&object)) {
            (Some(owner), _) if *owner == object => {
                self.plan.already += 1;
                return;
            }
            (Some(_), _) if !matched => {
                // Held by somebody already, which is all that a reservation is for.
                self.plan.already += 1;
                return;
            }
            (Some(owner), _) => {
                self.plan
                    .conflicts
                    .push(format!("{}: the number belongs to {owner}", label(record)));
                return;
            }
            (None, Some(held)) => {
                let conflict = format!(
                    "{}: that object has {held} already, and numbers never move",
                    label(record)
                );
                self.plan.conflicts.push(conflict);
                return;
            }
            (None, None) => {}
        }
        self.by_number.insert(number.number(), object.clone());
        self.by_object.insert(object.clone(), number.number());
        self.plan.cautions += usize::from(number.caution().is_some());
        self.plan.other_primary += usize::from(matched && record.primary.is_some());
        let entry = Entry {
            number: number.number(),
            object,
            first_name: record.name.clone(),
            last_name: record.name.clone(),
            assigned_at: self.now,
            origin: Origin::Imported,
            subids: None,
            retired: !matched || record.retired,
        };
        if matched {
            self.plan.take.push(entry);
        } else {
            self.plan.reserve.push(entry);
        }
    }
}

#[cfg(test)]
mod tests;
