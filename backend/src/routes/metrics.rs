//! `GET /metrics` for Prometheus.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use dirless_wire::{ErrorCode, ErrorReply};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use crate::app::App;
use crate::http::address::Client;
use crate::http::{Failure, auth};
use crate::store::Scope;

/// All counters, for programs on this machine and operator tokens with the scope.
#[utoipa::path(get, path = "/metrics", tag = "operator", operation_id = "metrics",
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 401, body = ErrorReply), (status = 403, body = ErrorReply), (status = 429, body = ErrorReply),
    ), security((), ("bearer" = [])))]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    if !client.is_local {
        match auth::operator(&app, &headers, &client) {
            None => return Err(Failure::unauthorized()),
            // Counters are of all realms together, so a token of one realm does not reach them.
            Some(operator) if !operator.allows(Scope::Metrics) || operator.realm().is_some() => {
                return Err(Failure::new(
                    ErrorCode::Forbidden,
                    "this token does not allow reading metrics",
                ));
            }
            Some(_) => {}
        }
    }
    Ok(read_openly(State(app)).await)
}

/// The same on `[metrics] listen`.
pub(super) async fn read_openly(State(app): State<Arc<App>>) -> Response {
    // Megabytes and thousands: far below where a double loses a unit.
    app.metrics.cache_bytes.set(app.cache.used() as f64);
    app.metrics.agents_in_memory.set(app.heartbeats.in_memory() as f64);
    app.metrics.watchers.set(app.watch.count() as f64);
    app.metrics.split_views.set(app.store.split_views_known() as f64);
    app.metrics.engine(app.store.engine());
    let mut response = Response::new(Body::from(app.metrics.render()));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}
