//! Users and groups for hosts out of the tree's entries. Pure: the same entries make the same bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dirless_directory::{Dn, DnKey, Entry, Schema, Value};
use dirless_model::key::AuthorizedKey;
use dirless_model::snapshot::Document;
use dirless_model::{Gecos, Gid, Group, HostPath, Name, NameKind, NameRule, ObjectId, Uid, User};

use super::operational::name;
use super::people::has_class;

/// An entry that looks like a user or group, but of which none can be made; or a key in it that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The entry.
    pub dn: Dn,
    /// What is wrong with it.
    pub reason: String,
}

/// Makes the users, groups and keys of `entries` in the order of their object ids, then names. An entry
/// of `posixAccount` is a user; one of `posixGroup` a group, whose members are the users that `member` or
/// `memberUid` names. What is no account or group is passed over.
#[must_use]
pub fn document<'a>(schema: &Schema, entries: impl IntoIterator<Item = &'a Entry>) -> (Document, Vec<Unfit>) {
    let mut users = Users::default();
    let (mut groups, mut unfit) = (Vec::new(), Vec::new());
    for entry in entries {
        let made = if has_class(entry, "posixAccount") {
            user(entry).map(|user| users.take(entry, user, &mut unfit))
        } else if has_class(entry, "posixGroup") {
            group(entry).map(|group| groups.push((entry, group)))
        } else {
            Ok(())
        };
        if let Err(reason) = made {
            unfit.push(Unfit {
                dn: entry.dn().clone(),
                reason,
            });
        }
    }
    for (entry, group) in &mut groups {
        group.members = users.members(schema, entry);
    }
    let mut groups: Vec<Group> = groups.into_iter().map(|(_, group)| group).collect();
    groups.sort_by(|a, b| (&a.id, &a.name).cmp(&(&b.id, &b.name)));
    let document = Document {
        users: users.all.into_values().collect(),
        groups,
        ssh_keys: users.keys,
        ..Document::default()
    };
    (document, unfit)
}

/// Where a user stands in the snapshot.
type Order = (Option<ObjectId>, Name);

#[derive(Default)]
struct Users {
    all: BTreeMap<Order, User>,
    by_name: HashMap<Name, Order>,
    by_dn: HashMap<String, Order>,
    /// Filled when a member is spelled otherwise than its entry.
    by_key: Option<HashMap<DnKey, Order>>,
    keys: BTreeMap<Name, String>,
}

impl Users {
    fn take(&mut self, entry: &Entry, user: User, unfit: &mut Vec<Unfit>) {
        let order = (user.id.clone(), user.name.clone());
        let mut keys = Vec::new();
        for value in entry.values(&name("sshPublicKey")) {
            match value.as_str().map(AuthorizedKey::parse) {
                Some(Ok(key)) => keys.push(key.to_string()),
                Some(Err(error)) => unfit.push(Unfit {
                    dn: entry.dn().clone(),
                    reason: format!("one of its keys: {error}"),
                }),
                None => unfit.push(Unfit {
                    dn: entry.dn().clone(),
                    reason: "one of its keys is no text".to_owned(),
                }),
            }
        }
        if !keys.is_empty() {
            self.keys.insert(user.name.clone(), keys.join("\n"));
        }
        self.by_name.insert(user.name.clone(), order.clone());
        self.by_dn.insert(entry.dn().to_string(), order.clone());
        self.all.insert(order, user);
    }

    fn members(&mut self, schema: &Schema, group: &Entry) -> Vec<Name> {
        let mut members: BTreeSet<Order> = BTreeSet::new();
        let named = group.values(&name("memberUid")).iter().filter_map(Value::as_str);
        members.extend(
            named
                .filter_map(|uid| self.by_name.get(&Name::parse(uid).ok()?))
                .cloned(),
        );
        for dn in group.values(&name("member")).iter().filter_map(Value::as_str) {
            if let Some(order) = self.by_dn.get(dn) {
                members.insert(order.clone());
            } else if let Some(key) = Dn::parse(dn).ok().and_then(|dn| schema.dn_key(&dn)) {
                let by_key = self.by_key.get_or_insert_with(|| {
                    let keys = self.by_dn.iter().filter_map(|(dn, order)| {
                        let key = schema.dn_key(&Dn::parse(dn).ok()?)?;
                        Some((key, order.clone()))
                    });
                    keys.collect()
                });
                members.extend(by_key.get(&key).cloned());
            }
        }
        members.into_iter().map(|(_, name)| name).collect()
    }
}

fn user(entry: &Entry) -> Result<User, String> {
    let gecos = first(entry, "gecos").or_else(|| first(entry, "displayName"));
    Ok(User {
        name: named(entry, "uid", NameKind::User)?,
        uid: Uid::parse(number(entry, "uidNumber")?).map_err(|error| error.to_string())?,
        gid: Gid::parse(number(entry, "gidNumber")?).map_err(|error| error.to_string())?,
        gecos: Gecos::sanitise(gecos.unwrap_or_default()),
        home: path(entry, "homeDirectory")?,
        shell: path(entry, "loginShell")?,
        id: object_id(entry),
    })
}

fn group(entry: &Entry) -> Result<Group, String> {
    Ok(Group {
        name: named(entry, "cn", NameKind::Group)?,
        gid: Gid::parse(number(entry, "gidNumber")?).map_err(|error| error.to_string())?,
        members: Vec::new(),
        id: object_id(entry),
    })
}

pub(super) fn first<'a>(entry: &'a Entry, attribute: &'static str) -> Option<&'a str> {
    entry.values(&name(attribute)).first()?.as_str()
}

fn required<'a>(entry: &'a Entry, attribute: &'static str) -> Result<&'a str, String> {
    first(entry, attribute).ok_or_else(|| format!("it has no {attribute}"))
}

fn number(entry: &Entry, attribute: &'static str) -> Result<u32, String> {
    let text = required(entry, attribute)?;
    text.parse().map_err(|_| format!("its {attribute} {text:?} is no id"))
}

fn path(entry: &Entry, attribute: &'static str) -> Result<HostPath, String> {
    HostPath::parse(required(entry, attribute)?).map_err(|error| format!("its {attribute} {error}"))
}

fn named(entry: &Entry, attribute: &'static str, kind: NameKind) -> Result<Name, String> {
    // An entry is named by one value; when it has more, the name is that one.
    let avas = entry.dn().rdn().map(dirless_directory::Rdn::avas).unwrap_or_default();
    let of_rdn = avas.iter().find(|ava| ava.name == name(attribute));
    let text = match of_rdn.and_then(|ava| ava.value.as_str()) {
        Some(text) => text,
        None => required(entry, attribute)?,
    };
    let applied = Name::parse(text).or_else(|_| NameRule::default().apply(kind, text));
    applied.map_err(|error| format!("its name {error}"))
}

fn object_id(entry: &Entry) -> Option<ObjectId> {
    first(entry, "aitherSourceId").and_then(|id| ObjectId::parse(id).ok())
}

#[cfg(test)]
mod tests;
