use super::support::{SECRET, Site, TENANT, ask};

#[test]
fn a_key_is_set_replaced_and_withdrawn() {
    let site = Site::enrolled();
    let set = |value: &str| {
        let body = serde_json::json!({"key": "ca_public_key", "value": value}).to_string();
        ask("POST", "/v1/admin/settings")
            .tenant(SECRET, TENANT)
            .body(body)
            .send(&site)
            .expect_status(200)
    };
    let read = || site.get("/v1/snapshot/ca-public-key").expect_status(200).json()["ca_public_key"].clone();
    assert!(read().is_null() && read().is_null());
    for key in ["ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"] {
        set(key);
        assert_eq!((read(), read()), (key.into(), key.into()));
    }
    set("");
    assert!(read().is_null());
}

#[test]
fn reads_are_conditional() {
    let site = Site::enrolled();
    let tag = site
        .get("/v1/snapshot/ca-public-key")
        .header("etag")
        .unwrap()
        .to_owned();
    let again = ask("GET", "/v1/snapshot/ca-public-key")
        .tenant(SECRET, TENANT)
        .header("If-None-Match", &tag);
    assert_eq!(again.send(&site).status, 304);
}
