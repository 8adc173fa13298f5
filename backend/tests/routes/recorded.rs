//! The requests of deployed programs, byte for byte as they send them, played in one order; and what
//! those programs look at in the answers.

use std::path::Path;

use super::support::{KEY, OTHER_KEY, Reply, Site, TENANT};

fn play(site: &Site, name: &str) -> Reply {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(format!("{name}.http"));
    site.exchange(&std::fs::read(path).unwrap())
}

fn body_of(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(format!("{name}.http"));
    let bytes = std::fs::read(path).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    bytes[end + 4..].to_vec()
}

#[test]
fn a_deployed_installation_is_served_from_enrolment_to_heartbeat() {
    let site = Site::with("[health]\npublic = true\n");
    assert_eq!(play(&site, "01-enroll").expect_status(200).json()["status"], "enrolled");
    play(&site, "02-probe").expect_error(401, "unauthorized");
    play(&site, "03-read-absent").expect_error(404, "source_absent");
    play(&site, "04-syncer-put").expect_status(200);

    let read = play(&site, "05-agent-read").expect_status(200);
    assert_eq!(read.header("x-dirless-encrypted"), Some("age"));
    assert_eq!(read.header("content-type"), Some("application/octet-stream"));
    assert_eq!(read.header("x-dirless-registered-key"), Some(KEY));
    assert_eq!(read.header("x-dirless-snapshot-recipient"), Some(KEY));
    assert_eq!(read.body, body_of("04-syncer-put"));

    play(&site, "06-portal-put-local").expect_status(200);
    assert_eq!(
        play(&site, "07-agent-read-local").expect_status(200).body,
        body_of("06-portal-put-local")
    );
    play(&site, "08-portal-delete-local").expect_status(200);
    play(&site, "09-agent-read-deleted").expect_error(404, "source_deleted");

    let rules = play(&site, "10-authz-config-absent").expect_status(200);
    assert_eq!(
        rules.text(),
        r#"{"enforce_group_memberships":false,"host_group_rules":[]}"#
    );
    play(&site, "11-authz-config-put").expect_status(200);
    assert_eq!(
        play(&site, "12-authz-config-read").expect_status(200).body,
        body_of("11-authz-config-put")
    );

    play(&site, "13-duplicates").expect_status(200);
    play(&site, "14-heartbeat").expect_status(200);
    assert_eq!(
        play(&site, "15-ca-public-key-absent").expect_status(200).text(),
        r#"{"ca_public_key":null}"#
    );
    play(&site, "16-settings-ca").expect_status(200);
    let ca = play(&site, "17-ca-public-key").expect_status(200).json();
    assert_eq!(ca["ca_public_key"], "ssh-ed25519 AAAA... comment");
    play(&site, "18-settings-limit").expect_status(200);

    let health = play(&site, "24-health").expect_status(200).json();
    assert_eq!(
        (&health["status"], &health["tenants"], &health["users"]),
        (&"ok".into(), &1.into(), &4.into())
    );
    assert_eq!(
        (&health["active_agents"], &health["aws_account_id"]),
        (&1.into(), &"123456789012".into())
    );
    assert_eq!(health["agents"][0]["agent_id"], "node-a");
    assert_eq!(health["agents"][0]["hostname"], "vm");
    assert_eq!(health["agents"][0]["tenant_id"], TENANT);
    assert!(health["data_updated_at"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_deployed_change_of_keys_follows_the_configuration() {
    let site = Site::start();
    play(&site, "01-enroll").expect_status(200);
    assert_eq!(
        play(&site, "19-public-key").expect_status(200).json()["age_public_key"],
        KEY
    );
    let refused = play(&site, "20-rotate-key").expect_error(409, "key_mismatch");
    assert_eq!(refused["registered_key"], KEY);
    play(&site, "21-enroll-again").expect_status(200);
    assert_eq!(
        play(&site, "19-public-key").expect_status(200).json()["age_public_key"],
        OTHER_KEY
    );
    let stale = play(&site, "22-stale-recipient").expect_error(409, "recipient_mismatch");
    assert_eq!(stale["registered_key"], OTHER_KEY);

    let site = Site::with("[keys]\nreplace_by = \"rotate-key\"\n");
    play(&site, "01-enroll").expect_status(200);
    let refused = play(&site, "21-enroll-again").expect_error(409, "key_mismatch");
    assert_eq!(refused["registered_key"], KEY);
    play(&site, "20-rotate-key").expect_status(200);
    assert_eq!(
        play(&site, "19-public-key").expect_status(200).json()["age_public_key"],
        OTHER_KEY
    );
}

#[test]
fn the_syncers_nobody_can_read_are_told_so() {
    let site = Site::start();
    play(&site, "01-enroll").expect_status(200);
    let refused = play(&site, "23-syncer-0-6-0").expect_error(422, "unsupported_client");
    assert!(refused["hint"].as_str().unwrap().contains("0.5.3"), "{refused}");
}
