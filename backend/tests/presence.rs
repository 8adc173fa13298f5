//! What a crash costs of heartbeats: those since the last flush, and no more; an orderly stop costs none.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "process/mod.rs"]
mod process;

use std::time::{Duration, Instant};

use process::{Server, exchange, start};
use rusqlite::{Connection, OpenFlags};

const KEY: &str = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";
const TENANT: &str = "X-Tenant-ID: acme\r\n";

fn beat(server: &Server, agents: std::ops::Range<u64>) {
    for number in agents {
        let body = format!(r#"{{"agent_id":"agent-{number}","hostname":"vm-{number}"}}"#);
        let answer = exchange(&server.address, "POST", "/v1/agent/heartbeat", TENANT, &body);
        assert_eq!(answer.unwrap().0, 200);
    }
}

fn active(server: &Server) -> u64 {
    let (status, body) = exchange(&server.address, "GET", "/v1/health", "", "").unwrap();
    assert_eq!(status, 200);
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    health["active_agents"].as_u64().unwrap()
}

/// Agents on disk, as another process sees them.
fn on_disk(folder: &std::path::Path) -> u64 {
    let database = folder.join("store/dirless.db");
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    let count: i64 = connection
        .query_row("SELECT count(*) FROM agents", (), |row| row.get(0))
        .unwrap();
    count.unsigned_abs()
}

#[test]
fn a_crash_costs_the_beats_since_the_last_flush_and_a_stop_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path(), "");
    let enrol = format!(r#"{{"tenant_id":"acme","age_public_key":"{KEY}"}}"#);
    let enrolled = exchange(&server.address, "POST", "/v1/enrollment/enroll", "", &enrol);
    assert_eq!(enrolled.unwrap().0, 200);
    beat(&server, 0..40);
    assert_eq!(active(&server), 40, "exact at once");
    let deadline = Instant::now() + Duration::from_secs(60);
    while on_disk(folder.path()) < 40 {
        assert!(Instant::now() < deadline, "nothing was flushed");
        std::thread::sleep(Duration::from_millis(100));
    }
    beat(&server, 30..50);
    assert_eq!(active(&server), 50, "those that beat again count once");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let kept = on_disk(folder.path());
    assert!((40..=50).contains(&kept), "{kept}");

    let mut server = start(folder.path(), "");
    assert_eq!(active(&server), kept);
    beat(&server, 30..60);
    assert_eq!(active(&server), 60, "exact again once everybody has beaten");
    let pid = server.child.id().to_string();
    let asked = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .unwrap();
    assert!(asked.success());
    assert!(server.child.wait().unwrap().success());
    assert_eq!(on_disk(folder.path()), 60);
    let server = start(folder.path(), "");
    assert_eq!(active(&server), 60);
}
