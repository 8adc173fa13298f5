//! A server on a port of its own over a tree in a temporary folder.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dirless_directory::Schema;
use dirless_program::Clock;
use dirless_publish::revocation::{RestoreReply, RevocationReply, RevocationsReply, RevokeReply, RevokeRequest};
use dirless_syncer::serve::revoker::{RevokeError, Revoker};
use dirless_syncer::serve::tokens::{Scope, TokenStore};
use dirless_syncer::serve::triggers::{Outcome, Part, SyncReply, Trigger, TriggerError, Triggers};
use dirless_syncer::serve::{PassThrough, ServeConfig, Server};
use dirless_syncer::tree::{Settings, TreeStore};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Long enough for a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn clock() -> Clock {
    Clock::manual("2026-05-31T00:00:00Z".parse().unwrap())
}

pub(crate) fn open_tree(folder: &Path, clock: &Clock) -> TreeStore {
    let settings = Settings {
        path: folder.join("tree.db"),
        base: dirless_directory::Dn::parse("dc=dirless").unwrap(),
        schema: Schema::standard(),
        indexed: Vec::new(),
    };
    TreeStore::open(settings, clock.clone()).unwrap()
}

/// Remembers what was asked for and answers at once.
#[derive(Debug, Default)]
pub(crate) struct Noted(pub(crate) Mutex<Vec<Trigger>>);

impl Triggers for Noted {
    fn run(&self, what: Trigger) -> BoxFuture<'_, Result<SyncReply, TriggerError>> {
        self.0.lock().unwrap().push(what);
        let reply = match what {
            Trigger::Smtp => Err(TriggerError::NotConfigured(what)),
            _ => {
                let part = Part {
                    name: "corp".to_owned(),
                    outcome: Outcome::Changed,
                    detail: "1 user appeared".to_owned(),
                };
                Ok(SyncReply::new(what, vec![part], Duration::from_millis(7)))
            }
        };
        async { reply }.boxed()
    }
}

/// Takes away whoever is asked for, but for some names; counts who waits.
#[derive(Debug, Default)]
pub(crate) struct Gone(pub(crate) Mutex<Vec<RevocationReply>>, pub(crate) AtomicUsize);

impl Gone {
    fn find(&self, name: &str) -> Result<RevocationReply, RevokeError> {
        let all = self.0.lock().unwrap();
        let found = all.iter().find(|own| own.name == name);
        found.cloned().ok_or_else(|| RevokeError::NotRevoked(name.to_owned()))
    }
}

impl Revoker for Gone {
    fn revoke(&self, request: RevokeRequest, by: String) -> BoxFuture<'_, Result<RevokeReply, RevokeError>> {
        let name = &request.names[0];
        let reply = match name.as_str() {
            "nobody" => Err(RevokeError::NotPublished(name.clone())),
            "Odd" => Err(RevokeError::Malformed("no name".to_owned())),
            "unset" => Err(RevokeError::NotConfigured("no keys".to_owned())),
            "broken" => Err(RevokeError::Failed(anyhow::anyhow!("the disk is full"))),
            _ => {
                self.0.lock().unwrap().push(RevocationReply {
                    name: name.clone(),
                    since: clock().now(),
                    by: Some(by),
                    reason: request.reason,
                    sources: Vec::new(),
                    head: Some(request.wait_seconds),
                    hosts: None,
                });
                Ok(RevokeReply {
                    revoked: request.names,
                    ..RevokeReply::default()
                })
            }
        };
        async { reply }.boxed()
    }

    fn restore(&self, name: String, _by: String) -> BoxFuture<'_, Result<RestoreReply, RevokeError>> {
        let found = self.find(&name).map(|_| RestoreReply { restored: name.clone() });
        self.0.lock().unwrap().retain(|own| own.name != name);
        async { found }.boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<RevocationsReply, RevokeError>> {
        let reply = RevocationsReply {
            revocations: self.0.lock().unwrap().clone(),
            problems: Vec::new(),
        };
        async { Ok(reply) }.boxed()
    }

    fn look(&self, name: String, wait: Duration) -> BoxFuture<'_, Result<RevocationReply, RevokeError>> {
        let found = self.find(&name);
        self.1.fetch_add(1, Ordering::SeqCst);
        // As hosts that never follow would have it.
        async move {
            tokio::time::sleep(wait).await;
            found
        }
        .boxed()
    }
}

pub(crate) struct Site {
    pub(crate) folder: TempDir,
    pub(crate) tree: Arc<TreeStore>,
    pub(crate) tokens: Arc<TokenStore>,
    pub(crate) triggers: Arc<Noted>,
    pub(crate) gone: Arc<Gone>,
    pub(crate) clock: Clock,
    pub(crate) url: String,
    /// Where LDAP is spoken over TCP.
    pub(crate) ldap: Vec<SocketAddr>,
    pub(crate) client: reqwest::Client,
    token: String,
    end: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with(ServeConfig::default()).await
    }

    pub(crate) async fn with(config: ServeConfig) -> Self {
        Self::asking(config, None).await
    }

    /// With somebody who decides about passwords of people of sources.
    pub(crate) async fn asking(config: ServeConfig, pass_through: Option<Arc<dyn PassThrough>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = clock();
        let tree = Arc::new(open_tree(folder.path(), &clock));
        let tokens = TokenStore::open(&TokenStore::path(folder.path()), clock.clone()).unwrap();
        let tokens = Arc::new(tokens);
        let triggers = Arc::new(Noted::default());
        let gone = Arc::new(Gone::default());
        let config = ServeConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..config
        };
        let server = Server::bind(
            &config,
            Arc::clone(&tree),
            Arc::clone(&tokens),
            Arc::clone(&triggers) as Arc<dyn Triggers>,
            Arc::clone(&gone) as Arc<dyn Revoker>,
            pass_through,
            clock.clone(),
        )
        .await
        .unwrap();
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}", server.address().unwrap().port());
        let ldap = server.ldap_addresses().to_vec();
        let (end, ended) = oneshot::channel();
        let served = tokio::spawn(async move {
            let stop = async move {
                let _ = ended.await;
            };
            server.run(stop).await.unwrap();
        });
        let (_, token) = tokens.create(&"tester".parse().unwrap(), &Scope::ALL, None).unwrap();
        Self {
            folder,
            tree,
            tokens,
            triggers,
            gone,
            clock,
            url,
            ldap,
            client: client(None),
            token: token.expose().to_owned(),
            end: Some(end),
            served,
        }
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> Ask {
        Ask(self
            .client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token))
    }

    pub(crate) fn get(&self, path: &str) -> Ask {
        self.ask(Method::GET, path)
    }

    /// Puts an entry and expects success; its tag.
    pub(crate) async fn put(&self, dn: &str, attributes: Json) -> String {
        let answer = self
            .ask(Method::PUT, &entry(dn))
            .json(&json!({"attributes": attributes}))
            .send()
            .await;
        assert!(answer.status.is_success(), "{dn}: {}", answer.text);
        answer.tag.unwrap()
    }

    pub(crate) async fn stop(mut self) {
        let _ = self.end.take().unwrap().send(());
        tokio::time::timeout(PATIENCE, self.served).await.unwrap().unwrap();
    }
}

pub(crate) fn client(authority: Option<&str>) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().timeout(PATIENCE);
    let builder = match authority {
        Some(pem) => builder.tls_certs_only([reqwest::Certificate::from_pem(pem.as_bytes()).unwrap()]),
        None => builder,
    };
    builder.build().unwrap()
}

/// The path of an entry.
pub(crate) fn entry(dn: &str) -> String {
    let encoded: String = dn.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("/v1/entries/{encoded}")
}

pub(crate) fn person(uid: &str) -> Json {
    json!({
        "objectClass": ["inetOrgPerson", "aitherUser"],
        "cn": format!("{uid} Example"),
        "sn": "Example",
        "mail": [format!("{uid}@example.com")],
        "aitherUserType": "human",
    })
}

pub(crate) struct Ask(reqwest::RequestBuilder);

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) tag: Option<String>,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Ask {
    pub(crate) fn json(self, body: &Json) -> Self {
        Self(self.0.json(body))
    }

    pub(crate) fn header(self, name: &'static str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub(crate) async fn open(self) -> Response {
        self.0.send().await.unwrap()
    }

    pub(crate) async fn send(self) -> Answer {
        let response = self.open().await;
        let headers = response.headers().clone();
        Answer {
            status: response.status(),
            tag: headers.get("etag").map(|tag| tag.to_str().unwrap().to_owned()),
            headers,
            text: response.text().await.unwrap(),
        }
    }

    /// The answer's JSON, which must come with that status.
    pub(crate) async fn expect(self, status: u16) -> Json {
        let answer = self.send().await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        serde_json::from_str(&answer.text).unwrap()
    }

    /// The code of a problem, which must come with that status.
    pub(crate) async fn problem(self, status: u16) -> String {
        let answer = self.send().await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        assert_eq!(
            answer.headers["content-type"], "application/problem+json",
            "{}",
            answer.text
        );
        let json: Json = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(json["status"], status);
        assert!(json["title"].as_str().is_some_and(|title| !title.is_empty()));
        json["code"].as_str().unwrap().to_owned()
    }
}
