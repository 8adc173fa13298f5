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
        ("/v2/{tenant}", vec!["post"]),
        ("/v2/{tenant}/", vec!["get"]),
        ("/v2/{tenant}/policy/{version}", vec!["delete", "get", "put"]),
        ("/v2/{tenant}/head/{publisher}", vec!["get", "put"]),
        (
            "/v2/{tenant}/succession/{publisher}/{anchor}/{version}",
            vec!["delete", "get", "put"],
        ),
        (
            "/v2/{tenant}/manifest/{publisher}/{source}/{compartment}/{version}",
            vec!["delete", "get", "put"],
        ),
        (
            "/v2/{tenant}/log/{publisher}/{source}/{compartment}/{version}/{file}",
            vec!["delete", "get", "put"],
        ),
        ("/v2/{tenant}/blob/{digest}", vec!["delete", "get", "put"]),
        ("/v2/{tenant}/nodes/{enroller}/{version}", vec!["delete", "get", "put"]),
        (
            "/v2/{tenant}/wrap/{compartment}/{epoch}/{name}",
            vec!["delete", "get", "put"],
        ),
        ("/v2/{tenant}/credential", vec!["get"]),
        ("/v2/{tenant}/credential/{key}", vec!["delete", "put"]),
        ("/v2/{tenant}/join", vec!["get"]),
        ("/v2/{tenant}/join/{code}", vec!["delete", "post", "put"]),
        ("/v2/{tenant}/join/{code}/{request}", vec!["delete", "get"]),
        ("/v2/{tenant}/heartbeat", vec!["post"]),
        ("/v2/{tenant}/receipts", vec!["get"]),
        ("/v1/health", vec!["get"]),
        ("/metrics", vec!["get"]),
        ("/openapi.json", vec!["get"]),
    ] {
        let described: Vec<&String> = description["paths"][path].as_object().unwrap().keys().collect();
        assert_eq!(described, methods, "{path}");
    }
}
