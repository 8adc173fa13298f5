//! Whole runs over sealed bodies, and the deployed defects that live here.

use dirless_seal::Identity;
use jiff::Timestamp;

use super::*;

const OPEN: &[u8] = br#"{"enforce_group_memberships":false,"host_group_rules":[]}"#;
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhmVTGUVH8BWEvFbbLhWPFnhX8QdzBPE2tQTfmGqsZM";

/// A host with one or two sources.
struct Host {
    identity: Identity,
    inputs: Option<Inputs>,
}

fn sealed(identity: &Identity, json: &str) -> Body {
    let mut bytes = Vec::new();
    dirless_seal::seal(&identity.recipient(), &mut json.as_bytes(), &mut bytes).unwrap();
    Body::Bytes(bytes)
}

fn note(state: SourceState) -> SourceNote {
    SourceNote {
        state,
        encrypted: true,
        etag: Some("\"e1\"".into()),
        registered_key: None,
        snapshot_recipient: None,
        fetched_at: None,
    }
}

impl Host {
    fn new() -> Self {
        let identity = Identity::generate();
        let secret = identity.expose();
        Self {
            inputs: Some(Inputs {
                directory: None,
                sources: Vec::new(),
                opener: Opener::Key(Identity::parse(&secret).unwrap()),
                access: AccessInput {
                    fetched: Some(OPEN.to_vec()),
                    ..AccessInput::default()
                },
                name_rule: Default::default(),
                hostname: "web-1".into(),
                limits: HostLimits::default(),
                host: HostFiles {
                    passwd: "root:x:0:0::/root:/bin/sh\n".into(),
                    group: "root:x:0:\nsudo:x:27:\n".into(),
                    shells: None,
                },
                ratchet: Ratchet::default(),
            }),
            identity,
        }
    }

    fn inputs(&mut self) -> &mut Inputs {
        self.inputs.as_mut().unwrap()
    }

    fn source(self, name: &str, json: &str) -> Self {
        let body = sealed(&self.identity, json);
        self.body(name, Some(body), None)
    }

    fn body(mut self, name: &str, fetched: Option<Body>, last_good: Option<Body>) -> Self {
        self.inputs().sources.push(SourceInput {
            name: name.into(),
            note: Some(note(SourceState::Present)),
            fetched,
            last_good,
        });
        self
    }

    fn run(&self) -> Outcome {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        run(self.inputs.as_ref().unwrap(), &clock, None)
    }
}

fn user(name: &str, uid: u32) -> String {
    format!(r#"{{"username":"{name}","uid":{uid},"gid":{uid},"gecos":"","home":"/home/{name}","shell":"/bin/bash"}}"#)
}

fn users(list: &[(&str, u32)]) -> String {
    let users: Vec<_> = list.iter().map(|(name, uid)| user(name, *uid)).collect();
    format!(r#"{{"users":[{}]}}"#, users.join(","))
}

fn names(outcome: &Outcome) -> Vec<String> {
    let content = outcome.content.as_ref().unwrap();
    let users = content.directory.users.iter();
    users.map(|user| content.texts.name(user.name).to_owned()).collect()
}

#[test]
fn two_sources_become_one_directory_with_private_groups_and_keys() {
    let local = format!(
        r#"{{"users":[{}],"groups":[{{"name":"Ops Team","gid":100000,"members":["alice","bob"]}}],"ssh_keys":{{"bob":"{KEY} b"}}}}"#,
        user("alice", 100_001)
    );
    let host = Host::new()
        .source("local", &local)
        .source("aws-identity-center", &users(&[("alice", 60_002), ("bob", 60_003)]));
    let outcome = host.run();
    assert_eq!(names(&outcome), ["alice", "bob"]);
    assert_eq!(outcome.report.duplicates, ["alice"]);
    assert!(outcome.report.problem.is_none() && !outcome.report.degraded());
    let content = outcome.content.unwrap();
    assert_eq!(content.groups(), 3);
    let table = dirless_table::Table::from_bytes(table_of(&content)).unwrap();
    let alice = table.user_by_name(b"alice").unwrap().unwrap();
    assert_eq!(
        (alice.uid, alice.gids().iter().collect::<Vec<_>>()),
        (100_001, vec![100_000])
    );
    assert_eq!(table.keys(b"bob").unwrap().unwrap(), format!("{KEY} b").as_bytes());
    assert_eq!(table.group_by_gid(60_003).unwrap().unwrap().name(), b"bob");
    assert_eq!(table.group_by_name(b"ops-team").unwrap().unwrap().members().count(), 2);
    let codes: Vec<_> = outcome
        .report
        .cautions
        .iter()
        .map(|caution| caution.code.as_str())
        .collect();
    assert_eq!(codes, ["uid-range"]);
}

#[test]
fn defect_03_a_body_in_clear_is_never_taken_whatever_the_header_says() {
    let json = users(&[("mallory", 2000)]);
    for encrypted in [false, true] {
        for clear in [json.clone().into_bytes(), b"{}".to_vec(), Vec::new()] {
            let mut host = Host::new().body("local", Some(Body::Bytes(clear)), None);
            host.inputs().sources[0].note.as_mut().unwrap().encrypted = encrypted;
            let outcome = host.run();
            assert!(outcome.content.is_none());
            assert_eq!(outcome.report.ending, Ending::Refused);
            let problem = outcome.report.sources[0].problem.clone().unwrap();
            assert_eq!(problem.code, "not-sealed");
            assert_eq!(problem.reason.contains("X-Dirless-Encrypted"), !encrypted);
        }
    }
}

#[test]
fn defect_04_identities_that_would_grant_rights_are_filtered_one_by_one() {
    let json = format!(
        r#"{{"users":[{alice},{root},{zero},{system},{colon},{negative},{dots}],
            "groups":[{{"name":"sudo","gid":27,"members":["alice"]}},{{"name":"g","gid":0,"members":["alice"]}},
                      {{"name":"wheel2","gid":27,"members":["alice"]}},{{"name":"fine","gid":3000,"members":["alice","root"]}}],
            "ssh_keys":{{"root":"{KEY}","alice":"{KEY}"}}}}"#,
        alice = user("alice", 2000),
        root = user("root", 2001),
        zero = user("toorx", 0),
        system = user("sys2", 27),
        colon = user("a:0:0", 2002),
        negative = user("neg", 2003).replace("2003", "-2003"),
        dots = user("dots", 2004).replace("/home/dots", "/home/../etc"),
    );
    let outcome = Host::new().source("local", &json).run();
    assert_eq!(names(&outcome), ["alice"]);
    let content = outcome.content.unwrap();
    let groups: Vec<_> = content
        .directory
        .groups
        .iter()
        .map(|group| (content.texts.name(group.name), content.directory.members(group).len()))
        .collect();
    assert_eq!(groups, [("fine", 1)]);
    // sudo and wheel2 share a gid and go already in the merge.
    let expected = [
        ("id", 3),
        ("name", 1),
        ("path", 1),
        ("reserved-name", 1),
        ("same-id", 2),
        ("uid-range", 1),
    ];
    let dropped: Vec<_> = outcome
        .report
        .dropped
        .by_code
        .iter()
        .map(|(code, count)| (code.as_str(), *count))
        .collect();
    assert_eq!(dropped, expected);
}

#[test]
fn defect_06_unknown_or_malformed_access_rules_let_nobody_in() {
    for fetched in [None, Some(b"oops".to_vec())] {
        let mut host = Host::new().source("local", &users(&[("alice", 2000)]));
        host.inputs().access.fetched = fetched;
        let outcome = host.run();
        assert!(outcome.content.is_none());
        assert_eq!(outcome.report.ending, Ending::NotReady);
        host.inputs().access.last_good = Some(br#"{"enforce_group_memberships":true,"host_group_rules":[]}"#.to_vec());
        let outcome = host.run();
        assert_eq!(names(&outcome), Vec::<String>::new());
        assert_eq!(outcome.report.excluded_total, 1);
        assert!(outcome.report.degraded());
    }
}

#[test]
fn defect_07_replayed_bodies_are_refused_and_a_missing_one_keeps_the_last_good() {
    let with = |sequence: &str| format!(r#"{{{sequence}"users":[{}]}}"#, user("alice", 2000));
    let mut host = Host::new().source("local", &with("\"sequence\":7,"));
    let outcome = host.run();
    assert_eq!(outcome.ratchet.seen("local"), Some(7));
    host.inputs().ratchet = outcome.ratchet;
    assert_eq!(names(&host.run()), ["alice"]);
    for old in ["\"sequence\":6,", ""] {
        let good = sealed(&host.identity, &with("\"sequence\":7,"));
        let body = sealed(&host.identity, &with(old));
        let source = &mut host.inputs().sources[0];
        (source.fetched, source.last_good) = (Some(body), Some(good));
        let outcome = host.run();
        assert_eq!(names(&outcome), ["alice"]);
        assert_eq!(outcome.report.sources[0].taken, Taken::LastGood);
        assert_eq!(outcome.report.sources[0].problem.as_ref().unwrap().code, "replayed");
        host.inputs().sources[0].last_good = None;
        assert!(host.run().content.is_none());
    }
    host.inputs().sources[0].fetched = None;
    host.inputs().sources[0].last_good = Some(sealed(&host.identity, &with("\"sequence\":8,")));
    assert_eq!(names(&host.run()), ["alice"]);
}

#[test]
fn defect_08_one_bad_record_or_clash_costs_that_record_alone() {
    let mut list = vec![
        ("alice", 2000),
        ("bob", 2001),
        ("bob", 2002),
        ("carol", 2003),
        ("dave", 2003),
    ];
    let outcome = Host::new().source("local", &users(&list)).run();
    assert_eq!(names(&outcome), ["alice"]);
    assert_eq!(outcome.report.dropped.total, 4);
    // The removal of alice goes through although the clashes stay.
    list.remove(0);
    list.push(("erin", 2005));
    let outcome = Host::new().source("local", &users(&list)).run();
    assert_eq!(names(&outcome), ["erin"]);
    let broken = user("frank", 2006)
        .replace("\"gecos\":\"\",", "")
        .replace("2006,\"gid\"", "\"2006\",\"gid\"");
    let json = format!(r#"{{"users":[{},{broken}]}}"#, user("alice", 2000));
    assert_eq!(names(&Host::new().source("local", &json).run()), ["alice"]);
}

#[test]
fn a_wrong_key_names_the_keys_by_their_fingerprints() {
    let other = Identity::generate();
    let body = sealed(&other, &users(&[("alice", 2000)]));
    let mut host = Host::new().body("local", Some(body), None);
    let registered = other.recipient();
    host.inputs().sources[0].note.as_mut().unwrap().registered_key = Some(registered.to_string());
    let outcome = host.run();
    let problem = outcome.report.sources[0].problem.clone().unwrap();
    assert_eq!(problem.code, "wrong-key");
    assert!(problem.reason.contains(&registered.fingerprint()));
    assert!(problem.reason.contains(&host.identity.recipient().fingerprint()));
    assert!(problem.hint.contains("rotate-key"));
}

#[test]
fn garbage_bombs_and_endless_headers_are_refused_and_the_last_good_serves() {
    let mut host = Host::new().source("local", "{}");
    let good = sealed(&host.identity, &users(&[("alice", 2000)]));
    let bomb = sealed(&host.identity, &format!("{{{}}}", " ".repeat(40 << 20)));
    let deep = sealed(&host.identity, &format!("{{\"x\":{}", "[".repeat(100_000)));
    let Body::Bytes(mut cut) = sealed(&host.identity, &users(&[("alice", 2000)])) else {
        unreachable!()
    };
    cut.truncate(cut.len() - 8);
    let mut header = b"age-encryption.org/v1\n".to_vec();
    for _ in 0..100_000 {
        header.extend_from_slice(
            b"-> X25519 TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc\nEmECAEcKN+n/Vs9SbWiV+Hu0r+E8R77DdWYyd83nw7U\n",
        );
    }
    let stanzas = base64_text(&header);
    let bad = [
        bomb,
        deep,
        Body::Bytes(cut),
        Body::Bytes(stanzas),
        Body::Bytes(b"\0\xff garbage".to_vec()),
    ];
    for body in bad {
        let source = &mut host.inputs().sources[0];
        (source.fetched, source.last_good) = (Some(body), Some(good.clone()));
        let outcome = host.run();
        assert_eq!(names(&outcome), ["alice"]);
        assert_eq!(outcome.report.sources[0].taken, Taken::LastGood);
        assert!(outcome.report.sources[0].problem.is_some() && outcome.report.sources[0].etag.is_none());
    }
}

/// Base64 without a crate of its own for one test.
fn base64_text(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks_exact(3);
    groups
        .flat_map(|three| {
            let number = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
            [18, 12, 6, 0].map(|shift| ALPHABET[(number >> shift) as usize & 63])
        })
        .collect()
}

#[test]
fn nothing_is_published_before_every_source_was_asked_and_absent_ones_are_empty() {
    let mut host = Host::new().source("local", &users(&[("alice", 2000)]));
    let unknown = SourceInput {
        name: "aws-identity-center".into(),
        note: None,
        fetched: None,
        last_good: None,
    };
    host.inputs().sources.push(unknown);
    let outcome = host.run();
    assert!(outcome.content.is_none());
    assert_eq!(outcome.report.ending, Ending::NotReady);
    for state in [SourceState::Absent, SourceState::Deleted] {
        host.inputs().sources[1].note = Some(note(state));
        let outcome = host.run();
        assert_eq!(names(&outcome), ["alice"]);
        assert_eq!(outcome.report.sources[1].taken, Taken::Empty);
    }
}

#[test]
fn more_than_the_host_takes_is_refused_whole() {
    let mut host = Host::new().source("local", &users(&[("alice", 2000), ("bob", 2001)]));
    host.inputs().limits.max_users = 1;
    let outcome = host.run();
    assert!(outcome.content.is_none());
    assert_eq!(outcome.report.problem.unwrap().code, "too-many");
}

#[test]
fn access_rules_take_users_out_of_everything_but_leave_the_groups() {
    let json = format!(
        r#"{{"users":[{},{}],"groups":[{{"name":"eng","gid":3000,"members":["alice"]}},{{"name":"ops","gid":3001,"members":["bob"]}}],"ssh_keys":{{"bob":"{KEY}"}}}}"#,
        user("alice", 2000),
        user("bob", 2001)
    );
    let mut host = Host::new().source("local", &json);
    host.inputs().access.fetched =
        Some(br#"{"enforce_group_memberships":true,"host_group_rules":[{"group":"eng","host":"web-1"}]}"#.to_vec());
    let mut watch = Watch::new("bob");
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let outcome = run(host.inputs.as_ref().unwrap(), &clock, Some(&mut watch));
    assert_eq!(names(&outcome), ["alice"]);
    assert_eq!(outcome.report.excluded[0].name, "bob");
    let content = outcome.content.unwrap();
    assert_eq!(content.directory.groups.len(), 2);
    assert_eq!(
        watch.access,
        Some(AccessVerdict::Excluded {
            wanted: vec!["eng".into()]
        })
    );
    assert_eq!(watch.merged.unwrap().uid, 2001);
    assert_eq!(watch.groups[0].name, "ops");
    assert_eq!(watch.sightings.len(), 1);
    assert_eq!(watch.within_limits, None);
}

#[test]
fn the_digest_says_whether_anything_changed() {
    let digest = |list: &[(&str, u32)], enumerate| {
        let outcome = Host::new().source("local", &users(list)).run();
        outcome.content.unwrap().digest(enumerate)
    };
    let one = digest(&[("alice", 2000), ("bob", 2001)], true);
    assert_eq!(one, digest(&[("bob", 2001), ("alice", 2000)], true));
    assert_eq!(one.len(), 64);
    for other in [
        digest(&[("alice", 2000), ("bob", 2002)], true),
        digest(&[("alice", 2000)], true),
        digest(&[("alice", 2000), ("bob", 2001)], false),
    ] {
        assert_ne!(one, other);
    }
}

#[test]
fn the_order_of_records_does_not_show_in_the_table() {
    let table = |list: &[(&str, u32)]| table_of(&Host::new().source("local", &users(list)).run().content.unwrap());
    let one = table(&[("alice", 2000), ("bob", 2001)]);
    assert_eq!(one, table(&[("bob", 2001), ("alice", 2000)]));
    assert_ne!(one, table(&[("alice", 2000), ("bob", 2002)]));
    assert_ne!(one, table(&[("alice", 2000)]));
}

fn table_of(content: &Content) -> Vec<u8> {
    let meta = dirless_table::TableMeta {
        generation: 1,
        created: 0,
        enumerate: true,
    };
    let mut builder = dirless_table::TableBuilder::in_memory(meta).unwrap();
    content.write(&mut builder).unwrap();
    builder.finish().unwrap().0.into_inner()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(96))]

    /// The fuzz target `limits` in small.
    #[test]
    fn whatever_is_sealed_nothing_that_grants_rights_is_published(
        users in proptest::collection::vec(
            ("(root|sudo|alice|bob|local|[a-z:]{1,4})", -1..3000_i64, 0..3000_i64, "(/home/[a-z.]{1,3}|/root|/home/../etc)", "(/bin/sh|/bin/evil)"),
            0..8,
        ),
        groups in proptest::collection::vec(("(sudo|wheel|eng|local|[a-z:]{1,4})", 0..3000_i64), 0..5),
    ) {
        let name = |text: &str| serde_json::Value::from(text);
        let listed: Vec<_> = users.iter().map(|user| name(&user.0)).collect();
        let users: Vec<_> = users.iter().map(|(user, uid, gid, home, shell)| {
            serde_json::json!({"username": user, "uid": uid, "gid": gid, "gecos": "a:b", "home": home, "shell": shell})
        }).collect();
        let groups: Vec<_> = groups
            .iter()
            .map(|(group, gid)| serde_json::json!({"name": group, "gid": gid, "members": listed}))
            .collect();
        let json = serde_json::json!({"users": users, "groups": groups}).to_string();
        let mut host = Host::new().source("local", &json);
        host.inputs().host.passwd.push_str("local:x:1500:1500::/:/bin/sh\n");
        host.inputs().host.group.push_str("local:x:1500:\n");
        let content = host.run().content.unwrap();
        let table = dirless_table::Table::from_bytes(table_of(&content)).unwrap();
        for user in table.users().map(Result::unwrap) {
            proptest::prop_assert!(user.uid >= 1000 && user.gid >= 1000 && user.uid != 1500 && user.gid != 1500);
            proptest::prop_assert!(!["root", "sudo", "local"].map(str::as_bytes).contains(&user.name()));
            proptest::prop_assert!(user.home().starts_with(b"/home/") && user.shell() == b"/bin/sh");
            proptest::prop_assert!(!user.strings.contains(&b':'));
        }
        for group in table.groups().map(Result::unwrap) {
            proptest::prop_assert!(group.gid >= 1000 && group.gid != 1500);
            proptest::prop_assert!(!["sudo", "wheel", "local"].map(str::as_bytes).contains(&group.name()));
        }
    }
}

#[test]
fn the_sample_of_the_host_limits_is_the_default() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/samples/limits.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(HostLimits::parse(&text, &path).unwrap(), HostLimits::default());
}
