use super::support::{SECRET, Site, TENANT, ask};

#[test]
fn values_are_bounded_texts_and_nothing_else_is_judged() {
    let site = Site::enrolled();
    let set = |body: String| {
        ask("POST", "/v1/admin/settings")
            .tenant(SECRET, TENANT)
            .body(body)
            .send(&site)
    };
    let pair = |key: &str, value: &str| serde_json::json!({"key": key, "value": value}).to_string();
    set(pair("server_limit", "25")).expect_status(200);
    set(pair("something_new", "any\nthing")).expect_status(200);
    set(pair("k", &"v".repeat(16 * 1024))).expect_status(200);
    set(pair("", "v")).expect_error(422, "invalid_body");
    set(pair(&"k".repeat(129), "v")).expect_error(422, "invalid_body");
    set(pair("k", &"v".repeat(16 * 1024 + 1))).expect_error(422, "invalid_body");
    set(r#"{"key":"server_limit","value":25}"#.to_owned()).expect_error(422, "invalid_body");
    set(" ".repeat(256 * 1024 + 1)).expect_error(413, "payload_too_large");
}
