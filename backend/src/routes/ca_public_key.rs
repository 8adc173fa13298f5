//! `GET /v1/snapshot/ca-public-key`: the SSH CA key that `POST /v1/admin/settings` set.

use axum::response::Response;
use dirless_wire::{CaPublicKeyReply, ErrorReply, Setting};

use super::documents::{self, Reading};
use crate::cache::CA_PUBLIC_KEY;
use crate::http::Failure;
use crate::store::TenantHandle;

/// The CA key; `null` when none is set or it was withdrawn with an empty value.
#[utoipa::path(get, path = "/v1/snapshot/ca-public-key", tag = "tenant", operation_id = "readCaPublicKey",
    params(("If-None-Match" = Option<String>, Header, description = "Tag of the copy at hand")),
    responses(
        (status = 200, body = CaPublicKeyReply, headers(("ETag" = String))),
        (status = 304, description = "The copy at hand is current"),
        (status = 401, body = ErrorReply), (status = 403, body = ErrorReply), (status = 429, body = ErrorReply),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn read(reading: Reading) -> Result<Response, Failure> {
    let load = |tenant: TenantHandle| async move {
        let value = tenant.setting(Setting::CA_PUBLIC_KEY).await?;
        Ok(documents::bytes_of(&CaPublicKeyReply {
            ca_public_key: value.filter(|value| !value.is_empty()),
        }))
    };
    reading.answer(CA_PUBLIC_KEY, load).await
}
