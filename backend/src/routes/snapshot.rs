//! `GET`, `PUT` and `DELETE /v1/snapshot/{source}`: sealed bodies, streamed both ways.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use dirless_wire::{AgePublicKey, AwsAccountId, ETag, ErrorCode, ErrorReply, SourceName, StatusReply, header};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::asked::{Asked, If};
use crate::app::App;
use crate::cache::Answer;
use crate::http::log::LoggedTenant;
use crate::http::{Failure, check_announced, front, json_with_tag, next_piece, sniff, status_ok};
use crate::kept::Kept;
use crate::store::{
    DeleteOutcome, Expected, PutOutcome, SnapshotMeta, SnapshotPut, SourceState, SpooledBody, StoreError, TenantHandle,
};

/// The sealed snapshot of a source.
#[utoipa::path(get, path = "/v1/snapshot/{source}", tag = "tenant", operation_id = "readSnapshot",
    params(("source" = SourceName, Path, description = "aws-identity-center, local, or another source"),
        ("If-None-Match" = Option<String>, Header, description = "Tag of the copy at hand")),
    responses(
        (status = 200, body = String, content_type = "application/octet-stream",
            headers(("ETag" = String), ("X-Dirless-Encrypted" = String, description = "age"),
                ("X-Dirless-Snapshot-Recipient" = String), ("X-Dirless-Registered-Key" = String))),
        (status = 304, description = "The copy at hand is current"),
        (status = 401, body = ErrorReply), (status = 403, body = ErrorReply),
        (status = 404, body = ErrorReply, description = "source_absent: never written; source_deleted: deleted on purpose"),
        (status = 429, body = ErrorReply),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    Asked { tenant, .. }: Asked,
    Named(source): Named,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (answer, meta) = load(&app, &tenant, &source).await?;
    if let Some(reply) = front::render(&answer, &method, &headers) {
        return Ok(reply.map(Body::new));
    }
    // Too long for memory: chunk by chunk from the store, one chunk in memory at a time.
    let Some(meta) = meta else {
        return Err(StoreError::Superseded.into());
    };
    let mut response = Response::new(Body::from_stream(tenant.reader(&meta).into_stream()));
    front::write_headers(&answer, false, response.headers_mut());
    Ok(response)
}

/// The answer to a read, from the cache when another request has just put it there.
async fn load(
    app: &App,
    tenant: &TenantHandle,
    source: &SourceName,
) -> Result<(Arc<Answer>, Option<SnapshotMeta>), Failure> {
    let mut hasher = DefaultHasher::new();
    (tenant.tenant(), source).hash(&mut hasher);
    let _only_one = app.loader(hasher.finish()).await;
    if let Some(answer) = app.cache.find(tenant.tenant(), source.as_str())
        && answer.body.is_some()
    {
        return Ok((answer, None));
    }
    let epoch = app.cache.epoch(tenant.tenant());
    let (state, body) = tenant.snapshot(source, app.cache.longest_body()).await?;
    let body = match body {
        Some(body) => Some(keep(app, body).await),
        None => None,
    };
    let (answer, meta) = match state {
        SourceState::Present(meta) => {
            let answer = Answer {
                status: StatusCode::OK,
                tag: HeaderValue::from_str(meta.etag.header())
                    .ok()
                    .map(|value| (meta.etag.clone(), value)),
                headers: sealed_headers(&meta, tenant.public_key()),
                length: meta.length,
                body,
            };
            (answer, Some(meta))
        }
        SourceState::Absent => (gone(ErrorCode::SourceAbsent, "this source was never written"), None),
        SourceState::Deleted { .. } => (gone(ErrorCode::SourceDeleted, "this source was deleted"), None),
    };
    let answer = Arc::new(answer);
    app.cache
        .keep(tenant.tenant(), source.as_str(), Arc::clone(&answer), epoch);
    Ok((answer, meta))
}

/// A body as the cache keeps it. The copy that may be made of it is made on a thread for such work.
pub(super) async fn keep(app: &App, body: Bytes) -> Kept {
    let (cache, whole) = (Arc::clone(&app.cache), body.clone());
    let kept = tokio::task::spawn_blocking(move || cache.kept(whole)).await;
    // The thread goes when the worker stops; the body itself is as good.
    kept.unwrap_or_else(|_stopping| Kept::from(body))
}

/// `X-Dirless-Registered-Key` goes out only when the snapshot is sealed to that very key. A deployed
/// agent refuses, without trying, when the header is not its own key; during a change of keys that
/// would take away from hosts a snapshot which they can still open. Sent in this case only, it never
/// refuses what could have been opened, and makes the error of a host with a wrong key a clear one.
fn sealed_headers(meta: &SnapshotMeta, registered: &AgePublicKey) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static(header::SEALED_MEDIA_TYPE)),
        (
            HeaderName::from_static(header::ENCRYPTED),
            HeaderValue::from_static(header::ENCRYPTED_AGE),
        ),
    ];
    let recipient = meta.recipient.as_ref();
    if let Some(value) = recipient.and_then(|key| HeaderValue::from_str(key.as_str()).ok()) {
        if recipient == Some(registered) {
            headers.push((HeaderName::from_static(header::REGISTERED_KEY), value.clone()));
        }
        headers.push((HeaderName::from_static(header::SNAPSHOT_RECIPIENT), value));
    }
    headers
}

fn gone(code: ErrorCode, text: &str) -> Answer {
    let body = super::documents::bytes_of(&ErrorReply::new(code, text));
    Answer {
        status: StatusCode::NOT_FOUND,
        tag: None,
        headers: vec![(CONTENT_TYPE, HeaderValue::from_static(header::JSON_MEDIA_TYPE))],
        length: body.len() as u64,
        body: Some(body.into()),
    }
}

/// Replaces the snapshot of a source.
#[utoipa::path(put, path = "/v1/snapshot/{source}", tag = "tenant", operation_id = "replaceSnapshot",
    params(("source" = SourceName, Path, description = "aws-identity-center, local, or another source"),
        ("X-Dirless-Recipient" = AgePublicKey, Header, description = "The key the body is sealed to"),
        ("X-AWS-Account-ID" = Option<AwsAccountId>, Header, description = "Where it was read; the first one seen stays"),
        ("X-Dirless-User-Count" = Option<u64>, Header), ("X-Dirless-Group-Count" = Option<u64>, Header),
        ("If-Match" = Option<String>, Header, description = "Tag of the snapshot that is to be replaced"),
        ("If-None-Match" = Option<String>, Header, description = "* when there must be none")),
    request_body(content = String, content_type = "application/octet-stream", description = "Sealed bytes"),
    responses(
        (status = 200, body = StatusReply, headers(("ETag" = String))),
        (status = 400, body = ErrorReply), (status = 401, body = ErrorReply), (status = 403, body = ErrorReply),
        (status = 404, body = ErrorReply, description = "Not a source name"),
        (status = 408, body = ErrorReply),
        (status = 409, body = ErrorReply, description = "recipient_mismatch with registered_key, or account_mismatch"),
        (status = 412, body = ErrorReply, description = "The snapshot has changed since it was read"),
        (status = 413, body = ErrorReply),
        (status = 422, body = ErrorReply, description = "not_sealed: the body is plainly in clear"),
        (status = 429, body = ErrorReply), (status = 507, body = ErrorReply),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn replace(
    State(app): State<Arc<App>>,
    asked: Asked,
    Named(source): Named,
    If(expected): If,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let put = described(&headers)?;
    let (tenant, origin) = (&asked.tenant, asked.origin());
    // Known before a byte of the body is read; the store decides again, in the transaction.
    if put.recipient.as_ref() != Some(tenant.public_key()) {
        return Err(wrong_recipient(tenant.public_key().clone()));
    }
    let body = receive(&app, &headers, body).await?;
    app.metrics.body_bytes_received.increment(body.length());
    match tenant.put_snapshot_if(&source, put, expected, body, origin).await? {
        PutOutcome::Stored(meta) => {
            let mut reply = json_with_tag(&StatusReply::ok(), &meta.etag);
            reply.extensions_mut().insert(LoggedTenant(tenant.tenant().clone()));
            Ok(reply)
        }
        PutOutcome::WrongRecipient { registered } => Err(wrong_recipient(registered)),
        PutOutcome::OtherAccount { first } => {
            let text = format!("this tenant belongs to AWS account {first}");
            Err(Failure::new(ErrorCode::AccountMismatch, text)
                .hint("the first account seen stays; enrol another tenant for another account"))
        }
        PutOutcome::Unexpected => Err(precondition_failed()),
    }
}

/// Deletes a source on purpose: hosts are told so and drop its users.
#[utoipa::path(delete, path = "/v1/snapshot/{source}", tag = "tenant", operation_id = "deleteSnapshot",
    params(("source" = SourceName, Path, description = "aws-identity-center, local, or another source"),
        ("If-Match" = Option<String>, Header, description = "Tag of the snapshot that is to be deleted")),
    responses(
        (status = 200, body = StatusReply, description = "Also when there was nothing to delete"),
        (status = 400, body = ErrorReply), (status = 401, body = ErrorReply), (status = 403, body = ErrorReply),
        (status = 404, body = ErrorReply, description = "Not a source name"),
        (status = 412, body = ErrorReply, description = "The snapshot has changed since it was read"),
        (status = 429, body = ErrorReply),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn remove(asked: Asked, Named(source): Named, If(expected): If) -> Result<Response, Failure> {
    let origin = asked.origin();
    match asked.tenant.delete_snapshot_if(&source, expected, origin).await? {
        DeleteOutcome::Deleted | DeleteOutcome::Nothing => Ok(status_ok()),
        DeleteOutcome::Unexpected => Err(precondition_failed()),
    }
}

/// The source that the path names. A source name needs no escaping, so an escaped one is none.
pub(super) struct Named(SourceName);

impl FromRequestParts<Arc<App>> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _app: &Arc<App>) -> Result<Self, Failure> {
        let name = parts.uri.path().rsplit('/').next().unwrap_or_default();
        let name = SourceName::new(name).map_err(|error| Failure::new(ErrorCode::NotFound, error.to_string()))?;
        Ok(Self(name))
    }
}

/// What the headers say about the body.
fn described(headers: &HeaderMap) -> Result<SnapshotPut, Failure> {
    let recipient = text(headers, header::RECIPIENT)?.ok_or_else(|| {
        Failure::new(ErrorCode::RecipientMissing, "X-Dirless-Recipient is missing")
            .hint("send the age1… key that the body is sealed to")
    })?;
    let refuse =
        |name: &str, error: &dyn std::fmt::Display| Failure::new(ErrorCode::InvalidRequest, format!("{name}: {error}"));
    let recipient = AgePublicKey::new(recipient).map_err(|error| refuse("X-Dirless-Recipient", &error))?;
    let account = text(headers, header::AWS_ACCOUNT_ID)?
        .map(AwsAccountId::new)
        .transpose()
        .map_err(|error| refuse("X-AWS-Account-ID", &error))?;
    let count = |name: &'static str| -> Result<Option<u64>, Failure> {
        let number = text(headers, name)?.map(str::parse::<u64>).transpose();
        number.map_err(|_| refuse(name, &"not a whole number"))
    };
    Ok(SnapshotPut {
        recipient: Some(recipient),
        account,
        users: count(header::USER_COUNT)?,
        groups: count(header::GROUP_COUNT)?,
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Failure> {
    let not_text = |_| Failure::new(ErrorCode::InvalidRequest, format!("{name} is not text"));
    let value = headers
        .get(name)
        .map(HeaderValue::to_str)
        .transpose()
        .map_err(not_text)?;
    Ok(value.map(str::trim).filter(|value| !value.is_empty()))
}

/// The lost-update check of RFC 9110 section 13: `If-Match: "tag"` or `If-None-Match: *`.
pub(super) fn precondition(headers: &HeaderMap) -> Result<Expected, Failure> {
    let invalid = |what: &str| Failure::new(ErrorCode::InvalidRequest, what.to_owned());
    if let Some(value) = text(headers, "if-match")? {
        if value == "*" {
            return Ok(Expected::Something);
        }
        let tag = ETag::parse(value).map_err(|_| invalid("If-Match takes one tag, or *"))?;
        // Strong comparison: a weak tag never matches (RFC 9110 section 13.1.1).
        return if tag.is_weak() {
            Err(precondition_failed())
        } else {
            Ok(Expected::Tag(tag))
        };
    }
    match text(headers, "if-none-match")? {
        None => Ok(Expected::Anything),
        Some("*") => Ok(Expected::Nothing),
        Some(_) => Err(invalid("If-None-Match takes only * on writes")),
    }
}

pub(super) fn precondition_failed() -> Failure {
    Failure::new(
        ErrorCode::PreconditionFailed,
        "what is stored has changed since it was read",
    )
    .hint("read it again, apply the change to that, and write once more")
}

fn wrong_recipient(registered: AgePublicKey) -> Failure {
    Failure::new(
        ErrorCode::RecipientMismatch,
        "the body is sealed to another key than the registered one",
    )
    .registered_key(registered)
    .hint("seal to the registered key, or register the new one first")
}

/// Takes the body piece by piece; refuses what is plainly in clear by its first bytes.
async fn receive(app: &App, headers: &HeaderMap, mut body: Body) -> Result<SpooledBody, Failure> {
    let limit = app.config.sync.max_payload_bytes;
    let pause = Duration::from_secs(u64::from(app.config.server.body_seconds));
    check_announced(headers, limit)?;
    let mut writer = app.store.body_writer(limit);
    let mut start = BytesMut::new();
    let mut sniffed = false;
    while let Some(piece) = next_piece(&mut body, pause).await? {
        if sniffed {
            writer.write(&piece).await?;
            continue;
        }
        start.extend_from_slice(&piece);
        if start.len() >= sniff::SNIFFED {
            refuse_clear(&start)?;
            sniffed = true;
            writer.write(&start.split()).await?;
        }
    }
    if !sniffed {
        refuse_clear(&start)?;
        writer.write(&start).await?;
    }
    Ok(writer.finish().await?)
}

fn refuse_clear(start: &[u8]) -> Result<(), Failure> {
    match sniff::plainly(start) {
        None => Ok(()),
        Some(kind) => Err(Failure::new(ErrorCode::NotSealed, kind.explain())
            .hint("send base64(age(gzip(JSON))), sealed to the tenant's registered key")),
    }
}
