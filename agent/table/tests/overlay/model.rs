//! A directory as plain maps, the table that says it, and all that a table can be asked.

use crate::common::{META, user};
use dirless_table::overlay::{self, Draft, Published};
use dirless_table::{Gids, GroupRecord, Table, TableBuilder, TableMeta, UserRecord, WriteError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) users: BTreeMap<String, Person>,
    pub(crate) groups: BTreeMap<String, Team>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) uid: u32,
    pub(crate) home: String,
    pub(crate) keys: String,
}

impl Person {
    pub(crate) fn record<'a>(&'a self, name: &'a str) -> UserRecord<'a> {
        UserRecord {
            keys: &self.keys,
            ..user(name, self.uid, &self.home)
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Team {
    pub(crate) gid: u32,
    pub(crate) members: BTreeSet<String>,
}

impl Directory {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut builder = TableBuilder::in_memory(META).unwrap();
        for (name, team) in &self.groups {
            let group = GroupRecord { name, gid: team.gid };
            builder
                .add_group(&group, team.members.iter().map(String::as_str))
                .unwrap();
        }
        for (name, person) in &self.users {
            builder.add_user(&person.record(name)).unwrap();
        }
        builder.finish().unwrap().0.into_inner()
    }

    pub(crate) fn put(&mut self, name: &str, uid: u32) {
        let person = Person {
            uid,
            home: format!("/home/{name}"),
            keys: format!("ssh-ed25519 {uid} {name}\n"),
        };
        self.users.insert(name.into(), person);
    }

    pub(crate) fn group(&mut self, name: &str, gid: u32, members: &[&str]) {
        let members = members.iter().map(|name| (*name).to_owned()).collect();
        self.groups.insert(name.into(), Team { gid, members });
    }
}

/// alice in eng and ops, bob in eng, the local user backup in ops, nobody in empty.
pub(crate) fn small() -> Directory {
    let mut small = Directory::default();
    small.put("alice", 60_001);
    small.put("bob", 60_002);
    small.group("eng", 2001, &["alice", "bob"]);
    small.group("ops", 2000, &["alice", "backup"]);
    small.group("empty", 2002, &[]);
    small
}

pub(crate) fn me() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid()
}

/// A folder in memory where there is one: syncing to a disk would be most of the time of these tests.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

pub(crate) fn meta(generation: u64) -> TableMeta {
    TableMeta { generation, ..META }
}

/// Publishes an overlay of whatever size.
pub(crate) fn change(
    path: &Path,
    fill: impl FnOnce(&mut Draft<'_>) -> Result<(), WriteError>,
) -> Result<Published, WriteError> {
    overlay::publish(path, me(), meta(8), overlay::MOST_BYTES, fill)
}

/// All names and numbers that answers are compared for.
pub(crate) struct Questions {
    pub(crate) names: Vec<String>,
    pub(crate) ids: Vec<u32>,
}

impl Questions {
    /// About everybody who is in one of the directories, and some who are in none.
    pub(crate) fn about(directories: &[&Directory]) -> Self {
        let mut names: BTreeSet<String> = ["nobody", "", "alic"].map(str::to_owned).into();
        let mut ids: BTreeSet<u32> = [0, 1, u32::MAX].into();
        for directory in directories {
            for (name, person) in &directory.users {
                names.insert(name.clone());
                ids.insert(person.uid);
            }
            for (name, team) in &directory.groups {
                names.insert(name.clone());
                names.extend(team.members.iter().cloned());
                ids.insert(team.gid);
            }
        }
        Self {
            names: names.into_iter().collect(),
            ids: ids.into_iter().collect(),
        }
    }

    /// Every answer, as text; lists as sets, for the order of enumeration and of members is another.
    pub(crate) fn ask(&self, table: &Table) -> Vec<String> {
        let mut answers = Vec::new();
        for name in self.names.iter().map(String::as_bytes) {
            answers.push(format!("{:?}", table.user_by_name(name).unwrap().map(shown_user)));
            answers.push(format!("{:?}", table.group_by_name(name).unwrap().map(shown_group)));
            answers.push(format!("{:?}", table.initgroups(name).unwrap().map(gids)));
            answers.push(format!("{:?}", table.keys(name).unwrap()));
        }
        for id in &self.ids {
            answers.push(format!("{:?}", table.user_by_uid(*id).unwrap().map(shown_user)));
            answers.push(format!("{:?}", table.group_by_gid(*id).unwrap().map(shown_group)));
        }
        let mut users: Vec<String> = table.users().map(|user| shown_user(user.unwrap())).collect();
        let mut groups: Vec<String> = table.groups().map(|group| shown_group(group.unwrap())).collect();
        let stats = table.stats();
        assert_eq!(
            (stats.users as usize, stats.groups as usize),
            (users.len(), groups.len())
        );
        assert_eq!(table.user_at_position(stats.users).unwrap(), None);
        assert_eq!(table.group_at_position(u32::MAX).unwrap(), None);
        users.sort();
        groups.sort();
        answers.extend(users);
        answers.extend(groups);
        answers
    }
}

fn gids(gids: Gids<'_>) -> Vec<u32> {
    gids.iter().collect()
}

fn shown_user(user: dirless_table::User<'_>) -> String {
    let strings = String::from_utf8_lossy(user.strings);
    let keys = String::from_utf8_lossy(user.keys);
    let listed = gids(user.gids());
    assert_eq!(user.home(), &user.strings[user.starts[1]..user.starts[2] - 1]);
    format!("{} {} {strings} {keys} {listed:?}", user.uid, user.gid)
}

fn shown_group(group: dirless_table::Group<'_>) -> String {
    let mut members: Vec<_> = group.members().map(String::from_utf8_lossy).collect();
    assert_eq!(members.len(), group.member_count);
    members.sort();
    format!("{} {} {members:?}", group.gid, String::from_utf8_lossy(group.name()))
}
