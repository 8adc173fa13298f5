use super::support::{Reply, SECRET, Site, TENANT, ask, block_on};
use dirless_backend::store::{Principal, SecretHash};

fn put(site: &Site, body: &str) -> Reply {
    ask("PUT", "/v1/snapshot/duplicates")
        .tenant(SECRET, TENANT)
        .body(body)
        .send(site)
}

#[test]
fn a_report_is_kept_and_an_empty_one_resolves_it() {
    let site = Site::enrolled();
    let Some(Principal::Realm(credential)) = site.store.authenticate(&SecretHash::of(SECRET.as_bytes())) else {
        panic!("the realm's credential is unknown");
    };
    let tenant = site.store.tenant(&credential, TENANT).unwrap();
    let names = || {
        block_on(tenant.duplicates())
            .unwrap()
            .into_iter()
            .flat_map(|report| report.usernames)
            .collect::<Vec<_>>()
    };
    put(&site, r#"{"duplicate_usernames":["bob","alice"]}"#).expect_status(200);
    assert_eq!(names(), ["alice", "bob"]);
    put(&site, r#"{"duplicate_usernames":[]}"#).expect_status(200);
    assert!(names().is_empty());
}

#[test]
fn malformed_and_oversized_reports_are_refused() {
    let site = Site::enrolled();
    put(&site, "{}").expect_error(422, "invalid_body");
    put(&site, r#"{"duplicate_usernames":[1]}"#).expect_error(422, "invalid_body");
    let many = serde_json::json!({"duplicate_usernames": vec!["a"; 10_001]}).to_string();
    put(&site, &many).expect_error(422, "invalid_body");
    put(&site, &"x".repeat(1024 * 1024 + 1)).expect_error(413, "payload_too_large");
}
