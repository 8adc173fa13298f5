use std::time::Duration;

use dirless_program::tls::TlsFiles;
use dirless_syncer::serve::ServeConfig;
use dirless_syncer::serve::tokens::Scope;
use reqwest::Method;
use serde_json::json;

use crate::support::*;

const ROUTES: [(&str, &str, &[Scope]); 16] = [
    ("GET", "/v1/entries/dc=dirless", &[Scope::Read]),
    ("PUT", "/v1/entries/dc=dirless", &[Scope::Write]),
    ("DELETE", "/v1/entries/dc=dirless", &[Scope::Write]),
    ("POST", "/v1/entries/dc=dirless/rename", &[Scope::Write]),
    ("POST", "/v1/search", &[Scope::Read]),
    ("GET", "/v1/users", &[Scope::Read]),
    ("GET", "/v1/users/alice", &[Scope::Read]),
    ("GET", "/v1/changelog", &[Scope::Read]),
    ("GET", "/v1/stats", &[Scope::Read]),
    ("GET", "/v1/tree", &[Scope::Read]),
    ("POST", "/v1/sync/all", &[Scope::Sync]),
    ("GET", "/v1/permissions/check?user=a&permission=a:b:c", &[Scope::Read]),
    ("POST", "/v1/revocations", &[Scope::Revoke]),
    ("GET", "/v1/revocations", &[Scope::Revoke, Scope::Restore]),
    ("GET", "/v1/revocations/alice", &[Scope::Revoke, Scope::Restore]),
    ("DELETE", "/v1/revocations/alice", &[Scope::Restore]),
];

fn ask(site: &Site, method: &str, path: &str, token: Option<&str>) -> reqwest::RequestBuilder {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let request = site.client.request(method, format!("{}{path}", site.url));
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

#[tokio::test]
async fn nothing_is_answered_without_a_good_token_and_all_bad_ones_are_alike() {
    let config = ServeConfig {
        failures_per_minute: 0,
        ..Default::default()
    };
    let site = Site::with(config).await;
    let make = |name: &str, end| {
        site.tokens
            .create(&name.parse().unwrap(), &[Scope::Read], end)
            .unwrap()
            .1
    };
    let expired = make("expired", Some(site.clock.now() + Duration::from_secs(1)));
    let revoked = make("revoked", None);
    site.tokens.revoke("revoked").unwrap();
    site.clock.advance(Duration::from_secs(1));
    let unknown = format!("dsy_{}_{}", "0".repeat(16), "0".repeat(64));
    for (method, path, _) in ROUTES {
        let mut answers = Vec::new();
        for token in [
            None,
            Some(expired.expose()),
            Some(revoked.expose()),
            Some(unknown.as_str()),
            Some("x"),
        ] {
            let answer = ask(&site, method, path, token).send().await.unwrap();
            assert_eq!(answer.status(), 401, "{method} {path}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
            answers.push(answer.text().await.unwrap());
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{method} {path}: {answers:?}");
    }
    let health = ask(&site, "GET", "/v1/health", None).send().await.unwrap();
    assert_eq!(health.text().await.unwrap(), "{\"status\":\"ok\"}");
    site.stop().await;
}

#[tokio::test]
async fn a_token_allows_its_scopes_and_no_more() {
    let site = Site::start().await;
    for scope in Scope::ALL {
        let (_, token) = site
            .tokens
            .create(&scope.as_str().parse().unwrap(), &[scope], None)
            .unwrap();
        for (method, path, wanted) in ROUTES {
            let answer = ask(&site, method, path, Some(token.expose())).send().await.unwrap();
            assert_eq!(
                answer.status() == 403,
                !wanted.contains(&scope),
                "{method} {path} with {scope:?}"
            );
        }
    }
    site.stop().await;
}

#[tokio::test]
async fn guessing_is_slowed_down_and_good_tokens_are_not() {
    let config = ServeConfig {
        failures_per_minute: 3,
        ..Default::default()
    };
    let site = Site::with(config).await;
    for _ in 0..3 {
        assert_eq!(
            ask(&site, "GET", "/v1/stats", Some("dsy_0_0"))
                .send()
                .await
                .unwrap()
                .status(),
            401
        );
    }
    let answer = ask(&site, "GET", "/v1/stats", Some("dsy_0_0")).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (429, &"60".parse().unwrap())
    );
    site.get("/v1/stats").expect(200).await;
    site.clock.advance(Duration::from_secs(60));
    assert_eq!(
        ask(&site, "GET", "/v1/stats", Some("dsy_0_0"))
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
    site.stop().await;
}

#[tokio::test]
async fn it_serves_its_own_tls() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles {
        certificate: folder.path().join("c.pem"),
        key: folder.path().join("k.pem"),
    };
    dirless_program::fs::publish(&files.certificate, 0o644, made.cert.pem().as_bytes()).unwrap();
    dirless_program::fs::publish(&files.key, 0o600, made.signing_key.serialize_pem().as_bytes()).unwrap();
    let mut site = Site::with(ServeConfig {
        tls: Some(files),
        ..Default::default()
    })
    .await;
    site.client = client(Some(&made.cert.pem()));
    let body = json!({"filter": "(ou=users)"});
    site.ask(Method::POST, "/v1/search").json(&body).expect(200).await;
    site.stop().await;
}
