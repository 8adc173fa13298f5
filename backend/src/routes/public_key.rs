//! `GET` and `PUT /v1/snapshot/public-key`: the age key that everything of a tenant is sealed to.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use dirless_wire::{ErrorCode, ErrorReply, PublicKeyReply, PublicKeyRequest, StatusReply};
use http::{HeaderMap, Method};

use super::documents;
use crate::app::App;
use crate::cache::PUBLIC_KEY;
use crate::http::address::Client;
use crate::http::{Failure, auth, read_json, status_ok};
use crate::store::{KeyChange, Origin};

const LONGEST: usize = 16 * 1024;

/// The registered key.
#[utoipa::path(get, path = "/v1/snapshot/public-key", tag = "tenant", operation_id = "readPublicKey",
    params(("If-None-Match" = Option<String>, Header, description = "Tag of the copy at hand")),
    responses(
        (status = 200, body = PublicKeyReply, headers(("ETag" = String))),
        (status = 304, description = "The copy at hand is current"),
        (status = 401, body = ErrorReply), (status = 403, body = ErrorReply), (status = 429, body = ErrorReply),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    documents::answer(&app, &client, &method, &headers, PUBLIC_KEY, |tenant| async move {
        Ok(documents::bytes_of(&PublicKeyReply {
            age_public_key: Some(tenant.public_key().clone()),
        }))
    })
    .await
}

/// Replaces the key, where `[keys] replace_by` lets this route do so.
#[utoipa::path(put, path = "/v1/snapshot/public-key", tag = "tenant", operation_id = "replacePublicKey",
    request_body = PublicKeyRequest,
    responses(
        (status = 200, body = StatusReply),
        (status = 400, body = ErrorReply), (status = 401, body = ErrorReply), (status = 403, body = ErrorReply),
        (status = 409, body = ErrorReply, description = "Another key is registered and stays; see registered_key"),
        (status = 413, body = ErrorReply), (status = 422, body = ErrorReply), (status = 429, body = ErrorReply),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn replace(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let tenant = auth::tenant_paced(&app, &headers, &client)?;
    let pause = Duration::from_secs(u64::from(app.config.server.body_seconds));
    let request: PublicKeyRequest = read_json(&headers, body, LONGEST, pause).await?;
    let origin = Origin::network(client.address);
    match tenant
        .put_public_key(&request.age_public_key, app.config.keys.replace_by, origin)
        .await?
    {
        KeyChange::Unchanged | KeyChange::Replaced { .. } => Ok(status_ok()),
        KeyChange::Conflict { registered } => {
            let failure = Failure::new(ErrorCode::KeyMismatch, "another key is registered for this tenant");
            Err(failure
                .registered_key(registered)
                .hint("enrol again with the new key, or set [keys] replace_by = \"rotate-key\" on the server"))
        }
    }
}
