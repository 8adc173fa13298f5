//! Where people and groups come from. A source is one module in this folder and one line in
//! [`open`]; the rest of the program sees only the [`Source`] trait and a [`SourceDirectory`].
//!
//! Several sources stand side by side: each is read, numbered, guarded and published on its own,
//! under its own name, so that one that fails holds up no other. Hosts merge them, the first named
//! winning ([`overlap`] tells beforehand who that hides).

mod complete;
mod error;
pub mod files;
pub mod identity_center;
pub mod ldap;
mod overlap;
mod pace;
mod setting;

use std::collections::{BTreeMap, BTreeSet};

use dirless_wire::AwsAccountId;
use futures_util::future::BoxFuture;

use dirless_directory::Entry;
use dirless_model::Name;
use dirless_program::Lookup;

use crate::config::Config;

pub use complete::{Complete, Page, read_to_end};
pub use error::SourceError;
pub use overlap::{Hidden, overlap};
pub use setting::{SourceConfig, SourceKind, SourceSetting};

/// One source of identities.
pub trait Source: std::fmt::Debug + Send + Sync {
    /// Its name on the wire and in the ledger, such as `aws-identity-center`.
    fn name(&self) -> &str;

    /// The AWS account that the tenant belongs to; `None` for a source that is not of AWS.
    ///
    /// # Errors
    /// When nothing can tell the account.
    fn account(&self) -> BoxFuture<'_, Result<Option<AwsAccountId>, SourceError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Reads everything. There is no value for a read that failed or stopped short.
    ///
    /// # Errors
    /// Whatever kept the read from being complete.
    fn read<'a>(&'a self, progress: &'a dyn Progress) -> BoxFuture<'a, Result<SourceDirectory, SourceError>>;

    /// Login names, as hosts have them, of group members whom other sources have, by group id.
    ///
    /// # Errors
    /// When they cannot be read.
    fn members_elsewhere(&self) -> Result<BTreeMap<String, BTreeSet<Name>>, SourceError> {
        Ok(BTreeMap::new())
    }

    /// Tries whether the source is there and lets us in: lines to tell an operator.
    ///
    /// # Errors
    /// What is wrong.
    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, SourceError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Who can say whether a password is right, when the source can.
    fn passwords(&self) -> Option<&dyn ldap::VerifyPassword> {
        None
    }
}

/// Opens the source that `setting` describes.
///
/// # Errors
/// When its credentials, region, server or folder cannot be found.
pub async fn open(
    config: &Config,
    setting: &SourceSetting,
    environment: Lookup<'_>,
) -> Result<Box<dyn Source>, SourceError> {
    Ok(match &setting.kind {
        SourceKind::IdentityCenter => Box::new(identity_center::IdentityCenter::open(&config.identity_center).await?),
        SourceKind::Ldap(ldap) => {
            let bounds = ldap::Bounds::new(config.limits.users, config.limits.groups);
            let folder = Some(setting.state_folder.as_path());
            Box::new(ldap::LdapSource::open(
                &setting.name,
                ldap,
                bounds,
                folder,
                environment,
            )?)
        }
        SourceKind::Files(files) => Box::new(files::FileSource::new(&setting.name, files)),
        SourceKind::Directory => {
            let clock = dirless_program::Clock::system();
            let opened = config.tree.open_to_read(&config.syncer.state_folder, clock);
            let store = opened.map_err(|error| SourceError::Setup(error.to_string()))?;
            let source = crate::tree::by_hand::ByHand::new(std::sync::Arc::new(store));
            Box::new(source.with_ledger(config.ledger_path()))
        }
    })
}

/// The AWS account that the tenant id is derived from.
///
/// # Errors
/// When neither the configuration nor the surroundings tell it.
pub async fn account(config: &Config) -> Result<AwsAccountId, SourceError> {
    identity_center::IdentityCenter::account_of(&config.identity_center).await
}

/// Is told how a read is getting on.
pub trait Progress: Send + Sync {
    /// So many users so far.
    fn users(&self, _so_far: usize) {}
    /// So many groups so far.
    fn groups(&self, _so_far: usize) {}
    /// The member lists of `done` of `all` groups are read.
    fn memberships(&self, _done: usize, _all: usize) {}
}

/// Nobody watches.
#[derive(Clone, Copy, Debug)]
pub struct Unwatched;

impl Progress for Unwatched {}

/// A person as the source knows one, raw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceUser {
    /// The source's own id: what identifies the person for good.
    pub id: String,
    /// The login name, before any name rule.
    pub name: String,
    /// The name shown to people.
    pub display_name: Option<String>,
    /// The primary address.
    pub email: Option<String>,
    /// Disabled people are not published but keep their ids.
    pub enabled: bool,
    /// What the source itself says of the person on Unix hosts.
    pub posix: Posix,
    /// Lines for authorized_keys (sshd(8)), unchecked.
    pub keys: Vec<String>,
}

/// A person's Unix attributes, where the source has them; unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Posix {
    /// The user id; without it the ledger gives one.
    pub uid: Option<u32>,
    /// The primary group; without it the person has a private one.
    pub gid: Option<u32>,
    /// The home directory; without it `[hosts] home_folder` and the name.
    pub home: Option<String>,
    /// The login shell; without it `[hosts] shell`.
    pub shell: Option<String>,
}

/// A group as the source knows one, raw and without its members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceGroup {
    /// The source's own id.
    pub id: String,
    /// The group's name, before any name rule.
    pub name: String,
    /// The group's number, where the source has one; without it the ledger gives one.
    pub gid: Option<u32>,
    /// Roles that its members have by it, such as `owner`.
    pub roles: Vec<String>,
}

/// The whole of a source at one time. It can be made only of lists that were read to their end,
/// with the member list of every group among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceDirectory {
    users: BTreeMap<String, SourceUser>,
    groups: BTreeMap<String, SourceGroup>,
    members: BTreeMap<String, BTreeSet<String>>,
    entries: Vec<Entry>,
}

impl SourceDirectory {
    /// Puts the lists together. `members` has one list of user ids a group.
    ///
    /// # Errors
    /// [`SourceError::Inconsistent`] when an object comes twice or without id, or a group has no
    /// member list: the source changed while it was read, and reading again helps.
    pub fn assemble(
        users: Complete<Vec<SourceUser>>,
        groups: Complete<Vec<SourceGroup>>,
        members: Vec<(String, Complete<Vec<String>>)>,
    ) -> Result<Self, SourceError> {
        let users = by_id(users.into_inner(), "user", |user| &user.id)?;
        let groups = by_id(groups.into_inner(), "group", |group| &group.id)?;
        let mut lists = BTreeMap::new();
        for (group, list) in members {
            if lists
                .insert(group.clone(), list.into_inner().into_iter().collect())
                .is_some()
            {
                return Err(SourceError::Inconsistent(format!(
                    "the members of group {group} came twice"
                )));
            }
        }
        if let Some(group) = groups.keys().find(|group| !lists.contains_key(*group)) {
            return Err(SourceError::Inconsistent(format!(
                "the members of group {group} were not read"
            )));
        }
        lists.retain(|group, _: &mut BTreeSet<String>| groups.contains_key(group));
        Ok(Self {
            users,
            groups,
            members: lists,
            entries: Vec::new(),
        })
    }

    /// The same with further `entries` for the tree: agents, services, and whatever else is neither
    /// user nor group.
    #[must_use]
    pub fn with_entries(mut self, entries: Complete<Vec<Entry>>) -> Self {
        self.entries = entries.into_inner();
        self
    }

    /// Disables whoever `is_to_go` means of those who may log in; gives who that was.
    pub(crate) fn disable(&mut self, is_to_go: impl Fn(&SourceUser) -> bool) -> Vec<SourceUser> {
        let mut gone = Vec::new();
        for user in self.users.values_mut().filter(|user| user.enabled) {
            if is_to_go(user) {
                gone.push(user.clone());
                user.enabled = false;
            }
        }
        gone
    }

    /// Further entries for the tree.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The roles that `user` has by groups, in order, each once.
    #[must_use]
    pub fn roles(&self, user: &str) -> BTreeSet<&str> {
        let of = self.groups.values().filter(|group| {
            let members = self.members.get(&group.id);
            members.is_some_and(|members| members.contains(user))
        });
        of.flat_map(|group| group.roles.iter().map(String::as_str)).collect()
    }

    /// People who may log in, in id order.
    pub fn users(&self) -> impl Iterator<Item = &SourceUser> {
        self.users.values().filter(|user| user.enabled)
    }

    /// People whom the source has disabled, in id order.
    pub fn disabled(&self) -> impl Iterator<Item = &SourceUser> {
        self.users.values().filter(|user| !user.enabled)
    }

    /// Groups in id order.
    pub fn groups(&self) -> impl Iterator<Item = &SourceGroup> {
        self.groups.values()
    }

    /// Ids of the enabled people in group `group`, in id order. Members that the source did not
    /// list among its users (or has disabled) are left out.
    pub fn members(&self, group: &str) -> impl Iterator<Item = &str> {
        let ids = self.members.get(group).into_iter().flatten();
        ids.filter(|id| self.users.get(*id).is_some_and(|user| user.enabled))
            .map(String::as_str)
    }
}

fn by_id<T>(list: Vec<T>, kind: &str, id: impl Fn(&T) -> &String) -> Result<BTreeMap<String, T>, SourceError> {
    let mut map = BTreeMap::new();
    for entry in list {
        let key = id(&entry).clone();
        if key.is_empty() {
            return Err(SourceError::Inconsistent(format!("a {kind} came without an id")));
        }
        if map.insert(key.clone(), entry).is_some() {
            return Err(SourceError::Inconsistent(format!("{kind} {key} came twice")));
        }
    }
    Ok(map)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn user(id: &str, name: &str) -> SourceUser {
        SourceUser {
            id: id.to_owned(),
            name: name.to_owned(),
            display_name: Some(format!("{name} Example")),
            email: None,
            enabled: true,
            ..SourceUser::default()
        }
    }

    pub(crate) fn group(id: &str, name: &str) -> SourceGroup {
        SourceGroup {
            id: id.to_owned(),
            name: name.to_owned(),
            ..SourceGroup::default()
        }
    }

    /// A directory out of enabled users and groups with their member ids.
    pub(crate) fn directory(users: Vec<SourceUser>, groups: Vec<(SourceGroup, Vec<&str>)>) -> SourceDirectory {
        let members = groups
            .iter()
            .map(|(group, ids)| {
                (
                    group.id.clone(),
                    Complete::of(ids.iter().map(|id| (*id).to_owned()).collect()),
                )
            })
            .collect();
        let groups = groups.into_iter().map(|(group, _)| group).collect();
        SourceDirectory::assemble(Complete::of(users), Complete::of(groups), members).unwrap()
    }

    #[test]
    fn disabled_people_are_neither_users_nor_members_but_are_known() {
        let mut bob = user("u2", "bob");
        bob.enabled = false;
        let directory = directory(
            vec![user("u1", "alice"), bob],
            vec![(group("g1", "eng"), vec!["u1", "u2", "u9"])],
        );
        assert_eq!(
            directory.users().map(|user| user.name.as_str()).collect::<Vec<_>>(),
            ["alice"]
        );
        assert_eq!(
            directory.disabled().map(|user| user.name.as_str()).collect::<Vec<_>>(),
            ["bob"]
        );
        assert_eq!(directory.members("g1").collect::<Vec<_>>(), ["u1"]);
    }

    #[test]
    fn doubles_blanks_and_missing_member_lists_are_refused() {
        let assemble = |users: Vec<SourceUser>, groups: Vec<SourceGroup>, members: Vec<&str>| {
            SourceDirectory::assemble(
                Complete::of(users),
                Complete::of(groups),
                members
                    .into_iter()
                    .map(|id| (id.to_owned(), Complete::of(Vec::new())))
                    .collect(),
            )
        };
        for outcome in [
            assemble(vec![user("u1", "a"), user("u1", "b")], vec![], vec![]),
            assemble(vec![user("", "a")], vec![], vec![]),
            assemble(vec![], vec![group("g1", "a")], vec![]),
            assemble(vec![], vec![group("g1", "a")], vec!["g1", "g1"]),
        ] {
            assert!(matches!(outcome, Err(SourceError::Inconsistent(_))), "{outcome:?}");
        }
        assert!(assemble(vec![user("u1", "a")], vec![group("g1", "a")], vec!["g1"]).is_ok());
    }
}
