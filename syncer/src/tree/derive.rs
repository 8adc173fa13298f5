//! Users and groups for hosts out of the tree's entries. Pure: the same entries make the same bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use dirless_directory::encoded::{Attributes, put_attribute, walk};
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
    let mut deriving = Deriving::default();
    for entry in entries {
        deriving.take(entry);
    }
    deriving.finish(schema)
}

/// Users, groups and keys in the making, one entry after the other.
#[derive(Default)]
pub(super) struct Deriving {
    users: Users,
    /// Groups, each with what names its members.
    groups: Vec<(Vec<u8>, Group)>,
    unfit: Vec<Unfit>,
}

impl Deriving {
    /// Takes an entry; see [`document`].
    pub(super) fn take(&mut self, entry: &dyn Facts) {
        let made = if entry.is_of("posixAccount") {
            user(entry).map(|user| self.users.take(entry, user, &mut self.unfit))
        } else if entry.is_of("posixGroup") {
            group(entry).map(|group| self.groups.push((named_members(entry), group)))
        } else {
            Ok(())
        };
        if let Err(reason) = made {
            let dn = entry.dn();
            self.unfit.push(Unfit { dn, reason });
        }
    }

    /// All that they are.
    pub(super) fn finish(mut self, schema: &Schema) -> (Document, Vec<Unfit>) {
        for (named, group) in &mut self.groups {
            group.members = self.users.members(schema, named);
        }
        let mut groups: Vec<Group> = self.groups.into_iter().map(|(_, group)| group).collect();
        groups.sort_by(|a, b| (&a.id, &a.name).cmp(&(&b.id, &b.name)));
        let document = Document {
            users: self.users.all.into_values().collect(),
            groups,
            ssh_keys: self.users.keys,
            ..Document::default()
        };
        (document, self.unfit)
    }
}

/// What an entry says, taken apart or encoded.
pub(super) trait Facts {
    /// Its name.
    fn dn(&self) -> Dn;
    /// Its name as text.
    fn dn_text(&self) -> Cow<'_, str>;
    /// The values of an attribute.
    fn values(&self, attribute: &'static str) -> Vec<&[u8]>;
    /// The first value of an attribute, when that is text.
    fn text(&self, attribute: &'static str) -> Option<&str>;
    /// Is it of exactly that class?
    fn is_of(&self, class: &str) -> bool;
}

impl Facts for Entry {
    fn dn(&self) -> Dn {
        Self::dn(self).clone()
    }

    fn dn_text(&self) -> Cow<'_, str> {
        Self::dn(self).to_string().into()
    }

    fn values(&self, attribute: &'static str) -> Vec<&[u8]> {
        Self::values(self, &name(attribute))
            .iter()
            .map(Value::as_bytes)
            .collect()
    }

    fn text(&self, attribute: &'static str) -> Option<&str> {
        first(self, attribute)
    }

    fn is_of(&self, class: &str) -> bool {
        has_class(self, class)
    }
}

/// An entry as the tree keeps it.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) dn: &'a str,
    pub(super) attributes: Attributes<'a>,
}

impl Facts for Stored<'_> {
    fn dn(&self) -> Dn {
        Dn::parse(self.dn).unwrap_or_default()
    }

    fn dn_text(&self) -> Cow<'_, str> {
        self.dn.into()
    }

    fn values(&self, attribute: &'static str) -> Vec<&[u8]> {
        let found = self.attributes.attribute(attribute);
        found.into_iter().flat_map(|found| found.values).collect()
    }

    fn text(&self, attribute: &'static str) -> Option<&str> {
        std::str::from_utf8(self.attributes.attribute(attribute)?.values.next()?).ok()
    }

    fn is_of(&self, class: &str) -> bool {
        let classes = self.attributes.attribute("objectClass");
        let mut classes = classes.into_iter().flat_map(|classes| classes.values);
        classes.any(|held| held.eq_ignore_ascii_case(class.as_bytes()))
    }
}

/// What names the members of a group, until all users are known.
fn named_members(entry: &dyn Facts) -> Vec<u8> {
    let mut named = Vec::new();
    for attribute in ["member", "memberUid"] {
        put_attribute(&mut named, attribute, entry.values(attribute).iter().copied());
    }
    named
}

/// Where a user stands in the snapshot.
type Order = (Option<ObjectId>, Name);

#[derive(Default)]
struct Users {
    all: BTreeMap<Rc<Order>, User>,
    by_name: HashMap<Name, Rc<Order>>,
    by_dn: HashMap<Box<str>, Rc<Order>>,
    /// Filled when a member is spelled otherwise than its entry.
    by_key: Option<HashMap<DnKey, Rc<Order>>>,
    keys: BTreeMap<Name, String>,
}

impl Users {
    fn take(&mut self, entry: &dyn Facts, user: User, unfit: &mut Vec<Unfit>) {
        let order = Rc::new((user.id.clone(), user.name.clone()));
        let mut keys = Vec::new();
        for value in entry.values("sshPublicKey") {
            let reason = match std::str::from_utf8(value).map(AuthorizedKey::parse) {
                Ok(Ok(key)) => {
                    keys.push(key.to_string());
                    continue;
                }
                Ok(Err(error)) => format!("one of its keys: {error}"),
                Err(_) => "one of its keys is no text".to_owned(),
            };
            let dn = entry.dn();
            unfit.push(Unfit { dn, reason });
        }
        if !keys.is_empty() {
            self.keys.insert(user.name.clone(), keys.join("\n"));
        }
        self.by_name.insert(user.name.clone(), Rc::clone(&order));
        self.by_dn.insert(entry.dn_text().into(), Rc::clone(&order));
        self.all.insert(order, user);
    }

    /// The users whom `named`, as [`named_members`] made it, names.
    fn members(&mut self, schema: &Schema, named: &[u8]) -> Vec<Name> {
        let mut members: BTreeSet<Rc<Order>> = BTreeSet::new();
        for attribute in walk(named) {
            for text in attribute.values.filter_map(|value| std::str::from_utf8(value).ok()) {
                let found = if attribute.name == "memberUid" {
                    Name::parse(text).ok().and_then(|name| self.by_name.get(&name)).cloned()
                } else {
                    self.by_dn.get(text).cloned().or_else(|| self.by_key(schema, text))
                };
                members.extend(found);
            }
        }
        members.into_iter().map(|order| order.1.clone()).collect()
    }

    fn by_key(&mut self, schema: &Schema, dn: &str) -> Option<Rc<Order>> {
        let key = schema.dn_key_of(dn)?;
        let by_key = self.by_key.get_or_insert_with(|| {
            let keys = self.by_dn.iter();
            let keys = keys.filter_map(|(dn, order)| Some((schema.dn_key_of(dn)?, Rc::clone(order))));
            keys.collect()
        });
        by_key.get(&key).cloned()
    }
}

fn user(entry: &dyn Facts) -> Result<User, String> {
    let gecos = entry.text("gecos").or_else(|| entry.text("displayName"));
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

fn group(entry: &dyn Facts) -> Result<Group, String> {
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

fn required<'a>(entry: &'a dyn Facts, attribute: &'static str) -> Result<&'a str, String> {
    entry.text(attribute).ok_or_else(|| format!("it has no {attribute}"))
}

fn number(entry: &dyn Facts, attribute: &'static str) -> Result<u32, String> {
    let text = required(entry, attribute)?;
    text.parse().map_err(|_| format!("its {attribute} {text:?} is no id"))
}

fn path(entry: &dyn Facts, attribute: &'static str) -> Result<HostPath, String> {
    HostPath::parse(required(entry, attribute)?).map_err(|error| format!("its {attribute} {error}"))
}

fn named(entry: &dyn Facts, attribute: &'static str, kind: NameKind) -> Result<Name, String> {
    // Nearly everyone's name stands in front, as it is.
    let text = entry.dn_text();
    let plain = text.split_once(',').and_then(|(first, _)| first.split_once('='));
    if let Some(name) = plain
        .filter(|(own, _)| own.eq_ignore_ascii_case(attribute))
        .and_then(|(_, name)| Name::parse(name).ok())
    {
        return Ok(name);
    }
    let dn = entry.dn();
    // An entry is named by one value; when it has more, the name is that one.
    let avas = dn.rdn().map(dirless_directory::Rdn::avas).unwrap_or_default();
    let of_rdn = avas.iter().find(|ava| ava.name == name(attribute));
    let text = match of_rdn.and_then(|ava| ava.value.as_str()) {
        Some(text) => text,
        None => required(entry, attribute)?,
    };
    let applied = Name::parse(text).or_else(|_| NameRule::default().apply(kind, text));
    applied.map_err(|error| format!("its name {error}"))
}

fn object_id(entry: &dyn Facts) -> Option<ObjectId> {
    entry.text("aitherSourceId").and_then(|id| ObjectId::parse(id).ok())
}

#[cfg(test)]
mod tests;
