//! `PUT /v1/snapshot/duplicates`: names that an agent found in more than one source.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use dirless_wire::{Duplicates, ErrorCode, ErrorReply, StatusReply};
use http::HeaderMap;

use crate::app::App;
use crate::http::address::Client;
use crate::http::{Failure, auth, read_json, status_ok};
use crate::store::Origin;

const LONGEST: usize = 1024 * 1024;

/// Takes a report; an empty list says that the conflict is over.
#[utoipa::path(put, path = "/v1/snapshot/duplicates", tag = "tenant", operation_id = "reportDuplicates",
    request_body = Duplicates,
    responses(
        (status = 200, body = StatusReply),
        (status = 400, body = ErrorReply), (status = 401, body = ErrorReply), (status = 403, body = ErrorReply),
        (status = 413, body = ErrorReply), (status = 422, body = ErrorReply), (status = 429, body = ErrorReply),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn report(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let tenant = auth::tenant_paced(&app, &headers, &client)?;
    let pause = Duration::from_secs(u64::from(app.config.server.body_seconds));
    let report: Duplicates = read_json(&headers, body, LONGEST, pause).await?;
    if report.duplicate_usernames.len() > Duplicates::MAX_NAMES {
        let text = format!("at most {} names in one report", Duplicates::MAX_NAMES);
        return Err(Failure::new(ErrorCode::InvalidBody, text));
    }
    // Agents do not say here which of them they are.
    tenant
        .put_duplicates(None, &report.duplicate_usernames, Origin::network(client.address))
        .await?;
    Ok(status_ok())
}
