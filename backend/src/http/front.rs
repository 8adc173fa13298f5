//! The hot path: reads of snapshots that are in memory, and heartbeats that came whole in one piece,
//! answered without the router, the database or a timer. Whatever it cannot answer passes on to the
//! router.

use std::net::SocketAddr;

use axum::response::IntoResponse;
use bytes::Bytes;
use dirless_wire::{header, if_none_match};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::address::Client;
use super::limits::Pace;
use super::{Failure, ReplyBody, auth};
use crate::app::App;
use crate::cache::Answer;
use crate::metrics::Route;
use crate::routes::heartbeat;

/// Where snapshots and what belongs to them are.
const SNAPSHOTS: &str = "/v1/snapshot/";
/// Where hosts say that they are alive.
const HEARTBEAT: &str = "/v1/agent/heartbeat";

/// [`StatusReply::ok`](dirless_wire::StatusReply::ok) as text.
const STATUS_OK: &[u8] = br#"{"status":"ok"}"#;

/// What the hot path made of a request.
pub(crate) enum Front {
    /// The answer.
    Reply(Response<ReplyBody>),
    /// A heartbeat: [`beat`] may answer it, once its body is there.
    Beat(Client),
    /// It is for the router, which wants to know who asks.
    Pass(Client),
}

/// Counts the request against its address, then answers it if it can be answered from memory. `proof` is
/// the connection's.
pub(crate) fn answer(
    app: &App,
    request: &Request<Incoming>,
    peer: SocketAddr,
    proof: &mut Option<auth::Proof>,
) -> Front {
    let headers = request.headers();
    let client = Client::of(peer, headers, &app.config.server.trusted_proxies);
    if let Pace::Wait(seconds) = app.limits.request(&client) {
        return refuse(app, Failure::rate_limited(seconds), &client);
    }
    if request.uri().path() == HEARTBEAT && *request.method() == Method::POST {
        return Front::Beat(client);
    }
    let wanted = request.uri().path().strip_prefix(SNAPSHOTS);
    let Some(name) = wanted.filter(|_| *request.method() == Method::GET || *request.method() == Method::HEAD) else {
        return Front::Pass(client);
    };
    let tenant = match auth::tenant_again(app, headers, &client, proof) {
        Ok(tenant) => tenant,
        Err(failure) => return refuse(app, failure, &client),
    };
    let Some(answer) = app.cache.find(tenant.tenant(), name) else {
        return Front::Pass(client);
    };
    let Some(reply) = render(&answer, request.method(), headers) else {
        return Front::Pass(client);
    };
    if let Pace::Wait(seconds) = app.limits.tenant(tenant.tenant()) {
        return refuse(app, Failure::rate_limited(seconds), &client);
    }
    app.metrics.count(Route::Snapshot, reply.status());
    tracing::debug!(
        target: "dirless_backend::access",
        status = reply.status().as_u16(), tenant = %tenant.tenant(), source = name, client = %client.address,
        "a snapshot was read"
    );
    Front::Reply(reply)
}

/// Answers a heartbeat whose whole body is at hand. `None` when it is to be refused, or its sender
/// wants to find the request in the log: the router does that.
pub(crate) fn beat(app: &App, headers: &HeaderMap, body: &[u8], client: &Client) -> Option<Response<ReplyBody>> {
    if headers.contains_key(header::REQUEST_ID) {
        return None;
    }
    let (tenant, state) = heartbeat::beat_at_hand(app, headers, body)?;
    let mut reply = Response::new(ReplyBody::Whole(Bytes::from_static(STATUS_OK)));
    let json = HeaderValue::from_static(header::JSON_MEDIA_TYPE);
    reply.headers_mut().insert(CONTENT_TYPE, json);
    reply.headers_mut().insert(header::TENANT_STATE, state);
    app.metrics.count(Route::Heartbeat, reply.status());
    tracing::debug!(
        target: "dirless_backend::access",
        status = 200, tenant = %tenant.tenant(), client = %client.address,
        "a heartbeat was taken"
    );
    Some(reply)
}

fn refuse(app: &App, failure: Failure, client: &Client) -> Front {
    let code = failure.code();
    let reply = failure.into_response().map(ReplyBody::Stream);
    app.metrics.count(Route::Snapshot, reply.status());
    tracing::debug!(target: "dirless_backend::access", ?code, client = %client.address, "a request was refused");
    Front::Reply(reply)
}

/// Applies `If-None-Match` and the method to an answer; `None` when its body is needed and not in
/// memory.
pub(crate) fn render(answer: &Answer, method: &Method, headers: &HeaderMap) -> Option<Response<ReplyBody>> {
    let unchanged = answer.tag.as_ref().is_some_and(|(tag, _)| names(headers, tag));
    let body = if unchanged || *method == Method::HEAD {
        ReplyBody::empty()
    } else {
        ReplyBody::Kept(answer.body.clone()?)
    };
    let mut reply = Response::new(body);
    *reply.status_mut() = if unchanged {
        StatusCode::NOT_MODIFIED
    } else {
        answer.status
    };
    write_headers(answer, unchanged, reply.headers_mut());
    Some(reply)
}

/// The headers of an answer; those that describe the body only when there is one to describe.
pub(crate) fn write_headers(answer: &Answer, unchanged: bool, headers: &mut HeaderMap) {
    if let Some((_, tag)) = &answer.tag {
        headers.insert(ETAG, tag.clone());
    }
    if unchanged {
        return;
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(answer.length));
    for (name, value) in &answer.headers {
        headers.insert(name.clone(), value.clone());
    }
}

/// Whether `If-None-Match` names this tag. Several header lines are one list (RFC 9110 section 5.3).
pub(crate) fn names(headers: &HeaderMap, tag: &dirless_wire::ETag) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .any(|value| if_none_match(value.as_bytes(), tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_made_reply_is_what_the_route_says() {
        let said = serde_json::to_vec(&dirless_wire::StatusReply::ok()).expect("it has text keys");
        assert_eq!(said, STATUS_OK);
    }
}
