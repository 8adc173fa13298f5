//! The edits as pure functions, one by one and in random sequences against a simple model.

mod model;

use dirless_model::snapshot::ObjectKind;
use serde_json::{Value, json};

use super::blob::Blob;
use super::rules::Rules;
use super::*;

pub(super) const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhmVTGUVH8BWEvFbbLhWPFnhX8QdzBPE2tQTfmGqsZM";

/// A key that differs from [`KEY`] in its last byte.
pub(super) fn key(number: u8) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = KEY.to_owned();
    text.pop();
    text.push(char::from(ALPHABET[usize::from(number % 64)]));
    text
}

fn fields() -> UserFields {
    UserFields::default()
}

fn config() -> LocalConfig {
    LocalConfig::default()
}

fn added(names: &[&str]) -> Blob {
    let mut blob = Blob::default();
    for name in names {
        assert!(users::add(&mut blob, name, &fields(), &config()).unwrap().changed);
    }
    blob
}

fn json_of(blob: &Blob) -> Value {
    serde_json::from_slice(&blob.to_json()).unwrap()
}

#[test]
fn users_are_numbered_and_filled_in_as_portals_do() {
    let blob = json_of(&added(&["alice", "bob"]));
    assert_eq!(
        blob["users"][1],
        json!({"username": "bob", "uid": 100_002, "gid": 100_000, "gecos": "bob", "home": "/home/bob",
               "shell": "/bin/bash", "email": null})
    );
    assert_eq!(
        blob["groups"],
        json!([{"name": "dirless-local", "gid": 100_000, "members": ["alice", "bob"]}])
    );
}

#[test]
fn what_is_done_already_changes_nothing() {
    let mut blob = added(&["alice"]);
    groups::add(&mut blob, "eng", Some(100_007), &config()).unwrap();
    let eng = ["alice".to_owned()];
    assert!(groups::add_members(&mut blob, "eng", &eng).unwrap().changed);
    assert!(keys::add(&mut blob, "alice", KEY).unwrap().changed);
    let before = blob.clone();
    let again = UserFields {
        shell: Some("/bin/bash".into()),
        group: Some("100000".into()),
        uid: Some(100_001),
        ..fields()
    };
    for edited in [
        users::add(&mut blob, "alice", &fields(), &config()),
        users::add(&mut blob, "alice", &again, &config()),
        users::set(&mut blob, "alice", &again),
        users::rename(&mut blob, "alice", "alice"),
        users::rename(&mut blob, "was-alice", "alice"),
        Ok(users::remove(&mut blob, "nobody-here")),
        groups::add(&mut blob, "eng", None, &config()),
        groups::remove(&mut blob, "no-such"),
        groups::add_members(&mut blob, "eng", &eng),
        groups::remove_members(&mut blob, "eng", &["bob".to_owned()]),
        keys::add(&mut blob, "alice", &format!("{KEY} another comment")),
        keys::remove(&mut blob, "alice", &Which::Named("no such".into())),
        keys::remove(&mut blob, "bob", &Which::All),
    ] {
        let edited = edited.unwrap();
        assert!(
            !edited.changed && edited.lines[0].ends_with("nothing to do"),
            "{edited:?}"
        );
    }
    assert_eq!(blob, before);
}

#[test]
fn a_removed_number_is_never_given_to_another() {
    let mut blob = added(&["alice", "bob"]);
    assert!(users::remove(&mut blob, "bob").changed);
    assert!(users::remove(&mut blob, "alice").changed);
    users::add(&mut blob, "carol", &fields(), &config()).unwrap();
    assert_eq!(
        blob.numbers(ObjectKind::User).into_keys().collect::<Vec<_>>(),
        [100_003]
    );
    let wants = |uid| UserFields {
        uid: Some(uid),
        ..fields()
    };
    let refused = users::add(&mut blob, "dave", &wants(100_002), &config()).unwrap_err();
    assert!(
        matches!(&refused, Refusal::Retired { owner, .. } if owner == "bob"),
        "{refused}"
    );
    let taken = users::add(&mut blob, "dave", &wants(100_003), &config()).unwrap_err();
    assert!(
        matches!(&taken, Refusal::Taken { owner, .. } if owner == "carol"),
        "{taken}"
    );
    // The one who had it may have it again.
    assert!(
        users::add(&mut blob, "bob", &wants(100_002), &config())
            .unwrap()
            .changed
    );
    assert_eq!(
        blob.retired(ObjectKind::User).into_keys().collect::<Vec<_>>(),
        [100_001]
    );
}

#[test]
fn a_full_range_is_said_and_holes_that_nobody_had_are_found() {
    let config = LocalConfig {
        range: IdRange::new(200_001, 200_003).unwrap(),
        ..config()
    };
    let mut blob = Blob::default();
    let last = UserFields {
        uid: Some(200_003),
        ..fields()
    };
    users::add(&mut blob, "last", &last, &config).unwrap();
    users::add(&mut blob, "a", &fields(), &config).unwrap();
    users::remove(&mut blob, "a");
    users::add(&mut blob, "b", &fields(), &config).unwrap();
    assert_eq!(
        blob.numbers(ObjectKind::User).into_keys().collect::<Vec<_>>(),
        [200_002, 200_003]
    );
    let full = users::add(&mut blob, "c", &fields(), &config).unwrap_err();
    assert!(matches!(full, Refusal::Exhausted { .. }), "{full}");
}

#[test]
fn what_no_host_would_take_is_refused() {
    let mut blob = added(&["alice"]);
    let before = blob.clone();
    for name in ["", "Alice", "a b", "a:b", "root\n", "-x", "a.", "über"] {
        let refused = users::add(&mut blob, name, &fields(), &config()).unwrap_err();
        assert!(matches!(refused, Refusal::Name { .. }), "{name:?}: {refused}");
        assert!(groups::add(&mut blob, name, None, &config()).is_err(), "{name:?}");
    }
    for uid in [0, 5, 999, 65_534, 65_535, u32::MAX, 0x8000_0000] {
        let fields = UserFields {
            uid: Some(uid),
            ..fields()
        };
        let refused = users::add(&mut blob, "dave", &fields, &config()).unwrap_err();
        assert!(
            matches!(refused, Refusal::Number { .. } | Refusal::System { .. }),
            "{uid}: {refused}"
        );
        assert!(groups::add(&mut blob, "g", Some(uid), &config()).is_err(), "{uid}");
    }
    let bad = [
        UserFields {
            gecos: Some("a:b".into()),
            ..fields()
        },
        UserFields {
            gecos: Some("a\nb".into()),
            ..fields()
        },
        UserFields {
            home: Some("relative".into()),
            ..fields()
        },
        UserFields {
            home: Some("/home/../root".into()),
            ..fields()
        },
        UserFields {
            shell: Some("/bin/sh:x".into()),
            ..fields()
        },
        UserFields {
            group: Some("no-such".into()),
            ..fields()
        },
        UserFields {
            group: Some("0".into()),
            ..fields()
        },
        UserFields {
            group: Some("27".into()),
            ..fields()
        },
    ];
    for fields in bad {
        assert!(users::add(&mut blob, "dave", &fields, &config()).is_err(), "{fields:?}");
        assert!(users::set(&mut blob, "alice", &fields).is_err(), "{fields:?}");
    }
    // A refused addition may have made the group of everybody, which is not written then.
    assert_eq!(json_of(&blob)["users"], json_of(&before)["users"]);
}

#[test]
fn a_user_that_differs_is_not_overwritten_by_adding() {
    let mut blob = added(&["alice"]);
    let other = UserFields {
        shell: Some("/bin/zsh".into()),
        ..fields()
    };
    let refused = users::add(&mut blob, "alice", &other, &config()).unwrap_err();
    assert!(matches!(refused, Refusal::Exists { differs: "shell", .. }), "{refused}");
    assert!(users::set(&mut blob, "alice", &other).unwrap().changed);
    assert_eq!(json_of(&blob)["users"][0]["shell"], "/bin/zsh");
}

#[test]
fn changing_a_number_retires_the_old_one_and_says_what_to_do_about_files() {
    let mut blob = added(&["alice"]);
    let uid = UserFields {
        uid: Some(150_000),
        ..fields()
    };
    let edited = users::set(&mut blob, "alice", &uid).unwrap();
    assert!(edited.lines[1].contains("-uid 100001"), "{edited:?}");
    assert!(blob.retired(ObjectKind::User).contains_key(&100_001));
    users::add(&mut blob, "bob", &fields(), &config()).unwrap();
    assert!(blob.numbers(ObjectKind::User).contains_key(&150_001));
}

#[test]
fn a_rename_takes_groups_and_keys_along() {
    let mut blob = added(&["alice", "bob"]);
    keys::add(&mut blob, "alice", KEY).unwrap();
    assert!(users::rename(&mut blob, "alice", "alicia").unwrap().changed);
    assert_eq!(blob.keys("alice"), None);
    assert_eq!(blob.keys("alicia"), Some(KEY));
    assert_eq!(json_of(&blob)["groups"][0]["members"], json!(["alicia", "bob"]));
    assert!(matches!(
        users::rename(&mut blob, "bob", "alicia"),
        Err(Refusal::NameTaken { .. })
    ));
    assert!(matches!(
        users::rename(&mut blob, "carol", "dave"),
        Err(Refusal::Missing { .. })
    ));
}

#[test]
fn a_group_that_is_somebodys_primary_one_stays() {
    let mut blob = added(&["alice"]);
    groups::add(&mut blob, "eng", None, &config()).unwrap();
    let eng = UserFields {
        group: Some("eng".into()),
        ..fields()
    };
    users::set(&mut blob, "alice", &eng).unwrap();
    let refused = groups::remove(&mut blob, "eng").unwrap_err();
    assert!(refused.to_string().contains("alice"), "{refused}");
    users::remove(&mut blob, "alice");
    assert!(groups::remove(&mut blob, "eng").unwrap().changed);
    groups::add(&mut blob, "ops", None, &config()).unwrap();
    let numbers = blob.numbers(ObjectKind::Group);
    assert_eq!(numbers.get(&100_002), Some(&"ops"), "100001 was eng's: {numbers:?}");
}

#[test]
fn portals_groups_and_strange_records_are_lived_with() {
    let text = r#"{"groups":[{"name":"locals","gid":100000,"members":["x"]},{"name":"odd","gid":"7","members":null}],
        "users":[{"username":"x","uid":1.5},{"uid":100009},null],"ssh_keys":{"x":["not a text"],"cloud":"ssh-rsa junk"}}"#;
    let mut blob = Blob::parse(text.as_bytes()).unwrap();
    assert!(users::add(&mut blob, "new", &fields(), &config()).unwrap().changed);
    let json = json_of(&blob);
    assert_eq!(json["users"][3]["uid"], 100_010);
    assert_eq!(json["groups"][0]["members"], json!(["x", "new"]));
    assert_eq!(json["ssh_keys"], json!({"x": ["not a text"], "cloud": "ssh-rsa junk"}));
    assert!(groups::add_members(&mut blob, "odd", &["new".into()]).is_ok());
    assert!(users::remove(&mut blob, "x").changed);
}

#[test]
fn keys_are_checked_deduplicated_and_found_by_fingerprint_or_comment() {
    let mut blob = added(&["alice"]);
    blob.set_keys("alice", Some("# portal\njunk line".into()));
    let text = format!("{} work\n\nno-pty {} home\n{} again\n", key(1), key(2), key(1));
    assert!(keys::add(&mut blob, "alice", &text).unwrap().changed);
    let lines: Vec<&str> = blob.keys("alice").unwrap().lines().collect();
    assert_eq!(lines.len(), 4, "what was there stays: {lines:?}");
    assert_eq!(lines[3], format!("no-pty {} home", key(2)));
    let again = format!("{} work", key(1));
    assert!(!keys::add(&mut blob, "alice", &again).unwrap().changed);
    let restricted = format!("restrict {} work", key(1));
    let refused = keys::add(&mut blob, "alice", &restricted).unwrap_err().to_string();
    assert!(
        refused.contains("other options") && refused.contains("key remove alice SHA256:"),
        "{refused}"
    );
    for (text, expected) in [
        ("ssh-ed25519 AAAA x", "damaged"),
        ("nonsense", "key type"),
        ("cert-authority ssh-ed25519 AAAA", "authorities"),
        ("", "no key"),
        ("# nothing", "no key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbg==\n", "private key"),
    ] {
        let refused = keys::add(&mut blob, "alice", text).unwrap_err().to_string();
        assert!(refused.contains(expected), "{text:?}: {refused}");
        assert!(!refused.contains("b3Blbg"));
    }
    let second = key(2);
    let second = dirless_model::key::AuthorizedKey::parse(&second).unwrap();
    let wanted = Which::Named(keys::fingerprint(&second));
    assert!(keys::remove(&mut blob, "alice", &wanted).unwrap().changed);
    assert!(
        keys::remove(&mut blob, "alice", &Which::Named("work".into()))
            .unwrap()
            .changed
    );
    assert_eq!(blob.keys("alice"), Some("# portal\njunk line"));
    assert!(keys::remove(&mut blob, "alice", &Which::All).unwrap().changed);
    assert_eq!(blob.keys("alice"), None);
}

#[test]
fn an_ambiguous_comment_and_too_many_keys_are_refused() {
    let mut blob = added(&["alice"]);
    keys::add(&mut blob, "alice", &format!("{} me\n{} me", key(1), key(2))).unwrap();
    let refused = keys::remove(&mut blob, "alice", &Which::Named("me".into())).unwrap_err();
    assert!(matches!(refused, Refusal::Ambiguous { .. }), "{refused}");
    let listed = Which::Listed(key(1));
    assert!(keys::remove(&mut blob, "alice", &listed).unwrap().changed);
    assert!(blob.keys("alice").unwrap().starts_with(&key(2)));
    let fingerprint = "SHA256:";
    assert!(keys::fingerprint(&keys::good(KEY).next().unwrap()).starts_with(fingerprint));
}

fn rules(json: Value) -> Rules {
    Rules::new(json.as_object().unwrap().clone()).unwrap()
}

#[test]
fn rules_keep_unknown_keys_and_are_tidied_when_changed() {
    let names = NameRule::default();
    let mut rules = rules(json!({
        "later": 1,
        "host_group_rules": [{"group": " eng ", "host": "web-1"}, {"group": "eng", "host": "web-1"},
                             {"group": "ops", "host": "db", "until": "2030"}],
    }));
    assert!(
        !rules.allow("Eng", "web-1", &names).unwrap().changed,
        "the same group after mapping"
    );
    assert!(rules.allow("qa", "web-2", &names).unwrap().changed);
    assert_eq!(
        Value::Object(rules.json().clone()),
        json!({
            "enforce_group_memberships": false,
            "later": 1,
            "host_group_rules": [{"group": "eng", "host": "web-1"}, {"group": "ops", "host": "db", "until": "2030"},
                                 {"group": "qa", "host": "web-2"}],
        })
    );
    for (group, host) in [
        ("", "h"),
        ("a\nb", "h"),
        ("g", ""),
        ("g", "a b"),
        ("g", &"h".repeat(65)),
    ] {
        assert!(rules.allow(group, host, &names).is_err(), "{group:?} {host:?}");
    }
    let odd = rules.allow("qa", "Web-*", &names).unwrap();
    assert!(odd.lines.iter().any(|line| line.contains("wildcards")), "{odd:?}");
}

#[test]
fn nobody_is_locked_out_of_everything_by_accident() {
    let names = NameRule::default();
    let mut rules = Rules::default();
    assert_eq!(rules.enforce(true, false), Err(Refusal::LockOut));
    rules.allow("eng", "web-1", &names).unwrap();
    assert!(rules.enforce(true, false).unwrap().changed);
    assert_eq!(rules.deny("eng", "web-1", &names, false), Err(Refusal::LockOut));
    assert!(!rules.deny("eng", "other", &names, false).unwrap().changed);
    assert!(rules.deny("eng", "web-1", &names, true).unwrap().changed);
    assert!(rules.enforce(false, false).unwrap().changed);
    assert!(!rules.enforce(false, false).unwrap().changed);
}

#[test]
fn malformed_rules_are_never_edited() {
    for json in [
        json!({"enforce_group_memberships": "true"}),
        json!({"host_group_rules": null}),
        json!({"host_group_rules": {}}),
    ] {
        assert!(Rules::new(json.as_object().unwrap().clone()).is_err(), "{json}");
    }
}

#[test]
fn the_configuration_is_checked() {
    assert_eq!(config().check(), Ok(()));
    for (config, key) in [
        (
            LocalConfig {
                group: "A b".into(),
                ..config()
            },
            "local.group",
        ),
        (
            LocalConfig {
                group_gid: 0,
                ..config()
            },
            "local.group_gid",
        ),
        (
            LocalConfig {
                home_folder: "home".into(),
                ..config()
            },
            "local.home_folder",
        ),
        (
            LocalConfig {
                shell: "bash".into(),
                ..config()
            },
            "local.shell",
        ),
    ] {
        assert_eq!(config.check().unwrap_err().0, key);
    }
    assert!(serde_json::from_value::<LocalConfig>(json!({"rnage": "1-2"})).is_err());
}
