//! Root keys and where they may go.

use std::os::unix::fs::MetadataExt;

use dirless_seal::unlock;

use crate::support::{PASSPHRASE, Person, Place, tree};

#[test]
fn a_tenant_begins_with_keys_that_only_passphrases_open() {
    let place = Place::new();
    place.succeed("tenant init @/t --keys @/k --passphrase-file - --work 10");
    let policy = place.policy(1);
    assert_eq!((policy.version, policy.threshold, policy.roots.len()), (1, 2, 3));
    assert_eq!(policy.issued.to_string(), "2026-11-22T08:00:00Z");
    assert_eq!(policy.expires.to_string(), "2027-11-22T08:00:00Z");
    for name in ["root-1", "root-2", "root-3"] {
        let path = place.path(&format!("k/{name}.age"));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let locked = std::fs::read(&path).unwrap();
        assert!(unlock(&locked, "another passphrase").is_err());
        let secret = unlock(&locked, PASSPHRASE).unwrap();
        assert!(secret.starts_with(&format!("PRIVATE+KEY+{name}+")));
    }
    assert_eq!(std::fs::metadata(place.path("k")).unwrap().mode() & 0o777, 0o700);
    let shown = place.succeed("policy show @/t");
    assert!(shown.contains(&policy.fingerprint().to_string()), "{shown}");
}

#[test]
fn no_secret_is_shown_or_published_unless_it_is_asked_for() {
    let place = Place::new();
    let out = place.succeed(
        "tenant init @/t --keys @/k --roots 2 --sheet @/sheet --secret-sheet @/secret --passphrase-file - --work 10",
    );
    let sheet = std::fs::read_to_string(place.path("sheet")).unwrap();
    assert!(out.starts_with(&sheet), "{out}");
    assert!(sheet.contains("RECOVERY SHEET") && sheet.contains(&place.policy(1).fingerprint().to_string()));
    for text in [&out, &sheet] {
        assert!(!text.contains("PRIVATE+KEY") && !text.contains(PASSPHRASE));
    }
    for (path, bytes) in tree(&place.path("t")) {
        assert!(!String::from_utf8_lossy(&bytes).contains("PRIVATE+KEY"), "{path:?}");
    }
    let secret = place.path("secret");
    assert_eq!(
        std::fs::read_to_string(&secret)
            .unwrap()
            .matches("PRIVATE+KEY+")
            .count(),
        2
    );
    assert_eq!(std::fs::metadata(&secret).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn what_is_there_is_never_overwritten() {
    let place = Place::with_tenant();
    let before = (tree(&place.path("t")), tree(&place.path("k")));
    let again = place.fail("tenant init @/t --keys @/other --passphrase-file - --work 10");
    assert!(again.contains("is a tenant already"), "{again}");
    let keys = place.fail("tenant init @/u --keys @/k --passphrase-file - --work 10");
    assert!(keys.contains("@/k/root-1.age is there already"), "{keys}");
    assert!(!place.path("u/policy/1").exists());
    assert_eq!((tree(&place.path("t")), tree(&place.path("k"))), before);
}

#[test]
fn bad_arguments_write_nothing() {
    for (line, expected) in [
        (
            "tenant init @/t --keys @/t/keys --passphrase-file - --work 10",
            "within the tenant's folder",
        ),
        (
            "tenant init @/t --keys @/k --roots 2 --threshold 3 --passphrase-file -",
            "more than the 2",
        ),
        ("tenant init @/t --keys @/k --roots 17", "--roots"),
        ("tenant init @/t --keys @/k --work 9", "10 to 22"),
        ("tenant init @/t --keys @/k --tenant abc", "64 lower-case"),
        (
            "tenant init @/t --keys @/k --recovery age1x --passphrase-file -",
            "no age recipient",
        ),
        ("tenant init @/t --keys @/k", "--passphrase-file"),
        ("tenant init @/t", "--keys"),
    ] {
        let place = Place::new();
        let error = place.fail(line);
        assert!(error.contains(expected), "{line}: {error}");
        assert!(
            !place.path("t/policy/1").exists() && !place.path("k/root-1.age").exists(),
            "{line}"
        );
    }
}

#[test]
fn people_are_asked_twice_for_each_key() {
    let place = Place::new();
    let answers = |words: &[&str]| Person {
        answers: words.iter().map(|word| (*word).to_owned()).collect(),
        ..Person::default()
    };
    let line = "tenant init @/t --keys @/k --roots 2 --work 10";
    let mut person = answers(&[
        "first passphrase",
        "first passphrase",
        "second passphrase",
        "second passphrase",
    ]);
    place.run_with(line, &mut person).unwrap();
    assert_eq!(person.asked.len(), 4);
    let locked = std::fs::read(place.path("k/root-2.age")).unwrap();
    assert!(unlock(&locked, "second passphrase").is_ok());

    let place = Place::new();
    let differ = place
        .run_with(line, &mut answers(&["first passphrase", "first passphrasE"]))
        .unwrap_err();
    assert!(differ.contains("differ"), "{differ}");
    let short = place.run_with(line, &mut answers(&["short"; 4])).unwrap_err();
    assert!(short.contains("fewer than 12"), "{short}");
}

#[test]
fn a_passphrase_file_must_be_ones_own_and_hold_the_right_number() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let file = place.path("pass");
    std::fs::write(&file, "passphrase one\npassphrase two\npassphrase three\n").unwrap();
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let line = "tenant init @/t --keys @/k --passphrase-file @/pass --work 10";
    assert!(place.fail(line).contains("chmod 600"));
    mode(0o600);
    assert!(
        place
            .fail(&format!("{line} --roots 2"))
            .contains("one for each of the 2")
    );
    place.succeed(line);
    let locked = std::fs::read(place.path("k/root-2.age")).unwrap();
    assert!(unlock(&locked, "passphrase two").is_ok());
}

/// What `dirless-syncer signing init` prints.
fn lines(place: &Place, name: &str, sources: &str) {
    let lines = dirless_publish::Custody::generate(&name.parse().unwrap())
        .unwrap()
        .public();
    let text = format!(
        "publisher {} sources={sources} ids=1000-2000 names=* may=groups,users\nenroller {} {}\n",
        lines.publisher, lines.enroller, lines.recipient
    );
    std::fs::write(place.path(name), text).unwrap();
}

#[test]
fn a_syncer_is_admitted_by_the_first_policy() {
    let place = Place::new();
    lines(&place, "syncer-1", "local,tree");
    lines(&place, "syncer-2", "corp");
    lines(&place, "syncer-3", "local");
    let out = place
        .succeed("tenant init @/t --keys @/k --syncer @/syncer-1 --signed @/signed.toml --passphrase-file - --work 10");
    let policy = place.policy(1);
    let one = &policy.publishers[0];
    assert_eq!((policy.publishers.len(), policy.enrollers.len()), (1, 1));
    assert_eq!(one.key.name().as_str(), "syncer-1");
    assert_eq!(one.scope.ids, vec!["1000-2000".parse().unwrap()]);
    assert_eq!(policy.enrollers[0].key.name().as_str(), "syncer-1-enroller");
    let table = std::fs::read_to_string(place.path("signed.toml")).unwrap();
    assert!(out.contains("[signed]\nfolder = ") && !out.contains("next:"), "{out}");
    assert!(out.contains(&format!("admitted syncer-1+{}", one.key.hash())), "{out}");
    for value in [policy.tenant.to_string(), policy.fingerprint().to_string()] {
        assert!(table.contains(&format!("\"{value}\"")), "{table}");
    }
    assert!(table.contains("\n[signed]\nfolder = \"/"), "{table}");

    // Another one, later; nobody twice.
    place.succeed("policy edit @/t --syncer @/syncer-2");
    let said = place.fail("policy edit @/t --syncer @/syncer-2");
    assert!(said.contains("source corp has two publishers"), "{said}");
    let said = place.fail("policy edit @/t --syncer @/syncer-3");
    assert!(said.contains("source local has two publishers"), "{said}");
    place.sign();
    let names: Vec<_> = place
        .policy(2)
        .publishers
        .iter()
        .map(|one| one.key.name().to_string())
        .collect();
    assert_eq!(names, ["syncer-1", "syncer-2"]);
}

#[test]
fn lines_that_are_none_write_nothing() {
    let place = Place::new();
    for text in ["", "publisher nonsense\n", "publisher\n"] {
        std::fs::write(place.path("lines"), text).unwrap();
        let said = place.fail("tenant init @/t --keys @/k --syncer @/lines --passphrase-file - --work 10");
        assert!(said.contains("@/lines") || said.contains("lines"), "{said}");
        assert!(!place.path("t/policy/1").exists() && !place.path("k/root-1.age").exists());
    }
    let said = place.fail("tenant init @/t --keys @/k --backend ftp://x --passphrase-file - --work 10");
    assert!(!place.path("k/root-1.age").exists(), "{said}");
}
