//! Accounts and groups that people entered into the tree, as a source of their own: its wire name is
//! `directory`. An entry is people's when it has no `aitherSource`. What identifies one for good is its
//! `aitherSourceId`, when people gave it one, or else its `entryUUID`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use dirless_directory::schema::object_class;
use dirless_directory::{AttributeName, Dn, Entry, Value};
use dirless_model::snapshot::ObjectKind;
use dirless_model::{Name, NameRule};
use futures_util::future::BoxFuture;
use rusqlite::params;

use super::derive::first;
use super::operational::name;
use super::people::has_class;
use super::read::Reader;
use super::{TreeError, TreeStore};
use crate::ledger::{Entry as Line, Ledger};
use crate::sources::{Complete, Posix, Progress, Source, SourceDirectory, SourceError, SourceGroup, SourceUser};

/// The source's name on the wire and in the ledger.
pub const NAME: &str = "directory";

/// The source.
#[derive(Debug)]
pub struct ByHand {
    store: Arc<TreeStore>,
    ledger: Option<PathBuf>,
}

impl ByHand {
    /// What people entered into `store`.
    #[must_use]
    pub fn new(store: Arc<TreeStore>) -> Self {
        Self { store, ledger: None }
    }

    /// The same; numbers that the ledger at `path` gave are known for its own when they are read back.
    #[must_use]
    pub fn with_ledger(self, path: PathBuf) -> Self {
        Self {
            ledger: Some(path),
            ..self
        }
    }

    fn given(&self) -> Result<Given, SourceError> {
        let Some(path) = self.ledger.as_ref().filter(|path| path.exists()) else {
            return Ok(Given::new());
        };
        let lines = Ledger::open_to_read(path).and_then(|ledger| ledger.entries());
        lines
            .map(|lines| given(&lines))
            .map_err(|error| SourceError::Setup(error.to_string()))
    }
}

/// The numbers that the ledger gave people's objects.
pub type Given = BTreeMap<(ObjectKind, String), u32>;

/// Those among the ledger's `lines`.
#[must_use]
pub fn given(lines: &[Line]) -> Given {
    let own = lines.iter().filter(|line| line.object.source == NAME);
    own.map(|line| ((line.object.kind, line.object.id.to_string()), line.number))
        .collect()
}

impl Source for ByHand {
    fn name(&self) -> &str {
        NAME
    }

    fn read<'a>(&'a self, progress: &'a dyn Progress) -> BoxFuture<'a, Result<SourceDirectory, SourceError>> {
        let made = self.given().and_then(|given| directory(&self.store, &given));
        if let Ok(directory) = &made {
            progress.users(directory.users().count());
            progress.groups(directory.groups().count());
        }
        Box::pin(std::future::ready(made))
    }

    fn members_elsewhere(&self) -> Result<BTreeMap<String, BTreeSet<Name>>, SourceError> {
        let failed = |error: TreeError| SourceError::Setup(error.to_string());
        self.store.read(elsewhere).map_err(failed)
    }
}

/// What people entered into `store`. A number that the ledger gave is not told as one of theirs.
///
/// # Errors
/// When the database fails.
pub fn directory(store: &TreeStore, given: &Given) -> Result<SourceDirectory, SourceError> {
    let failed = |error: TreeError| SourceError::Setup(error.to_string());
    let entries = distinct(store.read(entries).map_err(failed)?);
    let users: Vec<SourceUser> = entries.iter().filter_map(|entry| user(entry, given)).collect();
    let groups: Vec<SourceGroup> = entries.iter().filter_map(|entry| group(entry, given)).collect();
    let members = members(store.schema(), &entries, &users);
    // All of it comes out of one transaction.
    SourceDirectory::assemble(
        Complete::proven(users),
        Complete::proven(groups),
        members
            .into_iter()
            .map(|(group, ids)| (group, Complete::proven(ids)))
            .collect(),
    )
}

/// Does the tree have such accounts or groups?
///
/// # Errors
/// When the database fails.
pub fn is_there(reader: Reader<'_>) -> Result<bool, TreeError> {
    Ok(!ids(reader, 1)?.is_empty())
}

/// The accounts and groups for hosts without a source.
fn ids(reader: Reader<'_>, most: i64) -> Result<Vec<i64>, TreeError> {
    let classes = reader.context.index_of(&object_class());
    let source = reader.context.index_of(&name("aitherSource"));
    // Without indexes, in a tree that another schema wrote, nobody can tell.
    let (Some(classes), Some(source)) = (classes, source) else {
        return Ok(Vec::new());
    };
    let class = |name: &str| classes.rule.key(reader.schema(), name.as_bytes());
    let mut select = reader.connection.prepare_cached(
        "SELECT entry FROM indexed WHERE attribute = ?1 AND value IN (?2, ?3)
         EXCEPT SELECT entry FROM indexed WHERE attribute = ?4 LIMIT ?5",
    )?;
    let wanted = params![classes.id, class("posixAccount"), class("posixGroup"), source.id, most];
    let rows = select.query_map(wanted, |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What identifies an entry that people made.
pub(super) fn identity(entry: &Entry) -> Option<&str> {
    first(entry, "aitherSourceId").or_else(|| first(entry, "entryUUID"))
}

/// The entries of which no older one has the identity: a number has one owner.
fn distinct(mut entries: Vec<Entry>) -> Vec<Entry> {
    let age = |entry: &Entry| {
        let text = |attribute| first(entry, attribute).unwrap_or_default().to_owned();
        (text("createTimestamp"), text("entryUUID"))
    };
    entries.sort_by_cached_key(age);
    let mut seen = BTreeSet::new();
    entries.retain(|entry| {
        let kind = has_class(entry, "posixAccount");
        let is_new = seen.insert((kind, identity(entry).map(str::to_owned)));
        if !is_new {
            tracing::warn!(event = "entry.twice", dn = %entry.dn(), "not published: an older entry has its aitherSourceId");
        }
        is_new
    });
    entries
}

/// People's accounts and groups.
pub(super) fn entries(reader: Reader<'_>) -> Result<Vec<Entry>, TreeError> {
    let mut entries = Vec::new();
    for id in ids(reader, i64::MAX)? {
        if let Some(record) = reader.by_id(id)? {
            entries.push(record.entry()?);
        }
    }
    Ok(entries)
}

fn user(entry: &Entry, given: &Given) -> Option<SourceUser> {
    let id = identity(entry)?.to_owned();
    let own = given.get(&(ObjectKind::User, id.clone())).copied();
    let number = |attribute| {
        let number: Option<u32> = first(entry, attribute).and_then(|text| text.parse().ok());
        number.filter(|number| Some(*number) != own)
    };
    let text = |attribute| first(entry, attribute).map(str::to_owned);
    if !has_class(entry, "posixAccount") {
        return None;
    }
    let keys = entry.values(&name("sshPublicKey")).iter().filter_map(Value::as_str);
    Some(SourceUser {
        id,
        name: text("uid")?,
        display_name: text("gecos").or_else(|| text("displayName")).or_else(|| text("cn")),
        email: text("mail"),
        enabled: !is_locked(entry),
        posix: Posix {
            uid: number("uidNumber"),
            gid: number("gidNumber"),
            home: text("homeDirectory"),
            shell: text("loginShell"),
        },
        keys: keys.map(str::to_owned).collect(),
    })
}

/// Has somebody closed the account?
fn is_locked(entry: &Entry) -> bool {
    let closed = ["disabled", "locked", "suspended"];
    first(entry, "aitherAccountStatus")
        .is_some_and(|status| closed.iter().any(|word| status.eq_ignore_ascii_case(word)))
}

fn group(entry: &Entry, given: &Given) -> Option<SourceGroup> {
    if has_class(entry, "posixAccount") || !has_class(entry, "posixGroup") {
        return None;
    }
    let roles = entry.values(&name("aitherRoles")).iter().filter_map(Value::as_str);
    let id = identity(entry)?.to_owned();
    let own = given.get(&(ObjectKind::Group, id.clone())).copied();
    let gid: Option<u32> = first(entry, "gidNumber").and_then(|text| text.parse().ok());
    Some(SourceGroup {
        id,
        name: first(entry, "cn")?.to_owned(),
        gid: gid.filter(|gid| Some(*gid) != own),
        roles: roles.map(str::to_owned).collect(),
    })
}

/// Ids of the members by group id, as far as those are among `users`.
fn members(
    schema: &dirless_directory::Schema,
    entries: &[Entry],
    users: &[SourceUser],
) -> BTreeMap<String, Vec<String>> {
    let by_name: BTreeMap<&str, &str> = users
        .iter()
        .map(|user| (user.name.as_str(), user.id.as_str()))
        .collect();
    let own: BTreeSet<&str> = users.iter().map(|user| user.id.as_str()).collect();
    let ids = entries
        .iter()
        .filter_map(|entry| Some((schema.dn_key(entry.dn())?, identity(entry)?)));
    let by_key: BTreeMap<_, _> = ids.filter(|(_, id)| own.contains(id)).collect();
    let mut all = BTreeMap::new();
    for entry in entries {
        let Some(group) = group(entry, &Given::new()) else {
            continue;
        };
        let named = texts(entry, "memberUid").filter_map(|uid| by_name.get(uid).copied());
        let pointed = texts(entry, "member").filter_map(|dn| Dn::parse(dn).ok());
        let pointed = pointed.filter_map(|dn| by_key.get(&schema.dn_key(&dn)?).copied());
        let ids: BTreeSet<&str> = named.chain(pointed).collect();
        all.insert(group.id, ids.into_iter().map(str::to_owned).collect());
    }
    all
}

fn texts<'a>(entry: &'a Entry, attribute: &'static str) -> impl Iterator<Item = &'a str> {
    let name: AttributeName = name(attribute);
    entry.values(&name).iter().filter_map(Value::as_str)
}

/// Login names of the members by group id who are another source's people. Hosts merge the sources, so
/// that a group may hold people of any.
fn elsewhere(reader: Reader<'_>) -> Result<BTreeMap<String, BTreeSet<Name>>, TreeError> {
    let rule = NameRule::default();
    let mut all = BTreeMap::new();
    for entry in entries(reader)? {
        let Some(group) = group(&entry, &Given::new()) else {
            continue;
        };
        let mut names = BTreeSet::new();
        for uid in texts(&entry, "memberUid") {
            names.extend(Name::parse(uid).or_else(|_| rule.apply(dirless_model::NameKind::User, uid)));
        }
        for dn in texts(&entry, "member").filter_map(|dn| Dn::parse(dn).ok()) {
            let member = reader.get(&dn).ok().flatten();
            if let Some(member) = member.map(|record| record.entry()).transpose()?
                && has_class(&member, "posixAccount")
            {
                names.extend(first(&member, "uid").and_then(|uid| Name::parse(uid).ok()));
            }
        }
        all.insert(group.id, names);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Unwatched;
    use crate::tree::{Expect, Settings};

    fn entry(dn: &str, attributes: &[(&str, &str)]) -> Entry {
        let mut entry = Entry::new(Dn::parse(dn).unwrap());
        for (attribute, value) in attributes {
            entry.add(AttributeName::parse(attribute).unwrap(), Value::from(*value));
        }
        entry
    }

    fn account(uid: &str, more: &[(&str, &str)]) -> Entry {
        let own = [
            ("objectClass", "inetOrgPerson"),
            ("objectClass", "posixAccount"),
            ("objectClass", "aitherUser"),
            ("aitherUserType", "human"),
            ("cn", uid),
            ("sn", uid),
            ("uidNumber", "5001"),
            ("gidNumber", "5001"),
            ("homeDirectory", "/srv/x"),
        ];
        entry(&format!("uid={uid},ou=users,dc=dirless"), &[&own, more].concat())
    }

    fn source(entries: &[Entry]) -> (tempfile::TempDir, ByHand) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            path: folder.path().join("tree.db"),
            base: Dn::parse("dc=dirless").unwrap(),
            schema: dirless_directory::Schema::standard(),
            indexed: Vec::new(),
        };
        let clock = dirless_program::Clock::manual(jiff::Timestamp::UNIX_EPOCH);
        let store = TreeStore::open(settings, clock).unwrap();
        for entry in entries {
            store
                .put(&crate::tree::Actor::operator("ann"), entry, Expect::Absent)
                .unwrap();
        }
        (folder, ByHand::new(Arc::new(store)))
    }

    fn read(source: &ByHand) -> SourceDirectory {
        futures_util::FutureExt::now_or_never(source.read(&Unwatched))
            .unwrap()
            .unwrap()
    }

    #[test]
    fn a_tree_without_such_people_has_none() {
        let synced = account("alice", &[("aitherSource", "idc")]);
        let (_folder, source) = source(&[synced]);
        assert!(!source.store.read(is_there).unwrap());
        assert_eq!(read(&source).users().count(), 0);
    }

    #[test]
    fn accounts_are_taken_as_they_stand_and_closed_ones_are_known_to_be_closed() {
        let (_folder, source) = source(&[
            account(
                "hand",
                &[("loginShell", "/bin/sh"), ("gecos", "By Hand"), ("mail", "h@example")],
            ),
            account("gone", &[("aitherAccountStatus", "Disabled")]),
            account("synced", &[("aitherSource", "idc")]),
            entry("cn=r,ou=roles,dc=dirless", &[("objectClass", "aitherRole")]),
        ]);
        assert!(source.store.read(is_there).unwrap());
        let directory = read(&source);
        let users: Vec<&SourceUser> = directory.users().collect();
        assert_eq!(users.len(), 1);
        assert_eq!(
            (users[0].name.as_str(), users[0].display_name.as_deref()),
            ("hand", Some("By Hand"))
        );
        let posix = Posix {
            uid: Some(5001),
            gid: Some(5001),
            home: Some("/srv/x".to_owned()),
            shell: Some("/bin/sh".to_owned()),
        };
        assert_eq!((&users[0].posix, users[0].id.len()), (&posix, 36));
        assert_eq!(
            directory.disabled().map(|user| user.name.as_str()).collect::<Vec<_>>(),
            ["gone"]
        );
    }

    #[test]
    fn numbers_of_the_ledger_are_not_peoples_own_and_an_identity_is_one_entrys() {
        let named = |uid, number| {
            let mut entry = account(uid, &[("aitherSourceId", "hr-17")]);
            entry.set(name("uidNumber"), vec![Value::from(number)]);
            entry.set(name("gidNumber"), vec![Value::from("70")]);
            entry
        };
        let (_folder, source) = source(&[named("first", "100001"), named("second", "100001")]);
        let given: Given = [((ObjectKind::User, "hr-17".to_owned()), 100_001)].into();
        let directory = directory(&source.store, &given).unwrap();
        let users: Vec<&SourceUser> = directory.users().collect();
        assert_eq!(users.len(), 1);
        assert_eq!(
            (users[0].id.as_str(), users[0].posix.uid, users[0].posix.gid),
            ("hr-17", None, Some(70))
        );
        let unknown = super::directory(&source.store, &Given::new()).unwrap();
        assert_eq!(unknown.users().next().unwrap().posix.uid, Some(100_001));
    }

    #[test]
    fn groups_hold_people_of_any_source_by_either_attribute() {
        let group = entry(
            "cn=ops,ou=groups,dc=dirless",
            &[
                ("objectClass", "groupOfNames"),
                ("objectClass", "posixGroup"),
                ("cn", "ops"),
                ("gidNumber", "6001"),
                ("member", "UID=hand, ou=Users,dc=dirless"),
                ("member", "uid=alice,ou=users,dc=dirless"),
                ("member", "uid=nobody,ou=users,dc=dirless"),
                ("memberUid", "Bob@corp.example"),
            ],
        );
        let (_folder, source) = source(&[
            account("hand", &[]),
            account("alice", &[("aitherSource", "idc")]),
            group,
        ]);
        let directory = read(&source);
        let group = directory.groups().next().unwrap();
        assert_eq!((group.name.as_str(), group.gid), ("ops", Some(6001)));
        let members: Vec<&str> = directory.members(&group.id).collect();
        assert_eq!(members, [directory.users().next().unwrap().id.as_str()]);
        let elsewhere = source.members_elsewhere().unwrap();
        let names: Vec<&str> = elsewhere[&group.id].iter().map(Name::as_str).collect();
        assert_eq!(names, ["alice", "bob", "hand"]);
    }
}
