use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Server;
use super::directory::{self, Directory};
use super::quota::{Bucket, Quota};

/// How the stand-in treats its callers.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Most entries on a page; a smaller `MaxResults` wins. AWS: 100.
    pub page_size: usize,
    /// Added to every call: one round trip and the service's own time.
    pub latency: Duration,
    /// Added to the first call of each connection: what TCP and TLS cost before it.
    pub handshake: Duration,
    /// Calls the account may make; `None` is without limit.
    pub quota: Option<Quota>,
    /// Access key ids that are taken; `None` takes any.
    pub access_keys: Option<BTreeSet<String>>,
    /// `(InstanceArn, IdentityStoreId)` of each Identity Center instance.
    pub instances: Vec<(String, String)>,
    /// Calls to fail: operation (such as `ListUsers`), how many of its calls pass before, and how.
    pub failures: Vec<(String, u64, Failure)>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            page_size: 100,
            latency: Duration::ZERO,
            handshake: Duration::ZERO,
            quota: None,
            access_keys: None,
            instances: vec![(
                "arn:aws:sso:::instance/ssoins-1111111111111111".to_owned(),
                "d-1234567890".to_owned(),
            )],
            failures: Vec::new(),
        }
    }
}

/// What happens to a call that fails, from the given one on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// This HTTP status with an `InternalServerException`, so many times; then calls pass again.
    Status(u16, u64),
    /// `ExpiredTokenException`, always.
    ExpiredToken,
    /// `AccessDeniedException`, always.
    AccessDenied,
    /// Half of the JSON text under a good status, always.
    TruncatedJson,
    /// A good status whose object lacks the list, always.
    EmptyObject,
    /// The page again and again with the same `NextToken`.
    RepeatedToken,
    /// No answer at all.
    Hang,
}

/// A running stand-in for `sso-admin` and `identitystore`.
#[derive(Debug)]
pub struct IdentityCenter {
    server: Server,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    directory: Directory,
    behaviour: Behaviour,
    bucket: Bucket,
    calls: BTreeMap<String, u64>,
    throttled: u64,
    connections: u64,
    in_flight: u64,
    most_in_flight: u64,
}

impl IdentityCenter {
    /// Starts a stand-in that holds `directory`.
    ///
    /// # Errors
    /// When no port or thread is to be had.
    pub fn start(directory: Directory) -> std::io::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared {
            directory,
            ..Shared::default()
        }));
        let state = Arc::clone(&shared);
        let server = Server::start(move |listener| async move {
            let service = Router::new()
                .fallback(answer)
                .with_state(state)
                .into_make_service_with_connect_info::<Fresh>();
            let _ = axum::serve(listener, service).await;
        })?;
        Ok(Self { server, shared })
    }

    /// The endpoint for `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Changes what the directory holds.
    pub fn edit<T>(&self, change: impl FnOnce(&mut Directory) -> T) -> T {
        change(&mut lock(&self.shared).directory)
    }

    /// Changes how callers are treated.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut lock(&self.shared).behaviour);
    }

    /// Calls of `operation` that arrived so far, failed and throttled ones too.
    #[must_use]
    pub fn calls(&self, operation: &str) -> u64 {
        lock(&self.shared).calls.get(operation).copied().unwrap_or(0)
    }

    /// All calls that arrived so far.
    #[must_use]
    pub fn all_calls(&self) -> u64 {
        lock(&self.shared).calls.values().sum()
    }

    /// Calls that were throttled so far.
    #[must_use]
    pub fn throttled(&self) -> u64 {
        lock(&self.shared).throttled
    }

    /// Connections that carried at least one call.
    #[must_use]
    pub fn connections(&self) -> u64 {
        lock(&self.shared).connections
    }

    /// The highest number of calls that were under way at once.
    #[must_use]
    pub fn most_in_flight(&self) -> u64 {
        lock(&self.shared).most_in_flight
    }
}

/// True until the first call of a connection has asked.
#[derive(Clone, Debug)]
struct Fresh(Arc<AtomicBool>);

impl Connected<IncomingStream<'_, TcpListener>> for Fresh {
    fn connect_info(_: IncomingStream<'_, TcpListener>) -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    State(shared): State<Arc<Mutex<Shared>>>,
    ConnectInfo(fresh): ConnectInfo<Fresh>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    let operation = target
        .and_then(|target| target.split_once('.'))
        .map_or("", |(_, name)| name)
        .to_owned();
    let first = fresh.0.swap(false, Ordering::SeqCst);
    let wait = {
        let mut shared = lock(&shared);
        shared.connections += u64::from(first);
        shared.in_flight += 1;
        shared.most_in_flight = shared.most_in_flight.max(shared.in_flight);
        let handshake = if first {
            shared.behaviour.handshake
        } else {
            Duration::ZERO
        };
        shared.behaviour.latency + handshake
    };
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let verdict = {
        let mut shared = lock(&shared);
        shared.in_flight -= 1;
        decide(&mut shared, &operation, &headers, &body)
    };
    match verdict {
        Verdict::Reply(status, text) => (
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            [("content-type", "application/x-amz-json-1.1")],
            text,
        )
            .into_response(),
        Verdict::Never => std::future::pending().await,
    }
}

enum Verdict {
    Reply(u16, String),
    Never,
}

fn refuse(status: u16, kind: &str, message: &str) -> Verdict {
    Verdict::Reply(status, json!({"__type": kind, "Message": message}).to_string())
}

fn decide(shared: &mut Shared, operation: &str, headers: &HeaderMap, body: &[u8]) -> Verdict {
    let count = shared.calls.entry(operation.to_owned()).or_default();
    *count += 1;
    let number = *count;
    if let Some(quota) = shared.behaviour.quota
        && !shared.bucket.take(quota, Instant::now())
    {
        shared.throttled += 1;
        return refuse(400, "ThrottlingException", "Rate exceeded");
    }
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    let Some(key) = authorization.and_then(access_key) else {
        return refuse(
            403,
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        );
    };
    if let Some(taken) = &shared.behaviour.access_keys
        && !taken.contains(key)
    {
        return refuse(
            400,
            "ExpiredTokenException",
            "The security token included in the request is expired",
        );
    }
    let request: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let failure = shared
        .behaviour
        .failures
        .iter()
        .find(|(name, passes, failure)| name == operation && strikes(number, *passes, failure))
        .map(|(_, _, failure)| failure.clone());
    let page = reply(shared, operation, &request);
    match failure {
        None => match page {
            Ok(page) => Verdict::Reply(200, page.to_string()),
            Err(verdict) => verdict,
        },
        Some(Failure::Status(status, _)) => refuse(status, "InternalServerException", "Please try again"),
        Some(Failure::ExpiredToken) => refuse(400, "ExpiredTokenException", "The security token is expired"),
        Some(Failure::AccessDenied) => refuse(400, "AccessDeniedException", "not authorized to perform this action"),
        Some(Failure::TruncatedJson) => {
            let text = page.map_or_else(|_| "{\"Users\":[{".to_owned(), |page| page.to_string());
            Verdict::Reply(200, text.chars().take(text.chars().count() / 2).collect())
        }
        Some(Failure::EmptyObject) => Verdict::Reply(200, "{}".to_owned()),
        Some(Failure::RepeatedToken) => match page {
            Ok(mut page) => {
                let token = request.get("NextToken").cloned().unwrap_or_else(|| json!("again"));
                directory::set(&mut page, "NextToken", token);
                Verdict::Reply(200, page.to_string())
            }
            Err(verdict) => verdict,
        },
        Some(Failure::Hang) => Verdict::Never,
    }
}

fn strikes(number: u64, passes: u64, failure: &Failure) -> bool {
    match failure {
        Failure::Status(_, times) => number > passes && number <= passes + times,
        _ => number > passes,
    }
}

/// `Credential=AKID/date/region/service/aws4_request, ...` of a SigV4 header.
fn access_key(authorization: &str) -> Option<&str> {
    let (_, rest) = authorization.split_once("Credential=")?;
    rest.split('/').next()
}

fn reply(shared: &Shared, operation: &str, request: &Value) -> Result<Value, Verdict> {
    let behaviour = &shared.behaviour;
    if operation == "ListInstances" {
        let instances: Vec<Value> = behaviour
            .instances
            .iter()
            .map(|(arn, store)| json!({"InstanceArn": arn, "IdentityStoreId": store, "Status": "ACTIVE"}))
            .collect();
        return Ok(json!({"Instances": instances}));
    }
    let store = request.get("IdentityStoreId").and_then(Value::as_str).unwrap_or("");
    if !behaviour.instances.iter().any(|(_, known)| known == store) {
        return Err(refuse(400, "ResourceNotFoundException", "IdentityStore not found"));
    }
    let asked = request
        .get("MaxResults")
        .and_then(Value::as_u64)
        .and_then(|most| usize::try_from(most).ok());
    let size = asked
        .unwrap_or(behaviour.page_size)
        .clamp(1, behaviour.page_size.max(1));
    let token = request.get("NextToken").and_then(Value::as_str);
    let after = (
        token.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded),
        std::ops::Bound::Unbounded,
    );
    let directory = &shared.directory;
    let (list, entries, next) = match operation {
        "ListUsers" => {
            let (entries, next) = directory::page(directory.users.range::<str, _>(after), size, |id, user| {
                directory::render_user(store, id, user)
            });
            ("Users", entries, next)
        }
        "ListGroups" => {
            let (entries, next) = directory::page(directory.groups.range::<str, _>(after), size, |id, group| {
                directory::render_group(store, id, group)
            });
            ("Groups", entries, next)
        }
        "ListGroupMemberships" => {
            let id = request.get("GroupId").and_then(Value::as_str).unwrap_or("");
            let Some(group) = directory.groups.get(id) else {
                return Err(refuse(400, "ResourceNotFoundException", "GROUP not found"));
            };
            let members = group.members.range::<str, _>(after).map(|member| (member, ()));
            let (entries, next) =
                directory::page(members, size, |user, ()| directory::render_membership(store, id, user));
            ("GroupMemberships", entries, next)
        }
        _ => return Err(refuse(400, "UnknownOperationException", "")),
    };
    let mut page = json!({ list: entries });
    if let Some(next) = next {
        directory::set(&mut page, "NextToken", json!(next));
    }
    Ok(page)
}
