use super::support::{SEALED, SECRET, Site, TENANT, ask};

#[test]
fn it_is_refused_with_the_way_out_and_stores_nothing() {
    let site = Site::enrolled();
    let reply = ask("POST", "/v1/syncer/sync")
        .tenant(SECRET, TENANT)
        .body(SEALED)
        .send(&site);
    let error = reply.expect_error(422, "unsupported_client");
    assert!(error["error"].as_str().unwrap().contains("0.6.0"));
    assert!(error["hint"].as_str().unwrap().contains("dirless-syncer"));
    site.get("/v1/snapshot/aws-identity-center")
        .expect_error(404, "source_absent");
}
