//! `GET` and `PUT /v1/snapshot/authz-config`: the access rules of a tenant.

use axum::response::Response;
use dirless_wire::{AuthzConfig, ErrorCode, ErrorReply, StatusReply};

use super::asked::{Asked, If, Small};
use super::documents::{self, Reading};
use crate::cache::AUTHZ_CONFIG;
use crate::http::{Failure, json_with_tag};
use crate::store::{TenantHandle, etag_of};

/// Some 20,000 rules.
const LONGEST: usize = 1024 * 1024;

/// The access rules; "not enforced, no rules" when none were ever put.
#[utoipa::path(get, path = "/v1/snapshot/authz-config", tag = "tenant", operation_id = "readAccessRules",
    params(("If-None-Match" = Option<String>, Header, description = "Tag of the copy at hand")),
    responses(
        (status = 200, body = AuthzConfig, headers(("ETag" = String))),
        (status = 304, description = "The copy at hand is current"),
        (status = 401, body = ErrorReply), (status = 403, body = ErrorReply), (status = 429, body = ErrorReply),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn read(reading: Reading) -> Result<Response, Failure> {
    let load = |tenant: TenantHandle| async move {
        let rules = tenant.access_rules().await?;
        Ok(rules.map_or_else(|| documents::bytes_of(&AuthzConfig::default()), |rules| rules.body))
    };
    reading.answer(AUTHZ_CONFIG, load).await
}

/// Replaces the access rules. Fields we do not know are kept and handed out again.
#[utoipa::path(put, path = "/v1/snapshot/authz-config", tag = "tenant", operation_id = "replaceAccessRules",
    request_body = AuthzConfig,
    params(("If-Match" = Option<String>, Header, description = "Tag of the rules that are to be replaced")),
    responses(
        (status = 200, body = StatusReply, headers(("ETag" = String))),
        (status = 400, body = ErrorReply), (status = 401, body = ErrorReply), (status = 403, body = ErrorReply),
        (status = 412, body = ErrorReply, description = "The rules have changed since they were read"),
        (status = 413, body = ErrorReply), (status = 422, body = ErrorReply), (status = 429, body = ErrorReply),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn replace(asked: Asked, If(expected): If, Small(body): Small<LONGEST>) -> Result<Response, Failure> {
    if let Err(error) = serde_json::from_slice::<AuthzConfig>(&body) {
        let failure = Failure::new(
            ErrorCode::InvalidBody,
            format!("the access rules cannot be used: {error}"),
        );
        return Err(
            failure.hint("send {\"enforce_group_memberships\": bool, \"host_group_rules\": [{\"group\", \"host\"}]}")
        );
    }
    let absent = etag_of(&documents::bytes_of(&AuthzConfig::default()));
    let origin = asked.origin();
    let tag = asked
        .tenant
        .put_access_rules_if(body, expected, &absent, origin)
        .await?;
    let tag = tag.ok_or_else(super::snapshot::precondition_failed)?;
    Ok(json_with_tag(&StatusReply::ok(), &tag))
}
