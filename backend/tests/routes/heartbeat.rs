use super::support::{Reply, SECRET, Site, TENANT, ask, block_on};

fn beat(site: &Site, body: &str) -> Reply {
    ask("POST", "/v1/agent/heartbeat")
        .tenant(SECRET, TENANT)
        .body(body)
        .send(site)
}

#[test]
fn a_heartbeat_counts_at_once() {
    let site = Site::enrolled();
    beat(&site, r#"{"agent_id":"node-a","hostname":"vm-a"}"#).expect_status(200);
    beat(&site, r#"{"agent_id":"node-b","hostname":"vm-b"}"#).expect_status(200);
    beat(&site, r#"{"agent_id":"node-a","hostname":"vm-a"}"#).expect_status(200);
    let health = ask("GET", "/v1/health").send(&site).json();
    assert_eq!(health["active_agents"], 2);
    let hosts: Vec<_> = health["agents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| agent["hostname"].as_str().unwrap())
        .collect();
    assert!(hosts.contains(&"vm-a") && hosts.contains(&"vm-b"), "{hosts:?}");
}

#[test]
fn our_own_report_is_kept_beside() {
    let site = Site::enrolled();
    let body = r#"{"agent_id":"a","hostname":"h","report":{"version":"0.1.0","generation":3,"users":2,
        "dropped":[{"kind":"user","name":"root","reason":"reserved name"}],"dropped_total":1}}"#;
    beat(&site, body).expect_status(200);
    let everything = site.store.all_tenants_bypassing_realm_scope();
    let agents = block_on(everything.active_agents(site.app.heartbeats(), jiff::Timestamp::UNIX_EPOCH)).unwrap();
    let report: serde_json::Value = serde_json::from_str(agents[0].extras.as_ref().unwrap()).unwrap();
    assert_eq!(
        (&report["version"], &report["dropped"][0]["name"]),
        (&"0.1.0".into(), &"root".into())
    );
}

#[test]
fn malformed_heartbeats_are_refused() {
    let site = Site::enrolled();
    for body in [
        "",
        "{}",
        r#"{"agent_id":"a"}"#,
        r#"{"agent_id":"","hostname":"h"}"#,
        r#"{"agent_id":1,"hostname":"h"}"#,
    ] {
        beat(&site, body).expect_error(422, "invalid_body");
    }
    let long = serde_json::json!({"agent_id": "a".repeat(256), "hostname": "h"}).to_string();
    beat(&site, &long).expect_error(422, "invalid_body");
    beat(&site, &" ".repeat(200_000)).expect_error(413, "payload_too_large");
}
