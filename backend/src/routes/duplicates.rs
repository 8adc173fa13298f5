//! `PUT /v1/snapshot/duplicates`: names that an agent found in more than one source.

use axum::response::Response;
use dirless_wire::{Duplicates, ErrorCode, ErrorReply, StatusReply};

use super::asked::{Asked, Parsed};
use crate::http::{Failure, status_ok};

const LONGEST: usize = 1024 * 1024;

/// Takes a report; an empty list says that the conflict is over.
#[utoipa::path(put, path = "/v1/snapshot/duplicates", tag = "tenant", operation_id = "reportDuplicates",
    request_body = Duplicates,
    responses(
        (status = 200, body = StatusReply),
        (status = 400, body = ErrorReply), (status = 401, body = ErrorReply), (status = 403, body = ErrorReply),
        (status = 413, body = ErrorReply), (status = 422, body = ErrorReply), (status = 429, body = ErrorReply),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn report(asked: Asked, Parsed(report): Parsed<Duplicates, LONGEST>) -> Result<Response, Failure> {
    if report.duplicate_usernames.len() > Duplicates::MAX_NAMES {
        let text = format!("at most {} names in one report", Duplicates::MAX_NAMES);
        return Err(Failure::new(ErrorCode::InvalidBody, text));
    }
    // Agents do not say here which of them they are.
    let (names, origin) = (&report.duplicate_usernames, asked.origin());
    asked.tenant.put_duplicates(None, names, origin).await?;
    Ok(status_ok())
}
