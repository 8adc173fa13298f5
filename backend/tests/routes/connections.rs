//! Slow, silent and numerous clients; stopping.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::support::{KEY, Reply, SEALED, SECRET, Site, TENANT, ask, eventually};

const SHORT: &str =
    "[server]\nheader_seconds = 1\nbody_seconds = 1\nidle_seconds = 1\nwrite_seconds = 1\ndrain_seconds = 5\n";

/// Reads until the server closes; what came, and how long it took.
fn until_closed(stream: &mut impl Read) -> (Vec<u8>, Duration) {
    let started = Instant::now();
    let mut rest = Vec::new();
    // A reset is a close as well.
    let _ = stream.read_to_end(&mut rest);
    (rest, started.elapsed())
}

#[test]
fn a_silent_connection_is_closed() {
    let site = Site::with(SHORT);
    let (rest, took) = until_closed(&mut site.connect());
    assert!(rest.is_empty() && took < Duration::from_secs(9), "{took:?}");
}

#[test]
fn headers_that_trickle_are_answered_408_however_steadily_they_come() {
    let site = Site::with(SHORT);
    let mut stream = site.connect();
    stream.write_all(b"GET /v1/health HTTP/1.1\r\n").unwrap();
    let mut writer = stream.try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        // Until the server has had enough.
        while writer.write_all(b"X-A: b\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let (rest, took) = until_closed(&mut stream);
    trickle.join().unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&rest));
    assert!(took < Duration::from_secs(9), "{took:?}");
}

#[test]
fn a_body_that_stops_is_answered_408_and_stored_nowhere() {
    let site = Site::enrolled_with(SHORT);
    for path in ["/v1/snapshot/local", "/v1/snapshot/authz-config"] {
        let request = ask("PUT", path)
            .tenant(SECRET, TENANT)
            .header("X-Dirless-Recipient", KEY)
            .body(SEALED)
            .bytes();
        let mut stream = site.connect();
        stream.write_all(&request[..request.len() - 10]).unwrap();
        Reply::read(&mut stream, false).expect_error(408, "request_timeout");
    }
    site.get("/v1/snapshot/local").expect_error(404, "source_absent");
}

#[test]
fn a_reader_that_stops_reading_is_let_go() {
    let site = Site::enrolled_with(SHORT);
    let body: String = SEALED.chars().cycle().take(20 << 20).collect();
    site.put("local", &body).expect_status(200);
    let mut stream = site.connect();
    stream
        .write_all(&ask("GET", "/v1/snapshot/local").tenant(SECRET, TENANT).bytes())
        .unwrap();
    std::thread::sleep(Duration::from_secs(4));
    let (rest, _) = until_closed(&mut stream);
    assert!(rest.len() < body.len(), "all {} bytes came", rest.len());
}

#[test]
fn an_idle_connection_is_kept_and_then_closed() {
    let site = Site::with("[server]\nidle_seconds = 2\n");
    let mut stream = site.connect();
    for _ in 0..3 {
        ask("GET", "/v1/health").send_on(&mut stream).expect_status(200);
        std::thread::sleep(Duration::from_millis(300));
    }
    let (rest, took) = until_closed(&mut stream);
    assert!(rest.is_empty() && took < Duration::from_secs(18), "{took:?}");
}

#[test]
fn connections_over_the_cap_are_closed_and_places_are_freed() {
    let site = Site::with("[server]\nmax_connections = 4\n");
    let mut held: Vec<_> = (0..4).map(|_| site.connect()).collect();
    for stream in &mut held {
        ask("GET", "/v1/health").send_on(stream).expect_status(200);
    }
    let (rest, took) = until_closed(&mut site.connect());
    assert!(rest.is_empty() && took < Duration::from_secs(18), "{took:?}");
    held.clear();
    eventually("a place is free", || {
        let mut stream = site.connect();
        let _ = stream.write_all(&ask("GET", "/v1/health").header("Connection", "close").bytes());
        until_closed(&mut stream).0.starts_with(b"HTTP/1.1 200")
    });
}

#[test]
fn requests_in_a_row_on_one_connection_are_answered_in_order() {
    let site = Site::enrolled();
    site.put("local", SEALED).expect_status(200);
    let mut stream = site.connect();
    let mut all = Vec::new();
    for path in [
        "/v1/snapshot/local",
        "/v1/snapshot/authz-config",
        "/v1/snapshot/local",
        "/v1/snapshot/absent",
    ] {
        all.extend_from_slice(&ask("GET", path).tenant(SECRET, TENANT).bytes());
    }
    stream.write_all(&all).unwrap();
    let statuses: Vec<u16> = (0..4).map(|_| Reply::read(&mut stream, false).status).collect();
    assert_eq!(statuses, [200, 200, 200, 404]);
}

#[test]
fn stopping_lets_a_request_in_progress_finish() {
    let mut site = Site::enrolled();
    let bytes = ask("PUT", "/v1/snapshot/local")
        .tenant(SECRET, TENANT)
        .header("X-Dirless-Recipient", KEY)
        .body(SEALED)
        .bytes();
    let (start, rest) = bytes.split_at(bytes.len() - 20);
    let mut stream = site.connect();
    stream.write_all(start).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    site.ask_to_stop();
    std::thread::sleep(Duration::from_millis(200));
    stream.write_all(rest).unwrap();
    let reply = Reply::read(&mut stream, false).expect_status(200);
    assert_eq!(reply.header("connection"), Some("close"));
}

#[test]
fn nonsense_on_the_wire_costs_one_connection() {
    let site = Site::start();
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(100_000)).into_bytes(),
        b"POST /v1/health HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        vec![0; 4096],
    ] {
        let mut stream = site.connect();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let (rest, _) = until_closed(&mut stream);
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    }
    ask("GET", "/v1/health").send(&site).expect_status(200);
}
