use super::support::{KEY, OTHER_KEY, SEALED, SECRET, Site, TENANT, ask};

const STATE: &str = "x-dirless-tenant-state";

/// The tag that a heartbeat is answered with, on the hot path and off it alike.
fn tag(site: &Site) -> String {
    let beat = || {
        ask("POST", "/v1/agent/heartbeat")
            .tenant(SECRET, TENANT)
            .body(r#"{"agent_id":"a","hostname":"h"}"#)
    };
    let traced = beat().header("X-Request-Id", "mine").send(site).expect_status(200);
    let plain = beat().send(site).expect_status(200);
    assert_eq!(plain.header(STATE), traced.header(STATE));
    let read = site.get("/v1/snapshot").expect_status(200);
    assert_eq!(read.header("etag"), plain.header(STATE));
    plain.header(STATE).unwrap().to_owned()
}

#[test]
fn its_tag_changes_with_all_that_hosts_read_and_with_nothing_else() {
    let site = Site::enrolled();
    let mut last = tag(&site);
    assert_eq!(tag(&site), last);
    let mut other = |what: &str| {
        let now = tag(&site);
        assert_ne!(now, last, "{what}");
        last = now;
    };
    site.put("local", SEALED).expect_status(200);
    other("a snapshot");
    let long: String = SEALED.chars().cycle().take(3 * SEALED.len()).collect();
    site.put("local", &long).expect_status(200);
    other("another snapshot");
    let put = |path: &str, body: &str| {
        ask("PUT", path)
            .tenant(SECRET, TENANT)
            .body(body)
            .send(&site)
            .expect_status(200)
    };
    put(
        "/v1/snapshot/authz-config",
        r#"{"enforce_group_memberships":true,"host_group_rules":[]}"#,
    );
    other("access rules");
    let set = |key: &str, value: &str| {
        let body = serde_json::json!({"key": key, "value": value}).to_string();
        ask("POST", "/v1/admin/settings")
            .tenant(SECRET, TENANT)
            .body(body)
            .send(&site)
            .expect_status(200);
    };
    set("ca_public_key", "ssh-ed25519 AAAA one");
    other("a CA key");
    ask("DELETE", "/v1/snapshot/local")
        .tenant(SECRET, TENANT)
        .send(&site)
        .expect_status(200);
    other("a deletion");
    site.enroll(SECRET, TENANT, OTHER_KEY).expect_status(200);
    other("another key");

    set("theme", "dark");
    put("/v1/snapshot/duplicates", r#"{"duplicate_usernames":["alice"]}"#);
    ask("DELETE", "/v1/snapshot/local").tenant(SECRET, TENANT).send(&site);
    assert_eq!(tag(&site), last, "nothing of that is read by hosts");
}

#[test]
fn it_names_every_source_by_its_tag() {
    let site = Site::enrolled();
    let tag = site
        .put("local", SEALED)
        .expect_status(200)
        .header("etag")
        .unwrap()
        .to_owned();
    site.put("aws-identity-center", SEALED).expect_status(200);
    ask("DELETE", "/v1/snapshot/aws-identity-center")
        .tenant(SECRET, TENANT)
        .send(&site)
        .expect_status(200);
    let state = site.get("/v1/snapshot").expect_status(200).json();
    let expected = serde_json::json!({
        "sources": {"local": tag, "aws-identity-center": null},
        "authz_config": null, "ca_public_key": null, "public_key": KEY,
    });
    assert_eq!(state, expected);
}

#[test]
fn strangers_learn_nothing() {
    let site = Site::enrolled();
    ask("GET", "/v1/snapshot").send(&site).expect_error(401, "unauthorized");
    let unknown = ask("GET", "/v1/snapshot").tenant(SECRET, "unknown").send(&site);
    unknown.expect_error(401, "unauthorized");
}
