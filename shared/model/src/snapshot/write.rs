//! The writer: field names and order as deployed syncers have them, our optional fields around them.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

use super::{Document, Meta, TreeEntry};
use crate::{Group, Name, ObjectId, User};

/// Writes `document` as JSON.
///
/// # Errors
/// What `out` reports.
pub fn write(document: &Document, out: impl Write) -> std::io::Result<()> {
    write_as(document, &document.meta, out)
}

/// The same, and it says `meta` of itself instead.
///
/// # Errors
/// What `out` reports.
pub fn write_as(document: &Document, meta: &Meta, out: impl Write) -> std::io::Result<()> {
    let snapshot = SnapshotJson {
        sequence: meta.sequence,
        generated_at: meta.generated_at.as_deref(),
        source: meta.source.as_deref(),
        host_groups: meta.host_groups.as_deref(),
        schema: (!document.schema.is_empty()).then_some(&document.schema),
        groups: Each(&document.groups, group_json),
        users: Each(&document.users, user_json),
        ssh_keys: (!document.ssh_keys.is_empty()).then_some(&document.ssh_keys),
        entries: (!document.entries.is_empty()).then_some(Each(&document.entries, entry_json)),
        ledger: (!document.retired.is_empty()).then_some(LedgerJson {
            retired: &document.retired,
        }),
    };
    serde_json::to_writer(out, &snapshot).map_err(std::io::Error::from)
}

/// What [`write_as`] made of a document that says neither its number nor its time, with both: as [`write()`] makes it.
#[must_use]
pub fn stamped(text: &[u8], sequence: u64, generated_at: &str) -> Vec<u8> {
    // The groups follow at least: there is always something behind the comma.
    let stamp = format!(
        "{{\"sequence\":{sequence},\"generated_at\":{},",
        Value::from(generated_at)
    );
    [stamp.as_bytes(), text.strip_prefix(b"{").unwrap_or_default()].concat()
}

#[derive(Serialize)]
struct SnapshotJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generated_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_groups: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a [String]>,
    groups: Each<'a, Group, GroupJson<'a>>,
    users: Each<'a, User, UserJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssh_keys: Option<&'a std::collections::BTreeMap<Name, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Each<'a, TreeEntry, EntryJson<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger: Option<LedgerJson<'a>>,
}

#[derive(Serialize)]
struct LedgerJson<'a> {
    retired: &'a [super::Retired],
}

#[derive(Serialize)]
struct GroupJson<'a> {
    name: &'a Name,
    gid: u32,
    members: &'a [Name],
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a ObjectId>,
}

#[derive(Serialize)]
struct UserJson<'a> {
    username: &'a Name,
    uid: u32,
    gid: u32,
    gecos: &'a str,
    home: &'a str,
    shell: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a ObjectId>,
}

#[derive(Serialize)]
struct EntryJson<'a> {
    dn: &'a str,
    attributes: AttributesJson<'a>,
}

struct AttributesJson<'a>(&'a TreeEntry);

impl Serialize for AttributesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let attributes = &self.0.attributes;
        let mut map = serializer.serialize_map(Some(attributes.len()))?;
        for (name, values) in attributes {
            map.serialize_entry(name, &Each(values, ValueJson::of))?;
        }
        map.end()
    }
}

/// A value as text, or as base64 when it is no UTF-8.
#[derive(Serialize)]
#[serde(untagged)]
enum ValueJson<'a> {
    Text(&'a str),
    Bytes { base64: String },
}

impl<'a> ValueJson<'a> {
    fn of(value: &'a Vec<u8>) -> Self {
        match std::str::from_utf8(value) {
            Ok(text) => Self::Text(text),
            Err(_) => Self::Bytes {
                base64: STANDARD.encode(value),
            },
        }
    }
}

fn entry_json(entry: &TreeEntry) -> EntryJson<'_> {
    EntryJson {
        dn: &entry.dn,
        attributes: AttributesJson(entry),
    }
}

fn group_json(group: &Group) -> GroupJson<'_> {
    GroupJson {
        name: &group.name,
        gid: group.gid.number(),
        members: &group.members,
        id: group.id.as_ref(),
    }
}

fn user_json(user: &User) -> UserJson<'_> {
    UserJson {
        username: &user.name,
        uid: user.uid.number(),
        gid: user.gid.number(),
        gecos: user.gecos.as_str(),
        home: user.home.as_str(),
        shell: user.shell.as_str(),
        id: user.id.as_ref(),
    }
}

/// Serialises a slice element by element through a function, without a second vector.
struct Each<'a, T, J>(&'a [T], fn(&'a T) -> J);

impl<T, J: Serialize> Serialize for Each<'_, T, J> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for element in self.0 {
            seq.serialize_element(&(self.1)(element))?;
        }
        seq.end()
    }
}
