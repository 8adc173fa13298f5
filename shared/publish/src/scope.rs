//! Holding what is to be published against what the policy lets this publisher say: hosts would drop the rest.

use std::cell::Cell;
use std::io::Read;

use dirless_model::snapshot::{self, Caps, Field, Joined, Part, RawEntry, RawGroup, RawSchema, RawUser, Sink};
use dirless_seal::trust::{Right, Scope};

use super::Kind;

/// How many things outside the scope are told one by one.
const TOLD: usize = 5;

/// What in `plaintext` is outside `scope`, for people; nothing when all of it may be said.
///
/// # Errors
/// When it is no snapshot.
pub(super) fn outside(scope: &Scope, kind: Kind, plaintext: impl Read) -> Result<Vec<String>, String> {
    let is_outside = Cell::new(false);
    let mut found = Found::new(scope, &is_outside);
    match kind {
        Kind::AccessRules => found.right(Right::Access, "access rules"),
        Kind::Snapshot => {
            snapshot::read(plaintext, Caps::default(), &mut found).map_err(|error| error.to_string())?;
        }
    }
    let more = found.count - found.lines.len();
    if more > 0 {
        found.lines.push(format!("and {more} more"));
    }
    Ok(found.lines)
}

/// A snapshot without what is outside `scope`; every other record as it stands there.
///
/// # Errors
/// When it is no snapshot.
pub(super) fn within(scope: &Scope, plaintext: impl Read) -> Result<Vec<u8>, String> {
    let is_outside = Cell::new(false);
    let (mut found, mut joined) = (Found::new(scope, &is_outside), Joined::default());
    let mut take = |part: Part, bytes: &[u8]| {
        if !is_outside.take() {
            joined.add(part, bytes);
        }
    };
    snapshot::read_records(plaintext, Caps::default(), &mut found, &mut take).map_err(|error| error.to_string())?;
    Ok(joined.finish())
}

struct Found<'a> {
    scope: &'a Scope,
    lines: Vec<String>,
    count: usize,
    /// Set by each record that is.
    is_outside: &'a Cell<bool>,
}

impl<'a> Found<'a> {
    fn new(scope: &'a Scope, is_outside: &'a Cell<bool>) -> Self {
        Self {
            scope,
            lines: Vec::new(),
            count: 0,
            is_outside,
        }
    }

    fn tell(&mut self, line: String) {
        self.count += 1;
        if self.lines.len() < TOLD {
            self.lines.push(line);
        }
    }

    /// Notes once that a right is missing.
    fn right(&mut self, right: Right, what: &str) {
        if self.scope.may(right) {
            return;
        }
        self.is_outside.set(true);
        let line = format!("{what}: the right `{right}` is missing");
        if !self.lines.contains(&line) {
            self.tell(line);
        }
    }

    fn name(&mut self, kind: &str, name: &str) {
        if !self.scope.covers_name(name) {
            self.is_outside.set(true);
            self.tell(format!("{kind} {name}: the name is outside the scope"));
        }
    }

    fn id(&mut self, kind: &str, name: &str, field: &str, id: &Field<i64>) {
        let covered = |id: &i64| u32::try_from(*id).is_ok_and(|id| self.scope.covers_id(id));
        if let Some(id) = id.value()
            && !covered(id)
        {
            self.is_outside.set(true);
            self.tell(format!("{kind} {name}: {field} {id} is outside the scope"));
        }
    }
}

impl Sink for Found<'_> {
    fn user(&mut self, user: RawUser<'_>) {
        self.right(Right::Users, "users");
        self.name("user", user.label());
        self.id("user", user.label(), "uid", &user.uid);
    }

    fn group(&mut self, group: RawGroup<'_>) {
        self.right(Right::Groups, "groups");
        self.name("group", group.label());
        self.id("group", group.label(), "gid", &group.gid);
    }

    fn keys(&mut self, _username: &str, _lines: &str) {
        self.right(Right::Keys, "SSH keys");
    }

    fn schema(&mut self, _schema: Field<RawSchema>) {
        self.right(Right::Entries, "entries of the tree");
    }

    fn entry(&mut self, _entry: RawEntry) {
        self.right(Right::Entries, "entries of the tree");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn scope(may: &[Right]) -> Scope {
        Scope {
            sources: BTreeSet::from(["local".parse().unwrap()]),
            ids: vec!["2000-2999".parse().unwrap()],
            names: vec!["a*".parse().unwrap()],
            may: may.iter().copied().collect(),
        }
    }

    const ALL: &str = r#"{"users":[{"username":"alice","uid":2001,"gid":2002},{"username":"bob","uid":3000,"gid":1}],
        "groups":[{"name":"admins","gid":0,"members":[]}],"ssh_keys":{"alice":"k"},
        "schema":[],"entries":[{"dn":"o=x","attributes":{}}]}"#;

    #[test]
    fn everything_outside_is_named() {
        let lines = outside(&scope(&Right::ALL), Kind::Snapshot, ALL.as_bytes()).unwrap();
        assert_eq!(
            lines,
            [
                "user bob: the name is outside the scope",
                "user bob: uid 3000 is outside the scope",
                "group admins: gid 0 is outside the scope"
            ]
        );
        let lines = outside(&scope(&[]), Kind::Snapshot, ALL.as_bytes()).unwrap();
        assert!(
            lines[0].contains("`users` is missing") && lines.last().unwrap() == "and 3 more",
            "{lines:?}"
        );
    }

    #[test]
    fn what_is_outside_is_left_out_alone_and_the_rest_stays_as_it_stands() {
        let left = |may: &[Right]| String::from_utf8(within(&scope(may), ALL.as_bytes()).unwrap()).unwrap();
        assert_eq!(
            left(&Right::ALL),
            r#"{"schema":[],"groups":[],"users":[{"username":"alice","uid":2001,"gid":2002}],"ssh_keys":{"alice":"k"},"entries":[{"dn":"o=x","attributes":{}}],"ledger":{}}"#
        );
        assert_eq!(
            left(&[Right::Users]),
            r#"{"groups":[],"users":[{"username":"alice","uid":2001,"gid":2002}],"ssh_keys":{},"entries":[],"ledger":{}}"#
        );
        assert_eq!(
            left(&[]),
            r#"{"groups":[],"users":[],"ssh_keys":{},"entries":[],"ledger":{}}"#
        );
        for may in [&Right::ALL[..], &[Right::Users], &[]] {
            let again = outside(&scope(may), Kind::Snapshot, left(may).as_bytes()).unwrap();
            assert_eq!(again, Vec::<String>::new());
        }
    }

    #[test]
    fn what_may_be_said_is_not_named() {
        let good = r#"{"users":[{"username":"alice","uid":2001,"gid":2002}],"groups":[]}"#;
        assert!(
            outside(&scope(&[Right::Users]), Kind::Snapshot, good.as_bytes())
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            outside(&scope(&[Right::Users]), Kind::AccessRules, b"{}".as_slice())
                .unwrap()
                .len(),
            1
        );
        assert!(
            outside(&scope(&[Right::Access]), Kind::AccessRules, b"{}".as_slice())
                .unwrap()
                .is_empty()
        );
    }
}
