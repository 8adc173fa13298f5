use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn somebody_is_taken_away_listed_and_let_back() {
    let site = Site::start().await;
    let post = || site.ask(Method::POST, "/v1/revocations");
    let body = json!({"names": ["alice"], "reason": "left", "wait_seconds": 60});
    let reply = post().json(&body).expect(200).await;
    let wanted = json!({"revoked": ["alice"], "published": [], "classic": false, "problems": []});
    assert_eq!(reply, wanted);
    let list = site.get("/v1/revocations").expect(200).await;
    let own = json!({
        "name": "alice", "since": "2026-05-31T00:00:00Z", "by": "token tester", "reason": "left", "sources": [], "head": 60,
    });
    assert_eq!(list, json!({"revocations": [own], "problems": []}));
    assert_eq!(site.get("/v1/revocations/alice").expect(200).await, own);
    let restore = || site.ask(Method::DELETE, "/v1/revocations/alice");
    assert_eq!(restore().expect(200).await, json!({"restored": "alice"}));
    assert_eq!(restore().problem(404).await, "not_revoked");
    assert_eq!(site.get("/v1/revocations/alice").problem(404).await, "not_revoked");
    assert_eq!(
        site.ask(Method::PUT, "/v1/revocations").problem(405).await,
        "method_not_allowed"
    );
    site.stop().await;
}

#[tokio::test]
async fn what_cannot_be_done_says_why() {
    let site = Site::start().await;
    let post = |body: serde_json::Value| site.ask(Method::POST, "/v1/revocations").json(&body);
    for (name, status, code) in [
        ("nobody", 404, "not_published"),
        ("Odd", 422, "invalid_body"),
        ("unset", 409, "not_configured"),
        ("broken", 500, "internal"),
    ] {
        assert_eq!(post(json!({"names": [name]})).problem(status).await, code, "{name}");
    }
    for body in [
        json!({}),
        json!({"names": "alice"}),
        json!({"names": ["alice"], "wait_seconds": 61}),
        json!({"names": ["alice"], "undo": true}),
    ] {
        assert_eq!(post(body.clone()).problem(422).await, "invalid_body", "{body}");
    }
    assert!(site.gone.0.lock().unwrap().is_empty());
    let wait = |text: &str| site.get(&format!("/v1/revocations/alice?wait={text}"));
    for text in ["61", "-1", "x"] {
        assert_eq!(wait(text).problem(400).await, "invalid_request", "{text}");
    }
    site.stop().await;
}

#[tokio::test]
async fn who_waits_hears_that_the_server_ends() {
    let site = Site::start().await;
    site.ask(Method::POST, "/v1/revocations")
        .json(&json!({"names": ["alice"]}))
        .expect(200)
        .await;
    let waiting = tokio::spawn(site.get("/v1/revocations/alice?wait=60").problem(503));
    let end = tokio::time::Instant::now() + PATIENCE;
    while site.gone.1.load(Ordering::SeqCst) == 0 {
        assert!(tokio::time::Instant::now() < end, "nobody asks");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    site.stop().await;
    assert_eq!(waiting.await.unwrap(), "unavailable");
}
