//! `POST /v1/admin/settings`: what a portal sets for its tenant.

use axum::response::Response;
use dirless_wire::{ErrorCode, ErrorReply, Setting, StatusReply};

use super::asked::{Asked, Parsed};
use crate::http::{Failure, status_ok};

/// The longest value with every character escaped (6 bytes for one) fits.
const LONGEST: usize = 256 * 1024;

/// Sets one setting. Values are not judged: hosts decide what they accept.
#[utoipa::path(post, path = "/v1/admin/settings", tag = "tenant", operation_id = "setSetting",
    request_body = Setting,
    responses(
        (status = 200, body = StatusReply),
        (status = 400, body = ErrorReply), (status = 401, body = ErrorReply), (status = 403, body = ErrorReply),
        (status = 413, body = ErrorReply), (status = 422, body = ErrorReply), (status = 429, body = ErrorReply),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn set(asked: Asked, Parsed(setting): Parsed<Setting, LONGEST>) -> Result<Response, Failure> {
    if setting.key.is_empty() || setting.key.len() > Setting::MAX_KEY_BYTES {
        let text = format!("key is 1 to {} bytes", Setting::MAX_KEY_BYTES);
        return Err(Failure::new(ErrorCode::InvalidBody, text));
    }
    if setting.value.len() > Setting::MAX_VALUE_BYTES {
        let text = format!("value is at most {} bytes", Setting::MAX_VALUE_BYTES);
        return Err(Failure::new(ErrorCode::InvalidBody, text));
    }
    let origin = asked.origin();
    asked.tenant.put_setting(&setting.key, &setting.value, origin).await?;
    Ok(status_ok())
}
