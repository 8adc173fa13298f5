//! People and groups of a source as entries of the tree. Pure; [`super::derive`] is the way back.

use std::collections::{BTreeMap, HashMap};

use dirless_directory::encoded::Attributes;
use dirless_directory::schema::object_class;
use dirless_directory::{Dn, Entry, Rdn, Schema, Value};
use dirless_model::snapshot::Document;
use dirless_model::{Gecos, Name, User};

use super::operational::{holds, name};
use super::reconcile::{Packed, SourceEntries};
use super::skeleton::unit;
use crate::sources::{SourceDirectory, SourceGroup, SourceUser};

/// Attributes of users and groups that are always the source's: what else stands in their entries
/// stays, unless the source once gave it.
pub(super) const MANAGED: &[&str] = &[
    "uid",
    "cn",
    "sn",
    "displayName",
    "uidNumber",
    "gidNumber",
    "gecos",
    "homeDirectory",
    "loginShell",
    "member",
    "memberUid",
    "aitherUserType",
    "aitherSource",
    "aitherSourceId",
];

/// The entry of a user.
#[must_use]
pub fn user_dn(base: &Dn, user: &str) -> Dn {
    unit(base, "users").child(Rdn::new(name("uid"), Value::from(user)))
}

/// The entry of a group.
#[must_use]
pub fn group_dn(base: &Dn, group: &str) -> Dn {
    unit(base, "groups").child(Rdn::new(name("cn"), Value::from(group)))
}

/// Is the entry a user or a group for hosts?
#[must_use]
pub fn is_person(entry: &Entry) -> bool {
    has_class(entry, "posixAccount") || has_class(entry, "posixGroup")
}

/// The same of an encoded entry.
pub(super) fn is_person_encoded(attributes: Attributes<'_>) -> bool {
    let classes = attributes
        .attribute("objectClass")
        .into_iter()
        .flat_map(|one| one.values);
    let mut classes = classes.filter_map(|class| std::str::from_utf8(class).ok());
    classes.any(|class| class.eq_ignore_ascii_case("posixAccount") || class.eq_ignore_ascii_case("posixGroup"))
}

/// Is the entry of exactly that class, by that name of it?
pub(super) fn has_class(entry: &Entry, class: &str) -> bool {
    let classes = entry.values(&object_class()).iter();
    classes
        .filter_map(Value::as_str)
        .any(|held| held.eq_ignore_ascii_case(class))
}

/// The entries of what a source showed, numbered and named as `document` has them. That `directory`
/// exists proves that it was read to its end.
#[must_use]
pub fn entries(
    source: &str,
    base: &Dn,
    schema: &Schema,
    directory: &SourceDirectory,
    document: &Document,
) -> SourceEntries {
    let users: HashMap<&str, &SourceUser> = directory.users().map(|user| (user.id.as_str(), user)).collect();
    let groups: HashMap<&str, &SourceGroup> = directory.groups().map(|group| (group.id.as_str(), group)).collect();
    let mut roles: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for group in directory.groups().filter(|group| !group.roles.is_empty()) {
        for member in directory.members(&group.id) {
            let of = roles.entry(member).or_default();
            of.extend(group.roles.iter().map(String::as_str));
        }
    }
    // Login names need no escaping; whether the base's text leads back to it is known from one look.
    let leads_back = Dn::parse(&base.to_string()).is_ok_and(|back| back == *base);
    let pack = |entry: &Entry| {
        if leads_back {
            Packed::plain(entry)
        } else {
            Packed::of(entry)
        }
    };
    let user_classes = classes(
        schema,
        &[
            "top",
            "inetOrgPerson",
            "posixAccount",
            "shadowAccount",
            "ldapPublicKey",
            "aitherUser",
        ],
    );
    let group_classes = classes(schema, &["top", "groupOfNames", "posixGroup", "aitherGroup"]);
    let made_users = document.users.iter().map(|user| {
        let id = user.id.as_ref().map(ToString::to_string).unwrap_or_default();
        let raw = users.get(id.as_str()).copied();
        let mut entry = Builder::user(schema, user_dn(base, user.name.as_str()), user, raw);
        entry.entry.set(object_class(), user_classes.clone());
        entry.add("aitherSourceId", &id);
        for role in roles.get(id.as_str()).into_iter().flatten() {
            entry.add("aitherRoles", role);
        }
        let keys = document.ssh_keys.get(&user.name);
        for key in keys.into_iter().flat_map(|keys| keys.lines()) {
            entry.add("sshPublicKey", key);
        }
        pack(&entry.entry)
    });
    let made_groups = document.groups.iter().map(|group| {
        let id = group.id.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut entry = Builder::new(schema, group_dn(base, group.name.as_str()));
        entry.entry.set(object_class(), group_classes.clone());
        entry.add("gidNumber", &group.gid.number().to_string());
        entry.add("aitherSourceId", &id);
        entry.members(base, &group.members);
        for role in groups.get(id.as_str()).into_iter().flat_map(|group| &group.roles) {
            entry.add("aitherRoles", role);
        }
        pack(&entry.entry)
    });
    SourceEntries::of(source, made_users.chain(made_groups), directory.entries().iter())
}

/// Those of `names` that `schema` can write.
fn classes(schema: &Schema, names: &[&str]) -> Vec<Value> {
    let classes = names.iter().map(|name| Value::from(*name));
    classes.filter(|class| schema.takes(&object_class(), class)).collect()
}

struct Builder<'a> {
    schema: &'a Schema,
    entry: Entry,
}

impl<'a> Builder<'a> {
    /// An entry that has the value it is named by.
    fn new(schema: &'a Schema, dn: Dn) -> Self {
        let mut entry = Entry::new(dn);
        let rdn = entry.dn().rdn().cloned();
        for ava in rdn.iter().flat_map(Rdn::avas) {
            entry.add(ava.name.clone(), ava.value.clone());
        }
        Self { schema, entry }
    }

    /// The entry of a user, as far as every user has it, but for its classes.
    fn user(schema: &'a Schema, dn: Dn, user: &User, raw: Option<&SourceUser>) -> Self {
        let mut entry = Self::new(schema, dn);
        let shown = raw.and_then(|raw| raw.display_name.as_deref()).unwrap_or_default();
        let cn = if entry.fits("cn", shown) {
            shown
        } else {
            user.name.as_str()
        };
        entry.add("cn", cn);
        entry.add("sn", cn.rsplit(' ').find(|word| !word.is_empty()).unwrap_or(cn));
        entry.add("mail", raw.and_then(|raw| raw.email.as_deref()).unwrap_or_default());
        entry.add("uidNumber", &user.uid.number().to_string());
        entry.add("gidNumber", &user.gid.number().to_string());
        entry.add("homeDirectory", user.home.as_str());
        entry.add("loginShell", user.shell.as_str());
        entry.add("aitherUserType", "human");
        entry.comment(&user.gecos, shown);
        entry
    }

    /// May the text be a value of the attribute?
    fn fits(&self, attribute: &'static str, value: &str) -> bool {
        !value.is_empty() && self.schema.takes(&name(attribute), &Value::from(value))
    }

    /// Adds a value; what the attribute cannot hold, or holds already, is left out.
    fn add(&mut self, attribute: &'static str, value: &str) {
        if !self.fits(attribute, value) {
            return;
        }
        let (name, value) = (name(attribute), Value::from(value));
        let held = self.entry.values(&name);
        if held.is_empty() || !holds(self.schema, held, &name, &value) {
            self.entry.add(name, value);
        }
    }

    /// All members at once, which are many: as names of entries and as login names.
    fn members(&mut self, base: &Dn, members: &[Name]) {
        let users = unit(base, "users").to_string();
        // Names of the strict grammar need no escaping.
        let named = members
            .iter()
            .map(|member| Value::from(format!("uid={member},{users}")));
        self.entry.set(name("member"), named.collect());
        let uids = members.iter().map(|member| Value::from(member.as_str()));
        self.entry.set(name("memberUid"), uids.collect());
    }

    /// The comment: as it is where `gecos`, which is ASCII, can hold it; else it comes from the name
    /// shown, which holds any text. With neither it is empty.
    fn comment(&mut self, gecos: &Gecos, shown: &str) {
        self.add("displayName", shown);
        let text = gecos.as_str();
        let is_shown = self.fits("displayName", shown) && Gecos::sanitise(shown) == *gecos;
        if self.fits("gecos", text) {
            self.add("gecos", text);
        } else if !is_shown {
            self.entry.set(name("displayName"), Vec::new());
            self.add("displayName", text);
        }
    }
}
