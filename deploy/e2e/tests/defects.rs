//! Defects 1 to 8 of deployed Dirless, each shown to be absent on a whole host. (docs/testing.md has
//! the list of all sixteen.)

#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use dirless_e2e::machine::getent;
use dirless_e2e::recorded::{Answer, Recorded};
use dirless_e2e::site::private;
use dirless_e2e::world::{World, appears, as_nobody, below, group, keys, user, vanishes};
use dirless_e2e::{blob, vectors};
use dirless_testkit::{Program, isolated};
use serde_json::{Value, json};

const CLOUD: &str = "GET /v1/snapshot/aws-identity-center";
const LOCAL: &str = "GET /v1/snapshot/local";

/// Sealed with nothing but the public key, as a hostile backend can.
fn sealed(snapshot: &Value) -> Answer {
    let key = blob::recipient(vectors::IDENTITY).unwrap();
    Answer::sealed(&blob::sealed(&key, snapshot).unwrap())
}

/// Has the agent go through three more cycles: what has not happened by then does not happen. (By
/// itself it would wait longer and longer after failures.)
fn cycles(backend: &Recorded) -> anyhow::Result<()> {
    let seen = backend.count(CLOUD);
    for _ in 0..3 {
        Program::ours("dirless")?.arg("refresh").run()?;
    }
    assert!(backend.count(CLOUD) >= seen + 3, "refreshing asks nobody");
    Ok(())
}

#[test]
fn defect_01_environment_cannot_redirect_a_lookup() {
    isolated("defect_01_environment_cannot_redirect_a_lookup", || {
        let world = World::start()?;
        world.put("local", &json!({"users": [user("alice", 100_001)]}))?;
        appears("alice")?;
        let socket = "/run/work/evil.sock";
        let listener = UnixListener::bind(socket)?;
        std::fs::set_permissions("/run/work", std::fs::Permissions::from_mode(0o755))?;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o777))?;
        listener.set_nonblocking(true)?;
        for command in [vec!["getent", "passwd", "evil"], vec!["su", "evil", "-c", "id"]] {
            let outcome = as_nobody(command).env("DIRLESS_NSS_SOCK", socket).run()?;
            assert!(!outcome.status.success(), "{outcome:?}");
        }
        let alice = as_nobody(["getent", "passwd", "alice"])
            .env("DIRLESS_NSS_SOCK", socket)
            .succeed()?;
        assert!(alice.starts_with("alice:x:100001:"));
        assert!(listener.accept().is_err(), "somebody connected to the planted socket");
        Ok(())
    })
    .unwrap();
}

#[test]
fn defect_02_local_users_cannot_rewrite_the_state() {
    isolated("defect_02_local_users_cannot_rewrite_the_state", || {
        // What a deployed agent leaves behind.
        std::fs::create_dir_all("/var/lib/dirless")?;
        std::fs::set_permissions("/var/lib/dirless", std::fs::Permissions::from_mode(0o1777))?;
        for name in ["local.db", "local.db-wal", "local.db-shm"] {
            let path = Path::new("/var/lib/dirless").join(name);
            std::fs::write(&path, "TPANDADB")?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        }
        let world = World::start()?;
        let mut snapshot = json!({"users": [user("alice", 100_001)]});
        snapshot["ssh_keys"] = json!({"alice": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq a\n"});
        world.put("local", &snapshot)?;
        appears("alice")?;
        for path in below("/var/lib/dirless")? {
            let mode = std::fs::symlink_metadata(&path)?.permissions().mode();
            assert_eq!(mode & 0o022, 0, "{} is writable by others: {mode:o}", path.display());
        }
        for name in ["local.db", "local.db-wal", "local.db-shm"] {
            let mode = std::fs::metadata(Path::new("/var/lib/dirless").join(name))?.permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name} keeps old secrets");
        }
        let script = "echo x >/var/lib/dirless/nss/table || mv /run/work/x /var/lib/dirless/nss/table || rm -f /var/lib/dirless/nss/table";
        assert!(!as_nobody(["sh", "-c", script]).run()?.status.success());
        private("/srv/evil.db", "evil")?;
        let root = as_nobody([dirless_e2e::world::KEYS_HELPER, "root"]).env("DIRLESS_DB_PATH", "/srv/evil.db").succeed()?;
        assert_eq!(root, "", "keys for root");
        Ok(())
    })
    .unwrap();
}

#[test]
fn defect_03_a_snapshot_in_clear_is_never_taken() {
    isolated("defect_03_a_snapshot_in_clear_is_never_taken", || {
        let backend = Recorded::start("127.0.0.1:4000")?;
        backend.answer(CLOUD, Answer::sealed(vectors::SEALED));
        let _world = World::of(&backend)?;
        appears("alice")?;
        let planted = json!({"users": [user("mallory", 100_666)], "groups": []}).to_string();
        let spelled = |value: &str| {
            Answer::Reply(
                200,
                vec![("X-Dirless-Encrypted".to_owned(), value.to_owned())],
                planted.clone().into_bytes(),
            )
        };
        for answer in [Answer::clear(&planted), spelled("true"), spelled("AGE"), spelled("age")] {
            backend.answer(CLOUD, answer);
            cycles(&backend)?;
            assert_eq!(getent("passwd", "mallory")?, None);
            assert!(getent("passwd", "alice")?.is_some(), "the last good copy is lost");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn defect_04_no_directory_makes_root() {
    isolated("defect_04_no_directory_makes_root", || {
        let world = World::start()?;
        let mut newline = user("newline", 100_010);
        newline["gecos"] = json!("x\ntoor2:x:0:0::/root:/bin/sh");
        let mut home = user("colon", 100_011);
        home["home"] = json!("/home/x:/bin/sh\nroot");
        let mut zero_group = user("zerogroup", 100_012);
        zero_group["gid"] = json!(0);
        let users = vec![
            user("alice", 100_001),
            user("toor", 0),
            user("root", 100_002),
            user("daemon", 100_003),
            user("system", 33),
            user("minus", -1),
            user("nobody2", 65_534),
            user("with:colon", 100_004),
            user("-rf", 100_005),
            newline,
            home,
            zero_group,
        ];
        let groups = vec![
            group("sudo", 100_100, &["alice"]),
            group("wheelers", 27, &["alice"]),
            group("zero", 0, &["alice"]),
            group("docker", 999, &["alice"]),
            group("staff-ok", 100_101, &["alice"]),
        ];
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq x";
        world.put(
            "local",
            &json!({"users": users, "groups": groups, "ssh_keys": {"root": key, "daemon": key}}),
        )?;
        appears("alice")?;
        for name in [
            "toor",
            "toor2",
            "system",
            "minus",
            "nobody2",
            "with:colon",
            "colon",
            "zerogroup",
        ] {
            assert_eq!(getent("passwd", name)?, None, "{name} became a user");
        }
        // A comment may be anything; it is made harmless.
        let newline = getent("passwd", "newline")?.unwrap_or_default();
        assert!(newline.is_empty() || newline.split(':').count() == 7, "{newline}");
        for name in ["root", "daemon"] {
            assert_eq!(keys(name)?, "", "{name} has keys from a directory");
        }
        let passwd = Program::system("getent").arg("passwd").succeed()?;
        assert_eq!(
            passwd
                .lines()
                .filter(|line| line.split(':').nth(2) == Some("0"))
                .count(),
            1,
            "{passwd}"
        );
        let id = Program::system("id").arg("alice").succeed()?;
        assert!(
            id.contains("staff-ok") && !id.contains("(sudo)") && !id.contains("=27") && !id.contains(",27("),
            "{id}"
        );
        let status = Program::ours("dirless")?.args(["status", "--json"]).run()?.stdout;
        assert!(
            status.contains("toor") && status.contains("sudo"),
            "nobody is told what was dropped:\n{status}"
        );
        Ok(())
    })
    .unwrap();
}

#[test]
fn defect_06_rules_hold_when_their_endpoint_fails() {
    isolated("defect_06_rules_hold_when_their_endpoint_fails", || {
        const RULES: &str = "GET /v1/snapshot/authz-config";
        let backend = Recorded::start("127.0.0.1:4000")?;
        backend.answer(CLOUD, Answer::sealed(vectors::SEALED));
        let rules = r#"{"enforce_group_memberships": true, "host_group_rules": [{"group": "Engineering Team", "host": "web-1"}]}"#;
        backend.answer(RULES, Answer::json(200, rules));
        let _world = World::of(&backend)?;
        appears("alice")?;
        assert_eq!(getent("passwd", "bob")?, None, "bob is in no group that may enter");
        let failures = [
            Answer::json(500, "{}"), Answer::json(404, "{\"error\":\"x\"}"), Answer::Drop, Answer::json(200, "{\"enforce"),
            Answer::json(200, "[]"), Answer::json(200, "{\"enforce_group_memberships\":\"true\"}"), Answer::json(401, "{}"),
        ];
        for failure in failures {
            backend.answer(RULES, failure.clone());
            cycles(&backend)?;
            assert_eq!(getent("passwd", "bob")?, None, "bob was let in by {failure:?}");
            assert!(getent("passwd", "alice")?.is_some(), "alice was shut out by {failure:?}");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn defect_07_old_or_missing_snapshots_change_nothing() {
    isolated("defect_07_old_or_missing_snapshots_change_nothing", || {
        let backend = Recorded::start("127.0.0.1:4000")?;
        let at = |sequence: u64, users: Vec<Value>| json!({"sequence": sequence, "users": users, "groups": []});
        let old = sealed(&at(4, vec![user("alice", 100_001), user("leaver", 100_002)]));
        backend.answer(CLOUD, old.clone());
        let _world = World::of(&backend)?;
        appears("leaver")?;
        backend.answer(CLOUD, sealed(&at(5, vec![user("alice", 100_001)])));
        vanishes("leaver")?;
        let unnumbered = sealed(&json!({"users": [user("alice", 100_001), user("leaver", 100_002)], "groups": []}));
        for replayed in [old, unnumbered] {
            backend.answer(CLOUD, replayed);
            cycles(&backend)?;
            assert_eq!(getent("passwd", "leaver")?, None, "an old snapshot was taken");
        }
        backend.answer(CLOUD, Answer::json(404, "{\"error\":\"not found\"}"));
        cycles(&backend)?;
        assert!(
            getent("passwd", "alice")?.is_some(),
            "one missing answer erased a source"
        );
        Ok(())
    })
    .unwrap();
}

#[test]
fn defect_08_a_bad_record_does_not_stop_the_others() {
    isolated("defect_08_a_bad_record_does_not_stop_the_others", || {
        let world = World::start()?;
        world.put(
            "aws-identity-center",
            &json!({"users": [user("alice", 100_001), user("bob", 100_002)], "groups": []}),
        )?;
        appears("bob")?;
        let broken = json!({"username": "half", "uid": "7"});
        let clash = user("clash", 100_001);
        let users = vec![
            user("alice", 100_001),
            broken,
            clash,
            json!(null),
            user("carol", 100_003),
        ];
        let groups = json!([group("team", 100_050, &["carol"]), group("team2", 100_050, &[]), {"name": 7}]);
        world.put("aws-identity-center", &json!({"users": users, "groups": groups}))?;
        appears("carol")?;
        vanishes("bob")?;
        world.put(
            "aws-identity-center",
            &json!({"users": [user("carol", 100_003)], "groups": []}),
        )?;
        vanishes("alice")?;
        assert!(getent("passwd", "carol")?.is_some());
        // A blob that does not open at all: the other source's changes still arrive.
        let backend_body = b"YWdlLWVuY3J5cHRpb24ub3JnL3YxCg==";
        let key = blob::recipient(vectors::IDENTITY)?;
        dirless_e2e::site::call(
            "PUT",
            "/v1/snapshot/aws-identity-center",
            &[("X-Dirless-Recipient", &key)],
            backend_body,
        )?;
        world.put("local", &json!({"users": [user("dora", 100_004)], "groups": []}))?;
        appears("dora")?;
        assert!(
            getent("passwd", "carol")?.is_some(),
            "the last good copy of the other source is lost"
        );
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_local_source_is_asked_for_too() {
    isolated("the_local_source_is_asked_for_too", || {
        let backend = Recorded::start("127.0.0.1:4000")?;
        backend.answer(CLOUD, Answer::sealed(vectors::SEALED));
        backend.answer(LOCAL, sealed(&json!({"users": [user("alice", 100_001)], "groups": []})));
        let _world = World::of(&backend)?;
        let alice = appears("alice")?;
        assert!(
            alice.starts_with("alice:x:100001:"),
            "the local record does not win: {alice}"
        );
        Ok(())
    })
    .unwrap();
}
