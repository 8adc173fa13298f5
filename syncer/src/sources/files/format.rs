//! What stands in a file, whatever its format. Pure.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use dirless_directory::{AttributeName, Dn, Entry, Value};
use serde::de::DeserializeOwned;

/// One file.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Content {
    /// People.
    pub people: Vec<Person>,
    /// Groups.
    pub groups: Vec<Team>,
    /// Hosts by the names of groups of hosts, for access rules.
    pub host_groups: BTreeMap<String, Vec<String>>,
    /// Access rules.
    pub access: Option<Access>,
    /// Further entries of the tree.
    pub entries: Vec<RawEntry>,
}

/// A person.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Login name.
    pub name: String,
    /// What identifies the person for good; without it the name, and a new name is a new person.
    pub id: Option<String>,
    /// Name shown to people.
    pub display_name: Option<String>,
    /// Address.
    pub email: Option<String>,
    /// User id; without it the ledger gives one.
    pub uid: Option<u32>,
    /// Primary group; without it a private one.
    pub gid: Option<u32>,
    /// Home directory.
    pub home: Option<String>,
    /// Login shell.
    pub shell: Option<String>,
    /// SSH keys.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Is the person not to be published?
    #[serde(default)]
    pub disabled: bool,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Team {
    /// Group name.
    pub name: String,
    /// What identifies the group for good; without it the name.
    pub id: Option<String>,
    /// Group id; without it the ledger gives one.
    pub gid: Option<u32>,
    /// Names of people.
    #[serde(default)]
    pub members: Vec<String>,
    /// Names of groups whose members are members too.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Roles of the members.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// Access rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Are they enforced?
    pub enforce: bool,
    /// The rules.
    #[serde(default)]
    pub rules: Vec<AccessRule>,
}

/// The members of a group may be on hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// The group.
    pub group: String,
    /// Kernel host names, compared byte for byte.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Names of `host_groups`, all of whose hosts are meant.
    #[serde(default)]
    pub host_groups: Vec<String>,
}

/// An entry of the tree that is neither person nor group: an agent, a service, a tenant, a config.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEntry {
    /// Its name.
    pub dn: String,
    /// Attributes, each one value or a list.
    pub attributes: BTreeMap<String, Values>,
}

/// One value or several.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged)]
pub enum Values {
    /// One.
    One(RawValue),
    /// Several.
    Several(Vec<RawValue>),
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged)]
pub enum RawValue {
    /// `true` or `false`, written in the tree as TRUE or FALSE.
    Boolean(bool),
    /// A whole number.
    Number(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Binary {
        /// In base64.
        base64: String,
    },
}

impl RawEntry {
    /// The entry.
    ///
    /// # Errors
    /// When its name or an attribute's makes no sense, or base64 is none.
    pub fn entry(&self) -> Result<Entry, String> {
        let dn = Dn::parse(&self.dn).map_err(|error| format!("entry {:?}: {error}", self.dn))?;
        let mut entry = Entry::new(dn);
        for (name, values) in &self.attributes {
            let attribute = AttributeName::parse(name)
                .map_err(|error| format!("entry {:?}: attribute {name:?}: {error}", self.dn))?;
            let values = match values {
                Values::One(value) => std::slice::from_ref(value),
                Values::Several(values) => values.as_slice(),
            };
            for value in values {
                entry.add(
                    attribute.clone(),
                    value
                        .value()
                        .map_err(|error| format!("entry {:?}: {name}: {error}", self.dn))?,
                );
            }
        }
        Ok(entry)
    }
}

impl RawValue {
    fn value(&self) -> Result<Value, String> {
        Ok(match self {
            Self::Boolean(true) => Value::from("TRUE"),
            Self::Boolean(false) => Value::from("FALSE"),
            Self::Number(number) => Value::from(number.to_string()),
            Self::Text(text) => Value::from(text.as_str()),
            Self::Binary { base64 } => Value::from(BASE64.decode(base64).map_err(|error| error.to_string())?),
        })
    }
}

/// The formats, told by the file's ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.yaml`, `.yml` (YAML 1.2)
    Yaml,
    /// `.json`
    Json,
    /// `.toml`
    Toml,
    /// `.ldif` (RFC 2849)
    Ldif,
}

impl Format {
    /// The format of a file with this ending; `None` for a file that is none of ours.
    #[must_use]
    pub fn of(ending: &str) -> Option<Self> {
        match ending {
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            "ldif" => Some(Self::Ldif),
            _ => None,
        }
    }

    /// Parses `text` as a file of people, groups and the rest.
    ///
    /// # Errors
    /// What is wrong and the line (from 1) where, when that is known.
    pub fn parse(self, text: &str) -> Result<Content, Wrong> {
        match self {
            Self::Ldif => super::ldif::content(text).map_err(|(line, reason)| (Some(line), reason)),
            _ => self.document(text),
        }
    }

    /// Parses `text` as whatever is asked for. A YAML file without anything in it is an empty table.
    ///
    /// # Errors
    /// As [`Format::parse`], and for LDIF, which holds nothing but entries.
    pub fn document<T: DeserializeOwned>(self, text: &str) -> Result<T, Wrong> {
        match self {
            Self::Yaml => yaml(text),
            Self::Json => serde_json::from_str(text).map_err(|error| {
                let line = error.line();
                (Some(line), error.to_string())
            }),
            Self::Toml => toml::from_str(text).map_err(|error| {
                let line = error.span().map(|span| line_at(text, span.start));
                (line, error.message().to_owned())
            }),
            Self::Ldif => Err((
                None,
                "LDIF has no place here; write it as YAML, JSON or TOML".to_owned(),
            )),
        }
    }
}

/// The line (from 1), when it is known, and what is wrong there.
pub type Wrong = (Option<usize>, String);

fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, Wrong> {
    let empty = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let text = if text.lines().all(empty) { "{}" } else { text };
    // Far beyond 16 MiB of people; aliases make bombs and are not needed.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        budget: serde_saphyr::budget! {
            max_nodes: 1_000_000, max_events: 2_000_000, max_aliases: 0, max_depth: 32, max_documents: 1,
        },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error
            .location()
            .map(|location| usize::try_from(location.line()).unwrap_or(usize::MAX));
        let said = error.without_snippet().to_string();
        (line, said)
    })
}

/// The line (from 1) of the byte at `offset`.
fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The first line (from 1) that has `needle` as a word of its own.
pub(super) fn line_of(text: &str, needle: &str) -> Option<usize> {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '@');
    let found = text.lines().position(|line| {
        line.match_indices(needle).any(|(at, _)| {
            let before = line.get(..at).and_then(|text| text.chars().next_back());
            let after = line.get(at + needle.len()..).and_then(|text| text.chars().next());
            !before.is_some_and(inside) && !after.is_some_and(inside)
        })
    });
    found.map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_people_come_out_of_every_format() {
        let yaml = "# people\npeople:\n  - name: alice\n    uid: 2001\n    keys: [k1]\n  - {name: \"no\", disabled: true}\n\
            groups:\n  - name: eng\n    members: [alice]\n";
        let json = r#"{"people": [{"name": "alice", "uid": 2001, "keys": ["k1"]}, {"name": "no", "disabled": true}],
            "groups": [{"name": "eng", "members": ["alice"]}]}"#;
        let toml = "[[people]]\nname = \"alice\"\nuid = 2001\nkeys = [\"k1\"]\n[[people]]\nname = \"no\"\ndisabled = true\n\
            [[groups]]\nname = \"eng\"\nmembers = [\"alice\"]\n";
        let first = Format::Yaml.parse(yaml).unwrap();
        assert_eq!(first, Format::Json.parse(json).unwrap());
        assert_eq!(first, Format::Toml.parse(toml).unwrap());
        assert_eq!(first.people[1].name, "no");
        assert_eq!(Format::Yaml.parse("# nothing\n\n").unwrap(), Content::default());
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let cases = [
            (Format::Yaml, "people:\n  - name: a\n    nmae: b\n", 3, "nmae"),
            (Format::Yaml, "people:\n  - name: a\n    name: b\n", 3, "name"),
            (Format::Yaml, "people:\n  - name: a\n    uid: x\n", 3, ""),
            (Format::Yaml, "people: &a\n  - name: a\ngroups: *a\n", 3, ""),
            (
                Format::Json,
                "{\"people\": [\n{\"name\": \"a\", \"nmae\": 1}]}",
                2,
                "nmae",
            ),
            (Format::Toml, "[[people]]\nname = \"a\"\nnmae = 1\n", 3, "nmae"),
            (Format::Toml, "[[people]]\nuid = 1\n", 1, "name"),
        ];
        for (format, text, line, says) in cases {
            let (at, reason) = format.parse(text).unwrap_err();
            assert_eq!(at, Some(line), "{format:?} {text}: {reason}");
            assert!(reason.contains(says), "{reason}");
        }
    }

    #[test]
    fn entries_of_any_kind_are_carried() {
        let text = "entries:\n  - dn: cn=web,ou=services,dc=d\n    attributes:\n      objectClass: [top, aitherService]\n      \
            aitherStorageRole: primary\n      port: 80\n      on: true\n      cert: {base64: AAE=}\n";
        let content = Format::Yaml.parse(text).unwrap();
        let entry = content.entries[0].entry().unwrap();
        let values = |name: &str| entry.values(&AttributeName::parse(name).unwrap()).to_vec();
        assert_eq!(values("objectclass").len(), 2);
        assert_eq!(values("port"), [Value::from("80")]);
        assert_eq!(values("on"), [Value::from("TRUE")]);
        assert_eq!(values("cert")[0].as_bytes(), [0, 1]);
        let bad = RawEntry {
            dn: "no name".to_owned(),
            attributes: BTreeMap::new(),
        };
        assert!(bad.entry().unwrap_err().contains("no name"));
    }

    #[test]
    fn a_name_is_found_as_a_word() {
        assert_eq!(line_of("alice2\nan-alice\n- alice\n", "alice"), Some(3));
        assert_eq!(line_of("", "alice"), None);
    }

    proptest! {
        #[test]
        fn any_text_parses_or_not(text in "[ -~\n]{0,60}") {
            for format in [Format::Yaml, Format::Json, Format::Toml, Format::Ldif] {
                if let Err((Some(line), _)) = format.parse(&text) {
                    prop_assert!(line <= text.lines().count() + 1, "{format:?} {line}");
                }
            }
        }
    }
}
