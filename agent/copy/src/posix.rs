//! The tree of a host whose snapshots hold users and groups only (RFC 2307bis): `ou=groups` and
//! `ou=users` below a base.

use dirless_directory::encoded::{encode, put_attribute};
use dirless_directory::schema::object_class;
use dirless_directory::{AttributeName, Dn, DnKey, Entry, Rdn, Schema, Value};

use crate::uuid::{Uuid, made};
use crate::{CopyError, Record, Target};

/// Classes of a user, superclasses included, for filters ask for those too.
const USER_CLASSES: [&str; 7] = [
    "top",
    "person",
    "organizationalPerson",
    "inetOrgPerson",
    "posixAccount",
    "shadowAccount",
    "ldapPublicKey",
];
/// Classes of a group.
const GROUP_CLASSES: [&str; 3] = ["top", "groupOfNames", "posixGroup"];

/// A user as hosts know users. Names follow the strict grammar, so that no character of them means
/// anything in a DN.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// Login name.
    pub name: &'a str,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Comment; its first field is the person's name.
    pub gecos: &'a str,
    /// Home directory.
    pub home: &'a str,
    /// Login shell.
    pub shell: &'a str,
    /// authorized_keys lines.
    pub keys: &'a str,
}

/// A group.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// Group name.
    pub name: &'a str,
    /// Group id.
    pub gid: u32,
}

/// Who an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account<'a> {
    /// The user of this name.
    User(&'a str),
    /// The group of this name.
    Group(&'a str),
}

/// Makes entries of users and groups.
#[derive(Debug)]
pub struct Posix {
    schema: Schema,
    base: Dn,
    groups: Branch,
    users: Branch,
    bytes: Vec<u8>,
    value: Vec<u8>,
}

/// An organisational unit and how its children are named.
#[derive(Debug)]
struct Branch {
    dn: Dn,
    key: DnKey,
    /// What precedes and follows a child's name in its DN.
    before: &'static str,
    after: String,
}

impl Branch {
    fn new(schema: &Schema, base: &Dn, unit: &str, child: &'static str) -> Option<Self> {
        let dn = base.child(Rdn::new(name("ou"), Value::from(unit)));
        Some(Self {
            key: schema.dn_key(&dn)?,
            after: format!(",{dn}"),
            dn,
            before: child,
        })
    }

    fn child_dn(&self, name: &str) -> String {
        format!("{}{name}{}", self.before, self.after)
    }

    fn child_key(&self, name: &str) -> DnKey {
        let mut key = self.key.as_bytes().to_vec();
        for part in [self.before, name, "\0"] {
            key.extend_from_slice(part.as_bytes());
        }
        DnKey::from(key)
    }
}

impl Posix {
    /// Entries below `base`; none when that is the root or holds a value that its attribute cannot.
    #[must_use]
    pub fn new(schema: Schema, base: Dn) -> Option<Self> {
        if base.is_root() {
            return None;
        }
        Some(Self {
            groups: Branch::new(&schema, &base, "groups", "cn=")?,
            users: Branch::new(&schema, &base, "users", "uid=")?,
            schema,
            base,
            bytes: Vec::new(),
            value: Vec::new(),
        })
    }

    /// The keys of the entries that are there whoever is: the base, `ou=groups` and `ou=users`.
    #[must_use]
    pub fn tops(&self) -> Option<[DnKey; 3]> {
        let base = self.schema.dn_key(&self.base)?;
        Some([base, self.groups.key.clone(), self.users.key.clone()])
    }

    /// The key of the entry of an account.
    #[must_use]
    pub fn key(&self, account: Account<'_>) -> DnKey {
        match account {
            Account::User(name) => self.users.child_key(name),
            Account::Group(name) => self.groups.child_key(name),
        }
    }

    /// The account that has this key, if there is one of that name.
    #[must_use]
    pub fn account<'k>(&self, key: &'k DnKey) -> Option<Account<'k>> {
        let name = |branch: &Branch| {
            let rest = key.as_bytes().strip_prefix(branch.key.as_bytes())?;
            let name = rest.strip_prefix(branch.before.as_bytes())?.strip_suffix(b"\0")?;
            std::str::from_utf8(name).ok().filter(|name| !name.contains('\0'))
        };
        let user = name(&self.users).map(Account::User);
        user.or_else(|| name(&self.groups).map(Account::Group))
    }

    /// Puts the base and `ou=groups`. Groups in the order of their names come next.
    ///
    /// # Errors
    /// As [`crate::Draft::put`].
    pub fn begin(&self, target: &mut dyn Target) -> Result<(), CopyError> {
        self.top(target, &self.base)?;
        self.top(target, &self.groups.dn)
    }

    /// Puts a group. `members` are names of users, in order.
    ///
    /// # Errors
    /// As [`crate::Draft::put`].
    pub fn group<'m>(
        &mut self,
        target: &mut dyn Target,
        group: Group<'_>,
        members: impl Iterator<Item = &'m str> + Clone,
    ) -> Result<(), CopyError> {
        let gid = group.gid.to_string();
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0; 4]);
        put(&mut self.bytes, "cn", group.name);
        put(&mut self.bytes, "gidNumber", &gid);
        if members.clone().next().is_some() {
            let spans = names(&mut self.value, &self.users, members.clone());
            let value = &self.value;
            let values = spans.iter().filter_map(|(from, to)| value.get(*from..*to));
            put_attribute(&mut self.bytes, "member", values);
            put_attribute(&mut self.bytes, "memberUid", members.map(str::as_bytes));
        }
        put_attribute(
            &mut self.bytes,
            "objectClass",
            GROUP_CLASSES.iter().map(|class| class.as_bytes()),
        );
        close_user_part(&mut self.bytes);
        put(&mut self.bytes, "structuralObjectClass", "groupOfNames");
        target.put(&Record {
            key: &self.groups.child_key(group.name),
            dn: &self.groups.child_dn(group.name),
            uuid: made("group", &gid),
            attributes: &self.bytes,
            canonical: true,
        })
    }

    /// Puts `ou=users`. Users in the order of their names come next.
    ///
    /// # Errors
    /// As [`crate::Draft::put`].
    pub fn users(&self, target: &mut dyn Target) -> Result<(), CopyError> {
        self.top(target, &self.users.dn)
    }

    /// Puts a user. `groups` are names of groups, in order.
    ///
    /// # Errors
    /// As [`crate::Draft::put`].
    pub fn user<'m>(
        &mut self,
        target: &mut dyn Target,
        user: User<'_>,
        groups: impl Iterator<Item = &'m str>,
    ) -> Result<(), CopyError> {
        let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
        let full = user.gecos.split(',').next().map_or("", str::trim);
        let full = if full.is_empty() { user.name } else { full };
        let surname = full.rsplit(' ').next().unwrap_or(full);
        let keys = user.keys.lines().map(str::trim).filter(|line| !line.is_empty());
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0; 4]);
        let out = &mut self.bytes;
        put(out, "cn", full);
        // Its syntax is IA5: what does not fit stays in cn.
        if !user.gecos.is_empty() && user.gecos.is_ascii() {
            put(out, "gecos", user.gecos);
        }
        put(out, "gidNumber", &gid);
        put(out, "homeDirectory", user.home);
        if !user.shell.is_empty() {
            put(out, "loginShell", user.shell);
        }
        put_attribute(out, "objectClass", USER_CLASSES.iter().map(|class| class.as_bytes()));
        put(out, "sn", surname);
        if keys.clone().next().is_some() {
            put_attribute(out, "sshPublicKey", keys.map(str::as_bytes));
        }
        put(out, "uid", user.name);
        put(out, "uidNumber", &uid);
        close_user_part(out);
        let spans = names(&mut self.value, &self.groups, groups);
        if !spans.is_empty() {
            let value = &self.value;
            let values = spans.iter().filter_map(|(from, to)| value.get(*from..*to));
            put_attribute(out, "memberOf", values);
        }
        put(out, "structuralObjectClass", "inetOrgPerson");
        target.put(&Record {
            key: &self.users.child_key(user.name),
            dn: &self.users.child_dn(user.name),
            uuid: made("user", &uid),
            attributes: &self.bytes,
            canonical: true,
        })
    }

    fn top(&self, target: &mut dyn Target, dn: &Dn) -> Result<(), CopyError> {
        target.put(&unit(&self.schema, dn)?.record())
    }
}

/// An entry without people in it.
pub(crate) struct Unit {
    pub(crate) key: DnKey,
    dn: String,
    uuid: Uuid,
    attributes: Vec<u8>,
}

impl Unit {
    pub(crate) fn record(&self) -> Record<'_> {
        Record {
            key: &self.key,
            dn: &self.dn,
            uuid: self.uuid,
            attributes: &self.attributes,
            canonical: true,
        }
    }
}

/// Makes an entry without people in it: its classes follow from its name.
pub(crate) fn unit(schema: &Schema, dn: &Dn) -> Result<Unit, CopyError> {
    let mut entry = Entry::new(dn.clone());
    let mut structural = "organizationalUnit";
    let mut classes = vec!["top"];
    for ava in dn.rdn().iter().flat_map(|rdn| rdn.avas()) {
        structural = match ava.name.as_str().to_ascii_lowercase().as_str() {
            "dc" => "domain",
            "o" => "organization",
            "c" => "country",
            "ou" => "organizationalUnit",
            "l" | "st" => "locality",
            "cn" => "applicationProcess",
            _ => "account",
        };
        entry.add(ava.name.clone(), ava.value.clone());
    }
    classes.push(structural);
    entry.set(object_class(), classes.into_iter().map(Value::from).collect());
    entry.set(name("structuralObjectClass"), vec![Value::from(structural)]);
    let Some(key) = schema.dn_key(dn) else {
        return Err(CopyError::Order(dn.to_string()));
    };
    Ok(Unit {
        uuid: made("entry", &String::from_utf8_lossy(key.as_bytes())),
        key,
        dn: dn.to_string(),
        attributes: encode(schema, &entry),
    })
}

/// Writes the DNs of `names` into `out` and returns where each is.
fn names<'m>(out: &mut Vec<u8>, branch: &Branch, names: impl Iterator<Item = &'m str>) -> Vec<(usize, usize)> {
    out.clear();
    let mut spans = Vec::new();
    for name in names {
        let from = out.len();
        for part in [branch.before, name, &branch.after] {
            out.extend_from_slice(part.as_bytes());
        }
        spans.push((from, out.len()));
    }
    spans
}

fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    put_attribute(out, name, std::iter::once(value.as_bytes()));
}

/// Notes in the prefix that the user attributes end here.
pub(crate) fn close_user_part(bytes: &mut [u8]) {
    let length = u32::try_from(bytes.len().saturating_sub(4)).unwrap_or(u32::MAX);
    if let Some(prefix) = bytes.get_mut(..4) {
        prefix.copy_from_slice(&length.to_be_bytes());
    }
}

fn name(text: &str) -> AttributeName {
    AttributeName::parse(text).expect("attribute names in this file are letters")
}
