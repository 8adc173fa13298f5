//! The small JSON documents beside the snapshots: read often, so kept in the cache like them.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use dirless_wire::header;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::app::App;
use crate::cache::Answer;
use crate::http::address::Client;
use crate::http::{Failure, auth, front};
use crate::store::{StoreError, TenantHandle, etag_of};

/// Answers a read of the document `name`, which `load` takes from the store.
pub(super) async fn answer<F>(
    app: &App,
    client: &Client,
    method: &Method,
    headers: &HeaderMap,
    name: &'static str,
    load: impl FnOnce(TenantHandle) -> F,
) -> Result<Response, Failure>
where
    F: Future<Output = Result<Bytes, StoreError>>,
{
    let tenant = auth::tenant_paced(app, headers, client)?;
    let answer = fetch(app, tenant, name, load).await?;
    let reply = front::render(&answer, method, headers);
    Ok(reply.map_or_else(|| Response::new(Body::empty()), |reply| reply.map(Body::new)))
}

/// The document `name` out of the store, and into the cache.
pub(super) async fn fetch<F>(
    app: &App,
    tenant: TenantHandle,
    name: &'static str,
    load: impl FnOnce(TenantHandle) -> F,
) -> Result<Arc<Answer>, StoreError>
where
    F: Future<Output = Result<Bytes, StoreError>>,
{
    let id = tenant.tenant().clone();
    let epoch = app.cache.epoch(&id);
    let answer = Arc::new(of(load(tenant).await?));
    app.cache.keep(&id, name, Arc::clone(&answer), epoch);
    Ok(answer)
}

fn of(body: Bytes) -> Answer {
    let tag = etag_of(&body);
    let value = HeaderValue::from_str(tag.header()).ok();
    Answer {
        status: StatusCode::OK,
        tag: value.map(|value| (tag, value)),
        headers: vec![(CONTENT_TYPE, HeaderValue::from_static(header::JSON_MEDIA_TYPE))],
        length: body.len() as u64,
        body: Some(body.into()),
    }
}

/// A reply type as the body of a document.
pub(super) fn bytes_of<T: serde::Serialize>(value: &T) -> Bytes {
    // Reply types serialise without fail: text keys, no foreign code.
    serde_json::to_vec(value).unwrap_or_default().into()
}
