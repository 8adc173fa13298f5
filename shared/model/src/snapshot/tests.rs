use proptest::prelude::*;

use super::*;
use crate::{Gecos, Gid, HostPath, NameRule, Uid};

#[derive(Default)]
pub(super) struct Collected {
    users: Vec<Result<User, RecordError>>,
    groups: Vec<Result<(Group, Vec<String>), RecordError>>,
    keys: Vec<(String, String)>,
    retired: Vec<Retired>,
    entries: Vec<RawEntry>,
    schema: Field<RawSchema>,
}

impl Sink for Collected {
    fn user(&mut self, user: RawUser<'_>) {
        self.users.push(user.check(&NameRule::default()));
    }

    fn group(&mut self, group: RawGroup<'_>) {
        let checked = group.check(&NameRule::default());
        let owned = |(group, left_out): (Group, Vec<&str>)| (group, left_out.into_iter().map(str::to_owned).collect());
        self.groups.push(checked.map(owned));
    }

    fn keys(&mut self, username: &str, lines: &str) {
        self.keys.push((username.to_owned(), lines.to_owned()));
    }

    fn retired(&mut self, retired: Retired) {
        self.retired.push(retired);
    }

    fn schema(&mut self, schema: Field<RawSchema>) {
        self.schema = schema;
    }

    fn entry(&mut self, entry: RawEntry) {
        self.entries.push(entry);
    }
}

fn collect(json: &str) -> Result<(Meta, Collected), ReadError> {
    let mut collected = Collected::default();
    let meta = read(json.as_bytes(), Caps::default(), &mut collected)?;
    Ok((meta, collected))
}

/// The payload that a deployed syncer 0.5.3 sealed, as recorded.
const DEPLOYED: &str = r#"{"groups":[{"name":"Engineering Team","gid":60001,"members":["alice"]}],"users":[{"username":"alice","uid":60002,"gid":60001,"gecos":"Alice Example","home":"/home/alice","shell":"/bin/bash"},{"username":"bob","uid":60003,"gid":60003,"gecos":"Bob Example","home":"/home/bob","shell":"/bin/bash"}]}"#;

#[test]
fn a_deployed_snapshot_is_read_whole() {
    let (meta, collected) = collect(DEPLOYED).unwrap();
    assert_eq!(meta, Meta::default());
    let users: Vec<_> = collected.users.into_iter().map(Result::unwrap).collect();
    assert_eq!(users[0].name.as_str(), "alice");
    assert_eq!((users[1].uid.number(), users[1].gid.number()), (60_003, 60_003));
    let (group, left_out) = collected.groups[0].as_ref().unwrap();
    assert_eq!(group.name.as_str(), "engineering-team");
    assert_eq!(
        group.members,
        users[..1].iter().map(|user| user.name.clone()).collect::<Vec<_>>()
    );
    assert!(left_out.is_empty());
}

/// Deployed programs take `users`, `groups` and `ssh_keys` and pass over what else there is; the JSON
/// that they see must not change by what was added.
#[test]
fn programs_that_know_no_entries_read_the_same() {
    #[derive(serde::Deserialize, PartialEq, Debug)]
    struct Deployed {
        groups: Vec<serde_json::Value>,
        users: Vec<serde_json::Value>,
    }
    let with = DEPLOYED.replacen(
        '{',
        r#"{"host_groups":["web-*"],"schema":["attributetype ( 1.2.3 )"],"entries":[{"dn":"dc=d","attributes":{"dc":["d"]}},7],"#,
        1,
    );
    let deployed = |json: &str| serde_json::from_str::<Deployed>(json).unwrap();
    assert_eq!(deployed(&with), deployed(DEPLOYED));
    let (plain, more) = (collect(DEPLOYED).unwrap().1, collect(&with).unwrap());
    assert_eq!((&plain.users, &plain.groups), (&more.1.users, &more.1.groups));
    assert_eq!(more.0.host_groups.as_deref(), Some(&["web-*".to_owned()][..]));
    assert_eq!((plain.entries.len(), more.1.entries.len()), (0, 2));
    assert_eq!(plain.schema, Field::Absent);
    let definitions = RawSchema(vec!["attributetype ( 1.2.3 )".to_owned()]);
    assert_eq!(more.1.schema, Field::Value(definitions));
    // And without entries nothing is written that was not written before.
    let mut json = Vec::new();
    write(&Document::default(), &mut json).unwrap();
    assert_eq!(String::from_utf8(json).unwrap(), r#"{"groups":[],"users":[]}"#);
}

#[test]
fn a_schema_that_is_no_list_of_texts_is_a_reason_and_not_the_end() {
    for (schema, was) in [
        ("1", "a number"),
        ("{}", "an object"),
        ("[\"x\",7]", "a list with something that is no text"),
    ] {
        let (_, collected) = collect(&DEPLOYED.replacen('{', &format!("{{\"schema\":{schema},"), 1)).unwrap();
        assert_eq!(collected.schema, Field::Wrong(was));
        assert_eq!(collected.users.len(), 2);
    }
    let twice = DEPLOYED.replacen('{', r#"{"schema":[],"schema":[],"#, 1);
    assert!(matches!(collect(&twice), Err(ReadError::Twice(name)) if name == "schema"));
}

#[test]
fn a_snapshot_for_all_is_for_everyone_and_one_for_none_is_for_nobody() {
    let mut meta = Meta::default();
    assert!(meta.is_for("web-1"));
    meta.host_groups = Some(Vec::new());
    assert!(!meta.is_for("web-1"));
    meta.host_groups = Some(vec!["db-1".to_owned(), "web-*".to_owned()]);
    assert!(meta.is_for("web-1") && !meta.is_for("db-2"));
}

#[test]
fn a_bad_record_is_a_reason_and_not_the_end() {
    let good = r#"{"username":"bob","uid":1001,"gid":1001,"gecos":"","home":"/home/bob","shell":"/bin/sh"}"#;
    let cases = [
        (
            r#"{"uid":1,"gid":1,"gecos":"","home":"/h","shell":"/s"}"#,
            "has no username",
        ),
        (
            r#"{"username":"a","uid":"1","gid":1,"gecos":"","home":"/h","shell":"/s"}"#,
            "has a uid that is a string",
        ),
        (
            r#"{"username":"a","uid":1.5,"gid":1,"gecos":"","home":"/h","shell":"/s"}"#,
            "has a uid that is a fraction",
        ),
        (
            r#"{"username":"a","uid":-5,"gid":1,"gecos":"","home":"/h","shell":"/s"}"#,
            "has a uid of -5, which is no id",
        ),
        (
            r#"{"username":"a","uid":0,"gid":1,"gecos":"","home":"/h","shell":"/s"}"#,
            "0 is root",
        ),
        (
            r#"{"username":"a","uid":1,"gid":4294967295,"gecos":"","home":"/h","shell":"/s"}"#,
            "means \"no id\"",
        ),
        (
            r#"{"username":"a\nb","uid":1,"gid":1,"gecos":"","home":"/h","shell":"/s"}"#,
            "holds '\\n'",
        ),
        (
            r#"{"username":"a","uid":1,"gid":1,"gecos":"","home":"/home/../etc","shell":"/s"}"#,
            "home that holds an empty",
        ),
        (
            r#"{"username":"a","uid":1,"gid":1,"gecos":"","home":"/h","shell":null}"#,
            "has a shell that is null",
        ),
        (
            r#"{"username":"a","uid":1,"uid":2,"gid":1,"gecos":"","home":"/h","shell":"/s"}"#,
            "given twice",
        ),
        (r"17", "is a number instead of an object"),
        (r"[1,[2]]", "is an array instead of an object"),
        (r"null", "is null instead of an object"),
    ];
    for (record, reason) in cases {
        let (_, collected) = collect(&format!(r#"{{"users":[{record},{good}]}}"#)).unwrap();
        let error = collected.users[0].as_ref().unwrap_err().to_string();
        assert!(error.contains(reason), "{record}: {error}");
        assert!(collected.users[1].is_ok(), "{record}");
    }
}

#[test]
fn group_members_that_are_no_names_are_left_out_and_named() {
    let (_, collected) =
        collect(r#"{"groups":[{"name":"ops","gid":5,"members":["alice",7,"Alice","a b","bob"]}]}"#).unwrap();
    let (group, left_out) = collected.groups[0].as_ref().unwrap();
    assert_eq!(
        group.members.iter().map(Name::as_str).collect::<Vec<_>>(),
        ["alice", "bob"]
    );
    assert_eq!(left_out[..], ["a b"]);
    let (_, collected) = collect(r#"{"groups":[{"name":"ops","gid":5,"members":null}]}"#).unwrap();
    assert!(collected.groups[0].is_err());
}

#[test]
fn keys_that_are_no_strings_are_passed_over() {
    let (_, collected) = collect(r#"{"ssh_keys":{"alice":"ssh-ed25519 A","bob":["x"],"carol":null}}"#).unwrap();
    assert_eq!(collected.keys, [("alice".to_owned(), "ssh-ed25519 A".to_owned())]);
}

#[test]
fn a_document_that_is_no_snapshot_is_refused() {
    let refused = [
        "",
        "null",
        "[]",
        "7",
        "\"x\"",
        "{",
        r#"{"users":null}"#,
        r#"{"users":{}}"#,
        r#"{"groups":null}"#,
        r#"{"ssh_keys":null}"#,
        r#"{"ssh_keys":[]}"#,
        r#"{"users":[]}x"#,
        r#"{"users":[],"users":[]}"#,
        r#"{"entries":null}"#,
        r#"{"entries":{}}"#,
        r#"{"entries":[],"entries":[]}"#,
        r#"{"host_groups":null}"#,
        r#"{"host_groups":"web-1"}"#,
        r#"{"host_groups":[1]}"#,
        r#"{"sequence":-1}"#,
        r#"{"sequence":"7"}"#,
        r#"{"ledger":{"retired":[{"kind":"dog","id":"x","number":1}]}}"#,
    ];
    for json in refused {
        assert!(collect(json).is_err(), "{json}");
    }
    assert!(collect("{}").is_ok());
    assert!(collect("{\"unknown\":[{\"deep\":[1]}]} \n").is_ok());
}

#[test]
fn nesting_and_counts_are_bounded() {
    let deep = format!(r#"{{"unknown":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    // Unknown values are skipped without recursion, so depth costs no stack and is no error.
    assert!(collect(&deep).is_ok());
    assert!(collect(&deep.replace(']', "")).is_err());
    let caps = Caps {
        users: 1,
        groups: 1,
        entries: 1,
    };
    let mut collected = Collected::default();
    let error = read(r#"{"users":[{},{}]}"#.as_bytes(), caps, &mut collected).unwrap_err();
    assert!(error.to_string().contains("more than 1"), "{error}");
    let error = read(r#"{"entries":[{},{}]}"#.as_bytes(), caps, &mut collected).unwrap_err();
    assert!(error.to_string().contains("\"entries\" holds more than 1"), "{error}");
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z_][a-z0-9_.-]{0,20}[a-z0-9]".prop_map(|text| Name::parse(&text).unwrap())
}

prop_compose! {
    fn entry()(
        dn in ".{0,20}",
        attributes in proptest::collection::btree_map(
            "[a-z]{1,5}",
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 1..3),
            0..4,
        ),
    ) -> TreeEntry {
        TreeEntry { dn, attributes: attributes.into_iter().collect() }
    }
}

prop_compose! {
    fn user()(
        name in name(),
        uid in 1..60_000_u32,
        gid in 1..60_000_u32,
        gecos in ".{0,30}",
        id in proptest::option::of("[a-z0-9-]{1,30}"),
    ) -> User {
        User {
            home: HostPath::parse(&format!("/home/{name}")).unwrap(),
            name,
            uid: Uid::parse(uid).unwrap(),
            gid: Gid::parse(gid).unwrap(),
            gecos: Gecos::sanitise(&gecos),
            shell: HostPath::parse("/bin/bash").unwrap(),
            id: id.map(|id| ObjectId::parse(&id).unwrap()),
        }
    }
}

prop_compose! {
    pub(super) fn document()(
        sequence in proptest::option::of(any::<u64>()),
        users in proptest::collection::vec(user(), 0..8),
        groups in proptest::collection::vec((name(), 1..60_000_u32, proptest::collection::btree_set(name(), 0..5)), 0..5),
        ssh_keys in proptest::collection::btree_map(name(), "[ -~\n]{0,60}", 0..4),
        retired in proptest::collection::vec((any::<bool>(), "[a-z0-9]{1,9}", any::<u32>()), 0..4),
        entries in proptest::collection::vec(entry(), 0..4),
        schema in proptest::collection::vec("[ -~]{0,20}", 0..3),
        host_groups in proptest::option::of(proptest::collection::vec("[a-z*]{0,5}", 0..3)),
    ) -> Document {
        Document {
            meta: Meta { sequence, generated_at: None, source: sequence.map(|_| "local".to_owned()), host_groups },
            users,
            schema,
            entries,
            groups: groups
                .into_iter()
                .map(|(name, gid, members)| Group {
                    name,
                    gid: Gid::parse(gid).unwrap(),
                    members: members.into_iter().collect(),
                    id: None,
                })
                .collect(),
            ssh_keys,
            retired: retired
                .into_iter()
                .map(|(user, id, number)| Retired {
                    kind: if user { ObjectKind::User } else { ObjectKind::Group },
                    id: ObjectId::parse(&id).unwrap(),
                    number,
                    name: user.then(|| "was".to_owned()),
                })
                .collect(),
        }
    }
}

proptest! {
    #[test]
    fn what_is_stamped_is_what_is_written(mut document in document(), sequence: u64, at in "[ -~]{0,30}") {
        let mut text = Vec::new();
        let meta = Meta { sequence: None, ..document.meta.clone() };
        write_as(&document, &meta, &mut text).unwrap();
        document.meta.sequence = Some(sequence);
        document.meta.generated_at = Some(at.clone());
        let mut whole = Vec::new();
        write(&document, &mut whole).unwrap();
        prop_assert_eq!(stamped(&text, sequence, &at), whole);
    }

    #[test]
    fn what_is_written_is_read_back(document in document()) {
        let mut json = Vec::new();
        write(&document, &mut json).unwrap();
        let mut collected = Collected::default();
        let meta = read(json.as_slice(), Caps::default(), &mut collected).unwrap();
        let back = Document {
            meta,
            users: collected.users.into_iter().map(Result::unwrap).collect(),
            groups: collected.groups.into_iter().map(|group| group.unwrap().0).collect(),
            ssh_keys: collected.keys.into_iter().map(|(name, lines)| (Name::parse(&name).unwrap(), lines)).collect(),
            retired: collected.retired,
            schema: collected.schema.value().map(|schema| schema.0.clone()).unwrap_or_default(),
            entries: collected.entries.into_iter().map(|entry| entry.check().unwrap()).collect(),
        };
        prop_assert_eq!(back, document);
    }

    #[test]
    fn any_bytes_are_an_answer_and_not_a_crash(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(bytes.as_slice(), Caps::default(), &mut Collected::default());
    }

    #[test]
    fn a_cut_document_is_refused(document in document(), share in 0.0..1.0_f64) {
        let mut json = Vec::new();
        write(&document, &mut json).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a small length")]
        let cut = (json.len() as f64 * share) as usize;
        prop_assert!(read(&json[..cut], Caps::default(), &mut Collected::default()).is_err());
    }
}
