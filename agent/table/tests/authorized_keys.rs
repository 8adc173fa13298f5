//! The helper sshd calls.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn helper(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dirless-authorized-keys"))
        .args(arguments)
        .output()
        .unwrap()
}

fn published(folder: &Path) -> String {
    let path = folder.join("table");
    dirless_table::publish_bytes(&path, &common::small()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn prints_the_keys_and_nothing_for_others() {
    assert_eq!(
        effective_uid(),
        0,
        "these tests publish tables as root; run them as root"
    );
    let folder = tempfile::tempdir().unwrap();
    let table = published(folder.path());
    let alice = helper(&["--table", &table, "alice"]);
    assert!(alice.status.success());
    assert_eq!(
        alice.stdout,
        b"ssh-ed25519 AAAA alice@laptop\nssh-ed25519 BBBB alice:desk\n"
    );
    for name in ["bob", "backup", "root", "eng", ""] {
        let other = helper(&["--table", &table, name]);
        assert!(
            other.status.success() && other.stdout.is_empty() && other.stderr.is_empty(),
            "{name}"
        );
    }
}

#[test]
fn fails_with_one_clear_line_without_argument_or_table() {
    for arguments in [&[][..], &["--table"], &["--table", "/x"], &["a", "b"], &["--other"]] {
        let output = helper(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            String::from_utf8(output.stderr)
                .unwrap()
                .contains("usage: dirless-authorized-keys")
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let missing = helper(&["--table", folder.path().join("none").to_str().unwrap(), "alice"]);
    assert_eq!(missing.status.code(), Some(1));
    let message = String::from_utf8(missing.stderr).unwrap();
    assert!(
        message.contains("no such file") && message.lines().count() == 1,
        "{message}"
    );
}

#[test]
fn refuses_a_table_others_can_write_and_ignores_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let table = published(folder.path());
    std::fs::set_permissions(&table, std::fs::Permissions::from_mode(0o666)).unwrap();
    let output = helper(&["--table", &table, "alice"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    std::fs::set_permissions(&table, std::fs::Permissions::from_mode(0o644)).unwrap();
    let command = env!("CARGO_BIN_EXE_dirless-authorized-keys");
    let output = Command::new(command)
        .arg("alice")
        .env("DIRLESS_DB_PATH", &table)
        .env("DIRLESS_TABLE", &table)
        .output();
    assert!(output.unwrap().stdout.is_empty());
}

fn effective_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid()
}

/// What an overlay says of keys holds at once, and without it nothing does.
#[test]
fn keys_of_an_overlay_take_the_place_of_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let table = published(folder.path());
    let change = dirless_table::overlay::publish::<dirless_table::WriteError>(
        Path::new(&table),
        0,
        common::META,
        4096,
        |draft| {
            draft.drop_user("alice");
            draft.put_user(&dirless_table::UserRecord {
                keys: "ssh-ed25519 CCCC bob@desk",
                ..common::user("bob", 60_002, "/home/bob")
            })
        },
    );
    let _ = change.expect("these tests publish tables as root");
    let bob = helper(&["--table", &table, "bob"]);
    assert_eq!(bob.stdout, b"ssh-ed25519 CCCC bob@desk\n");
    let alice = helper(&["--table", &table, "alice"]);
    assert!(alice.status.success() && alice.stdout.is_empty());
    std::fs::remove_file(folder.path().join("table.overlay.00000001")).unwrap();
    let alice = helper(&["--table", &table, "alice"]);
    let message = String::from_utf8(alice.stderr).unwrap();
    assert_eq!((alice.status.code(), alice.stdout.len()), (Some(1), 0));
    assert!(
        message.contains("overlay is missing") && message.contains("dirless refresh"),
        "{message}"
    );
}
