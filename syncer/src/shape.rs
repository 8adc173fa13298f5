//! What a snapshot says, boiled down to what can be compared with the next one. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;

use dirless_model::snapshot::{Caps, Document, Meta, RawGroup, RawUser, ReadError, Retired, Sink};
use dirless_model::{Name, NameRule, ObjectId, User};

/// A user as hosts see one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UserShape {
    /// Login name.
    pub name: String,
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
}

/// A group as hosts see one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GroupShape {
    /// Group name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Keys of the members in [`Shape::users`].
    pub members: BTreeSet<String>,
}

/// A whole snapshot. The keys are the source's object ids, or `name:NAME` for the snapshots of
/// deployed syncers, which have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// Users by key.
    pub users: BTreeMap<String, UserShape>,
    /// Groups by key.
    pub groups: BTreeMap<String, GroupShape>,
}

/// A snapshot that was read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBack {
    /// What it says of itself.
    pub meta: Meta,
    /// What it says.
    pub shape: Shape,
    /// The ledger lines in it whose objects are gone.
    pub retired: Vec<Retired>,
    /// Does at least one record carry an object id?
    pub has_ids: bool,
}

impl Shape {
    /// The shape of a snapshot about to be sealed.
    #[must_use]
    pub fn of(document: &Document) -> Self {
        let mut shape = Self::default();
        let mut keys = HashMap::new();
        for user in &document.users {
            let key = key(user.id.as_ref(), &user.name);
            keys.insert(&user.name, key.clone());
            let record = UserShape {
                name: user.name.to_string(),
                uid: user.uid.number(),
                gid: user.gid.number(),
                gecos: user.gecos.to_string(),
                home: user.home.to_string(),
                shell: user.shell.to_string(),
            };
            shape.users.insert(key, record);
        }
        for group in &document.groups {
            let record = GroupShape {
                name: group.name.to_string(),
                gid: group.gid.number(),
                members: group
                    .members
                    .iter()
                    .filter_map(|name| keys.get(name).cloned())
                    .collect(),
            };
            shape.groups.insert(key(group.id.as_ref(), &group.name), record);
        }
        shape
    }

    /// Takes users out, and all their memberships.
    pub fn remove(&mut self, users: &[User]) {
        for user in users {
            let key = key(user.id.as_ref(), &user.name);
            self.users.remove(&key);
            for group in self.groups.values_mut() {
                group.members.remove(&key);
            }
        }
    }

    /// Reads a snapshot's JSON. Records that make no sense are passed over: what hosts drop is not
    /// missed when it goes.
    ///
    /// # Errors
    /// When the JSON is no snapshot.
    pub fn read(json: impl Read, rule: &NameRule) -> Result<ReadBack, ReadError> {
        let mut collect = Collect {
            rule,
            users: Vec::new(),
            groups: Vec::new(),
            retired: Vec::new(),
        };
        let meta = dirless_model::snapshot::read(json, Caps::default(), &mut collect)?;
        let has_ids = collect.users.iter().any(|user| user.id.is_some())
            || collect.groups.iter().any(|group| group.id.is_some())
            || !collect.retired.is_empty();
        let document = Document {
            users: collect.users,
            groups: collect.groups,
            ..Document::default()
        };
        Ok(ReadBack {
            meta,
            shape: Self::of(&document),
            retired: collect.retired,
            has_ids,
        })
    }

    /// The same under `name:NAME` keys, to compare with the snapshot of a deployed syncer.
    #[must_use]
    pub fn keyed_by_name(&self) -> Self {
        let key = |member: &String| self.users.get(member).map(|user| name_key(&user.name));
        let users = self.users.values().map(|user| (name_key(&user.name), user.clone()));
        let groups = self.groups.values().map(|group| {
            let members = group.members.iter().filter_map(key).collect();
            (
                name_key(&group.name),
                GroupShape {
                    members,
                    ..group.clone()
                },
            )
        });
        Self {
            users: users.collect(),
            groups: groups.collect(),
        }
    }

    /// All memberships, one a group and member.
    #[must_use]
    pub fn memberships(&self) -> usize {
        self.groups.values().map(|group| group.members.len()).sum()
    }
}

fn key(id: Option<&ObjectId>, name: &Name) -> String {
    id.map_or_else(|| name_key(name.as_str()), ToString::to_string)
}

fn name_key(name: &str) -> String {
    format!("name:{name}")
}

struct Collect<'a> {
    rule: &'a NameRule,
    users: Vec<User>,
    groups: Vec<dirless_model::Group>,
    retired: Vec<Retired>,
}

impl Sink for Collect<'_> {
    fn user(&mut self, user: RawUser<'_>) {
        self.users.extend(user.check(self.rule).ok());
    }

    fn group(&mut self, group: RawGroup<'_>) {
        self.groups.extend(group.check(self.rule).ok().map(|(group, _)| group));
    }

    fn keys(&mut self, _: &str, _: &str) {}

    fn retired(&mut self, retired: Retired) {
        self.retired.push(retired);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOYED: &str = r#"{"groups":[{"name":"Engineering Team","gid":60001,"members":["alice"]}],"users":[
        {"username":"alice","uid":60002,"gid":60001,"gecos":"Alice","home":"/home/alice","shell":"/bin/bash"},
        {"username":"root","uid":0,"gid":0,"gecos":"","home":"/root","shell":"/bin/bash"}]}"#;

    #[test]
    fn a_deployed_snapshot_is_keyed_by_mapped_names_and_bad_records_are_passed_over() {
        let back = Shape::read(DEPLOYED.as_bytes(), &NameRule::default()).unwrap();
        assert!(!back.has_ids && back.meta.sequence.is_none());
        assert_eq!(back.shape.users.keys().collect::<Vec<_>>(), ["name:alice"]);
        let group = &back.shape.groups["name:engineering-team"];
        assert_eq!(group.members.iter().collect::<Vec<_>>(), ["name:alice"]);
        assert_eq!(back.shape.keyed_by_name(), back.shape);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let json = r#"{"sequence":7,"groups":[{"name":"eng","gid":2001,"members":["alice"],"id":"g1"}],
            "users":[{"username":"alice","uid":2002,"gid":2002,"gecos":"A","home":"/home/alice","shell":"/bin/sh",
            "id":"u1"}],"ledger":{"retired":[{"kind":"user","id":"u0","number":2000,"name":"zoe"}]}}"#;
        let back = Shape::read(json.as_bytes(), &NameRule::default()).unwrap();
        assert!(back.has_ids);
        assert_eq!(back.meta.sequence, Some(7));
        assert_eq!(back.shape.users["u1"].uid, 2002);
        assert_eq!(back.shape.groups["g1"].members.iter().collect::<Vec<_>>(), ["u1"]);
        assert_eq!((back.retired[0].number, back.shape.memberships()), (2000, 1));
    }
}
