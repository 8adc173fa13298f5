//! LDIF content records (RFC 2849). Pure.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use dirless_directory::Dn;

use super::format::{Content, Person, RawEntry, RawValue, Team, Values};
use crate::sources::ldap::Record;

/// The records of `text`, each with the line (from 1) where it starts.
///
/// # Errors
/// The line and what is wrong there. Change records and values by URL are refused: a file of facts
/// has neither.
pub fn records(text: &str) -> Result<Vec<(usize, Record)>, (usize, String)> {
    let mut all: Vec<(usize, Record)> = Vec::new();
    let mut open = false;
    for (line, content) in unfold(text) {
        if content.is_empty() {
            open = false;
            continue;
        }
        if content.starts_with('#') {
            continue;
        }
        let (name, value) = attribute(&content).map_err(|reason| (line, reason))?;
        if !open {
            match name {
                "version" if all.is_empty() => continue,
                "dn" => {}
                _ => return Err((line, format!("a record starts with dn, not with {name:?}"))),
            }
            let dn = String::from_utf8(value).map_err(|_| (line, "the dn is no UTF-8".to_owned()))?;
            Dn::parse(&dn).map_err(|error| (line, format!("dn {dn:?}: {error}")))?;
            all.push((line, Record::new(&dn)));
            open = true;
            continue;
        }
        match name {
            "dn" => return Err((line, "a second dn; an empty line stands between records".to_owned())),
            "changetype" | "control" => return Err((line, format!("{name}: changes have no place here, only facts"))),
            _ => {}
        }
        if let Some((_, record)) = all.last_mut() {
            record.add(name, value);
        }
    }
    Ok(all)
}

/// Logical lines with the number of their first line: a line that begins with a blank continues the
/// one before.
fn unfold(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (at, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        match (line.strip_prefix(' '), lines.last_mut()) {
            (Some(rest), Some((_, before))) if !before.is_empty() => before.push_str(rest),
            _ => lines.push((at + 1, line.to_owned())),
        }
    }
    lines
}

fn attribute(line: &str) -> Result<(&str, Vec<u8>), String> {
    let (name, rest) = line.split_once(':').ok_or_else(|| "there is no colon".to_owned())?;
    if name.is_empty()
        || !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-;.=".contains(&byte))
    {
        return Err(format!("{name:?} is no attribute name"));
    }
    if let Some(encoded) = rest.strip_prefix(':') {
        let value = BASE64
            .decode(encoded.trim())
            .map_err(|error| format!("{name}: {error}"))?;
        return Ok((name, value));
    }
    if rest.starts_with('<') {
        return Err(format!("{name}: values by URL are not fetched"));
    }
    Ok((name, rest.trim_start_matches(' ').as_bytes().to_vec()))
}

/// People, groups and further entries of an LDIF file.
///
/// # Errors
/// The line and what is wrong there.
pub(super) fn content(text: &str) -> Result<Content, (usize, String)> {
    let records = records(text)?;
    let mut content = Content::default();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for (_, record) in records.iter().filter(|(_, record)| is(record, PEOPLE)) {
        if let Some(name) = record.text("uid") {
            names.insert(key(&record.dn), name.to_owned());
        }
    }
    let teams: BTreeMap<String, String> = records
        .iter()
        .filter(|(_, record)| is(record, TEAMS))
        .filter_map(|(_, record)| Some((key(&record.dn), record.text("cn")?.to_owned())))
        .collect();
    for (line, record) in &records {
        let at = |reason: String| (*line, reason);
        if is(record, PEOPLE) {
            content.people.push(person(record).map_err(at)?);
        } else if is(record, TEAMS) {
            content.groups.push(team(record, &names, &teams).map_err(at)?);
        } else if !is(record, &["organizationalunit", "dcobject", "organization", "domain"]) {
            content.entries.push(entry(record));
        }
    }
    Ok(content)
}

const PEOPLE: &[&str] = &["posixaccount", "inetorgperson"];
const TEAMS: &[&str] = &["posixgroup", "groupofnames", "groupofuniquenames"];

fn is(record: &Record, classes: &[&str]) -> bool {
    record
        .texts("objectClass")
        .any(|class| classes.contains(&class.to_ascii_lowercase().as_str()))
}

fn key(dn: &str) -> String {
    Dn::parse(dn).map_or_else(|_| dn.to_lowercase(), |dn| dn.to_string().to_lowercase())
}

fn number(record: &Record, name: &str) -> Result<Option<u32>, String> {
    let text = record.text(name);
    text.map(|text| text.parse().map_err(|_| format!("{name} {text:?} is no number")))
        .transpose()
}

fn person(record: &Record) -> Result<Person, String> {
    let text = |name: &str| record.text(name).map(ToOwned::to_owned);
    Ok(Person {
        name: text("uid").ok_or_else(|| format!("{} has no uid", record.dn))?,
        id: text("entryUUID"),
        display_name: text("displayName").or_else(|| text("cn")),
        email: text("mail"),
        uid: number(record, "uidNumber")?,
        gid: number(record, "gidNumber")?,
        home: text("homeDirectory"),
        shell: text("loginShell"),
        keys: record.texts("sshPublicKey").map(ToOwned::to_owned).collect(),
        disabled: record.has("pwdAccountLockedTime"),
    })
}

fn team(record: &Record, people: &BTreeMap<String, String>, teams: &BTreeMap<String, String>) -> Result<Team, String> {
    let text = |name: &str| record.text(name).map(ToOwned::to_owned);
    let mut team = Team {
        name: text("cn").ok_or_else(|| format!("{} has no cn", record.dn))?,
        id: text("entryUUID"),
        gid: number(record, "gidNumber")?,
        members: record.texts("memberUid").map(ToOwned::to_owned).collect(),
        ..Team::default()
    };
    for dn in record.texts("member").chain(record.texts("uniqueMember")) {
        let key = key(dn);
        if let Some(name) = people.get(&key) {
            team.members.push(name.clone());
        } else if let Some(name) = teams.get(&key) {
            team.groups.push(name.clone());
        } else if key != self::key(&record.dn) {
            // groupOfNames must have a member; an empty one names itself.
            return Err(format!("member {dn:?} is in no record of this file"));
        }
    }
    Ok(team)
}

fn entry(record: &Record) -> RawEntry {
    let attributes = record.names().map(|name| {
        let values = record
            .values(name)
            .iter()
            .map(|value| match std::str::from_utf8(value) {
                Ok(text) => RawValue::Text(text.to_owned()),
                Err(_) => RawValue::Binary {
                    base64: BASE64.encode(value),
                },
            });
        (name.to_owned(), Values::Several(values.collect()))
    });
    RawEntry {
        dn: record.dn.clone(),
        attributes: attributes.collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "version: 1\n\n# people\ndn: uid=alice,ou=people,dc=d\nobjectClass: posixAccount\nuid: alice\n\
        cn:: QWxpY2UgRXhhbXBsZQ==\nuidNumber: 2001\ngidNumber: 2001\nhomeDirectory: /home/al\n ice\n\n\
        dn: cn=eng,dc=d\nobjectClass: posixGroup\ncn: eng\ngidNumber: 3001\nmemberUid: alice\n\n\
        dn: cn=all,dc=d\nobjectClass: groupOfNames\ncn: all\nmember: CN=eng, DC=d\nmember: UID=Alice,ou=people,dc=d\n\n\
        dn: cn=web,dc=d\nobjectClass: aitherService\ncn: web\n";

    #[test]
    fn people_groups_and_the_rest_are_told_apart() {
        let content = content(FILE).unwrap();
        assert_eq!(content.people[0].display_name.as_deref(), Some("Alice Example"));
        assert_eq!(content.people[0].home.as_deref(), Some("/home/alice"));
        assert_eq!(content.people[0].uid, Some(2001));
        assert_eq!(content.groups[0].members, ["alice"]);
        assert_eq!(content.groups[1].members, ["alice"]);
        assert_eq!(content.groups[1].groups, ["eng"]);
        assert_eq!(content.entries.len(), 1);
        assert!(content.entries[0].entry().is_ok());
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let cases = [
            ("cn: a\n", 1, "starts with dn"),
            ("dn: cn=a\ncn a\n", 2, "colon"),
            ("dn: nonsense\n", 1, "nonsense"),
            ("dn: cn=a\nchangetype: delete\n", 2, "changes"),
            ("dn: cn=a\nphoto:< file:///etc/shadow\n", 2, "URL"),
            ("dn: cn=a\ncn:: !\n", 2, "cn"),
            ("dn: cn=a\ncn: a\ndn: cn=b\n", 3, "second dn"),
            (
                "\ndn: uid=a\nobjectClass: posixAccount\nuid: a\nuidNumber: x\n",
                2,
                "uidNumber",
            ),
            ("dn: cn=g\nobjectClass: groupOfNames\ncn: g\nmember: cn=x\n", 1, "cn=x"),
        ];
        for (text, line, says) in cases {
            let (at, reason) = content(text).unwrap_err();
            assert!(at == line && reason.contains(says), "{text}: {at} {reason}");
        }
    }

    proptest! {
        /// Whatever bytes a value has, base64 brings them through, folded at any width.
        #[test]
        fn values_come_back(value in proptest::collection::vec(any::<u8>(), 0..60), width in 1usize..20) {
            let line = format!("photo:: {}", BASE64.encode(&value));
            let folded: Vec<&str> = line.as_bytes().chunks(width).map(|part| std::str::from_utf8(part).unwrap()).collect();
            let text = format!("dn: cn=a\n{}\n", folded.join("\n "));
            let records = records(&text).unwrap();
            prop_assert_eq!(records[0].1.values("photo"), [value]);
        }
    }
}
