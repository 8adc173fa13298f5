use dirless_syncer::serve::triggers::Trigger;
use reqwest::Method;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn a_sync_answers_with_what_came_of_it() {
    let site = Site::start().await;
    let reply = site.ask(Method::POST, "/v1/sync/sources").expect(200).await;
    let part = json!({"name": "corp", "outcome": "changed", "detail": "1 user appeared"});
    assert_eq!(reply, json!({"what": "sources", "parts": [part], "took_ms": 7}));
    for trigger in Trigger::ALL.into_iter().filter(|trigger| *trigger != Trigger::Smtp) {
        site.ask(Method::POST, &format!("/v1/sync/{}", trigger.as_str()))
            .expect(200)
            .await;
    }
    assert_eq!(site.triggers.0.lock().unwrap().len(), 7);
    assert_eq!(
        site.ask(Method::POST, "/v1/sync/smtp").problem(409).await,
        "not_configured"
    );
    assert_eq!(
        site.ask(Method::POST, "/v1/sync/nothing").problem(404).await,
        "not_found"
    );
    assert_eq!(site.get("/v1/sync/all").problem(405).await, "method_not_allowed");
    site.stop().await;
}
