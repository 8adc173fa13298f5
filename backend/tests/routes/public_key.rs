use super::support::{KEY, OTHER_KEY, Reply, SEALED, SECRET, Site, TENANT, ask};

fn put(site: &Site, key: &str) -> Reply {
    let body = format!(r#"{{"age_public_key":"{key}"}}"#);
    ask("PUT", "/v1/snapshot/public-key")
        .tenant(SECRET, TENANT)
        .body(body)
        .send(site)
}

#[test]
fn the_first_writer_wins_by_default() {
    let site = Site::enrolled();
    put(&site, KEY).expect_status(200);
    assert_eq!(
        put(&site, OTHER_KEY).expect_error(409, "key_mismatch")["registered_key"],
        KEY
    );
    assert_eq!(site.get("/v1/snapshot/public-key").json()["age_public_key"], KEY);
}

#[test]
fn rotation_replaces_where_it_is_configured_and_takes_effect_at_once() {
    let site = Site::enrolled_with("[keys]\nreplace_by = \"rotate-key\"\n");
    assert_eq!(site.get("/v1/snapshot/public-key").json()["age_public_key"], KEY);
    put(&site, OTHER_KEY).expect_status(200);
    assert_eq!(site.get("/v1/snapshot/public-key").json()["age_public_key"], OTHER_KEY);
    site.put("local", SEALED).expect_error(409, "recipient_mismatch");
    assert_eq!(
        site.enroll(SECRET, TENANT, KEY).expect_error(409, "key_mismatch")["registered_key"],
        OTHER_KEY
    );
}

#[test]
fn malformed_keys_are_422() {
    let site = Site::enrolled();
    for key in ["", "age1x", &KEY.to_uppercase()] {
        put(&site, key).expect_error(422, "invalid_body");
    }
}
