//! All routes in one list. A handler takes the request apart, finds out who asks, makes one call of
//! the store, and answers.

mod asked;
mod authz_config;
mod ca_public_key;
mod documents;
mod duplicates;
mod enrollment;
mod health;
pub(crate) mod heartbeat;
mod metrics;
mod openapi;
mod public_key;
mod settings;
mod snapshot;
mod state;
mod syncer_sync;
mod trust;
mod watch;

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use dirless_wire::ErrorCode;
use tower_http::catch_panic::CatchPanicLayer;

pub use openapi::description;

use crate::app::App;
use crate::http::{Failure, log};

/// Everything the server answers, except what the hot path answers from memory.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let tenants = [
        ("/v1/enrollment/enroll", only(post(enrollment::enroll), "POST")),
        ("/v1/snapshot", only(get(state::read), "GET, HEAD")),
        (
            "/v1/snapshot/public-key",
            only(get(public_key::read).put(public_key::replace), "GET, HEAD, PUT"),
        ),
        (
            "/v1/snapshot/authz-config",
            only(get(authz_config::read).put(authz_config::replace), "GET, HEAD, PUT"),
        ),
        (
            "/v1/snapshot/ca-public-key",
            only(get(ca_public_key::read), "GET, HEAD"),
        ),
        ("/v1/snapshot/duplicates", only(put(duplicates::report), "PUT")),
        (
            "/v1/snapshot/{source}",
            only(
                get(snapshot::read).put(snapshot::replace).delete(snapshot::remove),
                "GET, HEAD, PUT, DELETE",
            ),
        ),
        ("/v1/watch", only(get(watch::of_state), "GET")),
        ("/v1/agent/heartbeat", only(post(heartbeat::beat), "POST")),
        ("/v1/admin/settings", only(post(settings::set), "POST")),
        ("/v1/syncer/sync", only(post(syncer_sync::refuse), "POST")),
    ];
    let operators = [
        ("/v1/health", only(get(health::read), "GET, HEAD")),
        ("/metrics", only(get(metrics::read), "GET, HEAD")),
        ("/openapi.json", only(get(openapi::read), "GET, HEAD")),
    ];
    tenants
        .into_iter()
        .chain(operators)
        .chain(trust::routes())
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(unknown)
        // Every handler reads its body itself, with its own limit.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(app), log::record))
        .with_state(Arc::clone(app))
}

/// The router of `[metrics] listen`, where whoever reaches the address may ask.
pub(crate) fn metrics_router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::read_openly))
        .with_state(Arc::clone(app))
}

fn only(methods: MethodRouter<Arc<App>>, allow: &'static str) -> MethodRouter<Arc<App>> {
    methods.fallback(move || async move { Failure::method_not_allowed(allow) })
}

async fn unknown() -> Failure {
    Failure::new(ErrorCode::NotFound, "there is no such route")
}

/// A defect in a handler costs one request, not the connection or the server.
fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text
        .or_else(|| cause.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(cause = text, "a handler panicked; this is a defect");
    Failure::new(ErrorCode::Internal, "the server failed; its log says why").into_response()
}
