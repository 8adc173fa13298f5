//! Who gets what: one answer to all wrong credentials, and nothing across realms.

use std::net::TcpStream;
use std::time::Duration;

use dirless_backend::store::{RealmChange, RealmName, RealmState, SecretHash};
use proptest::prelude::*;

use super::support::{KEY, OTHER_SECRET, SEALED, SECRET, Site, TENANT, ask, block_on, eventually};

/// Every route of a tenant, with a body that would do.
fn routes() -> Vec<(&'static str, &'static str, Option<&'static str>)> {
    vec![
        ("GET", "/v1/snapshot/public-key", None),
        ("PUT", "/v1/snapshot/public-key", Some("{}")),
        ("GET", "/v1/snapshot/aws-identity-center", None),
        ("HEAD", "/v1/snapshot/aws-identity-center", None),
        ("PUT", "/v1/snapshot/aws-identity-center", Some(SEALED)),
        ("DELETE", "/v1/snapshot/local", None),
        ("GET", "/v1/snapshot/local", None),
        ("GET", "/v1/snapshot/authz-config", None),
        ("PUT", "/v1/snapshot/authz-config", Some("{}")),
        ("GET", "/v1/snapshot/ca-public-key", None),
        ("PUT", "/v1/snapshot/duplicates", Some(r#"{"duplicate_usernames":[]}"#)),
        (
            "POST",
            "/v1/agent/heartbeat",
            Some(r#"{"agent_id":"a","hostname":"h"}"#),
        ),
        ("POST", "/v1/admin/settings", Some(r#"{"key":"a","value":"b"}"#)),
        ("POST", "/v1/syncer/sync", Some("x")),
    ]
}

#[test]
fn all_wrong_credentials_get_the_same_bytes_on_every_route() {
    let site = Site::enrolled();
    for (method, path, body) in routes() {
        let request = || {
            let request = ask(method, path).header("X-Dirless-Recipient", KEY);
            body.map_or(request.clone(), |body| request.body(body))
        };
        let unknown_bearer = request().tenant("wrong", TENANT).send(&site).lasting();
        assert_eq!(unknown_bearer.status, 401, "{method} {path}");
        for other in [
            request().tenant(SECRET, "never-enrolled"),
            request().tenant(OTHER_SECRET, TENANT),
            request().tenant(SECRET, "not a tenant id"),
            request().bearer(SECRET),
            request().header("X-Tenant-ID", TENANT),
            request()
                .header("Authorization", "Basic eDp5")
                .header("X-Tenant-ID", TENANT),
        ] {
            assert_eq!(other.send(&site).lasting(), unknown_bearer, "{method} {path}");
        }
    }
}

#[test]
fn what_a_connection_proved_is_good_for_the_very_same_headers_alone() {
    let site = Site::enrolled();
    site.enroll(OTHER_SECRET, "other", KEY).expect_status(200);
    site.put("local", SEALED).expect_status(200);
    site.get("/v1/snapshot/local").expect_status(200);
    let mut stream = site.connect();
    let mut read = |bearer: &str, tenant: &str| {
        let request = ask("GET", "/v1/snapshot/local").tenant(bearer, tenant);
        request.send_on(&mut stream).status
    };
    let nearly = format!("{}2", &SECRET[..SECRET.len() - 1]);
    for (bearer, tenant, status) in [
        (nearly.as_str(), TENANT, 401),
        ("", TENANT, 401),
        (&format!("{SECRET}x"), TENANT, 401),
        (&SECRET[..SECRET.len() - 1], TENANT, 401),
        (OTHER_SECRET, TENANT, 401),
        (SECRET, "other", 401),
        (SECRET, "never-enrolled", 401),
        (OTHER_SECRET, "other", 404),
        (SECRET, &format!("aws___{TENANT}"), 200),
    ] {
        assert_eq!(read(SECRET, TENANT), 200);
        assert_eq!(read(bearer, tenant), status, "{bearer} {tenant}");
        assert_eq!(read(bearer, tenant), status, "{bearer} {tenant}, again");
    }
    let mut stream = site.connect();
    assert_eq!(read_on(&mut stream), 200);
    let nobody = ask("GET", "/v1/snapshot/local").header("X-Tenant-ID", TENANT);
    assert_eq!(nobody.send_on(&mut stream).status, 401);
    assert_eq!(
        ask("GET", "/v1/snapshot/local")
            .bearer(SECRET)
            .send_on(&mut stream)
            .status,
        401
    );
}

fn read_on(stream: &mut TcpStream) -> u16 {
    let request = ask("GET", "/v1/snapshot/local").tenant(SECRET, TENANT);
    request.send_on(stream).status
}

#[test]
fn an_open_connection_follows_what_becomes_of_its_realm() {
    let site = Site::enrolled();
    site.put("local", SEALED).expect_status(200);
    let realm = RealmName::default_realm();
    let set = |state| {
        assert_eq!(
            block_on(site.store.set_realm_state(&realm, state)).unwrap(),
            RealmChange::Done
        )
    };
    let rotate = |secret: &str, keep_old| {
        let secret = SecretHash::of(secret.as_bytes());
        let change = block_on(site.store.rotate_realm(&realm, secret, keep_old)).unwrap();
        assert_eq!(change, RealmChange::Done);
    };
    let mut stream = site.connect();
    assert_eq!(read_on(&mut stream), 200);
    set(RealmState::Suspended);
    assert_eq!(read_on(&mut stream), 403);
    set(RealmState::Active);
    assert_eq!(read_on(&mut stream), 200);
    rotate("the-next", Some(Duration::from_millis(500)));
    eventually("the old bearer ends", || read_on(&mut stream) == 401);
    rotate(SECRET, None);
    assert_eq!(read_on(&mut stream), 200);
    rotate("one-more", None);
    assert_eq!(read_on(&mut stream), 401);
}

#[test]
fn unknown_routes_and_methods_are_json_too() {
    let site = Site::enrolled();
    for path in [
        "/",
        "/v1",
        "/v1/snapshots",
        "/v1/snapshot/",
        "/v1/snapshot/a/b",
        "/v2/",
        "/%00",
    ] {
        let reply = ask("GET", path).tenant(SECRET, TENANT).send(&site);
        reply.expect_error(404, "not_found");
    }
    for (path, allow) in [
        ("/v1/enrollment/enroll", "POST"),
        ("/v1/snapshot", "GET, HEAD"),
        ("/v1/snapshot/public-key", "GET, HEAD, PUT"),
        ("/v1/snapshot/authz-config", "GET, HEAD, PUT"),
        ("/v1/snapshot/ca-public-key", "GET, HEAD"),
        ("/v1/snapshot/duplicates", "PUT"),
        ("/v1/snapshot/local", "GET, HEAD, PUT, DELETE"),
        ("/v1/agent/heartbeat", "POST"),
        ("/v1/admin/settings", "POST"),
        ("/v1/syncer/sync", "POST"),
        ("/v1/health", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
    ] {
        for method in ["PATCH", "OPTIONS", "PURGE"] {
            let reply = ask(method, path).tenant(SECRET, TENANT).send(&site);
            assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
            reply.expect_error(405, "method_not_allowed");
        }
    }
}

#[test]
fn request_ids_come_back_and_are_made_when_missing() {
    let site = Site::enrolled();
    let given = ask("GET", "/v1/health").header("X-Request-Id", "abc-1").send(&site);
    assert_eq!(given.header("x-request-id"), Some("abc-1"));
    let made = ask("GET", "/v1/health").header("X-Request-Id", "a b").send(&site);
    assert!(made.header("x-request-id").is_some_and(|id| id != "a b"));
}

#[derive(Clone, Debug)]
enum Act {
    Enroll(usize, usize),
    Put(usize, usize, u8),
    Read(usize, usize),
    Delete(usize, usize),
}

fn act() -> impl Strategy<Value = Act> {
    let pair = (0..2usize, 0..3usize);
    prop_oneof![
        pair.clone().prop_map(|(r, t)| Act::Enroll(r, t)),
        (pair.clone(), any::<u8>()).prop_map(|((r, t), n)| Act::Put(r, t, n)),
        pair.clone().prop_map(|(r, t)| Act::Read(r, t)),
        pair.prop_map(|(r, t)| Act::Delete(r, t)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever two realms do to three tenants, each tenant answers only the realm that enrolled it
    /// first, with what that realm put there last.
    #[test]
    fn realms_never_reach_each_other(acts in proptest::collection::vec(act(), 1..25)) {
        let site = Site::start();
        let (secrets, tenants) = ([SECRET, OTHER_SECRET], ["t0", "aws___t1", "t2"]);
        let mut owner = [None; 3];
        let mut stored: [Option<String>; 3] = [None, None, None];
        for act in acts {
            match act {
                Act::Enroll(realm, tenant) => {
                    let expected = if *owner[tenant].get_or_insert(realm) == realm { 200 } else { 401 };
                    site.enroll(secrets[realm], tenants[tenant], KEY).expect_status(expected);
                }
                Act::Put(realm, tenant, number) => {
                    let body = format!("{SEALED}{number}");
                    let reply = ask("PUT", "/v1/snapshot/local").tenant(secrets[realm], tenants[tenant])
                        .header("X-Dirless-Recipient", KEY).body(body.clone()).send(&site);
                    if owner[tenant] == Some(realm) {
                        reply.expect_status(200);
                        stored[tenant] = Some(body);
                    } else {
                        reply.expect_status(401);
                    }
                }
                Act::Read(realm, tenant) => {
                    let reply = ask("GET", "/v1/snapshot/local").tenant(secrets[realm], tenants[tenant]).send(&site);
                    match &stored[tenant] {
                        _ if owner[tenant] != Some(realm) => drop(reply.expect_status(401)),
                        None => drop(reply.expect_status(404)),
                        Some(body) => prop_assert_eq!(&reply.expect_status(200).body, body.as_bytes()),
                    }
                }
                Act::Delete(realm, tenant) => {
                    let reply = ask("DELETE", "/v1/snapshot/local").tenant(secrets[realm], tenants[tenant]).send(&site);
                    if owner[tenant] == Some(realm) {
                        reply.expect_status(200);
                        stored[tenant] = None;
                    } else {
                        reply.expect_status(401);
                    }
                }
            }
        }
    }
}
