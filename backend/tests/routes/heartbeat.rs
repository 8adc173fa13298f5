use std::io::Write as _;
use std::time::Duration;

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

/// What is said again word for word is not read again; whatever differs is.
#[test]
fn a_report_is_the_last_one_said_however_often_each_was_said() {
    let site = Site::enrolled();
    let body = |host: &str, generation: u64| {
        format!(r#"{{"agent_id":"a","hostname":"{host}","report":{{"generation":{generation}}}}}"#)
    };
    let kept = || {
        let everything = site.store.all_tenants_bypassing_realm_scope();
        let agents = block_on(everything.active_agents(site.app.heartbeats(), jiff::Timestamp::UNIX_EPOCH)).unwrap();
        let [agent] = agents.as_slice() else {
            panic!("{agents:?}")
        };
        let report: serde_json::Value = serde_json::from_str(agent.extras.as_ref().unwrap()).unwrap();
        (
            agent.hostname.clone(),
            report["generation"].as_u64().unwrap(),
            agent.last_seen_at,
        )
    };
    let mut last = jiff::Timestamp::UNIX_EPOCH;
    let mut stream = site.connect();
    for (host, generation) in [
        ("h", 1),
        ("h", 1),
        ("h", 1),
        ("h", 2),
        ("h", 1),
        ("i", 1),
        ("i", 1),
        ("h", 1),
    ] {
        let reply = ask("POST", "/v1/agent/heartbeat")
            .tenant(SECRET, TENANT)
            .body(body(host, generation))
            .send_on(&mut stream);
        reply.expect_status(200);
        let (known, number, seen) = kept();
        assert_eq!((known.as_str(), number), (host, generation));
        assert!(seen >= last);
        last = seen;
    }
    // Nothing said of it changes nothing, and a flush in between neither.
    beat(&site, r#"{"agent_id":"a","hostname":"h"}"#).expect_status(200);
    assert_eq!(kept().1, 1);
    block_on(site.app.heartbeats().flush()).unwrap();
    beat(&site, &body("h", 1)).expect_status(200);
    assert_eq!(kept().1, 1);
    beat(&site, &body("h", 3)).expect_status(200);
    assert_eq!(kept().1, 3);
    let wrong = r#"{"agent_id":"a","hostname":"h","report":{"generation":"x"}}"#;
    for _ in 0..2 {
        beat(&site, wrong).expect_error(422, "invalid_body");
    }
    assert_eq!(kept().1, 3);
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

/// The hot path takes a body that came with its head; everything else goes the long way, with the
/// same outcome.
#[test]
fn a_heartbeat_counts_however_its_bytes_arrive() {
    let site = Site::enrolled();
    let request = |agent: &str, more: &str| {
        let body = format!(r#"{{"agent_id":"{agent}","hostname":"h"}}"#);
        let head = format!(
            "POST /v1/agent/heartbeat HTTP/1.1\r\nhost: d\r\nauthorization: Bearer {SECRET}\r\nx-tenant-id: {TENANT}\r\n\
             {more}content-length: {}\r\n\r\n",
            body.len()
        );
        (head, body)
    };
    let (head, body) = request("at-once", "");
    let (half, rest) = body.split_at(10);
    let (traced, traced_body) = request("traced", "x-request-id: mine\r\n");
    let chunked = format!(
        "POST /v1/agent/heartbeat HTTP/1.1\r\nhost: d\r\nauthorization: Bearer {SECRET}\r\nx-tenant-id: {TENANT}\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    let long_body = r#"{"agent_id":"chunked","hostname":"h"}"#;
    let chunks = format!("5\r\n{}\r\n20\r\n{}\r\n0\r\n\r\n", &long_body[..5], &long_body[5..37]);
    let ways: [(&str, Vec<String>); 5] = [
        ("at-once", vec![format!("{head}{body}")]),
        ("at-once", vec![head.clone(), body.clone()]),
        ("at-once", vec![format!("{head}{half}"), rest.to_owned()]),
        ("traced", vec![format!("{traced}{traced_body}")]),
        ("chunked", vec![format!("{chunked}{chunks}")]),
    ];
    for (agent, pieces) in ways {
        let reply = in_pieces(&site, &pieces).expect_status(200);
        assert_eq!(reply.header("content-type"), Some("application/json"), "{pieces:?}");
        assert_eq!(reply.text(), r#"{"status":"ok"}"#, "{pieces:?}");
        assert_eq!(
            reply.header("x-request-id") == Some("mine"),
            agent == "traced",
            "{pieces:?}"
        );
    }
    let health = ask("GET", "/v1/health").send(&site).json();
    assert_eq!(health["active_agents"], 3);
}

#[test]
fn the_hot_path_refuses_as_the_router_does() {
    let site = Site::enrolled();
    let body = r#"{"agent_id":"a","hostname":"h"}"#;
    let path = "/v1/agent/heartbeat";
    ask("POST", path)
        .tenant("wrong", TENANT)
        .body(body)
        .send(&site)
        .expect_error(401, "unauthorized");
    ask("POST", path)
        .tenant(SECRET, "nobody")
        .body(body)
        .send(&site)
        .expect_error(401, "unauthorized");
    ask("POST", path)
        .body(body)
        .send(&site)
        .expect_error(401, "unauthorized");
    ask("GET", path)
        .tenant(SECRET, TENANT)
        .send(&site)
        .expect_error(405, "method_not_allowed");
    beat(&site, r#"["a","h"]"#).expect_error(422, "invalid_body");
}

/// Sends the pieces apart on a connection of their own and reads the answer.
fn in_pieces(site: &Site, pieces: &[String]) -> Reply {
    let mut stream = site.connect();
    stream.set_nodelay(true).unwrap();
    for (number, piece) in pieces.iter().enumerate() {
        if number > 0 {
            // Time for the server to look at what it has.
            std::thread::sleep(Duration::from_millis(50));
        }
        stream.write_all(piece.as_bytes()).unwrap();
    }
    Reply::read(&mut stream, false)
}
