//! What a record says that other records may have to do with.

use std::collections::BTreeSet;

use dirless_directory::DnKey;
use dirless_model::snapshot::Part;
use dirless_model::{NameKind, NameRule};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::StoreError;

/// A record, by what other records may have to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Facts {
    User(UserFacts),
    Group(GroupFacts),
    /// Keys under a name.
    Keys(Option<String>),
    /// An entry of a source of the tree.
    Entry(EntryFacts),
    /// What no account depends on.
    Nothing,
}

/// An entry, by what decides whether it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EntryFacts {
    /// The key of its name; none of one that is left out.
    pub key: Option<DnKey>,
    /// The identity that its source gave it.
    pub uuid: Option<[u8; 16]>,
    /// It says that it is an account.
    pub is_account: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserFacts {
    /// What the name rule makes of its name.
    pub name: Option<String>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupFacts {
    pub name: Option<String>,
    pub gid: Option<u32>,
    /// The record without its members.
    pub stub: Vec<u8>,
    /// What the name rule makes of each member, and how it is spelled.
    pub members: BTreeSet<(String, String)>,
    /// Members of which the name rule makes nothing.
    pub nameless: Vec<String>,
}

/// One record, with all that is known of it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub source: u8,
    pub part: Part,
    pub key: Vec<u8>,
    pub bytes: Vec<u8>,
    pub facts: Facts,
}

impl Facts {
    /// What there is to know of a record.
    ///
    /// # Errors
    /// When it is of a form that no program of ours writes.
    pub(super) fn of(part: Part, key: &[u8], bytes: &[u8], rule: &NameRule) -> Result<Self, StoreError> {
        let mapped = |kind, raw: &str| Some(rule.apply_text(kind, raw).ok()?.into_owned());
        let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        match part {
            Part::User => {
                let user = object(bytes)?;
                Ok(Self::User(UserFacts {
                    name: mapped(NameKind::User, text(&user, "username")?),
                    uid: user.get("uid").and_then(number),
                    gid: user.get("gid").and_then(number),
                }))
            }
            Part::Group => {
                let mut group = object(bytes)?;
                let mut members = BTreeSet::new();
                let mut nameless = Vec::new();
                if let Some(list) = group.remove("members") {
                    let list: Vec<String> = serde_json::from_value(list).map_err(|_other| StoreError::Odd)?;
                    for raw in list {
                        match mapped(NameKind::User, &raw) {
                            Some(name) => drop(members.insert((name, raw))),
                            None => nameless.push(raw),
                        }
                    }
                }
                Ok(Self::Group(GroupFacts {
                    name: mapped(NameKind::Group, text(&group, "name")?),
                    gid: group.get("gid").and_then(number),
                    stub: serde_json::to_vec(&group).map_err(|_never| StoreError::Odd)?,
                    members,
                    nameless,
                }))
            }
            Part::Other => match key.strip_prefix(b"\"ssh_keys\":") {
                Some(name) => {
                    let raw: String = serde_json::from_slice(name).map_err(|_other| StoreError::Odd)?;
                    Ok(Self::Keys(mapped(NameKind::User, &raw)))
                }
                None => Ok(Self::Nothing),
            },
            Part::Entry => Ok(Self::Nothing),
        }
    }
}

/// An object whose members stand once: of two of a name a reader might take the other one.
fn object(bytes: &[u8]) -> Result<Map<String, Value>, StoreError> {
    let Once(members) = serde_json::from_slice(bytes).map_err(|_other| StoreError::Odd)?;
    Ok(members)
}

struct Once(Map<String, Value>);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Once;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut access: A) -> Result<Once, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a member stands twice"));
                    }
                }
                Ok(Once(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a str, StoreError> {
    object.get(name).and_then(Value::as_str).ok_or(StoreError::Odd)
}

impl GroupFacts {
    /// Is a user of that name a member?
    pub(super) fn lists(&self, name: &str) -> bool {
        let mut from = self.members.range((name.to_owned(), String::new())..);
        from.next().is_some_and(|(member, _)| member == name)
    }

    /// The record with these members alone.
    pub(super) fn with(&self, members: impl Iterator<Item = String>) -> Vec<u8> {
        let members = serde_json::to_string(&members.collect::<Vec<_>>()).unwrap_or_else(|_never| "[]".to_owned());
        let rest = self.stub.get(1..).unwrap_or_default();
        let comma = if rest.first() == Some(&b'}') { "" } else { "," };
        [b"{\"members\":", members.as_bytes(), comma.as_bytes(), rest].concat()
    }
}

/// A record as it travels.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    pub source: u8,
    pub part: Part,
    pub key: Vec<u8>,
    pub bytes: Vec<u8>,
}
