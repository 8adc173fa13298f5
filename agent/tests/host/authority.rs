//! The certificate authority over whole cycles.

use dirless_agent::host::sshd_program::SshdProgram;

use crate::common::{Answer, CA, cycle};
use crate::cycle::start;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJp9lpH3Z689KCtDoNSOM11fp0QvdvGeloyE3uFf/0i7";
const FINGERPRINT: &str = "SHA256:ICRz6TsJeB9hZfsYR7Fa7pYtWl5GLPI7IV17Op4qf2E";

#[tokio::test]
async fn defect_05_an_authority_needs_this_hosts_word_and_can_be_withdrawn() {
    let (fake, host) = start();
    std::fs::create_dir_all(host.paths.sshd_snippets()).unwrap();
    fake.answer(
        CA,
        Answer::json(200, &format!(r#"{{"ca_public_key":"{KEY} ca@example"}}"#)),
    );
    let mut engine = host.engine();
    let outcome = cycle(&mut engine).await;
    assert!(
        outcome.problems.iter().any(|problem| problem.contains("accept-ca")),
        "{:?}",
        outcome.problems
    );
    assert!(!host.paths.ca_key().exists() && !host.paths.sshd_snippet().exists());

    dirless_agent::host::ca::accept(&host.paths, FINGERPRINT).unwrap();
    assert!(cycle(&mut engine).await.problems.is_empty());
    assert_eq!(std::fs::read_to_string(host.paths.ca_key()).unwrap().trim(), KEY);
    let snippet = std::fs::read_to_string(host.paths.sshd_snippet()).unwrap();
    assert!(
        snippet.contains("TrustedUserCAKeys /etc/ssh/dirless_ca.pub"),
        "{snippet}"
    );

    for failure in [
        Answer::json(500, "{}"),
        Answer::json(404, "{}"),
        Answer::json(200, "[]"),
        Answer::Drop,
    ] {
        fake.answer(CA, failure);
        cycle(&mut engine).await;
        assert!(host.paths.ca_key().exists());
    }
    fake.answer(CA, Answer::json(200, r#"{"ca_public_key":null}"#));
    for round in 1..=3 {
        assert!(host.paths.ca_key().exists(), "gone before round {round}");
        cycle(&mut engine).await;
    }
    assert!(!host.paths.ca_key().exists() && !host.paths.sshd_snippet().exists());
}

#[tokio::test]
async fn a_reload_that_failed_is_tried_again_until_it_works() {
    use std::os::unix::fs::PermissionsExt;
    let (fake, host) = start();
    fake.answer(CA, Answer::json(200, &format!(r#"{{"ca_public_key":"{KEY}"}}"#)));
    dirless_agent::host::ca::accept(&host.paths, FINGERPRINT).unwrap();
    std::fs::create_dir_all(host.paths.sshd_snippets()).unwrap();
    let switch = host.folder.path().join("works");
    let script = host.folder.path().join("sshd");
    std::fs::write(&script, "#!/bin/sh\nexec sleep 30\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    // A process called sshd, so that "none runs" does not excuse the failure.
    let mut running = std::process::Command::new("bash")
        .args(["-c", "exec -a sshd sleep 30"])
        .spawn()
        .unwrap();
    let reload = vec![
        "test".to_owned(),
        "-e".to_owned(),
        switch.to_string_lossy().into_owned(),
    ];
    let sshd = SshdProgram {
        program: None,
        reload: vec![reload],
        pid_file: "/nonexistent".into(),
    };
    let mut engine = host.engine_with(sshd);
    cycle(&mut engine).await;
    assert!(host.paths.ca_key().exists());
    std::fs::write(&switch, "").unwrap();
    assert!(cycle(&mut engine).await.problems.is_empty());
    let memory = std::fs::read_to_string(host.paths.daemon_state()).unwrap();
    assert!(memory.contains("\"reload_due\": false"), "{memory}");
    running.kill().unwrap();
    running.wait().unwrap();
}
