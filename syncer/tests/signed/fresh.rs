//! A syncer that nobody set up yet, and one with the configuration of a deployed one.

use std::process::{Command, Stdio};

/// Runs the program with a configuration of its own: exit code, and what it says.
fn with_file(folder: &std::path::Path, text: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let path = folder.join("fresh.toml");
    let places = format!(
        "{text}\n[syncer]\nkey_folder = {:?}\nstate_folder = {:?}\n",
        folder.join("keys"),
        folder.join("state")
    );
    std::fs::write(&path, places).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dirless-syncer"));
    command.env_clear().arg("--config").arg(path).args(arguments);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), text.concat())
}

#[test]
fn a_fresh_syncer_is_told_what_to_set_up() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = |arguments: &[&str]| with_file(folder.path(), "", arguments);
    let (code, said) = fresh(&["check"]);
    assert!(code == Some(0) && said.contains("signing init"), "{code:?} {said}");
    for command in ["run", "once", "plan"] {
        let (code, said) = fresh(&[command]);
        assert!(
            code == Some(78) && said.contains("tenant init --syncer"),
            "{command}: {code:?} {said}"
        );
    }
    let (code, said) = fresh(&["enroll"]);
    assert!(code == Some(1) && said.contains("classic protocol"), "{code:?} {said}");
    let (code, said) = fresh(&["signing", "init", "syncer-1"]);
    assert_eq!(code, Some(0), "{said}");
    let sources = "sources=access-rules,aws-identity-center,directory,local,tree ids=1000-2147483647 names=* may=";
    assert!(said.contains(sources), "{said}");
}

#[test]
fn a_deployed_configuration_goes_on_and_names_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let deployed = "[backend]\nurl = \"http://127.0.0.1:1\"\nenrollment_token = \"sekret\"\n";
    let (code, said) = with_file(folder.path(), deployed, &["check"]);
    assert!(
        code == Some(0) && said.contains("docs/migrate-from-deployed.md") && said.contains("not enrolled"),
        "{code:?} {said}"
    );
    assert!(!said.contains("sekret"));
    // It enrols by itself, as deployed syncers do: here there is nobody to enrol with.
    let (code, said) = with_file(folder.path(), deployed, &["enroll"]);
    assert!(code == Some(1) && !said.contains("signing init"), "{code:?} {said}");
}
