use super::support::{SEALED, SECRET, Site, TENANT, ask};
use dirless_backend::store::Scope;

#[test]
fn this_machine_and_scoped_tokens_read_them() {
    let site = Site::enrolled();
    site.put("local", SEALED).expect_status(200);
    for _ in 0..3 {
        site.get("/v1/snapshot/local").expect_status(200);
    }
    let text = ask("GET", "/metrics").send(&site).expect_status(200);
    assert!(text.header("content-type").unwrap().starts_with("text/plain"));
    // One put and three reads, of which two from memory.
    assert!(
        text.text()
            .contains(r#"dirless_http_requests_total{route="snapshot",status="200"} 4"#),
        "{}",
        text.text()
    );
    let outside = || ask("GET", "/metrics").header("X-Forwarded-For", "198.51.100.7");
    outside().send(&site).expect_error(401, "unauthorized");
    outside()
        .tenant(SECRET, TENANT)
        .send(&site)
        .expect_error(401, "unauthorized");
    outside()
        .bearer(&site.token(&[Scope::Health], None))
        .send(&site)
        .expect_error(403, "forbidden");
    outside()
        .bearer(&site.token(&[Scope::Metrics], Some("other")))
        .send(&site)
        .expect_error(403, "forbidden");
    outside()
        .bearer(&site.token(&[Scope::Metrics], None))
        .send(&site)
        .expect_status(200);
}

#[test]
fn they_name_no_tenant_and_no_secret() {
    let site = Site::enrolled();
    site.get("/v1/snapshot/local").expect_status(404);
    let text = ask("GET", "/metrics").send(&site);
    assert!(!text.text().contains(TENANT) && !text.text().contains(SECRET));
}
