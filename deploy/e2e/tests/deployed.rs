//! Deployed programs and ours, mixed: recorded requests of deployed clients against our backend, and our
//! agent and syncer against answers of deployed backends.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use dirless_e2e::http::{Reply, exchange};
use dirless_e2e::machine::{self, getent};
use dirless_e2e::recorded::{Answer, Recorded};
use dirless_e2e::site::{ACCOUNT, BACKEND, SECRET, Site, TENANT, private, start_backend};
use dirless_e2e::{blob, demo, vectors};
use dirless_testkit::{Program, eventually, isolated};

fn send(bytes: &[u8]) -> Reply {
    exchange(BACKEND, bytes).unwrap()
}

#[test]
fn deployed_clients_meet_our_backend() {
    isolated("deployed_clients_meet_our_backend", || {
        private("/etc/dirless/dirless.toml", &format!("[hmac]\nsecret = \"{SECRET}\"\n"))?;
        let _backend = start_backend()?;
        let probe = send(&vectors::probe());
        assert_eq!(probe.status, 401, "a probe before anything is stored");

        // The recorded enrolment, byte for byte, and again with the key that the sealed example is for.
        let recorded = send(&vectors::enrolment(
            "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s",
        ));
        assert_eq!(
            (recorded.status, recorded.json()?["status"].as_str()),
            (200, Some("enrolled"))
        );
        let key = blob::recipient(vectors::IDENTITY)?;
        assert_eq!(send(&vectors::enrolment(&key)).status, 200);

        // Deployed syncers say aws___X, deployed agents X: one tenant.
        assert_eq!(send(&vectors::ask("/v1/snapshot/aws-identity-center")).status, 404);
        assert_eq!(send(&vectors::push(&key, vectors::SEALED)).status, 200);
        let other = "age1sc4gd6wwdn3mfcc9r26lmeh0ze0l67artuy6gjp73ztafn3amensnq6mr6";
        assert_eq!(
            send(&vectors::push(other, vectors::SEALED)).status,
            409,
            "sealed for another key"
        );

        // One cycle of agent 0.4.12, in its order.
        let cloud = send(&vectors::ask("/v1/snapshot/aws-identity-center"));
        assert_eq!((cloud.status, cloud.header("x-dirless-encrypted")), (200, Some("age")));
        assert_eq!(cloud.text(), vectors::SEALED, "the body comes back as it went in");
        assert_eq!(send(&vectors::ask("/v1/snapshot/local")).status, 404);
        let rules = send(&vectors::ask("/v1/snapshot/authz-config"));
        assert_eq!(rules.status, 200);
        assert_eq!(rules.json()?["enforce_group_memberships"], false);
        let duplicates = "{\"duplicate_usernames\":[\"alice\"]}";
        assert_eq!(
            send(&vectors::tell("PUT", "/v1/snapshot/duplicates", duplicates)).status,
            200
        );
        let heartbeat = "{\"agent_id\":\"node-a\",\"hostname\":\"vm\"}";
        assert_eq!(
            send(&vectors::tell("POST", "/v1/agent/heartbeat", heartbeat)).status,
            200
        );
        let authority = send(&vectors::ask("/v1/snapshot/ca-public-key"));
        assert_eq!(
            (authority.status, authority.json()?["ca_public_key"].is_null()),
            (200, true)
        );

        let health = send(&vectors::ask("/v1/health")).json()?;
        assert_eq!(
            (health["status"].as_str(), health["active_agents"].as_u64()),
            (Some("ok"), Some(1)),
            "{health}"
        );
        assert_eq!(health["agents"][0]["agent_id"], "node-a");
        Ok(())
    })
    .unwrap();
}

#[test]
fn our_agent_meets_a_deployed_backend() {
    isolated("our_agent_meets_a_deployed_backend", || {
        machine::install(&["dirless-agent"])?;
        let backend = Recorded::start(BACKEND)?;
        backend.answer("GET /v1/snapshot/aws-identity-center", Answer::sealed(vectors::SEALED));
        private("/srv/age.key", vectors::IDENTITY)?;
        private("/srv/token", SECRET)?;
        Program::ours("dirless")?
            .args([
                "enroll",
                "--server",
                &backend.url(),
                "--tenant-id",
                TENANT,
                "--token-file",
                "/srv/token",
            ])
            .args(["--age-key", "/srv/age.key"])
            .succeed()?;
        let enrolment = backend
            .asked()
            .into_iter()
            .find(|asked| asked.line == "POST /v1/enrollment/enroll")
            .unwrap();
        let body: serde_json::Value = serde_json::from_slice(&enrolment.body)?;
        let key = blob::recipient(vectors::IDENTITY)?;
        assert_eq!(body, serde_json::json!({"tenant_id": TENANT, "age_public_key": key}));
        assert_eq!(
            enrolment.header("authorization"),
            Some(format!("Bearer {SECRET}").as_str())
        );

        demo::quicken()?;
        Program::ours("dirless")?.arg("install").succeed()?;
        let _agent = demo::start_agent()?;
        let alice = eventually(Duration::from_secs(60), "alice", || {
            getent("passwd", "alice").ok().flatten()
        })?;
        assert_eq!(alice, "alice:x:60002:60001:Alice Example:/home/alice:/bin/bash");
        // The deployed syncer copies display names; here they become names that Linux can use.
        assert_eq!(
            getent("group", "engineering-team")?.as_deref(),
            Some("engineering-team:x:60001:alice")
        );
        assert_eq!(
            getent("group", "60003")?.as_deref(),
            Some("bob:x:60003:"),
            "a private group for bob"
        );
        eventually(Duration::from_secs(60), "a heartbeat", || {
            (backend.count("POST /v1/agent/heartbeat") > 0).then_some(())
        })?;
        let tenant = backend
            .asked()
            .iter()
            .filter_map(|asked| asked.header("x-tenant-id").map(str::to_owned))
            .collect::<Vec<_>>();
        assert!(tenant.iter().all(|tenant| tenant == TENANT), "{tenant:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn our_syncer_meets_a_deployed_backend() {
    isolated("our_syncer_meets_a_deployed_backend", || {
        let site = Site::new()?;
        let alice = site.moto.add_user("alice", "Alice Example")?;
        site.moto.add_group("Engineering Team", &[&alice])?;
        let backend = Recorded::start(BACKEND)?;
        backend.answer(
            "PUT /v1/snapshot/aws-identity-center",
            Answer::json(200, "{\"status\":\"ok\"}"),
        );
        site.syncer()?.arg("enroll").succeed()?;
        site.syncer()?.arg("once").succeed()?;
        let push = backend
            .asked()
            .into_iter()
            .find(|asked| asked.line.starts_with("PUT "))
            .unwrap();
        assert_eq!(push.line, "PUT /v1/snapshot/aws-identity-center");
        let identity = std::fs::read_to_string(Site::age_key())?;
        let identity = identity
            .lines()
            .find(|line| line.starts_with("AGE-SECRET-KEY-1"))
            .unwrap();
        let tenant = push.header("x-tenant-id").unwrap();
        assert_eq!(tenant.trim_start_matches("aws___"), TENANT);
        for (name, value) in [
            ("content-type", "application/octet-stream"),
            ("x-dirless-recipient", blob::recipient(identity)?.as_str()),
            ("x-dirless-user-count", "1"),
            ("x-dirless-group-count", "1"),
            ("x-aws-account-id", ACCOUNT),
        ] {
            assert_eq!(push.header(name), Some(value), "{name}");
        }
        // What agent 0.4.12 insists on: one line of base64, all five strings and integers of a user.
        assert!(
            push.body
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte))
        );
        let snapshot = blob::opened(identity, &push.body)?;
        let user = &snapshot["users"][0];
        assert_eq!(
            (user["username"].as_str(), user["gecos"].as_str()),
            (Some("alice"), Some("Alice Example"))
        );
        assert_eq!(
            (user["home"].as_str(), user["shell"].as_str()),
            (Some("/home/alice"), Some("/bin/bash"))
        );
        for number in [&user["uid"], &user["gid"], &snapshot["groups"][0]["gid"]] {
            assert!(
                number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
                "{number}"
            );
        }
        assert_eq!(snapshot["groups"][0]["members"], serde_json::json!(["alice"]));
        Ok(())
    })
    .unwrap();
}

#[test]
fn defect_15_a_bearer_reaches_its_own_realm_and_leaves_a_trace() {
    isolated("defect_15_a_bearer_reaches_its_own_realm_and_leaves_a_trace", || {
        private("/etc/dirless/dirless.toml", &format!("[hmac]\nsecret = \"{SECRET}\"\n"))?;
        let _backend = start_backend()?;
        let key = blob::recipient(vectors::IDENTITY)?;
        assert_eq!(send(&vectors::enrolment(&key)).status, 200);
        assert_eq!(send(&vectors::push(&key, vectors::SEALED)).status, 200);

        // A host of another customer: its bearer is as good as a wrong one for this tenant.
        let other = Program::ours("dirless-backend")?
            .args(["realm", "create", "other"])
            .succeed()?;
        let with =
            |bytes: Vec<u8>, bearer: &str| String::from_utf8(bytes).unwrap().replace(SECRET, bearer).into_bytes();
        let attempts: [Vec<u8>; 5] = [
            vectors::ask("/v1/snapshot/aws-identity-center"),
            vectors::push(&key, vectors::SEALED),
            vectors::tell(
                "PUT",
                "/v1/snapshot/authz-config",
                "{\"enforce_group_memberships\":false,\"host_group_rules\":[]}",
            ),
            vectors::tell(
                "POST",
                "/v1/admin/settings",
                "{\"key\":\"ca_public_key\",\"value\":\"x\"}",
            ),
            vectors::tell(
                "PUT",
                "/v1/snapshot/public-key",
                &format!("{{\"age_public_key\":\"{key}\"}}"),
            ),
        ];
        for attempt in attempts {
            let line = String::from_utf8_lossy(&attempt).lines().next().unwrap().to_owned();
            let theirs = eventually(Duration::from_secs(60), "the new realm to be known", || {
                let reply = send(&with(attempt.clone(), other.trim()));
                (reply.status != 503).then_some(reply)
            })?;
            let wrong = send(&with(attempt, "a-wrong-bearer-of-the-same-length-about"));
            assert_eq!((theirs.status, theirs.text()), (401, wrong.text()), "{line}");
        }
        // Within a tenant the protocol has one bearer for all; what it writes is on record.
        let audit = "import sqlite3\n\
                     for row in sqlite3.connect('/var/lib/dirless/backend/dirless.db').execute(\n\
                     'select realm, role, action, address from audit order by id'): print(*row)\n";
        let audit = Program::system("/usr/bin/python3").args(["-c", audit]).succeed()?;
        assert!(
            audit.contains("classic") && audit.contains("127.0.0.1") && audit.contains("snapshot"),
            "{audit}"
        );
        assert!(!audit.contains(SECRET), "{audit}");
        Ok(())
    })
    .unwrap();
}
