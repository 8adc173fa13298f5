use super::support::{Site, ask};

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi/backend.json");

#[test]
fn the_committed_description_is_the_served_one() {
    let committed = std::fs::read_to_string(COMMITTED).unwrap();
    let made = dirless_backend::description();
    assert!(
        committed == made,
        "docs/openapi/backend.json is stale; run: cargo run -p dirless-backend -- openapi > docs/openapi/backend.json"
    );
    let site = Site::start();
    assert_eq!(ask("GET", "/openapi.json").send(&site).expect_status(200).text(), made);
}

#[test]
fn it_describes_every_route() {
    let description: serde_json::Value = serde_json::from_str(&dirless_backend::description()).unwrap();
    for (path, methods) in [
        ("/v1/enrollment/enroll", vec!["post"]),
        ("/v1/snapshot", vec!["get"]),
        ("/v1/snapshot/public-key", vec!["get", "put"]),
        ("/v1/snapshot/authz-config", vec!["get", "put"]),
        ("/v1/snapshot/ca-public-key", vec!["get"]),
        ("/v1/snapshot/duplicates", vec!["put"]),
        ("/v1/snapshot/{source}", vec!["delete", "get", "put"]),
        ("/v1/agent/heartbeat", vec!["post"]),
        ("/v1/admin/settings", vec!["post"]),
        ("/v1/syncer/sync", vec!["post"]),
        ("/v1/health", vec!["get"]),
        ("/metrics", vec!["get"]),
        ("/openapi.json", vec!["get"]),
    ] {
        let described: Vec<&String> = description["paths"][path].as_object().unwrap().keys().collect();
        assert_eq!(described, methods, "{path}");
    }
}
