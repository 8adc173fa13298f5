//! `GET /v1/snapshot`: the tags of everything that hosts read. Heartbeats are answered with its tag, so
//! that a host for which nothing changed asks for nothing else.

use std::sync::Arc;

use axum::response::Response;
use dirless_wire::{ErrorReply, Notice, TenantState};
use http::HeaderValue;

use super::documents::{self, Reading};
use crate::app::App;
use crate::cache::{Answer, STATE};
use crate::http::Failure;
use crate::store::{StoreError, TenantHandle};

/// What hosts read, by its tags.
#[utoipa::path(get, path = "/v1/snapshot", tag = "tenant", operation_id = "readState",
    params(("If-None-Match" = Option<String>, Header, description = "Tag of the copy at hand")),
    responses(
        (status = 200, body = TenantState, headers(("ETag" = String))),
        (status = 304, description = "The copy at hand is current"),
        (status = 401, body = ErrorReply), (status = 403, body = ErrorReply), (status = 429, body = ErrorReply),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn read(reading: Reading) -> Result<Response, Failure> {
    reading.answer(STATE, load).await
}

async fn load(tenant: TenantHandle) -> Result<bytes::Bytes, StoreError> {
    Ok(documents::bytes_of(&tenant.state().await?))
}

/// The tag of the tenant's state, if it is in memory.
pub(super) fn tag_at_hand(app: &App, tenant: &TenantHandle) -> Option<HeaderValue> {
    let answer = app.cache.find(tenant.tenant(), STATE)?;
    answer.tag.as_ref().map(|(_, value)| value.clone())
}

/// The tag of the tenant's state, as a header has it.
pub(super) async fn tag(app: &App, tenant: &TenantHandle) -> Result<Option<HeaderValue>, StoreError> {
    let answer = at_hand_or_read(app, tenant).await?;
    Ok(answer.tag.as_ref().map(|(_, value)| value.clone()))
}

/// The tenant's state as those are told it who wait for news.
pub(super) async fn notice(app: &App, tenant: &TenantHandle) -> Result<Notice, StoreError> {
    let answer = at_hand_or_read(app, tenant).await?;
    let parts = answer.body.as_ref();
    let parts = parts.and_then(|body| serde_json::from_slice(body.bytes()).ok());
    Ok(match &answer.tag {
        Some((tag, _)) => Notice::State(tag.clone(), parts),
        None => Notice::Changed,
    })
}

async fn at_hand_or_read(app: &App, tenant: &TenantHandle) -> Result<Arc<Answer>, StoreError> {
    match app.cache.find(tenant.tenant(), STATE) {
        Some(answer) => Ok(answer),
        None => documents::fetch(app, tenant.clone(), STATE, load).await,
    }
}
