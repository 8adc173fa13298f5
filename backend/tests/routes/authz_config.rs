use super::support::{Reply, SECRET, Site, TENANT, ask};

fn put(site: &Site, body: &str) -> Reply {
    ask("PUT", "/v1/snapshot/authz-config")
        .tenant(SECRET, TENANT)
        .body(body)
        .send(site)
}

#[test]
fn rules_are_handed_out_as_they_were_put_unknown_fields_included() {
    let site = Site::enrolled();
    let rules =
        r#"{"enforce_group_memberships": true, "host_group_rules": [{"group":"eng","host":"web-1"}], "later": [1]}"#;
    put(&site, rules).expect_status(200);
    for _ in 0..2 {
        assert_eq!(site.get("/v1/snapshot/authz-config").expect_status(200).text(), rules);
    }
    put(&site, "{}").expect_status(200);
    assert_eq!(site.get("/v1/snapshot/authz-config").expect_status(200).text(), "{}");
}

#[test]
fn rules_that_deployed_agents_would_take_for_everyone_may_in_are_refused() {
    let site = Site::enrolled();
    for body in [
        r#"{"enforce_group_memberships":"true"}"#,
        r#"{"host_group_rules":[{"group":"eng"}]}"#,
        r#"{"enforce_group_memberships":true,"enforce_group_memberships":false}"#,
        "[]",
        "null",
        "",
    ] {
        put(&site, body).expect_error(422, "invalid_body");
    }
}

#[test]
fn the_tag_works_for_reading_and_for_writing() {
    let site = Site::enrolled();
    let first = site.get("/v1/snapshot/authz-config");
    let absent = first.header("etag").unwrap().to_owned();
    let unchanged = ask("GET", "/v1/snapshot/authz-config")
        .tenant(SECRET, TENANT)
        .header("If-None-Match", &absent);
    assert_eq!(unchanged.send(&site).status, 304);
    let edit = |tag: &str, body: &str| {
        ask("PUT", "/v1/snapshot/authz-config")
            .tenant(SECRET, TENANT)
            .header("If-Match", tag)
            .body(body)
            .send(&site)
    };
    // What a reader saw while nothing was stored is a good thing to start an edit from.
    let stored = edit(&absent, r#"{"enforce_group_memberships":true}"#).expect_status(200);
    edit(&absent, "{}").expect_error(412, "precondition_failed");
    edit(stored.header("etag").unwrap(), "{}").expect_status(200);
    assert_eq!(unchanged.send(&site).status, 200);
}

#[test]
fn too_many_rules_are_413() {
    let site = Site::enrolled();
    put(&site, &" ".repeat(1024 * 1024 + 1)).expect_error(413, "payload_too_large");
}
