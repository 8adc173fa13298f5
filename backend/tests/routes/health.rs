use super::support::{Ask, SECRET, Site, ask};
use dirless_backend::store::Scope;

/// As a front on this machine passes a stranger on.
fn from_outside() -> Ask {
    ask("GET", "/v1/health").header("X-Forwarded-For", "198.51.100.7")
}

const SHORT: &str = r#"{"status":"ok"}"#;

#[test]
fn strangers_learn_only_that_it_is_up() {
    let site = Site::enrolled();
    assert_eq!(from_outside().send(&site).expect_status(200).text(), SHORT);
    assert_eq!(
        from_outside().bearer(SECRET).send(&site).expect_status(200).text(),
        SHORT
    );
    assert_eq!(
        from_outside().bearer("wrong").send(&site).expect_status(200).text(),
        SHORT
    );
    let forwarded = ask("GET", "/v1/health")
        .header("Forwarded", "for=127.0.0.1")
        .send(&site);
    assert_eq!(forwarded.expect_status(200).text(), SHORT);
}

#[test]
fn programs_on_this_machine_get_the_full_view() {
    let site = Site::enrolled();
    let health = ask("GET", "/v1/health").send(&site).expect_status(200).json();
    assert_eq!(health["tenants"], 1);
    assert_eq!(health["store_engine"], "sqlite");
    assert!(health["data_updated_at"].is_null() && health["aws_account_id"].is_null());
    assert_eq!(health["agents"], serde_json::json!([]));
}

#[test]
fn operator_tokens_open_it_by_their_scope() {
    let site = Site::enrolled();
    for (scopes, realm, full) in [
        (vec![Scope::Health], None, true),
        (vec![Scope::Admin], None, true),
        (vec![Scope::Metrics], None, false),
        (vec![Scope::Health], Some("other"), false),
    ] {
        let token = site.token(&scopes, realm);
        let reply = from_outside().bearer(&token).send(&site).expect_status(200);
        assert_eq!(reply.json().get("tenants").is_some(), full, "{scopes:?} {realm:?}");
    }
}

#[test]
fn a_switch_opens_the_full_view_to_everyone() {
    let site = Site::enrolled_with("[health]\npublic = true\n");
    assert_eq!(from_outside().send(&site).expect_status(200).json()["tenants"], 1);
}

#[test]
fn the_list_of_agents_is_capped_and_the_count_is_not() {
    let site = Site::enrolled_with("[health]\nmax_agents = 2\n");
    for number in 0..5 {
        let body = format!(r#"{{"agent_id":"a{number}","hostname":"h"}}"#);
        ask("POST", "/v1/agent/heartbeat")
            .tenant(SECRET, super::support::TENANT)
            .body(body)
            .send(&site)
            .expect_status(200);
    }
    let health = ask("GET", "/v1/health").send(&site).json();
    assert_eq!(
        (&health["active_agents"], health["agents"].as_array().unwrap().len()),
        (&5.into(), 2)
    );
}
