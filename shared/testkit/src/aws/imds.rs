use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use serde_json::json;

use super::Server;

const TOKEN: &str = "x-aws-ec2-metadata-token";
const TOKEN_TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// Credentials that the instance's role has right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleCredentials {
    /// `AccessKeyId`.
    pub access_key: String,
    /// When they end, RFC 3339. One in the past makes clients fetch new ones before each use.
    pub expiration: String,
}

/// A running stand-in for the instance metadata service, version 2 only: every read needs a token,
/// and the token reply echoes the lifetime header, without which the official SDK gives up.
#[derive(Debug)]
pub struct Imds {
    server: Server,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    region: String,
    account_id: String,
    role: String,
    credentials: RoleCredentials,
    tokens: BTreeSet<String>,
    tokens_made: u64,
    reads: u64,
    busy: u64,
    reachable: bool,
}

impl Imds {
    /// Starts a stand-in for an instance of `account_id` in `region`.
    ///
    /// # Errors
    /// When no port or thread is to be had.
    pub fn start(account_id: &str, region: &str) -> std::io::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared {
            region: region.to_owned(),
            account_id: account_id.to_owned(),
            role: "dirless-syncer".to_owned(),
            credentials: RoleCredentials {
                access_key: "ASIAEXAMPLE00000001".to_owned(),
                expiration: "2099-01-01T00:00:00Z".to_owned(),
            },
            tokens: BTreeSet::new(),
            tokens_made: 0,
            reads: 0,
            busy: 0,
            reachable: true,
        }));
        let state = Arc::clone(&shared);
        let server = Server::start(move |listener| async move {
            let router = Router::new()
                .route("/latest/api/token", put(token))
                .route("/latest/{*path}", get(read))
                .with_state(state);
            let _ = axum::serve(listener, router).await;
        })?;
        Ok(Self { server, shared })
    }

    /// The endpoint for `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Gives the role other credentials.
    pub fn rotate(&self, credentials: RoleCredentials) {
        lock(&self.shared).credentials = credentials;
    }

    /// Forgets every token handed out, as a long pause does.
    pub fn expire_tokens(&self) {
        lock(&self.shared).tokens.clear();
    }

    /// Answers the next `reads` reads with 429.
    pub fn throttle(&self, reads: u64) {
        lock(&self.shared).busy = reads;
    }

    /// `false`: the instance has no metadata service (404 for everything).
    pub fn set_reachable(&self, reachable: bool) {
        lock(&self.shared).reachable = reachable;
    }

    /// Reads that carried a good token so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        lock(&self.shared).reads
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn token(State(shared): State<Arc<Mutex<Shared>>>, headers: HeaderMap) -> Response {
    let mut shared = lock(&shared);
    if !shared.reachable {
        return StatusCode::NOT_FOUND.into_response();
    }
    let Some(ttl) = headers
        .get(TOKEN_TTL)
        .and_then(|value| value.to_str().ok())
        .map(ToOwned::to_owned)
    else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    shared.tokens_made += 1;
    let token = format!("token-{}", shared.tokens_made);
    shared.tokens.insert(token.clone());
    ([(TOKEN_TTL, ttl)], token).into_response()
}

async fn read(State(shared): State<Arc<Mutex<Shared>>>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let mut shared = lock(&shared);
    if !shared.reachable {
        return StatusCode::NOT_FOUND.into_response();
    }
    let good = headers
        .get(TOKEN)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|token| shared.tokens.contains(token));
    if !good {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if shared.busy > 0 {
        shared.busy -= 1;
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    }
    shared.reads += 1;
    let credentials_of_role = format!("meta-data/iam/security-credentials/{}", shared.role);
    match path.trim_end_matches('/') {
        "meta-data/placement/region" => shared.region.clone().into_response(),
        "meta-data/iam/security-credentials" => shared.role.clone().into_response(),
        "dynamic/instance-identity/document" => json!({
            "accountId": shared.account_id,
            "region": shared.region,
            "instanceId": "i-0123456789abcdef0",
            "architecture": "x86_64",
            "version": "2017-09-30",
        })
        .to_string()
        .into_response(),
        path if path == credentials_of_role => json!({
            "Code": "Success",
            "LastUpdated": "2026-01-01T00:00:00Z",
            "Type": "AWS-HMAC",
            "AccessKeyId": shared.credentials.access_key,
            "SecretAccessKey": "example-secret-key",
            "Token": "example-session-token",
            "Expiration": shared.credentials.expiration,
        })
        .to_string()
        .into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
