//! `/v2/{tenant}/…`: the verified protocol. Everything that hosts believe is opaque here; who may store and read it is
//! decided by keys ([`asked`]) and roles.

mod asked;
mod credentials;
pub(super) mod describe;
mod join;
pub(super) mod objects;
mod receipts;
mod tenants;
mod times;

use std::sync::Arc;

use axum::extract::Request;
use axum::routing::{MethodRouter, delete, get, post};

use super::only;
use crate::app::App;
use crate::http::Failure;
use crate::store::TrustHandle;

/// Lets in whoever has a key or a token of the tenant.
pub(super) async fn admit_anyone(app: &Arc<App>, request: Request) -> Result<TrustHandle, Failure> {
    let asked = asked::admit(app, request, asked::Wanted::nothing(&|_| true)).await?;
    Ok(asked.tenant)
}

/// Where each of them is.
pub(super) fn routes() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    let objects = || {
        let methods = get(objects::read).put(objects::write).delete(objects::remove);
        only(methods, "GET, HEAD, PUT, DELETE")
    };
    vec![
        ("/v2/{tenant}", only(post(tenants::create), "POST")),
        ("/v2/{tenant}/", only(get(objects::list), "GET, HEAD")),
        ("/v2/{tenant}/policy/{version}", objects()),
        (
            "/v2/{tenant}/head/{publisher}",
            only(get(objects::read).put(objects::write), "GET, HEAD, PUT"),
        ),
        ("/v2/{tenant}/succession/{publisher}/{anchor}/{version}", objects()),
        (
            "/v2/{tenant}/manifest/{publisher}/{source}/{compartment}/{version}",
            objects(),
        ),
        (
            "/v2/{tenant}/log/{publisher}/{source}/{compartment}/{version}/{file}",
            objects(),
        ),
        ("/v2/{tenant}/blob/{digest}", objects()),
        ("/v2/{tenant}/nodes/{enroller}/{version}", objects()),
        ("/v2/{tenant}/wrap/{compartment}/{epoch}/{name}", objects()),
        ("/v2/{tenant}/credential", only(get(credentials::list), "GET, HEAD")),
        (
            "/v2/{tenant}/credential/{key}",
            only(
                axum::routing::put(credentials::register).delete(credentials::revoke),
                "PUT, DELETE",
            ),
        ),
        ("/v2/{tenant}/join", only(get(join::list), "GET, HEAD")),
        (
            "/v2/{tenant}/join/{code}",
            only(
                post(join::post).put(join::register).delete(join::unregister),
                "POST, PUT, DELETE",
            ),
        ),
        (
            "/v2/{tenant}/join/{code}/{request}",
            only(get(join::read).merge(delete(join::remove)), "GET, HEAD, DELETE"),
        ),
        (
            "/v2/{tenant}/join/{code}/policy/{version}",
            only(get(join::policy), "GET, HEAD"),
        ),
        ("/v2/{tenant}/heartbeat", only(post(receipts::beat), "POST")),
        ("/v2/{tenant}/watch", only(get(super::watch::of_heads), "GET")),
        ("/v2/{tenant}/receipts", only(get(receipts::list), "GET, HEAD")),
    ]
}
