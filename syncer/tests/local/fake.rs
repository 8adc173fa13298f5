//! A backend of three routes, with or without entity tags, that can misbehave on demand.

use std::io::Read;
use std::sync::{Arc, Mutex};

use dirless_seal::{Identity, Limits, Recipient, open, seal, sha256_hex};
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

/// What it holds and how it behaves.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) local: Option<Vec<u8>>,
    pub(crate) rules: Option<Vec<u8>>,
    pub(crate) key: Option<String>,
    pub(crate) tags: bool,
    pub(crate) deleted: bool,
    /// Writes that are stored but answered with 503, as when a front gives up on the backend.
    pub(crate) swallow: u32,
    /// Runs before the next write: somebody else's.
    pub(crate) intrude: Vec<Vec<u8>>,
    /// Every write is answered with 503 and not stored.
    pub(crate) deaf: bool,
    pub(crate) writes: u32,
}

#[derive(Clone)]
pub(crate) struct Fake(pub(crate) Arc<Mutex<State>>);

impl Fake {
    pub(crate) async fn start(identity: &Identity, tags: bool) -> (MockServer, Self) {
        let state = State {
            key: Some(identity.recipient().to_string()),
            tags,
            ..State::default()
        };
        let fake = Self(Arc::new(Mutex::new(state)));
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(fake.clone()).mount(&server).await;
        (server, fake)
    }

    pub(crate) fn put(&self, json: &Value, recipient: &Recipient) {
        self.0.lock().unwrap().local = Some(sealed(json, recipient));
    }

    /// The JSON that it holds, sealed to `identity`.
    pub(crate) fn local(&self, identity: &Identity) -> Value {
        let state = self.0.lock().unwrap();
        let body = state.local.as_ref().expect("something was stored");
        let mut json = String::new();
        open(identity, body.as_slice(), Limits::default())
            .unwrap()
            .read_to_string(&mut json)
            .unwrap();
        serde_json::from_str(&json).unwrap()
    }

    pub(crate) fn rules(&self) -> Value {
        let state = self.0.lock().unwrap();
        serde_json::from_slice(state.rules.as_ref().expect("rules were stored")).unwrap()
    }

    pub(crate) fn writes(&self) -> u32 {
        self.0.lock().unwrap().writes
    }
}

pub(crate) fn sealed(json: &Value, recipient: &Recipient) -> Vec<u8> {
    let mut body = Vec::new();
    seal(recipient, &mut json.to_string().as_bytes(), &mut body).unwrap();
    body
}

impl Respond for Fake {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.0.lock().unwrap();
        assert_eq!(request.headers["authorization"], "Bearer sekret-token-1");
        match (request.method.as_str(), request.url.path()) {
            ("GET", "/v1/snapshot/public-key") => {
                ResponseTemplate::new(200).set_body_json(json!({"age_public_key": state.key}))
            }
            ("GET", "/v1/snapshot/local") => state.read_local(),
            ("GET", "/v1/snapshot/authz-config") => state.read_rules(),
            ("PUT", path) => state.write(path, request),
            _ => ResponseTemplate::new(404),
        }
    }
}

impl State {
    fn read_local(&self) -> ResponseTemplate {
        let Some(body) = &self.local else {
            let code = if self.deleted {
                "source_deleted"
            } else {
                "source_absent"
            };
            return ResponseTemplate::new(404).set_body_json(json!({"error": "none", "code": code}));
        };
        let reply = ResponseTemplate::new(200).set_body_bytes(body.clone());
        self.tagged(reply.insert_header("x-dirless-encrypted", "age"), body)
    }

    fn read_rules(&self) -> ResponseTemplate {
        let none = br#"{"enforce_group_memberships":false,"host_group_rules":[]}"#.to_vec();
        let body = self.rules.clone().unwrap_or(none);
        self.tagged(ResponseTemplate::new(200).set_body_bytes(body.clone()), &body)
    }

    fn write(&mut self, path: &str, request: &Request) -> ResponseTemplate {
        if self.deaf {
            return ResponseTemplate::new(503);
        }
        if !self.intrude.is_empty() {
            self.local = Some(self.intrude.remove(0));
        }
        let none = br#"{"enforce_group_memberships":false,"host_group_rules":[]}"#.to_vec();
        let is_local = path == "/v1/snapshot/local";
        let current = if is_local {
            self.local.clone()
        } else {
            Some(self.rules.clone().unwrap_or(none))
        };
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        let holds = match (header("if-match"), header("if-none-match")) {
            (Some(wanted), _) => current.as_deref().is_some_and(|body| tag(body) == wanted),
            (None, Some("*")) => current.is_none(),
            _ => true,
        };
        if self.tags && !holds {
            return ResponseTemplate::new(412)
                .set_body_json(json!({"error": "changed", "code": "precondition_failed"}));
        }
        self.writes += 1;
        let place = if is_local {
            assert_eq!(header("x-dirless-recipient"), self.key.as_deref());
            &mut self.local
        } else {
            &mut self.rules
        };
        *place = Some(request.body.clone());
        if self.swallow > 0 {
            self.swallow -= 1;
            return ResponseTemplate::new(503);
        }
        self.tagged(
            ResponseTemplate::new(200).set_body_json(json!({"status": "ok"})),
            &request.body,
        )
    }

    fn tagged(&self, reply: ResponseTemplate, body: &[u8]) -> ResponseTemplate {
        if self.tags {
            reply.insert_header("etag", tag(body).as_str())
        } else {
            reply
        }
    }
}

fn tag(body: &[u8]) -> String {
    format!("\"{}\"", sha256_hex(body))
}
