//! Requests that are kept open: what hosts are told, and when a stream ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use dirless_backend::store::{RealmChange, RealmName, RealmState, Scope};
use dirless_wire::{ETag, Notice, NoticeReader};

use super::support::{Ask, OTHER_SECRET, Reply, SEALED, SECRET, Site, TENANT, ask, block_on, eventually};
use super::trust::{Tenant, id, signed};

/// A stream, read notice by notice.
struct Stream {
    socket: TcpStream,
    reader: NoticeReader,
    waiting: Vec<Notice>,
    comments: usize,
    rest: Vec<u8>,
}

impl Stream {
    fn open(site: &Site, ask: &Ask) -> Self {
        let mut socket = site.connect();
        let reply = ask.send_on(&mut socket).expect_status(200);
        assert_eq!(reply.header("content-type"), Some("text/event-stream"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
        Self::of(socket)
    }

    /// Behind the head of the answer.
    fn of(socket: TcpStream) -> Self {
        Self {
            socket,
            reader: NoticeReader::default(),
            waiting: Vec::new(),
            comments: 0,
            rest: Vec::new(),
        }
    }

    /// The next chunk; `None` at the end.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|two| two == b"\r\n") {
                let length = std::str::from_utf8(&self.rest[..end]).unwrap();
                let length = usize::from_str_radix(length, 16).unwrap();
                if self.rest.len() >= end + 4 + length {
                    let chunk = self.rest[end + 2..end + 2 + length].to_vec();
                    self.rest.drain(..end + 4 + length);
                    return (length > 0).then_some(chunk);
                }
            }
            let mut piece = [0; 4096];
            match self.socket.read(&mut piece).expect("something comes in time") {
                0 => return None,
                count => self.rest.extend_from_slice(&piece[..count]),
            }
        }
    }

    fn next(&mut self) -> Option<Notice> {
        while self.waiting.is_empty() {
            let chunk = self.chunk()?;
            self.comments += usize::from(chunk == b":\n\n");
            let waiting = &mut self.waiting;
            self.reader.push(&chunk, |notice| waiting.push(notice)).unwrap();
        }
        Some(self.waiting.remove(0))
    }

    fn ends(mut self) {
        assert_eq!(self.next(), None);
    }
}

fn of_state() -> Ask {
    ask("GET", "/v1/watch").tenant(SECRET, TENANT)
}

fn state(site: &Site) -> Notice {
    let reply = site.get("/v1/snapshot").expect_status(200);
    let parts = serde_json::from_slice(&reply.body).unwrap();
    Notice::State(ETag::parse(reply.header("etag").unwrap()).unwrap(), Some(parts))
}

#[test]
fn the_state_of_now_comes_at_once_and_each_later_one_as_it_is_stored() {
    let site = Site::enrolled();
    let mut streams: Vec<_> = (0..3).map(|_| Stream::open(&site, &of_state())).collect();
    let first = state(&site);
    assert!(streams.iter_mut().all(|stream| stream.next().as_ref() == Some(&first)));
    site.put("local", SEALED).expect_status(200);
    let second = state(&site);
    assert_ne!(second, first);
    assert!(streams.iter_mut().all(|stream| stream.next().as_ref() == Some(&second)));
    // The same body again is news to nobody: the next notice is that of the rules.
    site.put("local", SEALED).expect_status(200);
    let rules = r#"{"enforce_group_memberships":true,"host_group_rules":[]}"#;
    let put = ask("PUT", "/v1/snapshot/authz-config")
        .tenant(SECRET, TENANT)
        .body(rules);
    put.send(&site).expect_status(200);
    let third = state(&site);
    assert!(streams.iter_mut().all(|stream| stream.next().as_ref() == Some(&third)));
    let metrics = ask("GET", "/metrics").send(&site).expect_status(200);
    assert!(metrics.text().contains("dirless_watchers 3\n"), "{}", metrics.text());
    drop(streams);
    eventually("places are free again", || {
        ask("GET", "/metrics")
            .send(&site)
            .text()
            .contains("dirless_watchers 0\n")
    });
    let mut again = Stream::open(&site, &of_state());
    assert_eq!(again.next(), Some(third), "a topic begins anew");
}

#[test]
fn what_is_wrong_with_who_asks_is_told_as_everywhere() {
    let site = Site::enrolled();
    let others: Vec<Reply> = [
        ask("GET", "/v1/watch").tenant("wrong", TENANT),
        ask("GET", "/v1/watch").tenant(OTHER_SECRET, TENANT),
        ask("GET", "/v1/watch").tenant(SECRET, "unknown"),
    ]
    .iter()
    .map(|ask| ask.send(&site).lasting())
    .collect();
    assert!(others.iter().all(|reply| reply.status == 401 && *reply == others[0]));
    ask("POST", "/v1/watch")
        .tenant(SECRET, TENANT)
        .send(&site)
        .expect_error(405, "method_not_allowed");
    let tenant = Tenant::start();
    ask("GET", "/v2/acme/watch")
        .send(&tenant.site)
        .expect_error(401, "unauthorized");
}

#[test]
fn a_stream_ends_with_its_credential_and_with_no_other() {
    let site = Site::enrolled();
    let mut stream = Stream::open(&site, &of_state());
    let now = stream.next();
    let _unused = site.token(&[Scope::Metrics], None);
    site.put("local", SEALED).expect_status(200);
    assert_ne!(stream.next(), now, "a token of somebody else changes nothing");
    let name = RealmName::parse("default").unwrap();
    let change = block_on(site.store.set_realm_state(&name, RealmState::Suspended)).unwrap();
    assert_eq!(change, RealmChange::Done);
    stream.ends();
    of_state().send(&site).expect_error(403, "realm_suspended");
}

#[test]
fn heads_are_carried_and_a_policy_calls_to_ask() {
    let tenant = Tenant::start();
    let note = |version: u32| format!("dirless/head/v1\nversion {version}\n\n\u{2014} syncer c2ln\n").into_bytes();
    let put = |path: &str, version: u32, expected: (&str, &str)| {
        let body = note(version);
        let ask = signed(&tenant.publisher, "PUT", path, &body).header(expected.0, expected.1);
        ask.send(&tenant.site)
    };
    let head = "/v2/acme/head/syncer";
    let first = put(head, 1, ("If-None-Match", "*")).expect_status(201);
    let mut stream = Stream::open(&tenant.site, &signed(&tenant.node, "GET", "/v2/acme/watch", b""));
    assert_eq!(stream.next(), Some(Notice::Head(note(1))));
    put(head, 2, ("If-Match", first.header("etag").unwrap())).expect_status(201);
    assert_eq!(stream.next(), Some(Notice::Head(note(2))));
    tenant
        .publishes("PUT", "/v2/acme/policy/2", b"policy")
        .expect_status(201);
    assert_eq!(stream.next(), Some(Notice::Changed));
    let other = ask("GET", "/v2/acme/watch").bearer(&tenant.token);
    let mut operator = Stream::open(&tenant.site, &other);
    assert_eq!(operator.next(), Some(Notice::Head(note(2))));
    let key = format!("/v2/acme/credential/{}", id(&tenant.node));
    tenant.publishes("DELETE", &key, b"").expect_status(200);
    stream.ends();
    operator.ends();
    signed(&tenant.node, "GET", "/v2/acme/watch", b"")
        .send(&tenant.site)
        .expect_error(401, "unauthorized");
}

#[test]
fn silence_is_broken_by_comments_and_outlasts_the_idle_time() {
    let site = Site::enrolled_with("[server]\nidle_seconds = 1\n");
    let mut stream = Stream::open(&site, &of_state());
    let first = stream.next();
    while stream.comments < 8 {
        let chunk = stream.chunk().unwrap();
        stream.comments += usize::from(chunk == b":\n\n");
    }
    site.put("local", SEALED).expect_status(200);
    assert_ne!(stream.next(), first);
}

#[test]
fn places_are_bounded_and_requests_keep_theirs() {
    let site = Site::enrolled_with("[server]\nmax_watchers = 2\n");
    let mut streams: Vec<_> = (0..2).map(|_| Stream::open(&site, &of_state())).collect();
    let refused = of_state().send(&site);
    assert!(refused.header("retry-after").is_some());
    refused.expect_error(503, "unavailable");
    site.put("local", SEALED).expect_status(200);
    assert!(streams.iter_mut().all(|stream| stream.next().is_some()));
}

#[test]
fn a_reader_that_does_not_read_is_ended_and_the_others_are_told() {
    let tenant = Tenant::with("[server]\nwrite_seconds = 1\n");
    let watch = || signed(&tenant.node, "GET", "/v2/acme/watch", b"");
    let mut stuck = tenant.site.connect();
    // So small that the way to it is full long before the test's patience ends.
    rustix::net::sockopt::set_socket_recv_buffer_size(&stuck, 1).unwrap();
    stuck.write_all(&watch().bytes()).unwrap();
    let mut stream = Stream::open(&tenant.site, &watch());
    let mut tag = None;
    let mut number = 0;
    eventually("the stuck one is dropped", || {
        number += 1;
        let note = format!("{number}\n{}", "x".repeat(200_000)).into_bytes();
        let expected = tag.as_deref().map_or(("If-None-Match", "*"), |tag| ("If-Match", tag));
        let put = signed(&tenant.publisher, "PUT", "/v2/acme/head/syncer", &note).header(expected.0, expected.1);
        let stored = put.send(&tenant.site).expect_status(201);
        tag = stored.header("etag").map(str::to_owned);
        assert_eq!(stream.next(), Some(Notice::Head(note)));
        let metrics = ask("GET", "/metrics").send(&tenant.site);
        metrics.text().contains("dirless_watchers 1\n")
    });
}

#[test]
fn a_stream_follows_the_answers_before_it_on_its_connection() {
    let site = Site::enrolled();
    // More than the system keeps of an unread answer, so that its end is still to be written when the stream begins.
    let large = format!("{SEALED}{}", "x".repeat(9_000_000));
    site.put("local", &large).expect_status(200);
    let mut socket = site.connect();
    let before = ask("GET", "/v1/snapshot/local").tenant(SECRET, TENANT);
    socket
        .write_all(&[before.bytes(), before.bytes(), of_state().bytes()].concat())
        .unwrap();
    for _ in 0..2 {
        let reply = Reply::read(&mut socket, false).expect_status(200);
        assert!(reply.text() == large);
    }
    let reply = Reply::read(&mut socket, true).expect_status(200);
    assert_eq!(reply.header("connection"), Some("close"), "no request follows");
    assert!(reply.header("date").is_some());
    let mut stream = Stream::of(socket);
    assert_eq!(stream.next(), Some(state(&site)));
}

#[test]
fn a_host_that_hangs_up_leaves_its_place() {
    let site = Site::enrolled();
    let mut stream = Stream::open(&site, &of_state());
    assert!(stream.next().is_some());
    // Also one that says no more and would go on to listen.
    stream.socket.shutdown(std::net::Shutdown::Write).unwrap();
    stream.socket.set_read_timeout(Some(Duration::from_secs(50))).unwrap();
    assert_eq!(stream.socket.read(&mut [0; 64]).unwrap(), 0);
    eventually("its place is free", || {
        ask("GET", "/metrics")
            .send(&site)
            .text()
            .contains("dirless_watchers 0\n")
    });
}

#[test]
fn stopping_ends_streams_at_once() {
    let mut site = Site::enrolled_with("[server]\ndrain_seconds = 60\n");
    let mut stream = Stream::open(&site, &of_state());
    assert!(stream.next().is_some());
    stream.socket.set_read_timeout(Some(Duration::from_secs(50))).unwrap();
    site.ask_to_stop();
    stream.ends();
}
