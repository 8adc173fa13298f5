//! Reading one source: from plaintext to checked entries, name rule included.
//!
//! A record that makes no sense is left out with its reason; a document that is none, or that was cut
//! or changed under way, is refused whole.

use dirless_model::key::{self, MOST_KEYS};
use dirless_model::merge::{GroupEntry, KeyEntry, Part, UserEntry};
use dirless_model::snapshot::{Caps, Field, Meta, RawGroup, RawUser, RecordError, Sink};
use dirless_model::texts::{Symbol, Texts, TooMuchText};
use dirless_model::{NameKind, NameRule};
use dirless_seal::trust::{Right, Scope};

use super::drops::{Drops, Kind, shown};
use super::explain::Watch;
use super::open::{self, BodyError, Opening};

/// One source, read to its end.
#[derive(Debug)]
pub(super) struct Source {
    /// What it says.
    pub part: Part,
    /// What the snapshot says of itself.
    pub meta: Meta,
    /// Records that were left out.
    pub drops: Drops,
}

/// Reads the snapshot of `source` from `opening`; texts go to `texts`.
///
/// # Errors
/// When it is no snapshot of that source, or not whole.
pub(super) fn read(
    source: &str,
    opening: Opening<'_>,
    rule: &NameRule,
    texts: &mut Texts,
    watch: Option<&mut Watch>,
) -> Result<Source, BodyError> {
    let mut reader = Reader {
        source,
        rule,
        scope: opening.scope(),
        texts,
        part: Part::default(),
        drops: Drops::watching(watch.as_ref().map(|watch| watch.name.as_str())),
        watch,
        plain: Vec::new(),
        found: Vec::new(),
        full: None,
    };
    let meta = opening.read(Caps::default(), &mut reader)?;
    if let Some(full) = reader.full {
        return Err(BodyError::new("too-large", full.to_string(), "split the directory"));
    }
    match meta.source.as_deref() {
        Some(named) if named != source => Err(BodyError::new(
            "other-source",
            format!("it is a snapshot of the source {:?}", shown(named)),
            "the backend serves one source's snapshot as another's; find out who runs it",
        )),
        _ => Ok(Source {
            part: reader.part,
            meta,
            drops: reader.drops,
        }),
    }
}

struct Reader<'a> {
    source: &'a str,
    rule: &'a NameRule,
    /// What the publisher may say; none when everybody may say everything.
    scope: Option<&'a Scope>,
    texts: &'a mut Texts,
    part: Part,
    drops: Drops,
    watch: Option<&'a mut Watch>,
    /// Symbols of user names that the name rule leaves as they are: most members of most groups.
    plain: Vec<bool>,
    /// Symbols of the members at hand.
    found: Vec<Option<Symbol>>,
    full: Option<TooMuchText>,
}

impl Reader<'_> {
    /// Runs `step` unless there was too much text before; remembers when there is now.
    fn keep(&mut self, step: impl FnOnce(&mut Self) -> Result<(), TooMuchText>) {
        if self.full.is_none() {
            self.full = step(self).err();
        }
    }

    fn keep_user(&mut self, raw: &RawUser<'_>) -> Result<(), TooMuchText> {
        let checked = raw.checked(self.rule);
        if let Some(watch) = &mut self.watch {
            watch.saw_user(self.source, self.rule, raw, checked.as_ref().err());
        }
        match checked {
            Ok(user) if !self.may(Right::Users, &user.name, &[user.uid.number(), user.gid.number()]) => {
                self.drop_beyond(Kind::User, raw.label());
            }
            Ok(user) => {
                let name = self.texts.intern(&user.name)?;
                let entry = UserEntry {
                    name,
                    raw: self.spelling(name, raw.label())?,
                    uid: user.uid,
                    gid: user.gid,
                    shell: self.texts.intern(user.shell)?,
                    gecos: self.texts.add(&user.gecos)?,
                    home: self.texts.add(user.home)?,
                };
                self.part.users.push(entry);
            }
            Err(error) => {
                let label = raw.username.value().map_or("", |name| name);
                if let Some(name) = self.name_of(NameKind::User, label)? {
                    self.part.refused_users.push(name);
                }
                self.refuse(Kind::User, raw.label(), &error);
            }
        }
        Ok(())
    }

    /// The symbol of `raw`, of which the name rule made `name`: mostly the same text.
    fn spelling(&mut self, name: Symbol, raw: &str) -> Result<Symbol, TooMuchText> {
        if self.texts.name(name) == raw {
            Ok(name)
        } else {
            self.texts.intern(raw)
        }
    }

    fn keep_group(&mut self, mut raw: RawGroup<'_>) -> Result<(), TooMuchText> {
        let members = match &mut raw.members {
            Field::Value(members) => std::mem::take(members),
            Field::Absent | Field::Wrong(_) => Vec::new(),
        };
        let group = match raw.check(self.rule) {
            Ok((group, _)) => group,
            Err(error) => {
                let label = raw.name.value().map_or("", |name| name);
                if let Some(name) = self.name_of(NameKind::Group, label)? {
                    self.part.refused_groups.push(name);
                }
                self.refuse(Kind::Group, raw.label(), &error);
                return Ok(());
            }
        };
        if !self.may(Right::Groups, group.name.as_str(), &[group.gid.number()]) {
            self.drop_beyond(Kind::Group, raw.label());
            return Ok(());
        }
        let start = place(self.part.members.len())?;
        self.part.members.reserve(members.len());
        let mut found = std::mem::take(&mut self.found);
        self.texts.find_all(&members, &mut found);
        for (member, found) in members.iter().zip(&found) {
            let known = found.filter(|symbol| self.is_plain(*symbol));
            let name = match known {
                Some(name) => Some(name),
                None => self.mapped(NameKind::User, member)?,
            };
            match name {
                Some(name) => self.part.members.push(name),
                None => {
                    let label = raw.label();
                    self.drops.add(self.source, Kind::Member, member, "member-name", || {
                        (
                            format!("is listed in group {} and is no name", shown(label)),
                            "rename the user at the source, or map the name".to_owned(),
                        )
                    });
                }
            }
        }
        self.found = found;
        let entry = GroupEntry {
            name: self.texts.intern(group.name.as_str())?,
            raw: self.texts.intern(raw.label())?,
            gid: group.gid,
            start,
            end: place(self.part.members.len())?,
        };
        self.part.groups.push(entry);
        Ok(())
    }

    fn keep_keys(&mut self, username: &str, text: &str) -> Result<(), TooMuchText> {
        let Some(name) = self.name_of(NameKind::User, username)? else {
            self.drops.add(self.source, Kind::Keys, username, "name", || {
                (
                    "has keys under a name that is none".to_owned(),
                    "rename the user at the source".to_owned(),
                )
            });
            return Ok(());
        };
        if !self.may(Right::Keys, self.texts.name(name), &[]) {
            self.drop_beyond(Kind::Keys, username);
            return Ok(());
        }
        let lines = key::sort_lines(text);
        for (number, error) in &lines.refused {
            self.drops.add(self.source, Kind::Keys, username, "key-line", || {
                (
                    format!("line {number} of the keys {error}"),
                    "correct or remove that line where the keys are kept".to_owned(),
                )
            });
        }
        if lines.beyond > 0 {
            self.drops.add(self.source, Kind::Keys, username, "too-many-keys", || {
                (
                    format!("has {} keys beyond the first {MOST_KEYS}", lines.beyond),
                    "remove keys that are no longer used".to_owned(),
                )
            });
        }
        let entry = KeyEntry {
            name,
            raw: self.spelling(name, username)?,
            keys: self.texts.add(&lines.text)?,
        };
        self.part.keys.push(entry);
        Ok(())
    }

    /// The symbol of what the name rule makes of `raw`, when that is a name.
    fn name_of(&mut self, kind: NameKind, raw: &str) -> Result<Option<Symbol>, TooMuchText> {
        let known = self.texts.find(raw).filter(|symbol| self.is_plain(*symbol));
        match (kind, known) {
            (NameKind::User, Some(name)) => Ok(Some(name)),
            _ => self.mapped(kind, raw),
        }
    }

    /// [`Self::name_of`] for a name that was not found as it is.
    fn mapped(&mut self, kind: NameKind, raw: &str) -> Result<Option<Symbol>, TooMuchText> {
        let Ok(name) = self.rule.apply_text(kind, raw) else {
            return Ok(None);
        };
        let symbol = self.texts.intern(&name)?;
        if kind == NameKind::User && name == raw {
            if self.plain.len() <= symbol.index() {
                self.plain.resize(self.texts.symbols().max(symbol.index() + 1), false);
            }
            if let Some(plain) = self.plain.get_mut(symbol.index()) {
                *plain = true;
            }
        }
        Ok(Some(symbol))
    }

    fn is_plain(&self, symbol: Symbol) -> bool {
        self.plain.get(symbol.index()) == Some(&true)
    }

    /// May the publisher say such a thing of this name and these numbers?
    fn may(&self, right: Right, name: &str, numbers: &[u32]) -> bool {
        self.scope.is_none_or(|scope| {
            scope.may(right) && scope.covers_name(name) && numbers.iter().all(|number| scope.covers_id(*number))
        })
    }

    /// Its name stays free for whoever may use it.
    fn drop_beyond(&mut self, kind: Kind, label: &str) {
        let error = open::beyond("such a record");
        self.drops.add(self.source, kind, label, error.code, || {
            (error.reason.clone(), error.hint.clone())
        });
    }

    fn refuse(&mut self, kind: Kind, label: &str, error: &RecordError) {
        self.drops.add(self.source, kind, label, code(error), || {
            (error.to_string(), hint(error).to_owned())
        });
    }
}

fn place(len: usize) -> Result<u32, TooMuchText> {
    u32::try_from(len).map_err(|_| TooMuchText)
}

impl Sink for Reader<'_> {
    fn user(&mut self, user: RawUser<'_>) {
        self.keep(|reader| reader.keep_user(&user));
    }

    fn group(&mut self, group: RawGroup<'_>) {
        self.keep(|reader| reader.keep_group(group));
    }

    fn keys(&mut self, username: &str, lines: &str) {
        self.keep(|reader| reader.keep_keys(username, lines));
    }
}

fn code(error: &RecordError) -> &'static str {
    match error {
        RecordError::NotAnObject { .. } | RecordError::Missing { .. } | RecordError::Wrong { .. } => "record",
        RecordError::Name(_) => "name",
        RecordError::OutOfRange { .. } | RecordError::Id { .. } => "id",
        RecordError::Path { .. } => "path",
    }
}

fn hint(error: &RecordError) -> &'static str {
    match error {
        RecordError::NotAnObject { .. } | RecordError::Missing { .. } | RecordError::Wrong { .. } => {
            "the program that wrote the snapshot left something out: update it"
        }
        RecordError::Name(_) => "rename it at the source, or map the name in the syncer",
        RecordError::OutOfRange { .. } | RecordError::Id { .. } => {
            "give it another id at the source; no host takes this one"
        }
        RecordError::Path { .. } => "give it an absolute path without . and .. at the source",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<(Texts, Source), BodyError> {
        let mut texts = Texts::new();
        let source = read(
            "local",
            Opening::of(text.as_bytes()),
            &NameRule::default(),
            &mut texts,
            None,
        )?;
        Ok((texts, source))
    }

    fn user(fields: &str) -> String {
        format!(
            r#"{{"username":"alice","uid":2001,"gid":2001,"gecos":"A","home":"/home/alice","shell":"/bin/sh"{fields}}}"#
        )
    }

    #[test]
    fn what_a_deployed_syncer_sends_is_read_through_the_name_rule() {
        let text = r#"{"groups":[{"name":"Engineering Team","gid":60001,"members":["Alice@corp.example","a b"]}],
            "users":[{"username":"Alice@corp.example","uid":60002,"gid":60001,"gecos":"A:B","home":"/home/alice","shell":"/bin/bash","email":null}],
            "ssh_keys":{"Alice@corp.example":"nonsense"}}"#;
        let (texts, source) = read_text(text).unwrap();
        let user = source.part.users[0];
        assert_eq!(texts.name(user.name), "alice");
        assert_eq!(texts.name(user.raw), "Alice@corp.example");
        assert_eq!(texts.get(user.gecos), "A B");
        let group = source.part.groups[0];
        assert_eq!(texts.name(group.name), "engineering-team");
        assert_eq!(source.part.members_of(&group), [user.name]);
        assert_eq!(source.part.keys[0].name, user.name);
        assert!(source.part.keys[0].keys.is_empty());
        let codes: Vec<_> = source.drops.by_code.keys().collect();
        assert_eq!(codes, ["key-line", "member-name"]);
    }

    #[test]
    fn each_bad_record_goes_alone_and_keeps_its_name_taken() {
        let good = user("").replace("alice", "bob").replace("2001", "2002");
        let cases = [
            (user("").replace("2001", "0"), "id"),
            (user("").replace("2001", "-1"), "id"),
            (user("").replace("2001", "65534"), "id"),
            (user("").replace("2001", "4294967296"), "id"),
            (user("").replace("2001", "\"2001\""), "record"),
            (user("").replace("2001", "1.5"), "record"),
            (user("").replace("\"shell\":\"/bin/sh\"", "\"x\":1"), "record"),
            (user("").replace("/home/alice", "/home/../etc"), "path"),
            (
                user("").replace("/home/alice", "/home/a\\nroot::0:0::/:/bin/sh"),
                "path",
            ),
            (user("").replace("/bin/sh", "bash"), "path"),
            (user("").replace("\"alice\"", "\"a:b\""), "name"),
            (user("").replace("\"alice\"", "\"a\\nb\""), "name"),
            (user("").replace("\"alice\"", "7"), "record"),
            ("7".to_owned(), "record"),
        ];
        for (bad, code) in cases {
            let (texts, source) = read_text(&format!(r#"{{"users":[{bad},{good}]}}"#)).unwrap();
            assert_eq!(source.part.users.len(), 1, "{bad}");
            assert_eq!(texts.name(source.part.users[0].name), "bob");
            assert_eq!(source.drops.by_code.keys().collect::<Vec<_>>(), [code], "{bad}");
            let named = matches!(code, "id" | "path") || bad.contains("\"alice\"");
            assert_eq!(source.part.refused_users.len(), usize::from(named), "{bad}");
        }
    }

    #[test]
    fn a_broken_document_is_refused_whole() {
        for text in ["", "null", "[]", "{\"users\":[", "{\"users\":7}", "{} {}"] {
            assert!(read_text(text).is_err(), "{text}");
        }
        assert!(read_text("{}").is_ok());
        let other = read_text(r#"{"source":"aws-identity-center"}"#).unwrap_err();
        assert_eq!(other.code, "other-source");
    }
}
