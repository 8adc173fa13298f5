//! The opened local snapshot as it stands: JSON of which only what an edit is about is touched, so
//! that what a portal or a later version keeps in it stays.

use std::collections::{BTreeMap, BTreeSet};

use dirless_model::snapshot::{self, Caps, ObjectKind};
use serde_json::{Map, Value, json};

use super::Refusal;

/// The local snapshot, open.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Blob {
    root: Map<String, Value>,
}

/// What one member of the document is.
const ARRAYS: [&str; 2] = ["users", "groups"];

impl Blob {
    /// Reads the JSON of a snapshot.
    ///
    /// # Errors
    /// When it is no snapshot: then nothing must be written over it.
    pub(super) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        let malformed = |reason: String| Refusal::Malformed { reason };
        // What hosts refuse is not mended by leaving half of it out: of a member that is given twice a map has one.
        snapshot::read(json, Caps::default(), &mut ()).map_err(|error| malformed(error.to_string()))?;
        let root: Map<String, Value> = serde_json::from_slice(json).map_err(|error| malformed(error.to_string()))?;
        for name in ARRAYS {
            if root.get(name).is_some_and(|value| !value.is_array()) {
                return Err(malformed(format!("{name:?} is no array")));
            }
        }
        for name in ["ssh_keys", "ledger"] {
            if root.get(name).is_some_and(|value| !value.is_object()) {
                return Err(malformed(format!("{name:?} is no object")));
            }
        }
        let retired = root.get("ledger").and_then(|ledger| ledger.get("retired"));
        if retired.is_some_and(|value| !value.is_array()) {
            return Err(malformed("\"ledger\" has a \"retired\" that is no array".to_owned()));
        }
        Ok(Self { root })
    }

    /// The JSON to seal.
    #[must_use]
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.root).expect("a JSON map serialises")
    }

    /// The document, for showing it.
    #[must_use]
    pub(super) fn root(&self) -> &Map<String, Value> {
        &self.root
    }

    /// The snapshot's own sequence number, when it has one.
    #[must_use]
    pub(super) fn sequence(&self) -> Option<u64> {
        self.root.get("sequence").and_then(Value::as_u64)
    }

    /// Stamps the snapshot: when, of what source, and as which of its versions.
    pub(super) fn stamp(&mut self, sequence: Option<u64>, generated_at: &str) {
        if let Some(sequence) = sequence {
            self.root.insert("sequence".to_owned(), sequence.into());
        }
        self.root.insert("generated_at".to_owned(), generated_at.into());
        self.root.insert("source".to_owned(), "local".into());
        for name in ARRAYS {
            self.root.entry(name).or_insert_with(|| json!([]));
        }
    }

    /// The user records.
    #[must_use]
    pub(super) fn users(&self) -> &[Value] {
        self.array("users")
    }

    /// The group records.
    #[must_use]
    pub(super) fn groups(&self) -> &[Value] {
        self.array("groups")
    }

    /// The record of the user called exactly `name`.
    #[must_use]
    pub(super) fn user(&self, name: &str) -> Option<&Map<String, Value>> {
        named(self.users(), "username", name)
    }

    /// The record of the group called exactly `name`.
    #[must_use]
    pub(super) fn group(&self, name: &str) -> Option<&Map<String, Value>> {
        named(self.groups(), "name", name)
    }

    pub(super) fn user_mut(&mut self, name: &str) -> Option<&mut Map<String, Value>> {
        named_mut(self.array_mut("users"), "username", name)
    }

    pub(super) fn group_mut(&mut self, name: &str) -> Option<&mut Map<String, Value>> {
        named_mut(self.array_mut("groups"), "name", name)
    }

    pub(super) fn push_user(&mut self, record: Value) {
        self.array_mut("users").push(record);
    }

    pub(super) fn push_group(&mut self, record: Value) {
        self.array_mut("groups").push(record);
    }

    pub(super) fn remove_user(&mut self, name: &str) {
        self.array_mut("users")
            .retain(|record| text(record.as_object(), "username") != Some(name));
    }

    pub(super) fn remove_group(&mut self, name: &str) {
        self.array_mut("groups")
            .retain(|record| text(record.as_object(), "name") != Some(name));
    }

    /// The lines of `user`, when there is an entry.
    #[must_use]
    pub(super) fn keys(&self, user: &str) -> Option<&str> {
        self.root.get("ssh_keys")?.get(user)?.as_str()
    }

    /// Every entry of the key table, in the order of the names.
    pub(super) fn all_keys(&self) -> impl Iterator<Item = (&str, &str)> {
        let table = self.root.get("ssh_keys").and_then(Value::as_object);
        let entries = table.into_iter().flatten();
        entries.filter_map(|(name, lines)| Some((name.as_str(), lines.as_str()?)))
    }

    /// Sets the lines of `user`; none at all takes the entry out.
    pub(super) fn set_keys(&mut self, user: &str, lines: Option<String>) {
        match lines {
            None => {
                if let Some(table) = self.root.get_mut("ssh_keys").and_then(Value::as_object_mut) {
                    table.remove(user);
                }
            }
            Some(lines) => {
                let table = self.root.entry("ssh_keys").or_insert_with(|| json!({}));
                if let Some(table) = table.as_object_mut() {
                    table.insert(user.to_owned(), lines.into());
                }
            }
        }
    }

    /// Names of the groups that list `user`.
    #[must_use]
    pub(super) fn groups_of(&self, user: &str) -> Vec<&str> {
        let lists = |record: &&Value| members(record.as_object()).any(|member| member == user);
        let groups = self.groups().iter().filter(lists);
        groups.filter_map(|record| text(record.as_object(), "name")).collect()
    }

    /// Calls every member that is `old` `new`, or takes it out.
    pub(super) fn replace_member(&mut self, old: &str, new: Option<&str>) {
        for record in self.array_mut("groups") {
            let Some(members) = record.get_mut("members").and_then(Value::as_array_mut) else {
                continue;
            };
            match new {
                Some(new) => {
                    for member in members.iter_mut().filter(|member| member.as_str() == Some(old)) {
                        *member = new.into();
                    }
                }
                None => members.retain(|member| member.as_str() != Some(old)),
            }
        }
    }

    /// Every number of `kind` in use, with the name that has it.
    #[must_use]
    pub(super) fn numbers(&self, kind: ObjectKind) -> BTreeMap<u32, &str> {
        let (records, name, number) = match kind {
            ObjectKind::User => (self.users(), "username", "uid"),
            ObjectKind::Group => (self.groups(), "name", "gid"),
        };
        let entry = |record: &'_ Value| self::number(record.as_object(), number);
        records
            .iter()
            .filter_map(|record| Some((entry(record)?, text(record.as_object(), name).unwrap_or("(no name)"))))
            .collect()
    }

    /// Every number of `kind` that is retired, with the last name it had.
    #[must_use]
    pub(super) fn retired(&self, kind: ObjectKind) -> BTreeMap<u32, Option<&str>> {
        let wanted = kind_text(kind);
        let retired = self.root.get("ledger").and_then(|ledger| ledger.get("retired"));
        let entries = retired.and_then(Value::as_array).into_iter().flatten();
        entries
            .filter(|entry| text(entry.as_object(), "kind") == Some(wanted))
            .filter_map(|entry| {
                let number = number(entry.as_object(), "number")?;
                Some((number, text(entry.as_object(), "name")))
            })
            .collect()
    }

    /// Notes that `number` is never to be given to anybody else.
    pub(super) fn retire(&mut self, kind: ObjectKind, number: u32, name: &str) {
        if self.retired(kind).contains_key(&number) {
            return;
        }
        let kind = kind_text(kind);
        let ledger = self.root.entry("ledger").or_insert_with(|| json!({}));
        if let Some(ledger) = ledger.as_object_mut() {
            let retired = ledger.entry("retired").or_insert_with(|| json!([]));
            if let Some(retired) = retired.as_array_mut() {
                let id = format!("local-{kind}-{number}");
                retired.push(json!({"kind": kind, "id": id, "number": number, "name": name}));
            }
        }
    }

    /// Takes a number back into use.
    pub(super) fn revive(&mut self, kind: ObjectKind, number: u32) {
        let kind = kind_text(kind);
        let retired = self.root.get_mut("ledger").and_then(|ledger| ledger.get_mut("retired"));
        if let Some(retired) = retired.and_then(Value::as_array_mut) {
            retired.retain(|entry| {
                let entry = entry.as_object();
                text(entry, "kind") != Some(kind) || self::number(entry, "number") != Some(number)
            });
        }
    }

    /// Names of all users and groups here, for telling strangers from typing errors.
    #[must_use]
    pub(super) fn user_names(&self) -> BTreeSet<&str> {
        let names = self.users().iter();
        names
            .filter_map(|record| text(record.as_object(), "username"))
            .collect()
    }

    fn array(&self, name: &str) -> &[Value] {
        self.root.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn array_mut(&mut self, name: &str) -> &mut Vec<Value> {
        let value = self.root.entry(name).or_insert_with(|| json!([]));
        value.as_array_mut().expect("parse refuses anything but an array here")
    }
}

/// The text in `field`.
pub(super) fn text<'a>(record: Option<&'a Map<String, Value>>, field: &str) -> Option<&'a str> {
    record?.get(field)?.as_str()
}

/// The id in `field`.
pub(super) fn number(record: Option<&Map<String, Value>>, field: &str) -> Option<u32> {
    u32::try_from(record?.get(field)?.as_u64()?).ok()
}

/// The members that are texts.
pub(super) fn members(record: Option<&Map<String, Value>>) -> impl Iterator<Item = &str> {
    let members = record
        .and_then(|record| record.get("members"))
        .and_then(Value::as_array);
    members.into_iter().flatten().filter_map(Value::as_str)
}

fn named<'a>(records: &'a [Value], field: &str, name: &str) -> Option<&'a Map<String, Value>> {
    let mut records = records.iter().filter_map(Value::as_object);
    records.find(|record| text(Some(record), field) == Some(name))
}

fn named_mut<'a>(records: &'a mut [Value], field: &str, name: &str) -> Option<&'a mut Map<String, Value>> {
    let mut records = records.iter_mut().filter_map(Value::as_object_mut);
    records.find(|record| text(Some(record), field) == Some(name))
}

fn kind_text(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::User => "user",
        ObjectKind::Group => "group",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_snapshot_is_never_edited() {
        for text in [
            "",
            "null",
            "[]",
            r#"{"users":null}"#,
            r#"{"groups":{}}"#,
            r#"{"ssh_keys":[]}"#,
            r#"{"ledger":7}"#,
            r#"{"ledger":{"retired":{}}}"#,
            r#"{"users":[{"username":"a"}],"users":[]}"#,
            r#"{"users":[]} {}"#,
        ] {
            assert!(
                matches!(Blob::parse(text.as_bytes()), Err(Refusal::Malformed { .. })),
                "{text}"
            );
        }
        assert!(Blob::parse(b"{}").is_ok());
    }

    #[test]
    fn unknown_fields_survive_everywhere() {
        let text = r#"{"later":{"a":[1,1.0001e103]},"users":[{"username":"a","uid":1,"email":null,"x":1},7],"ledger":{"y":2}}"#;
        let mut blob = Blob::parse(text.as_bytes()).unwrap();
        blob.retire(ObjectKind::User, 100_001, "gone");
        blob.set_keys("a", Some("k".into()));
        blob.stamp(Some(9), "now");
        let back: Value = serde_json::from_slice(&blob.to_json()).unwrap();
        assert_eq!(back["later"], json!({"a": [1, 1.0001e103]}));
        assert_eq!(
            back["users"][0],
            json!({"username": "a", "uid": 1, "email": null, "x": 1})
        );
        assert_eq!(back["users"][1], json!(7));
        assert_eq!(back["ledger"]["y"], json!(2));
        assert_eq!(
            (back["sequence"].as_u64(), back["source"].as_str()),
            (Some(9), Some("local"))
        );
    }

    #[test]
    fn numbers_are_retired_once_and_revived_by_kind() {
        let mut blob = Blob::default();
        for _ in 0..2 {
            blob.retire(ObjectKind::User, 5, "a");
        }
        blob.retire(ObjectKind::Group, 5, "g");
        assert_eq!(blob.retired(ObjectKind::User), BTreeMap::from([(5, Some("a"))]));
        blob.revive(ObjectKind::User, 5);
        assert!(blob.retired(ObjectKind::User).is_empty());
        assert_eq!(blob.retired(ObjectKind::Group).len(), 1);
    }

    #[test]
    fn the_ledger_is_what_hosts_and_the_model_read() {
        struct Sink(Vec<snapshot::Retired>);
        impl snapshot::Sink for Sink {
            fn user(&mut self, _: snapshot::RawUser<'_>) {}
            fn group(&mut self, _: snapshot::RawGroup<'_>) {}
            fn keys(&mut self, _: &str, _: &str) {}
            fn retired(&mut self, retired: snapshot::Retired) {
                self.0.push(retired);
            }
        }
        let mut blob = Blob::default();
        blob.retire(ObjectKind::User, 100_001, "a");
        blob.stamp(Some(3), "2026-01-01T00:00:00Z");
        let mut sink = Sink(Vec::new());
        let caps = Caps::default();
        let meta = snapshot::read(blob.to_json().as_slice(), caps, &mut sink).unwrap();
        assert_eq!((meta.sequence, meta.source.as_deref()), (Some(3), Some("local")));
        assert_eq!((sink.0[0].number, sink.0[0].name.as_deref()), (100_001, Some("a")));
    }
}
