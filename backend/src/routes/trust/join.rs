//! Join codes, and the mailbox of join requests. Both are blind here: the bearer is known by its digest, a request is
//! sealed to the enroller.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use dirless_wire::trust::{
    Digest, JOIN_REQUEST_MAX, JoinCodeReply, JoinCodeRequest, JoinList, JoinRequestReply, Label, ObjectPath,
};
use dirless_wire::{ErrorCode, StatusReply, header};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, StatusCode, Uri};

use super::asked::{Asked, Wanted, admit, named, publisher_or_operator, small, split};
use super::objects;
use super::times::{moment, time};
use crate::app::App;
use crate::http::address::Client;
use crate::http::limits::Pace;
use crate::http::{Failure, auth, json, parse_json, status_ok};
use crate::routes::asked::client_of;
use crate::store::{JoinPost, Origin, SecretHash};

const LONGEST: u64 = 4096;

/// A host that holds a join code asks to be let in. Wrong in whatever way: one answer.
pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let code: Label = named(request.uri(), "join/")?;
    let (parts, body) = request.into_parts();
    let client = client_of(&parts)?;
    let bearer = bearer(&app, &parts, &client)?;
    let tenant = split(&parts.uri).0;
    let refused = || {
        app.limits.failed(&client);
        Failure::unauthorized_trust()
    };
    if !app.store.admits_join(tenant, &code, bearer).await? {
        return Err(refused());
    }
    let body = small(&app, &parts.headers, Some(body), JOIN_REQUEST_MAX).await?;
    if body.is_empty() {
        return Err(Failure::new(ErrorCode::InvalidBody, "a join request is not empty"));
    }
    let origin = Origin::network(client.address);
    match app.store.post_join_request(tenant, &code, bearer, body, origin).await? {
        JoinPost::Taken => Ok(json(StatusCode::CREATED, &StatusReply::ok())),
        JoinPost::Same => Ok(status_ok()),
        JoinPost::Refused => Err(refused()),
    }
}

/// A policy, for a host that holds a join code: it has to know whom to seal its request to, and whether the roots are those
/// of its code. Refused like a request.
pub(super) async fn policy(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (parts, _body) = request.into_parts();
    let (code, path) = wanted_policy(&parts.uri)?;
    let client = client_of(&parts)?;
    let bearer = bearer(&app, &parts, &client)?;
    let Some(tenant) = app.store.tenant_of_join(split(&parts.uri).0, &code, bearer).await? else {
        app.limits.failed(&client);
        return Err(Failure::unauthorized_trust());
    };
    if let Pace::Wait(seconds) = app.limits.tenant(tenant.tenant()) {
        return Err(Failure::rate_limited(seconds));
    }
    objects::send(&app, &tenant, &path, &parts).await
}

fn wanted_policy(uri: &Uri) -> Result<(Label, ObjectPath), Failure> {
    let rest = split(uri).1.strip_prefix("join/").unwrap_or_default();
    let parsed = rest.split_once('/').and_then(|(code, path)| {
        let code = Label::new(code).ok()?;
        Some((code, path.parse().ok()?))
    });
    match parsed {
        Some((code, path @ ObjectPath::Policy { .. })) => Ok((code, path)),
        _ => Err(Failure::new(
            ErrorCode::NotFound,
            "a policy for a host that joins is at join/CODE/policy/VERSION",
        )),
    }
}

/// The bearer that was presented.
fn bearer(app: &App, parts: &Parts, client: &Client) -> Result<SecretHash, Failure> {
    match auth::bearer(&parts.headers) {
        Some(bearer) => Ok(SecretHash::of(bearer)),
        None => {
            if parts.headers.contains_key(AUTHORIZATION) {
                app.limits.failed(client);
            }
            Err(Failure::unauthorized_trust())
        }
    }
}

/// Registers a join code.
pub(super) async fn register(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let code: Label = named(request.uri(), "join/")?;
    let wanted = Wanted {
        longest: LONGEST,
        digest: None,
        may: &publisher_or_operator,
    };
    let Asked {
        tenant, origin, body, ..
    } = admit(&app, request, wanted).await?;
    let body = body.in_memory().cloned().unwrap_or_default();
    let request: JoinCodeRequest = parse_json(&body)?;
    if !(1..=JoinCodeRequest::MAX_USES).contains(&request.uses) {
        let text = format!("uses is 1 to {}", JoinCodeRequest::MAX_USES);
        return Err(Failure::new(ErrorCode::InvalidBody, text));
    }
    let bearer = SecretHash::from_digest(*request.bearer.as_bytes());
    let end = moment(&request.expires_at);
    if tenant.put_join_code(&code, bearer, end, request.uses, origin).await? {
        Ok(status_ok())
    } else {
        let text = "this tenant has as many join codes as it can have";
        Err(Failure::new(ErrorCode::AlreadyExists, text).hint("delete those that are used up"))
    }
}

/// Ends a join code.
pub(super) async fn unregister(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let code: Label = named(request.uri(), "join/")?;
    let asked = admit(&app, request, Wanted::nothing(&publisher_or_operator)).await?;
    let _gone = asked.tenant.delete_join_code(&code, asked.origin).await?;
    Ok(status_ok())
}

/// Codes and requests. An operator sees that they are there, and opens none.
pub(super) async fn list(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let asked = admit(&app, request, Wanted::nothing(&publisher_or_operator)).await?;
    let (codes, requests) = asked.tenant.mailbox().await?;
    let codes = codes.into_iter().map(|code| JoinCodeReply {
        code: code.code,
        expires_at: time(code.expires_at),
        uses_left: code.uses_left,
        created_at: time(code.created_at),
    });
    let requests = requests.into_iter().map(|request| JoinRequestReply {
        code: request.code,
        request: Digest::from_bytes(request.digest),
        received_at: time(request.received_at),
    });
    let list = JoinList {
        codes: codes.collect(),
        requests: requests.collect(),
    };
    Ok(json(StatusCode::OK, &list))
}

/// A join request.
pub(super) async fn read(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (code, digest) = waiting(request.uri())?;
    let asked = admit(&app, request, Wanted::nothing(&publisher_or_operator)).await?;
    let Some(bytes) = asked.tenant.join_request(&code, &digest).await? else {
        return Err(Failure::new(ErrorCode::ObjectAbsent, "no such request waits"));
    };
    let mut response = Response::new(Body::from(bytes));
    let media_type = HeaderValue::from_static(header::SEALED_MEDIA_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    Ok(response)
}

/// Takes a request out of the mailbox, accepted or not.
pub(super) async fn remove(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (code, digest) = waiting(request.uri())?;
    let asked = admit(&app, request, Wanted::nothing(&publisher_or_operator)).await?;
    let _gone = asked.tenant.delete_join_request(&code, &digest, asked.origin).await?;
    Ok(status_ok())
}

fn waiting(uri: &Uri) -> Result<(Label, Digest), Failure> {
    let rest = split(uri).1.strip_prefix("join/").unwrap_or_default();
    let parsed = rest.split_once('/').and_then(|(code, request)| {
        let code = Label::new(code).ok()?;
        Some((code, request.parse().ok()?))
    });
    parsed.ok_or_else(|| Failure::new(ErrorCode::NotFound, "a join request is at join/CODE/DIGEST"))
}
