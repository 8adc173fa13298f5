//! The program from enrolment to publication, against stand-ins.

use std::os::unix::fs::PermissionsExt;

use crate::support::{ACCOUNT, Site, TENANT, both, few, patch, seal};
use dirless_testkit::aws::{Directory, Failure, Quota, RoleCredentials};
use serde_json::json;

#[test]
fn a_first_run_enrols_publishes_and_then_keeps_quiet() {
    let site = Site::bare(few());
    assert!(site.ends(&["once"], 1).contains("dirless-syncer enroll"));
    assert!(site.good(&["enroll"]).contains(TENANT));
    assert_eq!(
        site.backend.with(|memory| memory.enrolled[0]["tenant_id"].clone()),
        json!(TENANT)
    );
    assert!(site.good(&["once"]).contains("published snapshot 1"));
    let snapshot = site.published();
    assert_eq!(snapshot["source"], "aws-identity-center");
    assert_eq!(snapshot["sequence"], 1);
    let alice = &snapshot["users"][0];
    assert_eq!(alice["username"], "alice");
    assert_eq!(alice["gid"], alice["uid"]);
    assert_eq!(alice["home"], "/home/alice");
    assert_eq!(alice["id"], "u-1");
    assert_eq!(
        snapshot["groups"][0],
        json!({
            "name": "engineering-team", "gid": snapshot["groups"][0]["gid"], "members": ["alice", "bob"], "id": "g-1"
        })
    );
    site.backend.with(|memory| {
        assert_eq!(memory.headers["x-dirless-user-count"], "3");
        assert_eq!(memory.headers["x-dirless-group-count"], "2");
        assert_eq!(memory.headers["x-aws-account-id"], ACCOUNT);
        assert_eq!(memory.headers["content-type"], "application/octet-stream");
        let recipient = std::fs::read_to_string(site.path("keys/age_public.key")).unwrap();
        assert_eq!(memory.headers["x-dirless-recipient"], recipient.trim());
    });
    for _ in 0..2 {
        assert!(site.good(&["once"]).contains("nothing changed"));
    }
    assert_eq!(site.backend.puts(), 1);
    assert!(site.imds.reads() > 0, "account and credentials came from the instance");
    let status: serde_json::Value = serde_json::from_str(&site.good(&["status", "--json"])).unwrap();
    assert_eq!(status["report"]["users"], 3);
    assert_eq!(status["ledger"]["numbers"], 5);
    for folder in ["keys", "state"] {
        for entry in std::fs::read_dir(site.path(folder)).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(
                entry.metadata().unwrap().permissions().mode() & 0o077,
                0,
                "{:?}",
                entry.path()
            );
        }
    }
}

#[test]
fn what_the_backend_lost_is_pushed_again_also_without_entity_tags() {
    for etags in [true, false] {
        let site = Site::new(few());
        site.backend.with(|memory| memory.etags = etags);
        site.good(&["once"]);
        assert!(site.good(&["once"]).contains("nothing changed"));
        let before = site.numbers();
        site.backend.with(|memory| memory.snapshot = None);
        assert!(site.good(&["once"]).contains("published snapshot 2"));
        assert_eq!(site.numbers(), before);
    }
}

#[test]
fn an_existing_key_is_used_and_a_failed_enrolment_leaves_nothing_behind() {
    let site = Site::bare(few());
    site.backend
        .with(|memory| memory.refuse_enrolment = Some((401, "{\"error\":\"bad token\"}".to_owned())));
    site.ends(&["enroll"], 1);
    for name in ["age.key", "age_public.key", "tenant_id", "hmac.key"] {
        assert!(
            !site.path("keys").join(name).exists(),
            "{name} was written before the backend agreed"
        );
    }
    let key = dirless_seal::Identity::generate();
    let file = site.path("keys/age.key");
    std::fs::write(&file, key.expose().as_bytes()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let other = dirless_seal::Identity::generate().recipient().as_str().to_owned();
    let conflict = json!({"error": "key mismatch", "registered_key": other}).to_string();
    site.backend
        .with(|memory| memory.refuse_enrolment = Some((409, conflict)));
    let text = site.ends(&["enroll"], 1);
    assert!(
        text.contains(&other) && text.contains(key.recipient().as_str()),
        "{text}"
    );
    site.backend.with(|memory| memory.refuse_enrolment = None);
    site.good(&["enroll"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), key.expose().as_str());
    let sent = site.backend.with(|memory| memory.enrolled[0]["age_public_key"].clone());
    assert_eq!(sent, key.recipient().as_str());
}

#[test]
fn the_token_comes_from_a_file_or_standard_input_and_never_shows() {
    let site = Site::bare(few());
    let file = site.path("token");
    std::fs::write(&file, "sekret-token-1\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = site.ends(&["enroll", "--token-file", file.to_str().unwrap()], 1);
    assert!(text.contains("chmod 600") && !text.contains("sekret"), "{text}");
    let mut command = site.command(&["enroll", "--token-stdin"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"sekret-token-1\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(
        std::fs::read_to_string(site.path("keys/hmac.key")).unwrap(),
        "sekret-token-1\n"
    );
}

#[test]
fn a_short_or_failed_read_publishes_nothing() {
    let failures = [
        ("ListUsers", Failure::TruncatedJson),
        ("ListUsers", Failure::EmptyObject),
        ("ListGroups", Failure::EmptyObject),
        ("ListUsers", Failure::RepeatedToken),
        ("ListGroupMemberships", Failure::ExpiredToken),
        ("ListUsers", Failure::AccessDenied),
        ("ListGroupMemberships", Failure::Status(500, u64::MAX / 2)),
    ];
    let site = Site::new(Directory::sized(25, 3));
    site.aws.behave(|behaviour| behaviour.page_size = 10);
    site.good(&["once"]);
    let before = site.numbers();
    site.aws
        .edit(|directory| directory.user("u-new", "newcomer").name.clone());
    for (operation, failure) in failures {
        // The first of several calls passes, so that the failure comes in the middle of the read.
        let passes = site.aws.calls(operation) + u64::from(operation != "ListGroups");
        site.aws
            .behave(|behaviour| behaviour.failures = vec![(operation.to_owned(), passes, failure.clone())]);
        let output = site.run(&["once"]);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{operation} {failure:?}: {}",
            both(&output)
        );
        assert_eq!(site.numbers(), before, "{operation} {failure:?}");
    }
    assert_eq!(site.backend.puts(), 1);
    assert!(site.good(&["status"]).contains("last error"));
    site.aws.behave(|behaviour| behaviour.failures.clear());
    site.good(&["once"]);
    assert_eq!(site.numbers().len(), before.len() + 1);
}

#[test]
fn server_errors_and_throttling_are_ridden_out() {
    let site = Site::new(Directory::sized(250, 20));
    let passes = site.aws.calls("ListUsers") + 1;
    site.aws.behave(|behaviour| {
        behaviour.failures = vec![("ListUsers".to_owned(), passes, Failure::Status(503, 2))];
        behaviour.quota = Some(Quota {
            per_second: 30.0,
            burst: 5.0,
        });
    });
    site.good(&["once"]);
    assert!(site.aws.throttled() > 0, "the quota was never met");
    assert_eq!(site.published()["users"].as_array().unwrap().len(), 250);
    assert!(
        site.aws.most_in_flight() <= 10,
        "eight lists at once, and the two long ones"
    );
}

#[test]
fn a_read_that_takes_too_long_says_how_far_it_got() {
    let mut site = Site::new(few());
    site.extra = "[identity_center]\ndeadline_seconds = 1\n".to_owned();
    site.aws
        .behave(|behaviour| behaviour.failures = vec![("ListGroups".to_owned(), 0, Failure::Hang)]);
    let text = site.ends(&["once"], 1);
    assert!(text.contains("deadline_seconds") && text.contains("3 users"), "{text}");
}

#[test]
fn disabled_people_vanish_and_come_back_with_their_ids() {
    let site = Site::new(few());
    site.good(&["once"]);
    let before = site.numbers();
    site.aws
        .edit(|directory| directory.users.get_mut("u-1").unwrap().enabled = Some(false));
    site.good(&["once"]);
    assert!(!site.numbers().contains_key("alice"));
    let snapshot = site.published();
    assert_eq!(snapshot["groups"][0]["members"], json!(["bob"]));
    assert_eq!(snapshot["ledger"]["retired"][0]["id"], "u-1");
    assert_eq!(snapshot["ledger"]["retired"][0]["number"], before["alice"]);
    site.aws
        .edit(|directory| directory.users.get_mut("u-1").unwrap().enabled = Some(true));
    site.good(&["once"]);
    assert_eq!(site.numbers(), before);
}

#[test]
fn a_rename_keeps_the_uid_and_a_successor_of_the_name_gets_another() {
    let site = Site::new(few());
    site.good(&["once"]);
    let before = site.numbers();
    site.aws.edit(|directory| {
        directory.users.get_mut("u-2").unwrap().name = "robert".to_owned();
        directory.user("u-9", "bob");
    });
    site.good(&["once"]);
    let after = site.numbers();
    assert_eq!(after["robert"], before["bob"]);
    assert!(!before.values().any(|number| *number == after["bob"]));
    assert!(site.good(&["ledger", "show", "robert"]).contains("first seen as bob"));
}

#[test]
fn credentials_rotate_and_metadata_tokens_expire_without_harm() {
    let site = Site::new(few());
    let soon = "2020-01-01T00:00:00Z".to_owned();
    for key in ["ASIAEXAMPLE00000001", "ASIAEXAMPLE00000002"] {
        site.imds.expire_tokens();
        site.imds.throttle(1);
        site.imds.rotate(RoleCredentials {
            access_key: key.to_owned(),
            expiration: if key.ends_with('1') {
                "2099-01-01T00:00:00Z".to_owned()
            } else {
                soon.clone()
            },
        });
        site.aws
            .behave(|behaviour| behaviour.access_keys = Some([key.to_owned()].into()));
        site.aws.edit(|directory| directory.user("u-7", key).name.clone());
        let output = site.run(&["once"]);
        assert!(output.status.success(), "{}", both(&output));
    }
}

#[test]
fn not_exactly_one_instance_is_a_clear_error() {
    let mut site = Site::new(few());
    let one = ("arn:aws:sso:::instance/ssoins-1".to_owned(), "d-1".to_owned());
    let two = ("arn:aws:sso:::instance/ssoins-2".to_owned(), "d-2".to_owned());
    site.aws
        .behave(|behaviour| behaviour.instances = vec![one.clone(), two.clone()]);
    assert!(site.ends(&["once"], 1).contains("more than one"));
    site.extra = "[identity_center]\nidentity_store_id = \"d-2\"\nregion = \"eu-west-1\"\n".to_owned();
    site.good(&["once"]);
    site.extra = "[identity_center]\nidentity_store_id = \"d-3\"\n".to_owned();
    assert!(site.ends(&["once"], 1).contains("identity_store_id"));
    site.extra.clear();
    site.aws.behave(|behaviour| behaviour.instances.clear());
    assert!(site.ends(&["once"], 1).contains("no Identity Center instance"));
}

#[test]
fn another_syncer_for_the_same_source_is_noticed() {
    let site = Site::new(few());
    site.good(&["once"]);
    let mut other = site.published();
    other["sequence"] = json!(7);
    let sealed = seal(&site.identity(), &other.to_string());
    site.backend.with(|memory| memory.snapshot = Some(sealed));
    let text = site.ends(&["once"], 1);
    assert!(text.contains("another syncer") && text.contains("snapshot 7"), "{text}");
}

#[test]
fn a_snapshot_written_meanwhile_is_not_overwritten() {
    let site = Site::new(few());
    // Before anything was there, and in place of what was.
    for name in ["dave", "erin"] {
        let mut other: serde_json::Value = json!({"users": [], "groups": []});
        if site.backend.with(|memory| memory.snapshot.is_some()) {
            other = site.published();
            other["generated_at"] = json!("2026-01-01T00:00:00Z");
        } else {
            site.good(&["enroll"]);
        }
        let theirs = seal(&site.identity(), &other.to_string());
        site.backend.with(|memory| memory.overtake = Some(theirs.clone()));
        site.aws
            .edit(|directory| directory.user(&format!("u-{name}"), name).name.clone());
        let text = site.ends(&["once"], 1);
        assert!(text.contains("another syncer"), "{text}");
        assert_eq!(site.backend.with(|memory| memory.snapshot.clone()), Some(theirs));
        assert!(site.good(&["once"]).contains("published snapshot"));
    }
}

#[test]
fn a_number_with_nothing_above_it_is_named_as_forged() {
    let site = Site::new(few());
    site.good(&["enroll"]);
    let forged = seal(
        &site.identity(),
        &json!({"sequence": u64::MAX, "users": [], "groups": []}).to_string(),
    );
    site.backend.with(|memory| memory.snapshot = Some(forged));
    assert!(site.ends(&["once"], 1).contains("forged"));
}

#[test]
fn a_refused_push_is_repeated_with_the_same_ids() {
    let site = Site::new(few());
    site.backend.with(|memory| memory.refuse_put = Some(413));
    assert!(site.ends(&["once"], 1).contains("pushing the snapshot"));
    let ledger = site.good(&["ledger", "export"]);
    site.backend.with(|memory| memory.refuse_put = None);
    assert!(
        site.good(&["once"]).contains("published snapshot 2"),
        "a used number is not used again"
    );
    assert_eq!(site.good(&["ledger", "export"]), ledger);
}

#[test]
fn the_sequence_never_goes_back_although_the_state_is_lost() {
    let site = Site::new(few());
    site.good(&["once"]);
    patch(&site.path("state/published.json"), "sequence", json!(41));
    std::fs::write(site.path("state/sequence.json"), "41").unwrap();
    site.aws.edit(|directory| directory.user("u-4", "dave").name.clone());
    assert!(site.good(&["once"]).contains("published snapshot 42"));
    for name in ["published.json", "sequence.json", "report.json"] {
        std::fs::remove_file(site.path("state").join(name)).unwrap();
    }
    site.aws.edit(|directory| directory.user("u-5", "erin").name.clone());
    assert!(site.good(&["once"]).contains("published snapshot 43"));
}
