use std::io::Write;

use super::support::{Ask, KEY, OTHER_KEY, Reply, SEALED, SECRET, Site, TENANT, ask, block_on};

fn put(source: &str) -> Ask {
    ask("PUT", &format!("/v1/snapshot/{source}")).tenant(SECRET, TENANT)
}

#[test]
fn the_recipient_must_be_there_and_be_the_registered_key() {
    let site = Site::enrolled();
    put("local")
        .body(SEALED)
        .send(&site)
        .expect_error(400, "recipient_missing");
    put("local")
        .header("X-Dirless-Recipient", "nonsense")
        .body(SEALED)
        .send(&site)
        .expect_error(400, "invalid_request");
    let wrong = put("local")
        .header("X-Dirless-Recipient", OTHER_KEY)
        .body(SEALED)
        .send(&site);
    assert_eq!(wrong.expect_error(409, "recipient_mismatch")["registered_key"], KEY);
    site.get("/v1/snapshot/local").expect_error(404, "source_absent");
}

#[test]
fn the_first_account_stays() {
    let site = Site::enrolled();
    let from = |account: &str| {
        put("aws-identity-center")
            .header("X-Dirless-Recipient", KEY)
            .header("X-AWS-Account-ID", account)
            .body(SEALED)
            .send(&site)
    };
    from("123456789012").expect_status(200);
    let other = from("210987654321").expect_error(409, "account_mismatch");
    assert!(other["error"].as_str().unwrap().contains("123456789012"), "{other}");
    from("123456789012").expect_status(200);
    from("12345").expect_error(400, "invalid_request");
    site.put("local", SEALED).expect_status(200);
}

#[test]
fn what_is_plainly_in_clear_is_refused_and_not_stored() {
    let site = Site::enrolled();
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00".to_vec();
    for body in [
        br#"{"users":[],"groups":[]}"#.to_vec(),
        b"  \n[]".to_vec(),
        gzip,
        b"eyJ1c2VycyI6W10sImdyb3VwcyI6W119".to_vec(),
        b"H4sIAAAAAAAAA6uuBQBDv6ajAgAAAA==".to_vec(),
        Vec::new(),
    ] {
        let refused = put("local").header("X-Dirless-Recipient", KEY).body(body).send(&site);
        assert!(
            refused.expect_error(422, "not_sealed")["hint"]
                .as_str()
                .unwrap()
                .contains("age")
        );
    }
    site.get("/v1/snapshot/local").expect_error(404, "source_absent");
}

#[test]
fn any_source_name_by_the_grammar_is_a_source() {
    let site = Site::enrolled();
    for source in ["ad-2", "0", "okta"] {
        site.put(source, SEALED).expect_status(200);
        assert_eq!(
            site.get(&format!("/v1/snapshot/{source}")).expect_status(200).text(),
            SEALED
        );
    }
    for source in ["A", "a_b", "a%62c", "-a", "head", "settings"] {
        site.put(source, SEALED).expect_error(404, "not_found");
    }
}

#[test]
fn an_announced_length_over_the_limit_is_refused_before_the_body() {
    let site = Site::enrolled_with("[sync]\nmax_payload_bytes = 4096\n");
    let mut stream = site.connect();
    let head = format!(
        "PUT /v1/snapshot/local HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nX-Tenant-ID: {TENANT}\r\n\
         X-Dirless-Recipient: {KEY}\r\nContent-Length: 4097\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // Not a byte of the body is sent, and the answer is there.
    Reply::read(&mut stream, false).expect_error(413, "payload_too_large");
    site.put("local", &"A".repeat(4096)).expect_status(200);
}

#[test]
fn an_unannounced_body_over_the_limit_is_refused_without_reading_on() {
    let site = Site::enrolled_with("[sync]\nmax_payload_bytes = 65536\n");
    let mut stream = site.connect();
    let head = format!(
        "PUT /v1/snapshot/local HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nX-Tenant-ID: {TENANT}\r\n\
         X-Dirless-Recipient: {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = format!("4000\r\n{}\r\n", "A".repeat(0x4000));
    let mut sent = 0;
    // Without an end: a server that read on would wait for ever.
    while sent < 5 {
        stream.write_all(chunk.as_bytes()).unwrap();
        sent += 1;
    }
    Reply::read(&mut stream, false).expect_error(413, "payload_too_large");
    let received = site.get("/v1/snapshot/local");
    received.expect_error(404, "source_absent");
}

#[test]
fn an_aborted_body_stores_nothing() {
    let site = Site::enrolled();
    site.put("local", SEALED).expect_status(200);
    for _ in 0..5 {
        let mut stream = site.connect();
        let bytes = put("local")
            .header("X-Dirless-Recipient", KEY)
            .body("A".repeat(100_000))
            .bytes();
        stream.write_all(&bytes[..60_000]).unwrap();
    }
    assert_eq!(site.get("/v1/snapshot/local").expect_status(200).text(), SEALED);
}

#[test]
fn a_lost_update_is_refused() {
    let site = Site::enrolled();
    let conditional = |name: &str, value: &str, body: &str| {
        put("local")
            .header("X-Dirless-Recipient", KEY)
            .header(name, value)
            .body(body)
            .send(&site)
    };
    conditional("If-Match", "\"x\"", SEALED).expect_error(412, "precondition_failed");
    let created = conditional("If-None-Match", "*", SEALED).expect_status(200);
    conditional("If-None-Match", "*", SEALED).expect_error(412, "precondition_failed");
    let tag = created.header("etag").unwrap().to_owned();
    let second = conditional("If-Match", &tag, &format!("{SEALED}2")).expect_status(200);
    conditional("If-Match", &tag, &format!("{SEALED}3")).expect_error(412, "precondition_failed");
    assert_eq!(site.get("/v1/snapshot/local").text(), format!("{SEALED}2"));
    conditional("If-Match", &format!("W/{}", second.header("etag").unwrap()), SEALED)
        .expect_error(412, "precondition_failed");
    conditional("If-Match", "nonsense", SEALED).expect_error(400, "invalid_request");
}

#[test]
fn a_deletion_of_what_has_changed_is_refused() {
    let site = Site::enrolled();
    let delete = |name: &str, value: &str| {
        let request = ask("DELETE", "/v1/snapshot/local").tenant(SECRET, TENANT);
        request.header(name, value).send(&site)
    };
    delete("If-Match", "*").expect_error(412, "precondition_failed");
    let old = site.put("local", SEALED).header("etag").unwrap().to_owned();
    let new = site
        .put("local", &format!("{SEALED}2"))
        .header("etag")
        .unwrap()
        .to_owned();
    delete("If-Match", &old).expect_error(412, "precondition_failed");
    delete("If-Match", "nonsense").expect_error(400, "invalid_request");
    site.get("/v1/snapshot/local").expect_status(200);
    delete("If-Match", &new).expect_status(200);
    site.get("/v1/snapshot/local").expect_error(404, "source_deleted");
}

#[test]
fn of_many_editors_exactly_one_wins_each_round() {
    let site = Site::enrolled();
    let mut tag = site.put("local", SEALED).header("etag").unwrap().to_owned();
    for round in 0..5 {
        let replies: Vec<Reply> = std::thread::scope(|scope| {
            let editors: Vec<_> = (0..4)
                .map(|editor| {
                    let request = put("local")
                        .header("X-Dirless-Recipient", KEY)
                        .header("If-Match", &tag)
                        .body(format!("{SEALED}{round}{editor}"));
                    let site = &site;
                    scope.spawn(move || request.send(site))
                })
                .collect();
            editors.into_iter().map(|editor| editor.join().unwrap()).collect()
        });
        let winners: Vec<_> = replies.iter().filter(|reply| reply.status == 200).collect();
        assert_eq!(winners.len(), 1);
        assert!(replies.iter().all(|reply| matches!(reply.status, 200 | 412)));
        tag = winners[0].header("etag").unwrap().to_owned();
    }
}

#[test]
fn each_write_is_in_the_audit_log() {
    let site = Site::enrolled();
    site.put("local", SEALED).expect_status(200);
    ask("DELETE", "/v1/snapshot/local")
        .tenant(SECRET, TENANT)
        .send(&site)
        .expect_status(200);
    let lines = block_on(site.store.all_tenants_bypassing_realm_scope().audit(0, 100)).unwrap();
    for action in ["snapshot.put", "snapshot.delete"] {
        let line = lines.iter().find(|line| line.action == action).unwrap();
        assert_eq!(line.details["source"], "local");
        assert_eq!(line.address.unwrap().to_string(), "127.0.0.1");
    }
}
