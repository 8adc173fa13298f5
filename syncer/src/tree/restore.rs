//! A lost tree anew, out of what was published of it: all entries that travelled, and the accounts that
//! people had entered. What never travels (password hashes, secret references) is gone.

use std::collections::BTreeMap;
use std::io::Read;

use dirless_directory::schema::object_class;
use dirless_directory::{AttributeName, Dn, DnKey, Entry, Schema, Value};
use dirless_model::snapshot::{Caps, RawEntry, RawGroup, RawUser, ReadError, Retired, Sink, TreeEntry};
use dirless_model::{Group, Name, NameRule, User};

use super::derive::first;
use super::operational::{holds, name};
use super::write::Batch;
use super::{TreeError, by_hand, people};

/// What the snapshots say.
#[derive(Debug, Default)]
pub struct Found {
    entries: Vec<TreeEntry>,
    users: Vec<User>,
    groups: Vec<Group>,
    keys: BTreeMap<Name, String>,
    /// What makes no sense, and why.
    pub left_out: Vec<String>,
}

/// What was brought back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Entries that were added.
    pub entries: usize,
    /// What could not be, and why.
    pub left_out: Vec<String>,
}

impl Found {
    /// Takes in one snapshot.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(&mut self, json: impl Read) -> Result<(), ReadError> {
        dirless_model::snapshot::read(json, Caps::default(), self).map(|_| ())
    }

    /// Entries by key, accounts laid over them. An account is found by its object id, which is the
    /// entry's `aitherSourceId`, when it had one, or its `entryUUID`.
    fn into_entries(mut self, schema: &Schema, base: &Dn) -> (BTreeMap<DnKey, Entry>, Vec<String>) {
        let mut left_out = std::mem::take(&mut self.left_out);
        let mut all = BTreeMap::new();
        let mut by_id = BTreeMap::new();
        for entry in &self.entries {
            let made = made(entry).and_then(|made| {
                let key = schema.dn_key(made.dn()).ok_or("its name does not fit the schema")?;
                Ok((key, made))
            });
            match made {
                Ok((key, made)) => {
                    if first(&made, "aitherSource").is_none() {
                        by_id.extend(by_hand::identity(&made).map(|id| (id.to_owned(), key.clone())));
                    }
                    all.insert(key, made);
                }
                Err(reason) => left_out.push(format!("{:?}: {reason}", entry.dn)),
            }
        }
        let mut lay = |dn: Dn, id: Option<String>, attributes: Vec<(&'static str, Vec<String>)>| {
            let known = id.as_ref().and_then(|id| by_id.get(id)).cloned();
            let Some(key) = known.or_else(|| schema.dn_key(&dn)) else {
                return;
            };
            let entry = all.entry(key).or_insert_with(|| {
                let mut entry = Entry::new(dn);
                let attribute = match &id {
                    Some(id) if !is_uuid(id) => "aitherSourceId",
                    _ => "entryUUID",
                };
                entry.set(name(attribute), id.map(Value::from).into_iter().collect());
                entry
            });
            for (attribute, values) in attributes {
                let attribute = if attribute == "objectClass" {
                    object_class()
                } else {
                    name(attribute)
                };
                for value in values.into_iter().map(Value::from) {
                    if !holds(schema, entry.values(&attribute), &attribute, &value) {
                        entry.add(attribute.clone(), value);
                    }
                }
            }
        };
        for user in &self.users {
            let keys = self.keys.get(&user.name).into_iter().flat_map(|keys| keys.lines());
            let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            let attributes = vec![
                (
                    "objectClass",
                    words(&["inetOrgPerson", "posixAccount", "ldapPublicKey"]),
                ),
                ("uid", words(&[user.name.as_str()])),
                ("uidNumber", vec![user.uid.number().to_string()]),
                ("gidNumber", vec![user.gid.number().to_string()]),
                ("homeDirectory", words(&[user.home.as_str()])),
                ("loginShell", words(&[user.shell.as_str()])),
                ("sshPublicKey", keys.map(str::to_owned).collect()),
            ];
            let dn = people::user_dn(base, user.name.as_str());
            lay(dn, user.id.as_ref().map(ToString::to_string), attributes);
        }
        for group in &self.groups {
            let members = group.members.iter().map(ToString::to_string).collect();
            let attributes = vec![
                ("objectClass", vec!["groupOfNames".to_owned(), "posixGroup".to_owned()]),
                ("cn", vec![group.name.to_string()]),
                ("gidNumber", vec![group.gid.number().to_string()]),
                ("memberUid", members),
            ];
            let dn = people::group_dn(base, group.name.as_str());
            lay(dn, group.id.as_ref().map(ToString::to_string), attributes);
        }
        (all, left_out)
    }
}

/// Is it what the server makes for an `entryUUID`?
fn is_uuid(id: &str) -> bool {
    let mut parts = id.split('-').map(str::len);
    let is_cut = [8, 4, 4, 4, 12].iter().all(|length| parts.next() == Some(*length)) && parts.next().is_none();
    is_cut && id.chars().all(|letter| letter == '-' || letter.is_ascii_hexdigit())
}

fn made(entry: &TreeEntry) -> Result<Entry, &'static str> {
    let dn = Dn::parse(&entry.dn).map_err(|_| "it has no name that makes sense")?;
    let mut made = Entry::new(dn);
    for (attribute, values) in &entry.attributes {
        let attribute = AttributeName::parse(attribute).map_err(|_| "one of its attributes has no name")?;
        made.set(
            attribute,
            values.iter().map(|value| Value::from(value.clone())).collect(),
        );
    }
    Ok(made)
}

/// Adds what is missing; an entry that is there stays as it is.
///
/// # Errors
/// When the database fails. An entry that cannot stand in the tree is told and harms no other.
pub fn restore(batch: &mut Batch<'_>, found: Found) -> Result<Restored, TreeError> {
    let base = batch.reader().base().clone();
    let (entries, left_out) = found.into_entries(batch.reader().schema(), &base);
    let mut restored = Restored { entries: 0, left_out };
    // Keys of entries above sort first.
    for (key, mut entry) in entries {
        if batch.reader().by_key(key.as_bytes())?.is_some() {
            continue;
        }
        for (attribute, wanted) in [("cn", "uid"), ("sn", "cn")] {
            let needs = people::has_class(&entry, "inetOrgPerson") && entry.values(&name(attribute)).is_empty();
            if needs {
                let from = entry.values(&name(wanted)).to_vec();
                entry.set(name(attribute), from);
            }
        }
        match batch.restore(&entry) {
            Ok(()) => restored.entries += 1,
            Err(TreeError::Database(error)) => return Err(TreeError::Database(error)),
            Err(error) => restored.left_out.push(error.to_string()),
        }
    }
    Ok(restored)
}

impl Sink for Found {
    fn user(&mut self, user: RawUser<'_>) {
        match user.check(&NameRule::default()) {
            Ok(user) => self.users.push(user),
            Err(error) => self.left_out.push(format!("user {}: {error}", user.label())),
        }
    }

    fn group(&mut self, group: RawGroup<'_>) {
        match group.check(&NameRule::default()) {
            Ok((group, _)) => self.groups.push(group),
            Err(error) => self.left_out.push(format!("group {}: {error}", group.label())),
        }
    }

    fn keys(&mut self, username: &str, lines: &str) {
        self.keys
            .extend(Name::parse(username).ok().map(|name| (name, lines.to_owned())));
    }

    fn retired(&mut self, _: Retired) {}

    fn entry(&mut self, entry: RawEntry) {
        let label = entry.label().to_owned();
        match entry.check() {
            Ok(entry) => self.entries.push(entry),
            Err(error) => self.left_out.push(format!("entry {label}: {error}")),
        }
    }
}
