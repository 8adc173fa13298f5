//! Calls of the verified protocol, and files at backends.

use bytes::Bytes;
use dirless_client::{BackendFiles, ClientBuilder, Error, Expected, Files, FilesError, Posted, RequestKey, Standing};
use dirless_program::Secret;
use dirless_wire::trust::{Label, ObjectPath, SignedRequest};
use dirless_wire::{ETag, Notice, TenantId};
use serde_json::json;
use wiremock::matchers::{any, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::support::{TENANT, builder, dead};

fn signing(builder: ClientBuilder) -> ClientBuilder {
    builder.key(RequestKey::new("n1+0a1b2c3d".parse().unwrap(), |text| {
        // What was signed begins the signature, so that a test can tell it.
        let mut signature = text.to_vec();
        signature.resize(64, 0);
        signature
    }))
}

fn files(urls: &[&str]) -> BackendFiles {
    let others = urls.iter().skip(1);
    let all = others.fold(builder(urls[0]), |builder, url| builder.url(url).unwrap());
    BackendFiles::new(signing(all).build().unwrap())
}

async fn answer(server: &MockServer, verb: &str, at: &str, answer: ResponseTemplate) {
    let at = format!("/v2/{TENANT}/{at}");
    let mock = Mock::given(method(verb)).and(path(at));
    mock.respond_with(answer).mount(server).await;
}

fn signed(request: &Request) -> SignedRequest {
    request.headers["authorization"].to_str().unwrap().parse().unwrap()
}

fn absent() -> ResponseTemplate {
    ResponseTemplate::new(404).set_body_json(json!({"error": "none", "code": "object_absent"}))
}

#[tokio::test]
async fn requests_are_signed_and_bear_no_token() {
    let server = MockServer::start().await;
    answer(
        &server,
        "PUT",
        "head/p",
        ResponseTemplate::new(201).insert_header("etag", "\"2\""),
    )
    .await;
    let client = signing(builder(&server.uri())).build().unwrap();
    let head: ObjectPath = "head/p".parse().unwrap();
    let expected = Expected::Tag(ETag::strong("1").unwrap());
    let cycle = client.cycle();
    let written = cycle.put_object(&head, Bytes::from_static(b"note"), &expected);
    assert_eq!(written.await.unwrap().etag, Some(ETag::strong("2").unwrap()));
    let request = &server.received_requests().await.unwrap()[0];
    assert_eq!(request.headers["if-match"], "\"1\"");
    assert!(!request.headers.contains_key("x-tenant-id"));
    assert!(!request.headers.contains_key("content-digest"));
    let signed = signed(request);
    assert_eq!(signed.key.to_string(), "n1+0a1b2c3d");
    assert!(signed.signature.starts_with(b"dirless/request/v1\nPUT\n/v2/"));
    let shown = format!("{client:?}");
    assert!(!shown.contains("sekret"), "{shown}");
}

#[tokio::test]
async fn a_long_body_is_announced_and_a_key_needs_a_tenant() {
    let server = MockServer::start().await;
    answer(&server, "PUT", "nodes/e/1", ResponseTemplate::new(201)).await;
    let client = signing(builder(&server.uri())).build().unwrap();
    let body = Bytes::from(vec![7; 300 * 1024]);
    let path: ObjectPath = "nodes/e/1".parse().unwrap();
    client
        .cycle()
        .put_object(&path, body, &Expected::Anything)
        .await
        .unwrap();
    let request = &server.received_requests().await.unwrap()[0];
    assert!(
        request.headers["content-digest"]
            .to_str()
            .unwrap()
            .starts_with("sha-256=:")
    );
    let nobody = signing(ClientBuilder::new().url("http://h").unwrap()).build();
    assert!(nobody.unwrap_err().to_string().contains("tenant"));
}

#[tokio::test]
async fn a_host_that_joins_presents_the_codes_bearer() {
    let server = MockServer::start().await;
    answer(
        &server,
        "GET",
        "join/web/policy/3",
        ResponseTemplate::new(200).set_body_string("note"),
    )
    .await;
    answer(&server, "GET", "join/web/policy/4", absent()).await;
    for status in [201, 200] {
        let posted = Mock::given(method("POST")).and(path(format!("/v2/{TENANT}/join/web")));
        let posted = posted.respond_with(ResponseTemplate::new(status));
        posted.up_to_n_times(1).mount(&server).await;
    }
    let client = ClientBuilder::new().url(&server.uri()).unwrap();
    let client = client.bearer(Secret::new("code-bearer".to_owned()));
    let client = client.tenant(TenantId::new(TENANT).unwrap()).build().unwrap();
    let (cycle, code): (_, Label) = (client.cycle(), "web".parse().unwrap());
    let get = async |version: u64| cycle.get_policy_to_join(&code, version.try_into().unwrap(), 100).await;
    assert_eq!(get(3).await.unwrap().unwrap(), b"note");
    assert_eq!(get(4).await.unwrap(), None);
    // Not a backend's word.
    assert!(matches!(get(5).await, Err(Error::Rejected { status: 404, .. })));
    for became in [Posted::Taken, Posted::Waits] {
        let posted = cycle.post_join_request(&code, Bytes::from_static(b"sealed")).await;
        assert_eq!(posted.unwrap(), became);
    }
    let files = Files::Backend(BackendFiles::to_join(client, code.clone()));
    assert_eq!(files.get("policy/3", 100).await.unwrap().unwrap(), "note");
    assert!(matches!(files.get("head/p", 100).await, Err(FilesError::Path(_))));
    for request in server.received_requests().await.unwrap() {
        assert_eq!(request.headers["authorization"], "Bearer code-bearer");
    }
}

#[tokio::test]
async fn a_heartbeat_spares_what_it_tells() {
    let server = MockServer::start().await;
    let told = json!({"policy": 2, "heads": {"p": "head of p"}});
    answer(
        &server,
        "POST",
        "heartbeat",
        ResponseTemplate::new(200).set_body_json(told),
    )
    .await;
    answer(
        &server,
        "GET",
        "policy/2",
        ResponseTemplate::new(200).set_body_string("two"),
    )
    .await;
    let backend = files(&[&server.uri()]);
    let files = Files::Backend(backend.clone());
    backend.heartbeat(Some(Bytes::from_static(b"receipt"))).await.unwrap();
    assert_eq!(backend.standing(), Standing::Accepted);
    assert_eq!(files.get("policy/3", 10).await.unwrap(), None);
    assert_eq!(files.get("head/p", 10).await.unwrap().unwrap(), "head of p");
    assert_eq!(files.get("head/q", 10).await.unwrap(), None);
    assert!(matches!(files.get("head/p", 3).await, Err(FilesError::TooLong { .. })));
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
    assert_eq!(files.get("policy/2", 10).await.unwrap().unwrap(), "two");
    // In the next round it is asked for again.
    backend.begin();
    assert!(matches!(
        files.get("policy/3", 10).await,
        Err(FilesError::Answer { .. })
    ));
}

#[tokio::test]
async fn a_head_that_a_notice_brought_is_not_asked_for() {
    let server = MockServer::start().await;
    let backend = files(&[&server.uri()]);
    let files = Files::Backend(backend.clone());
    let p = Label::new("p").unwrap();
    assert!(
        !backend.begin_told(&p, 2, "head 2 of p".to_owned()),
        "nothing was told yet"
    );
    let told = json!({"policy": 2, "heads": {"p": "head 1 of p", "q": "head of q"}});
    let answer = ResponseTemplate::new(200).set_body_json(told);
    Mock::given(any()).respond_with(answer).mount(&server).await;
    backend.heartbeat(None).await.unwrap();
    for head in ["head 2 of p", "head 3 of p"] {
        assert!(backend.begin_told(&p, 2, head.to_owned()));
        assert_eq!(files.get("head/p", 20).await.unwrap().unwrap(), head);
        assert_eq!(files.get("head/q", 20).await.unwrap().unwrap(), "head of q");
        assert_eq!(files.get("policy/3", 20).await.unwrap(), None);
        // The stream it came over took the key.
        assert_eq!(backend.standing(), Standing::Accepted);
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
    // Under another policy, or after a round of its own, a heartbeat has to tell.
    assert!(!backend.begin_told(&p, 3, "head 4 of p".to_owned()));
    assert!(!backend.begin_told(&p, 2, "head 4 of p".to_owned()));
    backend.heartbeat(None).await.unwrap();
    backend.begin();
    assert!(!backend.begin_told(&p, 2, "head 4 of p".to_owned()));
}

#[tokio::test]
async fn a_head_that_is_unchanged_is_a_304() {
    let server = MockServer::start().await;
    let tagged = ResponseTemplate::new(200)
        .set_body_string("note")
        .insert_header("etag", "\"1\"");
    let once = Mock::given(method("GET")).respond_with(tagged).up_to_n_times(1);
    once.mount(&server).await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(304))
        .mount(&server)
        .await;
    let files = Files::Backend(files(&[&server.uri()]));
    for _ in 0..3 {
        assert_eq!(files.get("head/p", 10).await.unwrap().unwrap(), "note");
    }
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests[2].headers["if-none-match"], "\"1\"");
}

#[tokio::test]
async fn a_refused_key_is_asked_with_once_a_round() {
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(401))
        .mount(&server)
        .await;
    let backend = files(&[&server.uri()]);
    let files = Files::Backend(backend.clone());
    for round in 1..3 {
        backend.begin();
        assert!(matches!(backend.heartbeat(None).await, Err(Error::KeyRefused { .. })));
        for path in ["policy/1", "head/p", "blob/none"] {
            let error = files.get(path, 10).await.unwrap_err();
            assert!(
                matches!(&error, FilesError::Refused(text) if text.contains("revoked")),
                "{error}"
            );
        }
        assert_eq!(backend.standing(), Standing::Refused);
        assert_eq!(server.received_requests().await.unwrap().len(), round);
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_told_from_a_key_that_is_refused() {
    let server = MockServer::start().await;
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let refusal = ResponseTemplate::new(401).insert_header("date", date);
    Mock::given(any()).respond_with(refusal).mount(&server).await;
    let backend = files(&[&server.uri()]);
    let error = backend.heartbeat(None).await.unwrap_err();
    assert!(
        !error.refuses_key() && error.to_string().contains("ahead of the backend's"),
        "{error}"
    );
    assert!(matches!(backend.standing(), Standing::Barred(_)));
}

#[tokio::test]
async fn another_backend_takes_over_and_nobody_is_asked_in_vain_twice() {
    let server = MockServer::start().await;
    answer(
        &server,
        "GET",
        "policy/1",
        ResponseTemplate::new(200).set_body_string("one"),
    )
    .await;
    let nobody = format!("http://{}", dead().await);
    let both = Files::Backend(files(&[&nobody, &server.uri()]));
    for _ in 0..10 {
        assert_eq!(both.get("policy/1", 10).await.unwrap().unwrap(), "one");
    }
    let backend = files(&[&nobody]);
    let alone = Files::Backend(backend.clone());
    for path in ["policy/1", "head/p"] {
        let error = alone.get(path, 10).await.unwrap_err();
        assert!(error.to_string().starts_with(path), "{error}");
    }
    assert!(matches!(backend.standing(), Standing::Down(_)));
}

#[tokio::test]
async fn notices_are_asked_for_by_the_owner_of_the_key() {
    let server = MockServer::start().await;
    let stream = ResponseTemplate::new(200).set_body_raw("event: changed\ndata:\n\n", "text/event-stream");
    answer(&server, "GET", "watch", stream).await;
    let client = signing(builder(&server.uri())).build().unwrap();
    let mut stream = client.watch().await.unwrap().unwrap();
    assert_eq!(stream.next().await, Some(Notice::Changed));
    signed(&server.received_requests().await.unwrap()[0]);
}

#[tokio::test]
async fn a_backend_says_what_it_is_without_being_shown_anything() {
    let server = MockServer::start().await;
    let ask = async || {
        let client = builder(&server.uri()).build().unwrap();
        client.is_verified_backend().await.unwrap()
    };
    assert!(!ask().await, "404");
    let challenge = |scheme: &str| ResponseTemplate::new(401).insert_header("www-authenticate", scheme);
    let once = Mock::given(any())
        .respond_with(challenge("Basic realm=x"))
        .up_to_n_times(1);
    once.mount(&server).await;
    assert!(!ask().await, "a server with passwords");
    answer(&server, "GET", "", challenge("Dirless-Ed25519")).await;
    assert!(ask().await);
    let asked = server.received_requests().await.unwrap();
    assert!(
        asked
            .iter()
            .all(|request| !request.headers.contains_key("authorization"))
    );
    let nobody = builder(&format!("http://{}", dead().await)).build().unwrap();
    assert!(matches!(
        nobody.is_verified_backend().await,
        Err(Error::Unavailable { .. })
    ));
}
