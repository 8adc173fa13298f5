//! Signs of life of nodes, and their signed receipts.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dirless_wire::header;
use dirless_wire::trust::{HeartbeatReply, KeyRole, ObjectPath, RECEIPT_MAX, ReceiptList, ReceiptReply};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use super::asked::{Asked, Listing, Wanted, admit, forbidden, publisher_or_operator};
use super::objects;
use super::times::time;
use crate::app::App;
use crate::cache::NEWS;
use crate::http::{Failure, json};
use crate::routes::documents;
use crate::store::{Absorbed, Caller, StoreError, TrustHandle};

/// A node is alive. The body is the receipt of what it applied; none leaves the one before. The answer says what may be
/// new to it.
pub(super) async fn beat(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let wanted = Wanted {
        longest: RECEIPT_MAX,
        digest: None,
        may: &|caller| matches!(caller, Caller::Key(key) if key.role() == KeyRole::Node),
    };
    let Asked { tenant, body, .. } = admit(&app, request, wanted).await?;
    let Caller::Key(key) = tenant.caller() else {
        return Err(forbidden());
    };
    let beat = app.heartbeats.node_beat(&tenant, key.id().name().as_str());
    let receipt = body.in_memory().cloned().unwrap_or_default();
    if beat == Absorbed::Full || !tenant.put_receipt(&receipt) {
        return Err(Failure::unavailable("too many heartbeats wait for the disk", 5));
    }
    // The heartbeat counts, whatever becomes of the rest.
    let answer = news(&app, &tenant).await.unwrap_or_else(|error| {
        tracing::warn!(name: "backend.news_failed", %error, "a heartbeat was answered without news");
        Bytes::from_static(b"{}")
    });
    let mut response = Response::new(Body::from(answer));
    let media_type = HeaderValue::from_static(header::JSON_MEDIA_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    Ok(response)
}

/// What a tenant's heartbeats are answered with, from memory if it is there.
async fn news(app: &App, tenant: &TrustHandle) -> Result<Bytes, StoreError> {
    let find = || {
        let answer = app.cache.find(tenant.tenant(), NEWS)?;
        answer.body.as_ref().map(|body| body.bytes().clone())
    };
    if let Some(body) = find() {
        return Ok(body);
    }
    // Each minute a head is new, and all hosts ask at once: one of them looks.
    let _only_one = objects::only_one(app, tenant, NEWS).await;
    if let Some(body) = find() {
        return Ok(body);
    }
    let epoch = app.cache.epoch(tenant.tenant());
    let news = tenant.news(HeartbeatReply::MAX_HEADS_BYTES).await?;
    let text = |(path, bytes): (ObjectPath, Bytes)| match path {
        ObjectPath::Head { publisher } => Some((publisher, String::from_utf8(bytes.into()).ok()?)),
        _ => None,
    };
    let reply = HeartbeatReply {
        policy: news.policy,
        heads: news.heads.and_then(|heads| heads.into_iter().map(text).collect()),
    };
    let body = documents::bytes_of(&reply);
    let answer = Arc::new(documents::of(body.clone()));
    app.cache.keep(tenant.tenant(), NEWS, answer, epoch);
    Ok(body)
}

/// The last receipt of each node.
pub(super) async fn list(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let asked = admit(&app, request, Wanted::nothing(&publisher_or_operator)).await?;
    let listing = Listing::of(&asked.parts.uri)?;
    let page = asked.tenant.receipts(&listing.after, listing.limit()).await?;
    let next = page
        .more
        .then(|| page.entries.last().map(|last| last.node.clone()))
        .flatten();
    let receipts = page.entries.into_iter().map(|receipt| ReceiptReply {
        node: receipt.node,
        received_at: time(receipt.received_at),
        receipt: STANDARD.encode(&receipt.bytes),
    });
    let list = ReceiptList {
        receipts: receipts.collect(),
        next,
    };
    Ok(json(StatusCode::OK, &list))
}
