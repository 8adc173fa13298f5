//! Takes people out of a snapshot that was published, without asking their source. Pure.

use dirless_model::snapshot::{
    Caps, Document, Field, ObjectKind, RawEntry, RawGroup, RawSchema, RawUser, ReadError, Retired, Sink, TreeEntry,
    read,
};
use dirless_model::{IdRange, Name, NameRule, User};

use super::Revocations;

/// Why nobody can be taken out of a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It is none.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It has something that this program would not write.
    #[error("it has what this syncer did not write: {0}")]
    Foreign(String),
}

/// A snapshot without some people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// What is left.
    pub document: Document,
    /// Who is gone.
    pub gone: Vec<User>,
}

/// A snapshot of this program.
///
/// # Errors
/// When the text is none.
pub fn parse_snapshot(text: &str) -> Result<Document, EditError> {
    let mut collected = Collect::default();
    let meta = read(text.as_bytes(), Caps::default(), &mut collected)?;
    match collected.foreign {
        Some(foreign) => Err(EditError::Foreign(foreign)),
        None => Ok(Document {
            meta,
            ..collected.document
        }),
    }
}

/// `document` without the people who are revoked, their keys and memberships, and their entries; none when it has none of
/// them. Numbers in `range` are the ledger's, and kept with it.
#[must_use]
pub fn edit(mut document: Document, source: &str, revocations: &Revocations, range: IdRange) -> Option<Edited> {
    let is_gone = |user: &User| {
        let id = user.id.as_ref().map(ToString::to_string).unwrap_or_default();
        revocations
            .iter()
            .any(|own| own.covers(source, &id, Some(user.name.as_str())))
    };
    let gone: Vec<User> = document.users.extract_if(.., |user| is_gone(user)).collect();
    let names = |name: &str| revocations.has_name(name) || gone.iter().any(|user| user.name.as_str() == name);
    let before = (document.entries.len(), members(&document));
    document.ssh_keys.retain(|name, _| !names(name.as_str()));
    for group in &mut document.groups {
        group.members.retain(|member| !names(member.as_str()));
    }
    document.entries.retain(|entry| !is_of(entry, &names));
    if gone.is_empty() && before == (document.entries.len(), members(&document)) {
        return None;
    }
    let of_ledger = gone.iter().filter(|user| range.contains(user.uid.number()));
    document.retired.extend(of_ledger.filter_map(|user| {
        Some(Retired {
            kind: ObjectKind::User,
            id: user.id.clone()?,
            number: user.uid.number(),
            name: Some(user.name.to_string()),
        })
    }));
    Some(Edited { document, gone })
}

fn members(document: &Document) -> usize {
    document.groups.iter().map(|group| group.members.len()).sum()
}

/// Is it the entry of somebody whose login name is among `names`?
pub(crate) fn is_of(entry: &TreeEntry, names: &dyn Fn(&str) -> bool) -> bool {
    let uids = entry
        .attributes
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("uid"));
    let mut values = uids.flat_map(|(_, values)| values);
    values.any(|value| std::str::from_utf8(value).is_ok_and(|value| names(&value.to_ascii_lowercase())))
}

#[derive(Default)]
struct Collect {
    document: Document,
    foreign: Option<String>,
}

impl Collect {
    fn refuse(&mut self, what: &str, reason: impl ToString) {
        self.foreign
            .get_or_insert_with(|| format!("{what}: {}", reason.to_string()));
    }
}

impl Sink for Collect {
    fn user(&mut self, user: RawUser<'_>) {
        match user.check(&NameRule::default()) {
            Ok(user) => self.document.users.push(user),
            Err(error) => self.refuse("a user", error),
        }
    }

    fn group(&mut self, group: RawGroup<'_>) {
        match group.check(&NameRule::default()) {
            Ok((group, refused)) if refused.is_empty() => self.document.groups.push(group),
            Ok(_) => self.refuse("a group", "a member whose name is none"),
            Err(error) => self.refuse("a group", error),
        }
    }

    fn keys(&mut self, username: &str, lines: &str) {
        match Name::parse(username) {
            Ok(name) => drop(self.document.ssh_keys.insert(name, lines.to_owned())),
            Err(error) => self.refuse("keys", error),
        }
    }

    fn retired(&mut self, retired: Retired) {
        self.document.retired.push(retired);
    }

    fn schema(&mut self, schema: Field<RawSchema>) {
        match schema {
            Field::Value(schema) => self.document.schema = schema.0,
            Field::Absent => {}
            Field::Wrong(was) => self.refuse("the schema", was),
        }
    }

    fn entry(&mut self, entry: RawEntry) {
        match entry.check() {
            Ok(entry) => self.document.entries.push(entry),
            Err(error) => self.refuse("an entry", error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Identity, Revocation};
    use super::*;
    use crate::shape::Shape;

    const TEXT: &str = r#"{"sequence":7,"generated_at":"2026-01-01T00:00:00Z","source":"corp","groups":[{"name":"eng","gid":3001,"members":["alice","bob"],"id":"g1"}],"users":[{"username":"alice","uid":2001,"gid":2001,"gecos":"A","home":"/home/alice","shell":"/bin/sh","id":"u1"},{"username":"bob","uid":2002,"gid":2002,"gecos":"B","home":"/home/bob","shell":"/bin/sh","id":"u2"}],"ssh_keys":{"alice":"ssh-ed25519 AAAA","bob":"ssh-ed25519 BBBB"},"entries":[{"dn":"uid=alice,ou=users,dc=x","attributes":{"cn":["A"],"uid":["Alice"]}},{"dn":"cn=printer,dc=x","attributes":{"cn":["printer"]}}]}"#;

    fn revoked(name: &str, id: &str) -> Revocations {
        Revocations(vec![Revocation {
            name: name.to_owned(),
            identities: [Identity {
                source: "corp".to_owned(),
                id: id.to_owned(),
            }]
            .into(),
            since: jiff::Timestamp::UNIX_EPOCH,
            by: None,
            reason: None,
            signed: None,
            agreed: BTreeMap::new(),
        }])
    }

    fn written(document: &Document) -> String {
        let mut bytes = Vec::new();
        dirless_model::snapshot::write(document, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn user_keys_memberships_and_entry_go_and_nothing_else_moves() {
        let range = "2000-2999".parse::<IdRange>().unwrap();
        let edited = edit(parse_snapshot(TEXT).unwrap(), "corp", &revoked("alice", "u1"), range).unwrap();
        let text = written(&edited.document);
        for kept in [
            r#"{"name":"eng","gid":3001,"members":["bob"],"id":"g1"}"#,
            r#"{"username":"bob","uid":2002,"gid":2002,"gecos":"B","home":"/home/bob","shell":"/bin/sh","id":"u2"}"#,
            r#""ssh_keys":{"bob":"ssh-ed25519 BBBB"}"#,
            r#""entries":[{"dn":"cn=printer,dc=x","attributes":{"cn":["printer"]}}]"#,
            r#""ledger":{"retired":[{"kind":"user","id":"u1","number":2001,"name":"alice"}]}"#,
        ] {
            assert!(text.contains(kept), "{text}");
        }
        assert_eq!(text.matches("alice").count(), 1);
        assert_eq!(edited.document.meta.sequence, Some(7));
        let mut shape = Shape::read(TEXT.as_bytes(), &NameRule::default()).unwrap().shape;
        shape.remove(&edited.gone);
        assert_eq!(shape, Shape::of(&edited.document));
        // Who goes by another name now, and a number that is not the ledger's.
        let none = "9000-9001".parse::<IdRange>().unwrap();
        let edited = edit(
            parse_snapshot(TEXT).unwrap(),
            "corp",
            &revoked("alice-smith", "u1"),
            none,
        )
        .unwrap();
        assert!(!written(&edited.document).contains("alice"));
        assert_eq!(
            edit(parse_snapshot(TEXT).unwrap(), "corp", &revoked("carol", "u3"), none),
            None
        );
    }

    #[test]
    fn what_is_not_ours_is_not_written_anew() {
        for wrong in [
            TEXT.replace("2002", "0"),
            TEXT.replace("\"bob\":", "\"b:b\":"),
            "{".to_owned(),
        ] {
            assert!(parse_snapshot(&wrong).is_err(), "{wrong}");
        }
    }
}
