//! `GET` and `PUT /v1/snapshot/public-key`: the age key that everything of a tenant is sealed to.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use dirless_wire::{ErrorCode, ErrorReply, PublicKeyReply, PublicKeyRequest, StatusReply};

use super::asked::{Asked, Parsed};
use super::documents::{self, Reading};
use crate::app::App;
use crate::cache::PUBLIC_KEY;
use crate::http::{Failure, status_ok};
use crate::store::{KeyChange, TenantHandle};

const LONGEST: usize = 16 * 1024;

/// The registered key.
#[utoipa::path(get, path = "/v1/snapshot/public-key", tag = "tenant", operation_id = "readPublicKey",
    params(("If-None-Match" = Option<String>, Header, description = "Tag of the copy at hand")),
    responses(
        (status = 200, body = PublicKeyReply, headers(("ETag" = String))),
        (status = 304, description = "The copy at hand is current"),
        (status = 401, body = ErrorReply), (status = 403, body = ErrorReply), (status = 429, body = ErrorReply),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn read(reading: Reading) -> Result<Response, Failure> {
    let load = |tenant: TenantHandle| async move {
        Ok(documents::bytes_of(&PublicKeyReply {
            age_public_key: Some(tenant.public_key().clone()),
        }))
    };
    reading.answer(PUBLIC_KEY, load).await
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
    asked: Asked,
    Parsed(request): Parsed<PublicKeyRequest, LONGEST>,
) -> Result<Response, Failure> {
    let (key, replace_by) = (&request.age_public_key, app.config.keys.replace_by);
    match asked.tenant.put_public_key(key, replace_by, asked.origin()).await? {
        KeyChange::Unchanged | KeyChange::Replaced { .. } => Ok(status_ok()),
        KeyChange::Conflict { registered } => {
            let failure = Failure::new(ErrorCode::KeyMismatch, "another key is registered for this tenant");
            Err(failure
                .registered_key(registered)
                .hint("enrol again with the new key, or set [keys] replace_by = \"rotate-key\" on the server"))
        }
    }
}
