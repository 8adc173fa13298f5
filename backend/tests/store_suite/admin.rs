//! The operator's commands, as data: arguments, input, what is written, and what it did.

use std::path::Path;

use clap::Parser as _;
use dirless_backend::admin::{AdminCommand, Console, run_on};
use dirless_backend::store::{Operator, Principal, SecretHash};
use dirless_program::Clock;
use ring::rand::SystemRandom;

use crate::common::{open, put, start, tenant};

#[derive(clap::Parser)]
struct Program {
    #[command(subcommand)]
    command: AdminCommand,
}

/// What a command wrote to standard output and standard error, or its error.
struct Said {
    output: String,
    notes: String,
    error: Option<String>,
}

fn run_at(folder: &Path, clock: &Clock, input: &str, arguments: &[&str]) -> Said {
    let arguments = ["dirless-backend"].iter().chain(arguments);
    let program = Program::try_parse_from(arguments).unwrap();
    let (mut output, mut notes) = (Vec::new(), Vec::new());
    let mut console = Console {
        input: &mut input.as_bytes(),
        output: &mut output,
        notes: &mut notes,
        clock: clock.clone(),
        random: &SystemRandom::new(),
    };
    let outcome = run_on(program.command, folder, &mut console);
    Said {
        output: String::from_utf8(output).unwrap(),
        notes: String::from_utf8(notes).unwrap(),
        error: outcome.err().map(|error| format!("{error:#}")),
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Said {
    run_at(folder, &Clock::manual(start()), "", arguments)
}

/// The output of a command that must succeed.
fn done(folder: &Path, arguments: &[&str]) -> String {
    let said = run(folder, arguments);
    assert_eq!(said.error, None, "{arguments:?}");
    said.output
}

/// The error of a command that must fail, without a word on standard output.
fn failed(folder: &Path, arguments: &[&str]) -> String {
    let said = run(folder, arguments);
    assert_eq!(said.output, "", "{arguments:?}");
    said.error.unwrap()
}

fn principal(folder: &Path, secret: &str) -> Option<Principal> {
    open(folder).authenticate(&SecretHash::of(secret.trim_end().as_bytes()))
}

#[test]
fn a_realms_secret_is_made_up_shown_once_and_kept_as_a_hash() {
    let folder = tempfile::tempdir().unwrap();
    let said = run(folder.path(), &["realm", "create", "acme"]);
    assert_eq!(said.error, None);
    let secret = said.output.strip_suffix('\n').unwrap();
    assert_eq!(secret.len(), 43, "one line, nothing else");
    assert!(!said.notes.contains(secret) && said.notes.contains("only this once"));
    assert!(matches!(principal(folder.path(), secret), Some(Principal::Realm(_))));
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
    }
    assert!(failed(folder.path(), &["realm", "create", "acme"]).contains("realm rotate acme"));
}

#[test]
fn a_realms_secret_is_read_from_a_private_file_or_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(start());
    let arguments = ["realm", "create", "acme", "--secret-file", "-"];
    let said = run_at(folder.path(), &clock, "a-secret-of-our-own\n", &arguments);
    assert_eq!((said.error, said.output.as_str()), (None, ""));
    assert!(principal(folder.path(), "a-secret-of-our-own").is_some());
    for (input, word) in [("", "holds no secret"), ("short", "shorter than 16")] {
        let said = run_at(
            folder.path(),
            &clock,
            input,
            &["realm", "create", "b", "--secret-file", "-"],
        );
        assert!(said.error.unwrap().contains(word), "{input:?}");
    }
    let file = folder.path().join("secret");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "another-secret-of-ours").unwrap();
    let arguments = ["realm", "create", "b", "--secret-file", path];
    let mode = |mode| std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    assert!(failed(folder.path(), &arguments).contains("chmod 600"));
    mode(0o600);
    done(folder.path(), &arguments);
    assert!(principal(folder.path(), "another-secret-of-ours").is_some());
    std::fs::write(&file, "a-secret-of-our-own").unwrap();
    let taken = failed(folder.path(), &["realm", "rotate", "b", "--secret-file", path]);
    assert!(taken.contains("belongs to another"), "{taken}");
}

#[test]
fn realms_are_listed_rotated_disabled_and_enabled() {
    let folder = tempfile::tempdir().unwrap();
    let first = done(folder.path(), &["realm", "create", "acme"]);
    done(folder.path(), &["realm", "create", "b"]);
    let second = done(folder.path(), &["realm", "rotate", "acme", "--keep-old", "7d"]);
    assert!(principal(folder.path(), &first).is_some() && principal(folder.path(), &second).is_some());
    let third = done(folder.path(), &["realm", "rotate", "acme"]);
    assert!(principal(folder.path(), &first).is_none() && principal(folder.path(), &second).is_none());
    done(folder.path(), &["realm", "disable", "acme"]);
    let suspended = |secret: &str| match principal(folder.path(), secret) {
        Some(Principal::Realm(credential)) => credential.is_suspended(),
        other => panic!("{other:?}"),
    };
    assert!(suspended(&third));
    let listed = done(folder.path(), &["realm", "list"]);
    let expected = "\
NAME  STATE      TENANTS  SECRETS  CREATED               ROTATED
acme  suspended  0        1        2026-01-01T00:00:00Z  2026-01-01T00:00:00Z
b     active     0        1        2026-01-01T00:00:00Z  -
";
    assert_eq!(listed, expected);
    done(folder.path(), &["realm", "enable", "acme"]);
    assert!(!suspended(&third));
    for command in ["rotate", "disable", "enable"] {
        assert!(failed(folder.path(), &["realm", command, "nobody"]).contains("no realm nobody"));
    }
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let make = [
        "token",
        "create",
        "--label",
        "grafana",
        "--scope",
        "metrics,health",
        "--scope",
        "health",
    ];
    let secret = done(folder.path(), &make);
    let operator = |secret: &str| match principal(folder.path(), secret) {
        Some(Principal::Operator(operator)) => Some(Operator::clone(&operator)),
        _ => None,
    };
    let id = operator(&secret).unwrap().id().to_string();
    let listed = done(folder.path(), &["token", "list"]);
    assert!(listed.contains(&id) && !listed.contains(secret.trim_end()));
    let line = listed.lines().nth(1).unwrap();
    assert!(
        line.contains("good   health,metrics  all    2026-01-01T00:00:00Z  2026-04-01T00:00:00Z"),
        "{line}"
    );
    done(folder.path(), &["token", "revoke", &id]);
    assert!(operator(&secret).is_none());
    assert!(done(folder.path(), &["token", "list"]).contains("revoked"));
    assert!(failed(folder.path(), &["token", "revoke", &id]).contains("token list"));
    let of_nobody = [
        "token", "create", "--label", "x", "--scope", "audit", "--realm", "nobody",
    ];
    assert!(failed(folder.path(), &of_nobody).contains("no such realm"));
    let lasting = ["token", "create", "--label", "x", "--scope", "admin", "--never-expires"];
    assert!(operator(&done(folder.path(), &lasting)).is_some());
    let too_long = [
        "token",
        "create",
        "--label",
        "x",
        "--scope",
        "admin",
        "--expires",
        "4000000000d",
    ];
    assert!(failed(folder.path(), &too_long).contains("--never-expires"));
}

#[tokio::test]
async fn backup_verify_and_restore_say_what_they_did() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&tenant(&store, "acme", "t1").await, "local", b"body").await;
    store.close().await;
    drop(store);
    let place = folder.path().to_owned();
    tokio::task::spawn_blocking(move || {
        let sums = "schema 4, 1 tenants, 1 bodies of 4 bytes together";
        assert_eq!(done(&place, &["verify"]), format!("clean: {sums}\n"));
        let file = place.join("b");
        let path = file.to_str().unwrap();
        let said = run(&place, &["backup", path]);
        assert_eq!((said.error, said.notes), (None, format!("wrote {path}: {sums}\n")));
        let said = run(&place, &["restore", path]);
        assert_eq!(said.error, None);
        assert!(
            said.notes.contains("is kept as") && said.notes.contains(sums),
            "{}",
            said.notes
        );
        std::fs::write(&file, b"noise, and nothing but noise").unwrap();
        let refused = failed(&place, &["restore", path]);
        assert!(
            refused.contains("nothing was restored") && refused.contains("no usable backup"),
            "{refused}"
        );
        let connection = rusqlite::Connection::open(place.join("dirless.db")).unwrap();
        connection.execute("UPDATE chunks SET bytes = x'00'", ()).unwrap();
        let said = run(&place, &["verify"]);
        assert!(said.output.contains("body of generation row"), "{}", said.output);
        assert!(said.error.unwrap().contains("1 problems"));
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_audit_log_is_printed_as_json_of_one_tenant_or_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&tenant(&store, "acme", "t1").await, "local", b"body").await;
    tenant(&store, "acme", "t2").await;
    store.close().await;
    drop(store);
    let place = folder.path().to_owned();
    let read = move || {
        let actions = |arguments: &[&str]| {
            let lines = done(&place, arguments);
            let lines = lines
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            lines
                .map(|line| line["action"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            actions(&["audit"]),
            ["realm.create", "tenant.enroll", "snapshot.put", "tenant.enroll"]
        );
        assert_eq!(
            actions(&["audit", "--tenant", "aws___t1"]),
            ["tenant.enroll", "snapshot.put"]
        );
        assert_eq!(actions(&["audit", "--after", "2"]), ["snapshot.put", "tenant.enroll"]);
        assert!(actions(&["audit", "--tenant", "nobody"]).is_empty());
    };
    tokio::task::spawn_blocking(read).await.unwrap();
}

#[test]
fn what_cannot_be_parsed_is_refused_before_anything_is_opened() {
    for arguments in [
        ["realm", "create", "Bad Name"].as_slice(),
        &["realm", "rotate", "acme", "--keep-old", "soon"],
        &["token", "create", "--label", "x"],
        &["token", "create", "--label", "x", "--scope", "root"],
        &["realm", "create", "acme", "--secret", "in-argv"],
    ] {
        assert!(
            Program::try_parse_from(["dirless-backend"].iter().chain(arguments)).is_err(),
            "{arguments:?}"
        );
    }
}

#[test]
fn split_views_are_listed_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let none = run(folder.path(), &["split-view", "list"]);
    assert_eq!((none.error, none.output.as_str()), (None, ""));
    assert!(none.notes.contains("no split views"), "{}", none.notes);
    assert!(failed(folder.path(), &["split-view", "forget", "t1"]).contains("has no split view"));

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = open(folder.path());
        crate::contract_trust::split(&store).await;
        store.close().await;
    });
    let listed = done(folder.path(), &["split-view", "list"]);
    assert!(
        listed.starts_with("t1 head/syncer 7 (1 versions since 2026-01-01T00:00:00Z) is shown as\n  bbbb")
            && listed.contains(" to n1\n"),
        "{listed}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&done(folder.path(), &["split-view", "list", "--json"])).unwrap();
    assert_eq!(
        (&json["about"], &json["contents"][1]["nodes"]),
        (&"head/syncer".into(), &serde_json::json!(["n2"]))
    );
    assert_eq!(done(folder.path(), &["split-view", "forget", "t1"]), "");
    assert_eq!(done(folder.path(), &["split-view", "list"]), "");
    assert!(done(folder.path(), &["audit"]).contains("split_view.forget"));
}
