use super::support::{KEY, OTHER_KEY, OTHER_SECRET, SECRET, Site, TENANT, ask, block_on};
use dirless_backend::store::{RealmName, RealmState};

#[test]
fn both_spellings_of_a_tenant_are_one() {
    let site = Site::start();
    site.enroll(SECRET, &format!("aws___{TENANT}"), KEY).expect_status(200);
    assert_eq!(
        site.get("/v1/snapshot/public-key").expect_status(200).json()["age_public_key"],
        KEY
    );
    let prefixed = ask("GET", "/v1/snapshot/public-key")
        .tenant(SECRET, &format!("aws___{TENANT}"))
        .send(&site);
    assert_eq!(prefixed.expect_status(200).json()["age_public_key"], KEY);
    site.enroll(SECRET, TENANT, KEY).expect_status(200);
    let totals = block_on(site.store.all_tenants_bypassing_realm_scope().totals()).unwrap();
    assert_eq!(totals.tenants, 1);
}

#[test]
fn missing_and_malformed_fields_are_422_with_the_reason() {
    let site = Site::start();
    let enroll = |body: &str| {
        ask("POST", "/v1/enrollment/enroll")
            .bearer(SECRET)
            .body(body)
            .send(&site)
    };
    let reason = |body: &str| {
        enroll(body).expect_error(422, "invalid_body")["error"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(reason("{}").contains("tenant_id"));
    assert!(reason(r#"{"tenant_id":"acme"}"#).contains("age_public_key"));
    assert!(reason(&format!(r#"{{"tenant_id":"a b","age_public_key":"{KEY}"}}"#)).contains("tenant id"));
    assert!(reason(r#"{"tenant_id":"acme","age_public_key":"age1x"}"#).contains("age public key"));
    assert!(reason("").contains("not JSON"));
    assert!(reason("[]").contains("object"));
    let private = r#"{"tenant_id":"acme","age_public_key":"AGE-SECRET-KEY-1QQXTNUSC48"}"#;
    assert!(!reason(private).contains("QQXT"));
}

#[test]
fn a_wrong_bearer_is_401_before_the_body_is_looked_at() {
    let site = Site::start();
    let wrong = ask("POST", "/v1/enrollment/enroll")
        .bearer("wrong")
        .body("nonsense")
        .send(&site);
    wrong.expect_error(401, "unauthorized");
    ask("POST", "/v1/enrollment/enroll")
        .body("nonsense")
        .send(&site)
        .expect_error(401, "unauthorized");
}

#[test]
fn a_tenant_of_another_realm_cannot_be_enrolled_away() {
    let site = Site::enrolled();
    let stolen = site.enroll(OTHER_SECRET, TENANT, OTHER_KEY).lasting();
    let wrong = site.enroll("wrong", TENANT, OTHER_KEY).lasting();
    assert_eq!(stolen, wrong);
    stolen.expect_error(401, "unauthorized");
    assert_eq!(site.get("/v1/snapshot/public-key").json()["age_public_key"], KEY);
}

#[test]
fn a_suspended_realm_is_403_everywhere() {
    let site = Site::enrolled();
    let name = RealmName::default_realm();
    let change = block_on(site.store.set_realm_state(&name, RealmState::Suspended)).unwrap();
    assert_eq!(change, dirless_backend::store::RealmChange::Done);
    site.enroll(SECRET, TENANT, KEY).expect_error(403, "realm_suspended");
    site.get("/v1/snapshot/local").expect_error(403, "realm_suspended");
    site.get("/v1/snapshot/authz-config")
        .expect_error(403, "realm_suspended");
    site.put("local", super::support::SEALED)
        .expect_error(403, "realm_suspended");
    // A wrong bearer learns nothing from it.
    site.enroll("wrong", TENANT, KEY).expect_error(401, "unauthorized");
    let change = block_on(site.store.set_realm_state(&name, RealmState::Active)).unwrap();
    assert_eq!(change, dirless_backend::store::RealmChange::Done);
    site.get("/v1/snapshot/authz-config").expect_status(200);
}

#[test]
fn an_enrolment_is_in_the_audit_log_with_its_address() {
    let site = Site::enrolled();
    let lines = block_on(site.store.all_tenants_bypassing_realm_scope().audit(0, 100)).unwrap();
    let line = lines.iter().find(|line| line.action == "tenant.enroll").unwrap();
    assert_eq!(line.tenant.as_ref().unwrap().as_str(), TENANT);
    assert_eq!(line.address.unwrap().to_string(), "127.0.0.1");
    assert!(!format!("{lines:?}").contains(SECRET));
}
