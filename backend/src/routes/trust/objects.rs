//! Objects: read, written once or swapped, deleted, listed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use dirless_wire::trust::{Digest, KeyRole, ObjectPath, StoredList, StoredObject};
use dirless_wire::{ErrorCode, ErrorReply, StatusReply, header};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use tokio::sync::MutexGuard;

use super::asked::{Asked, Listing, Wanted, admit, object_path, publisher_or_operator};
use super::times::time;
use crate::app::App;
use crate::cache::{Answer, OBJECT};
use crate::http::log::LoggedTenant;
use crate::http::{Failure, front, json, json_with_tag, status_ok};
use crate::kept::Kept;
use crate::routes::{documents, snapshot};
use crate::store::{Caller, Expected, ObjectMeta, ObjectPut, StoreError, TrustHandle};

/// An object.
pub(super) async fn read(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let path = object_path(request.uri())?;
    let may = |caller: &Caller| may_read(caller, &path);
    let Asked { tenant, parts, .. } = admit(&app, request, Wanted::nothing(&may)).await?;
    send(&app, &tenant, &path, &parts).await
}

/// Answers with the object at `path`, once it is clear that whoever asks may read it.
pub(super) async fn send(
    app: &App,
    tenant: &TrustHandle,
    path: &ObjectPath,
    parts: &Parts,
) -> Result<Response, Failure> {
    let (answer, meta) = load(app, tenant, path).await?;
    if let Some(reply) = front::render(&answer, &parts.method, &parts.headers) {
        return Ok(reply.map(Body::new));
    }
    // Too long for memory: chunk by chunk from the store, one chunk in memory at a time.
    let Some(meta) = meta else {
        return Err(StoreError::Superseded.into());
    };
    let mut response = Response::new(Body::from_stream(tenant.object_reader(&meta).into_stream()));
    front::write_headers(&answer, false, response.headers_mut());
    Ok(response)
}

/// Everything of its tenant, but for a node the keys that were wrapped for others.
fn may_read(caller: &Caller, path: &ObjectPath) -> bool {
    match (caller, path) {
        (Caller::Key(key), ObjectPath::Wrap { name, .. }) if key.role() == KeyRole::Node => name == key.id().name(),
        _ => true,
    }
}

/// What many hosts read, or ask for in vain, is kept in memory; wraps and node lists have one reader each.
fn is_hot(path: &ObjectPath) -> bool {
    !matches!(path, ObjectPath::Wrap { .. } | ObjectPath::Nodes { .. })
}

async fn load(
    app: &App,
    tenant: &TrustHandle,
    path: &ObjectPath,
) -> Result<(Arc<Answer>, Option<ObjectMeta>), StoreError> {
    if !is_hot(path) {
        let found = tenant.object(path, app.cache.longest_body()).await?;
        let meta = found.as_ref().map(|(meta, _)| meta.clone());
        let answer = found.map_or_else(absent, |(meta, body)| answer_of(&meta, body.map(Kept::from)));
        return Ok((Arc::new(answer), meta));
    }
    let name = format!("{OBJECT}{path}");
    let find = || {
        let answer = app.cache.find(tenant.tenant(), &name)?;
        answer.body.is_some().then_some(answer)
    };
    if let Some(answer) = find() {
        return Ok((answer, None));
    }
    let _only_one = only_one(app, tenant, &name).await;
    if let Some(answer) = find() {
        return Ok((answer, None));
    }
    let epoch = app.cache.epoch(tenant.tenant());
    let found = tenant.object(path, app.cache.longest_body()).await?;
    let (answer, meta) = match found {
        None => (absent(), None),
        Some((meta, body)) => {
            let body = match body {
                Some(body) => Some(snapshot::keep(app, body).await),
                None => None,
            };
            (answer_of(&meta, body), Some(meta))
        }
    };
    let answer = Arc::new(answer);
    app.cache.keep(tenant.tenant(), &name, Arc::clone(&answer), epoch);
    Ok((answer, meta))
}

/// The bytes of an object that hosts read often; `None` when there is none, or it is too long for memory.
pub(in crate::routes) async fn whole(
    app: &App,
    tenant: &TrustHandle,
    path: &ObjectPath,
) -> Result<Option<Bytes>, StoreError> {
    let (answer, _) = load(app, tenant, path).await?;
    let found = answer.body.as_ref().filter(|_| answer.status == StatusCode::OK);
    Ok(found.map(|body| body.bytes().clone()))
}

/// Held by the one that takes `name` out of the store, while others who ask for it wait.
pub(super) async fn only_one<'a>(app: &'a App, tenant: &TrustHandle, name: &str) -> MutexGuard<'a, ()> {
    let mut hasher = DefaultHasher::new();
    (tenant.tenant(), name).hash(&mut hasher);
    app.loader(hasher.finish()).await
}

fn answer_of(meta: &ObjectMeta, body: Option<Kept>) -> Answer {
    let tag = HeaderValue::from_str(meta.etag.header()).ok();
    Answer {
        status: StatusCode::OK,
        tag: tag.map(|value| (meta.etag.clone(), value)),
        headers: vec![(CONTENT_TYPE, HeaderValue::from_static(header::SEALED_MEDIA_TYPE))],
        length: meta.length,
        body,
    }
}

fn absent() -> Answer {
    let reply = ErrorReply::new(ErrorCode::ObjectAbsent, "nothing is stored under this name");
    let body = documents::bytes_of(&reply);
    Answer {
        status: StatusCode::NOT_FOUND,
        tag: None,
        headers: vec![(CONTENT_TYPE, HeaderValue::from_static(header::JSON_MEDIA_TYPE))],
        length: body.len() as u64,
        body: Some(body.into()),
    }
}

/// Stores an object.
pub(super) async fn write(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let path = object_path(request.uri())?;
    let wanted = Wanted {
        longest: path.max_bytes().unwrap_or(app.config.sync.max_payload_bytes),
        digest: match &path {
            ObjectPath::Blob { digest } => Some(*digest),
            _ => None,
        },
        may: &|caller| may_write(caller, &path),
    };
    let expected = if path.is_mutable() {
        swapped(request.headers())?
    } else {
        Expected::Anything
    };
    let asked = admit(&app, request, wanted).await?;
    app.metrics.body_bytes_received.increment(asked.body.length());
    let (status, meta) = match asked
        .tenant
        .put_object(&path, expected, asked.body, asked.origin)
        .await?
    {
        ObjectPut::Stored(meta) => (StatusCode::CREATED, meta),
        ObjectPut::Same(meta) => (StatusCode::OK, meta),
        ObjectPut::Occupied => {
            let text = "other bytes are stored under this name, which is written once";
            return Err(Failure::new(ErrorCode::AlreadyExists, text).hint("take the next version"));
        }
        ObjectPut::Unexpected => return Err(snapshot::precondition_failed()),
    };
    let mut reply = json_with_tag(&StatusReply::ok(), &meta.etag);
    *reply.status_mut() = status;
    reply
        .extensions_mut()
        .insert(LoggedTenant(asked.tenant.tenant().clone()));
    Ok(reply)
}

/// A publisher writes everything of its tenant but the heads, manifests, logs and successions of others. Policies come from where the
/// roots are, and node lists from where an enroller is, so an operator may bring them; one that is none can be taken away
/// again.
fn may_write(caller: &Caller, path: &ObjectPath) -> bool {
    match caller {
        Caller::Key(key) => {
            key.role() == KeyRole::Publisher && path.publisher().is_none_or(|owner| owner == key.id().name())
        }
        Caller::Operator(_) => matches!(path, ObjectPath::Policy { .. } | ObjectPath::Nodes { .. }),
        Caller::Joining => false,
    }
}

/// What must be stored for a head to be replaced: it is always said.
fn swapped(headers: &http::HeaderMap) -> Result<Expected, Failure> {
    match snapshot::precondition(headers)? {
        expected @ (Expected::Tag(_) | Expected::Nothing) => Ok(expected),
        Expected::Anything | Expected::Something => Err(Failure::new(
            ErrorCode::PreconditionRequired,
            "a head is replaced by compare and swap",
        )
        .hint("send If-Match with the tag of the head before, or If-None-Match: * for the first")),
    }
}

/// Deletes an object.
pub(super) async fn remove(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let path = object_path(request.uri())?;
    let may = |caller: &Caller| match path {
        // Hosts walk these up from the first: only an operator takes one away.
        ObjectPath::Policy { .. } | ObjectPath::Succession { .. } => matches!(caller, Caller::Operator(_)),
        _ => may_write(caller, &path),
    };
    let asked = admit(&app, request, Wanted::nothing(&may)).await?;
    // Deleted or nothing there: it is gone in both cases.
    let _gone = asked.tenant.delete_object(&path, asked.origin).await?;
    Ok(status_ok())
}

/// What is stored.
pub(super) async fn list(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let asked = admit(&app, request, Wanted::nothing(&publisher_or_operator)).await?;
    let listing = Listing::of(&asked.parts.uri)?;
    let page = asked.tenant.objects(&listing.after, listing.limit()).await?;
    let next = page
        .more
        .then(|| page.entries.last().map(|last| last.path.clone()))
        .flatten();
    let objects = page.entries.into_iter().map(|meta| StoredObject {
        length: meta.length,
        digest: Digest::from_bytes(meta.digest),
        stored_at: time(meta.stored_at),
        path: meta.path,
    });
    let list = StoredList {
        objects: objects.collect(),
        next,
    };
    Ok(json(StatusCode::OK, &list))
}
