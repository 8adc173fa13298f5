//! Each call against a server that expects exactly the request of the wire reference.

use std::time::Duration;

use crate::support::{KEY, TENANT, builder};
use bytes::Bytes;
use dirless_client::{Cycle, Error, Expected, Fetched, Previous, RetryPolicy, SnapshotHeaders};
use dirless_wire::{
    AgePublicKey, AuthzConfig, AwsAccountId, Duplicates, ETag, ErrorCode, Heartbeat, Setting, SourceName, TenantId,
};
use serde_json::json;
use wiremock::matchers::{any, body_bytes, body_json, header, header_exists, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

fn cycle(server: &MockServer) -> Cycle {
    builder(&server.uri()).build().unwrap().cycle()
}

fn key() -> AgePublicKey {
    AgePublicKey::new(KEY).unwrap()
}

fn tag(text: &str) -> ETag {
    ETag::strong(text).unwrap()
}

async fn answering(status: u16, body: serde_json::Value) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(status).set_body_json(body))
        .mount(&server)
        .await;
    server
}

async fn requests(server: &MockServer) -> Vec<Request> {
    server.received_requests().await.unwrap()
}

#[tokio::test]
async fn enrolment_is_the_recorded_request() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/v1/enrollment/enroll"))
        .and(header("authorization", "Bearer sekret-token-1"))
        .and(header("content-type", "application/json"))
        .and(body_json(json!({"tenant_id": TENANT, "age_public_key": KEY})))
        .respond_with(ResponseTemplate::new(200).set_body_string(r#"{"status": "enrolled"}"#))
        .expect(1)
        .mount(&server)
        .await;
    let tenant = TenantId::new(&format!("aws___{TENANT}")).unwrap();
    cycle(&server).enroll(&tenant, &key()).await.unwrap();
    let sent = &requests(&server).await[0];
    assert!(!sent.headers.contains_key("x-tenant-id"));
    let agent = sent.headers["user-agent"].to_str().unwrap();
    assert!(agent.starts_with("dirless/0."), "{agent}");
}

#[tokio::test]
async fn a_snapshot_is_fetched_with_its_hints_and_a_path_prefix() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path("/p/q/v1/snapshot/aws-identity-center"))
        .and(header("authorization", "Bearer sekret-token-1"))
        .and(header("x-tenant-id", TENANT))
        .respond_with(
            ResponseTemplate::new(200)
                .insert_header("etag", "\"one\"")
                .insert_header("x-dirless-encrypted", "age")
                .insert_header("x-dirless-registered-key", KEY)
                .set_body_bytes(vec![b'x'; 300_000]),
        )
        .mount(&server)
        .await;
    let client = builder(&format!("{}/p/q/", server.uri())).build().unwrap();
    let mut sink = Vec::new();
    let source = SourceName::aws_identity_center();
    let fetched = client.cycle().get_snapshot(&source, None, 300_000, &mut sink).await;
    let Ok(Fetched::Body(body)) = fetched else {
        panic!("{fetched:?}");
    };
    assert_eq!((body.length, sink.len(), body.encrypted), (300_000, 300_000, true));
    assert_eq!((body.etag, body.registered_key), (Some(tag("one")), Some(key())));
    let short = client.cycle().get_snapshot(&source, None, 299_999, &mut sink).await;
    assert!(
        matches!(short, Err(Error::BodyTooLarge { limit: 299_999, .. })),
        "{short:?}"
    );
}

#[tokio::test]
async fn only_the_exact_value_means_sealed() {
    for (value, sealed) in [("age", true), ("AGE", false), ("true", false), ("age, age", false)] {
        let server = MockServer::start().await;
        let reply = ResponseTemplate::new(200).insert_header("x-dirless-encrypted", value);
        Mock::given(any())
            .respond_with(reply.set_body_string("{}"))
            .mount(&server)
            .await;
        let fetched = cycle(&server)
            .get_snapshot(&SourceName::local(), None, 10, &mut Vec::new())
            .await;
        assert!(
            matches!(fetched, Ok(Fetched::Body(body)) if body.encrypted == sealed),
            "{value}"
        );
    }
}

#[tokio::test]
async fn an_entity_tag_saves_the_body_and_a_304_out_of_the_blue_does_not() {
    let server = MockServer::start().await;
    Mock::given(header("if-none-match", "W/\"one\""))
        .respond_with(ResponseTemplate::new(304))
        .mount(&server)
        .await;
    Mock::given(path("/v1/snapshot/odd"))
        .respond_with(ResponseTemplate::new(304))
        .mount(&server)
        .await;
    let mut sink = b"kept".to_vec();
    let known = ETag::parse("W/\"one\"").unwrap();
    let fetched = cycle(&server)
        .get_snapshot(&SourceName::local(), Some(&known), 10, &mut sink)
        .await;
    assert_eq!(fetched.unwrap(), Fetched::NotModified);
    assert_eq!(sink, b"kept");
    let odd = SourceName::new("odd").unwrap();
    let fetched = cycle(&server).get_snapshot(&odd, None, 10, &mut sink).await;
    assert!(matches!(fetched, Err(Error::Malformed { .. })), "{fetched:?}");
}

#[tokio::test]
async fn deleted_absent_and_lost_are_told_apart() {
    for (body, code) in [
        (r#"{"error":"gone","code":"source_deleted"}"#, ErrorCode::SourceDeleted),
        (r#"{"error":"none","code":"source_absent"}"#, ErrorCode::SourceAbsent),
        (r#"{"error":"not found"}"#, ErrorCode::Unknown),
        ("<html>404</html>", ErrorCode::Unknown),
        ("", ErrorCode::Unknown),
    ] {
        let server = MockServer::start().await;
        Mock::given(any())
            .respond_with(ResponseTemplate::new(404).set_body_string(body))
            .mount(&server)
            .await;
        let fetched = cycle(&server)
            .get_snapshot(&SourceName::local(), None, 10, &mut Vec::new())
            .await;
        assert_eq!(fetched.unwrap(), Fetched::Absent { code }, "{body}");
    }
}

#[tokio::test]
async fn a_snapshot_is_put_as_recorded() {
    let server = MockServer::start().await;
    Mock::given(method("PUT"))
        .and(path("/v1/snapshot/aws-identity-center"))
        .and(header("content-type", "application/octet-stream"))
        .and(header("x-tenant-id", TENANT))
        .and(header("x-dirless-recipient", KEY))
        .and(header("x-dirless-user-count", "4"))
        .and(header("x-dirless-group-count", "3"))
        .and(header("x-aws-account-id", "123456789012"))
        .and(header("content-length", "6"))
        .and(body_bytes("YWdl+/"))
        .respond_with(
            ResponseTemplate::new(200)
                .insert_header("etag", "\"new\"")
                .set_body_string("OK"),
        )
        .expect(1)
        .mount(&server)
        .await;
    let headers = SnapshotHeaders {
        recipient: key(),
        users: Some(4),
        groups: Some(3),
        account: Some(AwsAccountId::new("123456789012").unwrap()),
    };
    let body = Bytes::from_static(b"YWdl+/");
    let source = SourceName::aws_identity_center();
    let written = cycle(&server)
        .put_snapshot(&source, &headers, body, &Expected::Anything)
        .await
        .unwrap();
    assert_eq!(written.etag, Some(tag("new")));
    let sent = &requests(&server).await[0];
    assert!(!sent.headers.contains_key("if-match") && !sent.headers.contains_key("if-none-match"));
}

#[tokio::test]
async fn conditions_travel_as_strong_tags_and_412_means_changed() {
    let server = answering(412, json!({"error": "changed", "code": "precondition_failed"})).await;
    let headers = SnapshotHeaders::for_recipient(key());
    for (expected, name, value) in [
        (Expected::Absent, "if-none-match", "*"),
        (Expected::Tag(ETag::parse("W/\"a\"").unwrap()), "if-match", "\"a\""),
    ] {
        let put = cycle(&server)
            .put_snapshot(&SourceName::local(), &headers, Bytes::from_static(b"x"), &expected)
            .await;
        assert!(matches!(put, Err(Error::Changed)), "{put:?}");
        let rules = cycle(&server)
            .put_access_rules(&serde_json::Map::new(), &expected)
            .await;
        assert!(matches!(rules, Err(Error::Changed)), "{rules:?}");
        for sent in requests(&server).await.iter().rev().take(2) {
            assert_eq!(sent.headers[name], value);
        }
    }
}

#[tokio::test]
async fn without_entity_tags_a_replacement_reads_before_and_after() {
    let previous = |body: &'static [u8]| Previous::Body {
        etag: None,
        body: Bytes::from_static(body),
    };
    let headers = SnapshotHeaders::for_recipient(key());
    // What the server holds at each read, and what a replacement of "old" by "new" comes to.
    for (reads, changed, puts) in [
        (vec!["old", "new"], false, 1),
        (vec!["other"], true, 0),
        (vec!["longer than old"], true, 0),
        (vec!["old", "overwritten"], true, 1),
    ] {
        let server = MockServer::start().await;
        for body in reads {
            Mock::given(method("GET"))
                .respond_with(ResponseTemplate::new(200).set_body_string(body))
                .up_to_n_times(1)
                .mount(&server)
                .await;
        }
        Mock::given(method("PUT"))
            .respond_with(ResponseTemplate::new(200))
            .expect(puts)
            .mount(&server)
            .await;
        let done = cycle(&server)
            .replace_snapshot(
                &SourceName::local(),
                &headers,
                &previous(b"old"),
                Bytes::from_static(b"new"),
            )
            .await;
        assert_eq!(matches!(done, Err(Error::Changed)), changed, "{done:?}");
        assert_eq!(done.is_ok(), !changed, "{done:?}");
    }
}

#[tokio::test]
async fn the_small_calls_are_as_recorded() {
    let server = MockServer::start().await;
    for (verb, route, body) in [
        (
            "PUT",
            "/v1/snapshot/duplicates",
            json!({"duplicate_usernames": ["alice"]}),
        ),
        (
            "POST",
            "/v1/agent/heartbeat",
            json!({"agent_id": "node-a", "hostname": "vm"}),
        ),
        (
            "POST",
            "/v1/admin/settings",
            json!({"key": "server_limit", "value": "25"}),
        ),
        ("PUT", "/v1/snapshot/public-key", json!({"age_public_key": KEY})),
    ] {
        Mock::given(method(verb))
            .and(path(route))
            .and(header("x-tenant-id", TENANT))
            .and(body_json(body))
            .respond_with(ResponseTemplate::new(200))
            .expect(1)
            .mount(&server)
            .await;
    }
    let cycle = cycle(&server);
    let duplicates = Duplicates {
        duplicate_usernames: vec!["alice".into()],
    };
    cycle.put_duplicates(&duplicates).await.unwrap();
    let heartbeat = Heartbeat {
        agent_id: "node-a".into(),
        hostname: "vm".into(),
        report: None,
    };
    cycle.post_heartbeat(&heartbeat).await.unwrap();
    let setting = Setting {
        key: "server_limit".into(),
        value: "25".into(),
    };
    cycle.post_setting(&setting).await.unwrap();
    cycle.put_public_key(&key()).await.unwrap();
}

#[tokio::test]
async fn small_answers_are_read_also_when_fields_are_missing() {
    let keys = answering(200, json!({"age_public_key": KEY})).await;
    assert_eq!(cycle(&keys).get_public_key().await.unwrap(), Some(key()));
    let none = answering(200, json!({"age_public_key": null, "ca_public_key": null})).await;
    assert_eq!(cycle(&none).get_public_key().await.unwrap(), None);
    assert_eq!(cycle(&none).get_ca_public_key().await.unwrap(), None);
    let bare = answering(200, json!({})).await;
    assert_eq!(cycle(&bare).get_public_key().await.unwrap(), None);
    assert_eq!(cycle(&bare).get_ca_public_key().await.unwrap(), None);
    let health = answering(200, json!({"status": "ok", "tenants": 1, "users": 5})).await;
    assert_eq!(cycle(&health).get_health().await.unwrap().status, "ok");
}

#[tokio::test]
async fn access_rules_keep_unknown_keys_and_wrong_types_are_never_no_rules() {
    let rules = json!({"enforce_group_memberships": true, "host_group_rules": [], "later": [1]});
    let server = answering(200, rules).await;
    let read = cycle(&server).get_access_rules().await.unwrap().unwrap();
    assert!(read.config.enforce_group_memberships && read.json.contains_key("later"));
    let empty = answering(200, json!({})).await;
    let read = cycle(&empty).get_access_rules().await.unwrap().unwrap();
    assert_eq!(read.config, AuthzConfig::default());
    for body in [json!([]), json!(null), json!({"enforce_group_memberships": "true"})] {
        let server = answering(200, body.clone()).await;
        let read = cycle(&server).get_access_rules().await;
        assert!(matches!(read, Err(Error::Malformed { .. })), "{body}: {read:?}");
    }
    let none = answering(404, json!({"error": "not found"})).await;
    assert!(cycle(&none).get_access_rules().await.unwrap().is_none());
    let strange = answering(204, json!(null)).await;
    assert!(cycle(&strange).get_access_rules().await.is_err());
}

#[tokio::test]
async fn refusals_are_final_and_keep_the_backend() {
    let registered = json!({"error": "x", "code": "key_mismatch", "registered_key": KEY});
    let server = answering(409, registered).await;
    let cycle = cycle(&server);
    let refused = cycle.enroll(&TenantId::new(TENANT).unwrap(), &key()).await;
    assert!(matches!(refused, Err(Error::KeyConflict { registered_key: Some(found) }) if found == key()));
    assert!(cycle.backend().is_some());
    let suspended = answering(403, json!({"error": "suspended", "code": "realm_suspended"})).await;
    let refused = self::cycle(&suspended).get_public_key().await;
    assert!(matches!(refused, Err(Error::Suspended { .. })));
    assert_eq!(requests(&suspended).await.len(), 1);
}

#[tokio::test]
async fn deleting_what_is_not_there_is_fine() {
    for (status, body, fine) in [
        (200, json!({"status": "ok"}), true),
        (404, json!({"error": "gone", "code": "source_deleted"}), true),
        (404, json!({"error": "no such route"}), false),
    ] {
        let server = answering(status, body).await;
        let deleted = cycle(&server).delete_snapshot(&SourceName::local()).await;
        assert_eq!(deleted.is_ok(), fine, "{deleted:?}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = answering(200, json!({"age_public_key": KEY})).await;
    let server = MockServer::start().await;
    let reply = ResponseTemplate::new(302).insert_header("location", other.uri());
    Mock::given(any()).respond_with(reply).mount(&server).await;
    let refused = cycle(&server).get_public_key().await;
    assert!(
        matches!(refused, Err(Error::Rejected { status: 302, .. })),
        "{refused:?}"
    );
    assert!(requests(&other).await.is_empty(), "the token went elsewhere");
}

#[tokio::test]
async fn a_429_is_waited_out_when_short_and_given_back_when_long() {
    let retry = RetryPolicy {
        rounds: 3,
        first: Duration::from_millis(1),
        ceiling: Duration::from_secs(2),
    };
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(429).insert_header("retry-after", "1"))
        .up_to_n_times(1)
        .mount(&server)
        .await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"age_public_key": KEY})))
        .mount(&server)
        .await;
    let client = builder(&server.uri()).retry(retry).build().unwrap();
    let begin = std::time::Instant::now();
    assert_eq!(client.cycle().get_public_key().await.unwrap(), Some(key()));
    assert!(begin.elapsed() >= Duration::from_secs(1));
    let slow = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(429).insert_header("retry-after", "60"))
        .mount(&slow)
        .await;
    let client = builder(&slow.uri()).retry(retry).build().unwrap();
    let refused = client.cycle().get_public_key().await;
    let minute = Duration::from_secs(60);
    assert!(
        matches!(refused, Err(Error::RateLimited { retry_after: Some(wait) }) if wait == minute),
        "{refused:?}"
    );
    assert_eq!(requests(&slow).await.len(), 1);
}

#[tokio::test]
async fn a_probe_shows_no_credentials_and_any_answer_is_alive() {
    let server = MockServer::start().await;
    Mock::given(path("/v1/health"))
        .respond_with(ResponseTemplate::new(500))
        .mount(&server)
        .await;
    Mock::given(header_exists("authorization"))
        .respond_with(ResponseTemplate::new(200))
        .mount(&server)
        .await;
    let client = builder(&server.uri()).build().unwrap();
    let probed = client.probe().await;
    assert_eq!(probed.len(), 1);
    assert_eq!(probed[0].outcome, Ok(500));
    let sent = &requests(&server).await[0];
    assert!(!sent.headers.contains_key("authorization") && !sent.headers.contains_key("x-tenant-id"));
}
