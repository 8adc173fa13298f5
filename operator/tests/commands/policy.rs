//! From one policy to the next.

use dirless_seal::trust::Right;

use crate::support::{Person, Place, key, recipient, tree};

/// A line that is refused, and what is said about it.
fn refused(place: &Place, line: &str, expected: &str) {
    let before = tree(&place.path("t"));
    let error = place.fail(line);
    assert!(error.contains(expected), "{line}: {error}");
    assert_eq!(tree(&place.path("t")), before, "{line}");
}

#[test]
fn changes_gather_in_a_draft_until_enough_roots_have_signed() {
    let place = Place::with_tenant();
    let (publisher, enroller) = (key("syncer-1"), key("enroller-1"));
    let out = place.succeed(&format!(
        "publisher add @/t --key {} --source local --source hr --ids 30000-39999 --ids 10000-19999 --names * --may users --may groups",
        publisher.verifying()
    ));
    assert!(
        out.contains("+ publisher syncer-1+") && out.contains("ids=10000-19999,30000-39999"),
        "{out}"
    );
    place.succeed(&format!(
        "enroller add @/t --key {} --recipient {}",
        enroller.verifying(),
        recipient()
    ));
    place.succeed("compartment add @/t web --on-expiry close");
    place.succeed(&format!("recovery add @/t {}", recipient()));
    place.succeed("policy edit @/t --lease 7200 --valid-for 30");
    assert!(!place.path("t/policy/2").exists());

    let once = place.succeed("policy sign @/t --key @/k/root-2.age --passphrase-file - --yes");
    assert!(
        once.contains("signed by    root-2+") && once.contains("missing      1 more of: root-1+"),
        "{once}"
    );
    assert!(!place.path("t/policy/2").exists());
    let again = place.succeed("policy sign @/t --key @/k/root-2.age --passphrase-file - --yes");
    assert!(again.contains("1 more of"), "one root counts once: {again}");
    let twice = place.succeed("policy sign @/t --key @/k/root-1.age --passphrase-file - --yes");
    assert!(twice.contains("wrote @/t/policy/2"), "{twice}");
    assert!(!place.path("t/policy/draft").exists());

    let policy = place.policy(2);
    assert_eq!(
        (policy.lease, policy.publishers.len(), policy.enrollers.len()),
        (7200, 1, 1)
    );
    assert_eq!(policy.publishers[0].scope.may, [Right::Groups, Right::Users].into());
    assert_eq!(policy.expires.to_string(), "2026-12-22T08:00:00Z");
    assert_eq!(policy.compartments.len(), 2);
    let shown = place.succeed("policy show @/t");
    assert!(
        shown.contains("version      2") && shown.contains("compartment  web: close"),
        "{shown}"
    );
}

#[test]
fn a_change_voids_the_signatures_under_the_draft() {
    let place = Place::with_tenant();
    place.succeed("compartment add @/t web");
    place.succeed("policy sign @/t --key @/k/root-1.age --passphrase-file - --yes");
    let changed = place.succeed("compartment add @/t db");
    assert!(changed.contains("void"), "{changed}");
    let out = place.succeed("policy sign @/t --key @/k/root-2.age --passphrase-file - --yes");
    assert!(out.contains("1 more of"), "{out}");
}

#[test]
fn publishers_are_replaced_and_removed() {
    let place = Place::with_tenant();
    let (first, second) = (key("syncer-1"), key("syncer-1"));
    place.succeed(&format!(
        "publisher add @/t --key {} --source local --names app-* --may users",
        first.verifying()
    ));
    place.sign();
    place.succeed(&format!("publisher rotate @/t syncer-1 --key {}", second.verifying()));
    place.sign();
    let publisher = place.policy(3).publishers.remove(0);
    assert_eq!(publisher.key, *second.verifying());
    assert!(publisher.scope.covers_name("app-db"));
    place.succeed("publisher revoke @/t syncer-1");
    place.sign();
    assert!(place.policy(4).publishers.is_empty());
    for line in [
        "publisher revoke @/t syncer-1",
        "enroller revoke @/t e",
        "compartment remove @/t x",
    ] {
        refused(&place, line, "the policy has no");
    }
}

#[test]
fn what_is_not_well_formed_never_becomes_a_draft() {
    let place = Place::with_tenant();
    let (one, two) = (key("a"), key("b"));
    let add = |key: &dirless_seal::SigningKey| {
        format!("publisher add @/t --key {} --source local --may users", key.verifying())
    };
    place.succeed(&add(&one));
    refused(&place, &add(&two), "source local has two publishers");
    refused(&place, &add(&one), "two publishers");
    refused(&place, "policy edit @/t --threshold 4", "threshold");
    refused(&place, "policy edit @/t --lease 59", "under 60 seconds");
    refused(
        &place,
        "publisher add @/t --key x --source local --may users",
        "no verifying key",
    );
    let key = two.verifying();
    refused(
        &place,
        &format!("publisher add @/t --key {key} --source local --may sudo"),
        "no right",
    );
    refused(
        &place,
        &format!("publisher add @/t --key {key} --source hr --may users --ids 0-9"),
        "no range",
    );
    refused(&place, "root remove @/t root-9", "no root root-9");
    refused(&place, "root remove @/t root-1 --threshold 3", "threshold");
}

#[test]
fn only_roots_sign_and_only_what_they_have_seen() {
    let place = Place::with_tenant();
    refused(&place, "policy sign @/t --key @/k/root-1.age --yes", "has no draft");
    place.succeed("compartment add @/t web");
    place.succeed("root create @/stranger.age --name root-1 --passphrase-file - --work 10");
    refused(
        &place,
        "policy sign @/t --key @/stranger.age --passphrase-file - --yes",
        "is no root",
    );
    refused(
        &place,
        "policy sign @/t --key @/k/root-1.age --passphrase-file -",
        "--yes",
    );
    refused(&place, "policy sign @/t --key @/nothing.age --yes", "no key file");
    let mut person = Person {
        answers: ["six words that nobody can guess", "no"].map(str::to_owned).into(),
        ..Person::default()
    };
    let error = place
        .run_with("policy sign @/t --key @/k/root-1.age", &mut person)
        .unwrap_err();
    assert_eq!(error, "nothing was signed");
    let mut person = Person {
        input: Some("wrong words all of them".to_owned()),
        ..Person::default()
    };
    let line = "policy sign @/t --key @/k/root-1.age --passphrase-file - --yes";
    let error = place.run_with(line, &mut person).unwrap_err();
    assert!(
        error.contains("passphrase is wrong") && !error.contains("wrong words"),
        "{error}"
    );
}

#[test]
fn roots_change_only_when_old_and_new_ones_agree() {
    let place = Place::with_tenant();
    let made = place.succeed("root create @/k/root-4.age --name root-4 --passphrase-file - --work 10");
    place.succeed(&format!("root add @/t --key {}", made.trim()));
    place.succeed("root remove @/t root-1");
    place.succeed("root remove @/t root-2");
    // Two of the draft's own, root-3 and root-4; but only one of the roots in force.
    place.succeed("policy sign @/t --key @/k/root-4.age --passphrase-file - --yes");
    let half = place.succeed("policy sign @/t --key @/k/root-3.age --passphrase-file - --yes");
    assert!(half.contains("(roots of the policy in force)"), "{half}");
    assert!(!place.path("t/policy/2").exists());
    place.succeed("policy sign @/t --key @/k/root-1.age --passphrase-file - --yes");
    assert_eq!(place.policy(2).roots.len(), 2);
    place.succeed("policy show @/t");
}

#[test]
fn a_folder_that_was_tampered_with_is_refused() {
    let place = Place::with_tenant();
    place.succeed("compartment add @/t web");
    place.sign();
    let path = place.path("t/policy/2");
    let good = std::fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        ("compartment web serve", "compartment web close", "not signed"),
        ("version 2", "version 3", "not signed"),
        ("version 2\n", "", "line 3"),
        ("\u{2014} root-3", "\u{2014} root-4", "not signed"),
    ] {
        std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
        for line in ["policy show @/t", "compartment add @/t db"] {
            let error = place.fail(line);
            assert!(
                error.contains(expected) && error.contains("@/t/policy/2"),
                "{from}: {error}"
            );
        }
    }
    refused(&place, "policy show @/k", "no tenant folder");
}

#[test]
fn a_draft_that_was_left_behind_is_named() {
    let place = Place::with_tenant();
    place.succeed("compartment add @/t web");
    let draft = std::fs::read(place.path("t/policy/draft")).unwrap();
    place.sign();
    std::fs::write(place.path("t/policy/draft"), draft).unwrap();
    refused(&place, "compartment add @/t db", "does not continue policy 2");
    refused(
        &place,
        "policy sign @/t --key @/k/root-1.age --passphrase-file - --yes",
        "does not continue",
    );
    assert!(place.succeed("policy show @/t").contains("begin again"));
    place.succeed("policy drop @/t");
    place.succeed("compartment add @/t db");
}

#[test]
fn an_editor_changes_what_it_may() {
    let place = Place::with_tenant().with_editor("sed -i 's/^lease .*/lease 600/' \"$1\"");
    let out = place.succeed("policy edit @/t");
    assert!(
        out.contains("- lease 86400\n") && out.contains("+ lease 600\n"),
        "{out}"
    );

    let place = Place::with_tenant().with_editor("sed -i 's/^version .*/version 9/' \"$1\"");
    refused(&place, "policy edit @/t", "leave them as they are");
    let place = Place::with_tenant().with_editor("echo nonsense >> \"$1\"");
    refused(&place, "policy edit @/t", "what you wrote is kept in");
    let place = Place::with_tenant().with_editor("exit 3");
    refused(&place, "policy edit @/t", "the draft is as it was");
    refused(&Place::with_tenant(), "policy edit @/t", "$EDITOR");
}

#[test]
fn scripts_read_who_has_to_sign() {
    let place = Place::with_tenant();
    place.succeed("compartment add @/t web");
    place.succeed("policy sign @/t --key @/k/root-1.age --passphrase-file - --yes");
    let shown: serde_json::Value = serde_json::from_str(&place.succeed("policy show @/t --json")).unwrap();
    assert_eq!(shown["policy"]["version"], 1);
    assert_eq!(
        shown["policy"]["fingerprint"],
        place.policy(1).fingerprint().to_string()
    );
    assert_eq!(shown["draft"]["policy"]["version"], 2);
    assert_eq!(shown["draft"]["missing"], 1);
    assert_eq!(shown["draft"]["missing_of_roots_in_force"], 1);
    assert_eq!(shown["draft"]["signed"].as_array().unwrap().len(), 1);
}

#[test]
fn a_recovery_key_is_made_and_named() {
    let place = Place::with_tenant();
    let recipient = place.succeed("recovery create @/recovery.age --passphrase-file - --work 10");
    assert!(recipient.starts_with("age1"), "{recipient}");
    place.succeed(&format!("recovery add @/t {}", recipient.trim()));
    refused(
        &place,
        &format!("recovery add @/t {}", recipient.trim()),
        "in order, or one stands there twice",
    );
    place.sign();
    place.succeed(&format!("recovery remove @/t {}", recipient.trim()));
    place.sign();
    assert!(place.policy(3).recovery.is_empty());
}
