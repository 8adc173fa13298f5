//! Users and groups as every part of Dirless passes them on: checked, complete, without defaults.

use crate::{Gecos, Gid, HostPath, Name, ObjectId, Uid};

/// A person or a robot that can log in: one record of passwd(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: Name,
    /// User id.
    pub uid: Uid,
    /// Primary group; the user's own number where the source names none.
    pub gid: Gid,
    /// Comment, usually the display name.
    pub gecos: Gecos,
    /// Home directory.
    pub home: HostPath,
    /// Login shell.
    pub shell: HostPath,
    /// What the source calls the user for good; absent in snapshots of deployed syncers.
    pub id: Option<ObjectId>,
}

/// A group: one record of group(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Group name.
    pub name: Name,
    /// Group id.
    pub gid: Gid,
    /// Login names of the members, in the source's order, without repeats.
    pub members: Vec<Name>,
    /// What the source calls the group for good; absent in snapshots of deployed syncers.
    pub id: Option<ObjectId>,
}
