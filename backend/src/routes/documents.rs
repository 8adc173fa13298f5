//! The small JSON documents beside the snapshots: read often, so kept in the cache like them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::Response;
use bytes::Bytes;
use dirless_wire::header;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::asked::Asked;
use crate::app::App;
use crate::cache::Answer;
use crate::http::{Failure, front};
use crate::store::{StoreError, TenantHandle, etag_of};

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

/// A read of one of them by a tenant.
pub(super) struct Reading {
    app: Arc<App>,
    asked: Asked,
    method: Method,
    headers: HeaderMap,
}

impl FromRequestParts<Arc<App>> for Reading {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        Ok(Self {
            app: Arc::clone(app),
            asked: Asked::from_request_parts(parts, app).await?,
            method: parts.method.clone(),
            headers: std::mem::take(&mut parts.headers),
        })
    }
}

impl Reading {
    /// Answers with the document `name`, which `load` takes from the store.
    pub(super) async fn answer<F>(
        self,
        name: &'static str,
        load: impl FnOnce(TenantHandle) -> F,
    ) -> Result<Response, Failure>
    where
        F: Future<Output = Result<Bytes, StoreError>>,
    {
        let answer = fetch(&self.app, self.asked.tenant, name, load).await?;
        let reply = front::render(&answer, &self.method, &self.headers);
        Ok(reply.map_or_else(|| Response::new(Body::empty()), |reply| reply.map(Body::new)))
    }
}

/// The document as an answer.
pub(super) fn of(body: Bytes) -> Answer {
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
