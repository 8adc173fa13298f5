//! The JSON inside a sealed snapshot: what deployed Dirless programs read and write, plus optional
//! fields of ours that they pass over.
//!
//! ```json
//! {"sequence": 7, "generated_at": "2026-05-31T00:00:00Z", "source": "aws-identity-center",
//!  "groups": [{"name": "eng", "gid": 60001, "members": ["alice"], "id": "g-1"}],
//!  "users": [{"username": "alice", "uid": 60002, "gid": 60001, "gecos": "Alice",
//!             "home": "/home/alice", "shell": "/bin/bash", "id": "u-1"}],
//!  "ssh_keys": {"alice": "ssh-ed25519 AAAA… alice"},
//!  "entries": [{"dn": "cn=web,ou=services,dc=dirless",
//!               "attributes": {"objectClass": ["top", "aitherService"], "jpegPhoto": [{"base64": "/9j/"}]}}],
//!  "schema": ["attributetype ( 1.3.6.1.4.1.99999.1 NAME 'corpBadge' SUP name )"],
//!  "ledger": {"retired": [{"kind": "user", "id": "u-0", "number": 60003}]}}
//! ```
//!
//! `entries` are the directory tree's; with them `host_groups` may name the hosts that they are for, and
//! `schema` has the definitions (RFC 4512 section 4.1, each after `attributetype` or `objectclass`) that their
//! site has beyond the standard ones. Only definitions before an entry can be known when it is read.
//!
//! [`read`] streams: it hands each record to a [`Sink`] as it comes and keeps nothing, so that the
//! memory a snapshot costs is what its reader keeps. A record that makes no sense is a value with a
//! reason and not the end of the snapshot; only a document that is no such object ends it.

mod entry;
mod keys;
mod pieces;
mod raw;
mod read;
mod records;
mod write;

use std::collections::BTreeMap;

pub use entry::{RawEntry, RawSchema, TreeEntry};
pub use keys::{Joined, JoinedReader, record_key};
pub use raw::{CheckedUser, Field, RawGroup, RawUser, RecordError};
pub use read::{Caps, ReadError, Sink, read};
pub use records::{Listener, Part, Place, read_records, read_unknown};
pub use write::{stamped, write, write_as};

use crate::{Group, Name, ObjectId, User, pattern};

/// Whether a ledger number belongs to a user or to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// A user: the number is a uid (and the gid of its private group).
    User,
    /// A group: the number is a gid.
    Group,
}

/// A number of the id ledger whose object is not in the snapshot (deleted, disabled, held back).
/// It stays with that object for good.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Retired {
    /// User or group.
    pub kind: ObjectKind,
    /// What the source called the object.
    pub id: ObjectId,
    /// The uid or gid that it holds.
    pub number: u32,
    /// The name it had last, for people who read the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What a snapshot says of itself. All of it is absent in snapshots of deployed programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Grows by at least one with every snapshot of a source; hosts refuse a smaller one.
    pub sequence: Option<u64>,
    /// When the source was read (RFC 3339, UTC).
    pub generated_at: Option<String>,
    /// The source that the snapshot is of.
    pub source: Option<String>,
    /// The hosts that it is for, as patterns of [`pattern::fits`]; absent when it is for all. A host that
    /// none of them matches takes nothing of the snapshot.
    pub host_groups: Option<Vec<String>>,
}

impl Meta {
    /// Is the snapshot for the host of this kernel host name?
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        let patterns = self.host_groups.as_ref();
        patterns.is_none_or(|patterns| patterns.iter().any(|one| pattern::fits(one, host)))
    }
}

/// A whole snapshot, for those who write one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// What it says of itself.
    pub meta: Meta,
    /// The users, in the order in which they are written.
    pub users: Vec<User>,
    /// The groups, in the order in which they are written.
    pub groups: Vec<Group>,
    /// A user's authorized_keys lines (sshd(8)), joined by line breaks.
    pub ssh_keys: BTreeMap<Name, String>,
    /// Definitions that the site of the entries has beyond the standard ones.
    pub schema: Vec<String>,
    /// Entries of the directory tree, in the order in which they are written.
    pub entries: Vec<TreeEntry>,
    /// Ledger numbers whose objects are not among the users and groups.
    pub retired: Vec<Retired>,
}

#[cfg(test)]
mod tests;
