//! `POST /v1/syncer/sync`: what the syncer packages 0.6.0 and 0.6.1 call. Their sealed bodies break
//! the age format, so no conforming program can open them: taking one would look like success and
//! leave every host with its old users.

use dirless_wire::{ErrorCode, ErrorReply};

use super::asked::Asked;
use crate::http::Failure;

/// Refuses, and says what to install instead.
#[utoipa::path(post, path = "/v1/syncer/sync", tag = "tenant", operation_id = "syncerSync",
    request_body(content = String, content_type = "application/octet-stream"),
    responses(
        (status = 401, body = ErrorReply), (status = 403, body = ErrorReply),
        (status = 422, body = ErrorReply, description = "Always: nobody can open what this client sends"),
        (status = 429, body = ErrorReply),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn refuse(_asked: Asked) -> Failure {
    Failure::new(
        ErrorCode::UnsupportedClient,
        "this syncer (0.6.0 or 0.6.1) seals snapshots in a form that no host can open",
    )
    .hint("install dirless-syncer of this project, or the syncer package 0.5.3")
}
