use std::io::{Read, Write};

use super::support::{KEY, OTHER_KEY, Reply, SEALED, SECRET, Site, TENANT, ask};

#[test]
fn a_conditional_read_gets_304_by_any_form_of_the_tag() {
    let site = Site::enrolled();
    let put = site.put("local", SEALED).expect_status(200);
    let tag = put.header("etag").unwrap().to_owned();
    for round in 0..2 {
        // The first read comes from the store, the second from memory; both must agree.
        let read = site.get("/v1/snapshot/local").expect_status(200);
        assert_eq!(read.header("etag"), Some(tag.as_str()), "round {round}");
        for condition in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            let reply = ask("GET", "/v1/snapshot/local")
                .tenant(SECRET, TENANT)
                .header("If-None-Match", &condition)
                .send(&site);
            assert_eq!(
                (reply.status, reply.header("etag")),
                (304, Some(tag.as_str())),
                "{condition}"
            );
            assert!(reply.body.is_empty());
        }
        for condition in ["\"x\"", "garbage", ""] {
            let reply = ask("GET", "/v1/snapshot/local")
                .tenant(SECRET, TENANT)
                .header("If-None-Match", condition)
                .send(&site);
            assert_eq!(reply.expect_status(200).text(), SEALED, "{condition}");
        }
    }
    site.put("local", &format!("{SEALED}AAAA")).expect_status(200);
    let stale = ask("GET", "/v1/snapshot/local")
        .tenant(SECRET, TENANT)
        .header("If-None-Match", &tag)
        .send(&site);
    assert_ne!(stale.expect_status(200).header("etag"), Some(tag.as_str()));
}

#[test]
fn head_is_get_without_the_body() {
    let site = Site::enrolled();
    site.put("local", SEALED).expect_status(200);
    for _ in 0..2 {
        let head = ask("HEAD", "/v1/snapshot/local")
            .tenant(SECRET, TENANT)
            .send(&site)
            .lasting();
        let get = site.get("/v1/snapshot/local").lasting();
        assert_eq!((head.status, &head.headers), (get.status, &get.headers));
        assert!(head.body.is_empty());
    }
    ask("HEAD", "/v1/snapshot/absent")
        .tenant(SECRET, TENANT)
        .send(&site)
        .expect_status(404);
}

#[test]
fn absent_and_deleted_are_told_apart_also_from_memory() {
    let site = Site::enrolled();
    for _ in 0..2 {
        site.get("/v1/snapshot/local").expect_error(404, "source_absent");
    }
    site.put("local", SEALED).expect_status(200);
    for _ in 0..2 {
        site.get("/v1/snapshot/local").expect_status(200);
    }
    ask("DELETE", "/v1/snapshot/local")
        .tenant(SECRET, TENANT)
        .send(&site)
        .expect_status(200);
    for _ in 0..2 {
        site.get("/v1/snapshot/local").expect_error(404, "source_deleted");
    }
    ask("DELETE", "/v1/snapshot/never")
        .tenant(SECRET, TENANT)
        .send(&site)
        .expect_status(200);
    site.get("/v1/snapshot/never").expect_error(404, "source_absent");
    site.put("local", SEALED).expect_status(200);
    assert_eq!(site.get("/v1/snapshot/local").expect_status(200).text(), SEALED);
}

#[test]
fn the_registered_key_is_named_only_when_the_snapshot_is_sealed_to_it() {
    let site = Site::enrolled();
    site.put("local", SEALED).expect_status(200);
    let before = site.get("/v1/snapshot/local");
    assert_eq!(before.header("x-dirless-registered-key"), Some(KEY));
    site.enroll(SECRET, TENANT, OTHER_KEY).expect_status(200);
    // Hosts that still have the old key can open it: the header would make them refuse.
    let during = site.get("/v1/snapshot/local");
    assert_eq!(during.header("x-dirless-registered-key"), None);
    assert_eq!(during.header("x-dirless-snapshot-recipient"), Some(KEY));
    assert_eq!(during.header("x-dirless-encrypted"), Some("age"));
}

#[test]
fn an_unauthenticated_probe_is_answered_quickly() {
    let site = Site::enrolled();
    site.put("aws-identity-center", SEALED).expect_status(200);
    let started = std::time::Instant::now();
    for _ in 0..200 {
        ask("GET", "/v1/snapshot/aws-identity-center")
            .send(&site)
            .expect_error(401, "unauthorized");
    }
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn fifty_mebibytes_go_up_and_down_in_bounded_memory() {
    let site = Site::enrolled_with("[cache]\nmax_bytes = 1048576\n");
    const LENGTH: usize = 50 * 1024 * 1024;
    let piece: Vec<u8> = SEALED.bytes().cycle().take(64 * 1024).collect();
    let before = resident_bytes();
    let mut stream = site.connect();
    let head = format!(
        "PUT /v1/snapshot/local HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nX-Tenant-ID: {TENANT}\r\n\
         X-Dirless-Recipient: {KEY}\r\nContent-Length: {LENGTH}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut highest = 0;
    for _ in 0..LENGTH / piece.len() {
        stream.write_all(&piece).unwrap();
        highest = highest.max(resident_bytes());
    }
    Reply::read(&mut stream, false).expect_status(200);
    stream
        .write_all(&ask("GET", "/v1/snapshot/local").tenant(SECRET, TENANT).bytes())
        .unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    let mut back = vec![0; piece.len()];
    for _ in 0..LENGTH / piece.len() {
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, piece);
        highest = highest.max(resident_bytes());
    }
    // Other tests of this program run beside; half the body is far from "the whole body in memory
    // twice", and comfortably above what streaming takes.
    assert!(
        highest.saturating_sub(before) < LENGTH / 2 + (48 << 20),
        "{} MiB",
        (highest - before) >> 20
    );
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_long_body_is_answered_304_from_memory_and_200_from_the_store() {
    let site = Site::enrolled_with("[cache]\nmax_bytes = 65536\n");
    let body: String = SEALED.chars().cycle().take(300_000).collect();
    let tag = site
        .put("local", &body)
        .expect_status(200)
        .header("etag")
        .unwrap()
        .to_owned();
    for _ in 0..3 {
        assert_eq!(site.get("/v1/snapshot/local").expect_status(200).text(), body);
        let reply = ask("GET", "/v1/snapshot/local")
            .tenant(SECRET, TENANT)
            .header("If-None-Match", &tag)
            .send(&site);
        assert_eq!(reply.status, 304);
    }
}

#[test]
fn a_thousand_readers_see_each_write_the_moment_it_is_acknowledged() {
    /// Ends the readers, also when an assertion fails.
    struct Done<'a>(&'a std::sync::atomic::AtomicBool);

    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    let site = Site::enrolled();
    let done = &std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = Done(done);
        for _ in 0..3 {
            scope.spawn(|| {
                let mut stream = site.connect();
                let mut newest = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let reply = ask("GET", "/v1/snapshot/local")
                        .tenant(SECRET, TENANT)
                        .send_on(&mut stream);
                    if reply.status == 200 {
                        let number: u32 = reply.text().strip_prefix(SEALED).unwrap().parse().unwrap();
                        assert!(number >= newest, "{number} after {newest}");
                        newest = number;
                    }
                    // Within the rate limits, however fast the machine is.
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            });
        }
        for number in 0..60 {
            site.put("local", &format!("{SEALED}{number}")).expect_status(200);
            let read = site.get("/v1/snapshot/local").expect_status(200);
            assert_eq!(read.text(), format!("{SEALED}{number}"));
        }
    });
}

/// Long enough for the kernel to send it from a copy, and for many writes.
fn long_body(length: usize) -> String {
    let mut body = SEALED.to_owned();
    let mut number = 0_u32;
    while body.len() < length {
        body.push_str(&format!("{number:x}"));
        number += 1;
    }
    body.truncate(length);
    body
}

#[test]
fn long_bodies_arrive_whole_on_one_connection_whatever_is_asked_in_between() {
    let site = Site::enrolled();
    let bodies: Vec<_> = [20_480, 1 << 20, 5_000_001].map(long_body).into();
    for (number, body) in bodies.iter().enumerate() {
        site.put(&format!("s{number}"), body).expect_status(200);
    }
    let read = |number: usize| ask("GET", &format!("/v1/snapshot/s{number}")).tenant(SECRET, TENANT);
    let mut stream = site.connect();
    for number in [0, 0, 1, 1, 2, 2, 0, 2, 1] {
        let reply = read(number).send_on(&mut stream).expect_status(200);
        assert!(reply.body == bodies[number].as_bytes(), "s{number}");
        let tag = reply.header("etag").unwrap().to_owned();
        let unchanged = read(number).header("If-None-Match", &tag).send_on(&mut stream);
        assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    }
    // Without waiting for the answers, with one to another route in between.
    let order = [2, 0, 1, 2, 2];
    let mut asked = Vec::new();
    for number in order {
        asked.extend(read(number).bytes());
        asked.extend(ask("GET", "/v1/snapshot/public-key").tenant(SECRET, TENANT).bytes());
    }
    stream.write_all(&asked).unwrap();
    for number in order {
        let reply = Reply::read(&mut stream, false).expect_status(200);
        assert!(reply.body == bodies[number].as_bytes(), "s{number} among others");
        Reply::read(&mut stream, false).expect_status(200);
    }
}

#[test]
fn a_body_that_is_being_read_stays_what_it_was_when_a_new_one_is_put() {
    let site = Site::enrolled();
    let (old, new) = (long_body(6_000_000), long_body(6_000_002).replace('1', "2"));
    site.put("local", &old).expect_status(200);
    let mut stream = site.connect();
    let read = ask("GET", "/v1/snapshot/local").tenant(SECRET, TENANT);
    for _ in 0..2 {
        assert!(read.send_on(&mut stream).body == old.as_bytes());
    }
    // More than the sockets hold, so that the rest is sent after the change.
    stream.write_all(&read.bytes()).unwrap();
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    site.put("local", &new).expect_status(200);
    assert!(site.get("/v1/snapshot/local").expect_status(200).body == new.as_bytes());
    let reply = Reply::read(&mut first.chain(&mut stream), false).expect_status(200);
    assert!(reply.body == old.as_bytes());
    assert!(read.send_on(&mut stream).body == new.as_bytes());
}
