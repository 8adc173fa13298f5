use crate::support::*;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi/syncer.json");

#[tokio::test]
async fn the_committed_description_is_the_served_one() {
    let made = dirless_syncer::serve::description();
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        committed == made,
        "docs/openapi/syncer.json is stale; run: cargo run -p dirless-syncer -- openapi > docs/openapi/syncer.json"
    );
    let site = Site::start().await;
    assert_eq!(site.get("/openapi.json").send().await.text, made);
    site.stop().await;
}

#[test]
fn it_describes_every_route() {
    let description: serde_json::Value = serde_json::from_str(&dirless_syncer::serve::description()).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let described: Vec<(&str, Vec<&str>)> = paths
        .iter()
        .map(|(path, methods)| {
            (
                path.as_str(),
                methods.as_object().unwrap().keys().map(String::as_str).collect(),
            )
        })
        .collect();
    assert_eq!(
        described,
        [
            ("/openapi.json", vec!["get"]),
            ("/v1/changelog", vec!["get"]),
            ("/v1/changelog/stream", vec!["get"]),
            ("/v1/entries/{dn}", vec!["delete", "get", "put"]),
            ("/v1/entries/{dn}/rename", vec!["post"]),
            ("/v1/health", vec!["get"]),
            ("/v1/permissions/check", vec!["get"]),
            ("/v1/revocations", vec!["get", "post"]),
            ("/v1/revocations/{name}", vec!["delete", "get"]),
            ("/v1/search", vec!["post"]),
            ("/v1/stats", vec!["get"]),
            ("/v1/sync/{what}", vec!["post"]),
            ("/v1/tree", vec!["get"]),
            ("/v1/{kind}", vec!["get"]),
            ("/v1/{kind}/{name}", vec!["get"]),
        ]
    );
}
