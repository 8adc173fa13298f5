//! The program itself, twice, on one database.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use dirless_testkit::Postgres;

use crate::common::server;
use crate::process::{Server, exchange, start};

const KEY: &str = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";
const TENANT: &str = "X-Tenant-ID: t1\r\n";
const BODY: &str = "YWdlLWVuY3J5cHRpb24ub3JnL3Yx";

/// A server on a database, with its folder.
pub(crate) fn on(url: &str) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &format!("url = {url:?}"));
    (server, folder)
}

/// One request, which a server that lives answers.
pub(crate) fn ask(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    exchange(&server.address, method, path, headers, body).unwrap()
}

pub(crate) fn enrol(server: &Server, tenant: &str) {
    let body = format!(r#"{{"tenant_id":"{tenant}","age_public_key":"{KEY}"}}"#);
    assert_eq!(ask(server, "POST", "/v1/enrollment/enroll", "", &body).0, 200);
}

fn put(server: &Server, body: &str) -> (u16, String) {
    let headers = format!("{TENANT}X-Dirless-Recipient: {KEY}\r\n");
    ask(server, "PUT", "/v1/snapshot/local", &headers, body)
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_written_at_one_is_read_at_the_other() {
    let url = server().database("pair").unwrap();
    let ((one, _a), (two, _b)) = (on(&url), on(&url));
    enrol(&one, "t1");
    wait_for("the other knows the tenant", || {
        ask(&two, "GET", "/v1/snapshot/local", TENANT, "").0 == 404
    });
    for number in 0..5 {
        let body = format!("{BODY}+{number}+");
        assert_eq!(put(&one, &body).0, 200);
        // In its memory from now on, until it hears of the next.
        wait_for("the other serves what was written", || {
            ask(&two, "GET", "/v1/snapshot/local", TENANT, "") == (200, body.clone())
        });
    }
    let health = ask(&two, "GET", "/v1/health", "", "").1;
    assert!(health.contains(r#""store_engine":"postgresql""#), "{health}");
    let metrics = ask(&two, "GET", "/metrics", "", "").1;
    assert!(
        metrics.contains(r#"dirless_store_reachable{engine="postgresql"} 1"#),
        "{metrics}"
    );
}

#[test]
fn while_the_database_is_gone_hosts_get_what_is_in_memory() {
    let mut database = Postgres::start().unwrap();
    let url = database.database("d").unwrap();
    let (server, _folder) = on(&url);
    enrol(&server, "t1");
    assert_eq!(put(&server, BODY).0, 200);
    assert_eq!(ask(&server, "GET", "/v1/snapshot/local", TENANT, "").1, BODY);
    database.kill().unwrap();
    let (status, said) = put(&server, &format!("{BODY}+more"));
    assert_eq!(status, 503, "{said}");
    assert!(said.contains("database cannot be reached"), "{said}");
    assert_eq!(
        ask(&server, "GET", "/v1/snapshot/local", TENANT, ""),
        (200, BODY.to_owned())
    );
    let beat = r#"{"agent_id":"a","hostname":"vm"}"#;
    assert_eq!(ask(&server, "POST", "/v1/agent/heartbeat", TENANT, beat).0, 200);
    let metrics = ask(&server, "GET", "/metrics", "", "").1;
    assert!(
        metrics.contains(r#"dirless_store_reachable{engine="postgresql"} 0"#),
        "{metrics}"
    );
    database.restart().unwrap();
    wait_for("writes go on", || put(&server, &format!("{BODY}+more")).0 == 200);
    wait_for("and are read", || {
        ask(&server, "GET", "/v1/snapshot/local", TENANT, "").1 == format!("{BODY}+more")
    });
}

fn run(folder: &Path, storage: &str, arguments: &[&str]) -> (bool, String, String) {
    let config = folder.join("dirless.toml");
    let text = format!(
        "[server]\nport = 0\n[storage]\npath = {:?}\n{storage}\n",
        folder.join("store")
    );
    std::fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_dirless-backend"))
        .env_clear()
        .env("DIRLESS_CONFIG", &config)
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_line_works_on_the_database() {
    let url = server().database("console").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let storage = format!("url = {url:?}");
    let (good, said, _) = run(folder.path(), &storage, &["check"]);
    assert!(good && said.contains("(PostgreSQL)"), "{said}");
    // One of several must not make a secret up.
    let (good, _, said) = run(folder.path(), &storage, &["run"]);
    assert!(!good && said.contains("secret_file"), "{said}");
    let (good, ..) = run(folder.path(), &storage, &["realm", "create", "acme"]);
    assert!(good);
    let (good, said, _) = run(folder.path(), &storage, &["realm", "list"]);
    assert!(good && said.contains("acme"), "{said}");
    let (good, said, _) = run(folder.path(), &storage, &["verify"]);
    assert!(good && said.starts_with("clean: "), "{said}");
    let (good, _, said) = run(folder.path(), &storage, &["backup", "x"]);
    assert!(!good && said.contains("migrate-store"), "{said}");
    let other = folder.path().join("copy");
    let to = format!("sqlite:{}", other.display());
    let (good, said, notes) = run(folder.path(), "", &["migrate-store", "--from", &url, "--to", &to]);
    assert!(good && said.contains("SHA-256"), "{said} {notes}");
    let (good, said, _) = run(folder.path(), &format!("url = {to:?}"), &["realm", "list"]);
    assert!(good && said.contains("acme"), "{said}");
    let (good, _, said) = run(folder.path(), "", &["migrate-store", "--from", &url, "--to", &to]);
    assert!(!good && said.contains("not empty"), "{said}");
}
