//! Request ids and one line for each request that reaches the router. Never bearers, bodies, or
//! query strings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use dirless_wire::{ErrorCode, TenantId, header};
use http::{HeaderName, HeaderValue, Method};
use tracing::Instrument;

use super::address::Client;
use crate::app::App;
use crate::metrics::Route;

const REQUEST_ID: HeaderName = HeaderName::from_static(header::REQUEST_ID);

/// Numbers for requests that bring no id of their own.
#[derive(Debug)]
pub(crate) struct RequestIds {
    start: u32,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        Self {
            start: rand::random(),
            next: AtomicU64::new(0),
        }
    }

    /// The id the client or a front gave, when it is a harmless text; a new one otherwise.
    fn of(&self, request: &Request) -> HeaderValue {
        let given = request
            .headers()
            .get(REQUEST_ID)
            .filter(|value| is_harmless(value.as_bytes()));
        given.cloned().unwrap_or_else(|| {
            let text = format!("{:08x}-{:x}", self.start, self.next.fetch_add(1, Ordering::Relaxed));
            HeaderValue::from_str(&text).expect("hexadecimal digits and '-' are a header value")
        })
    }
}

fn is_harmless(id: &[u8]) -> bool {
    (1..=64).contains(&id.len())
        && id
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// Put by a route into its answer so that the log names the tenant.
#[derive(Clone, Debug)]
pub(crate) struct LoggedTenant(pub(crate) TenantId);

/// The outermost layer of the router.
pub(crate) async fn record(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = app.request_ids.of(&request);
    let client = request.extensions().get::<Client>().copied();
    let method = request.method().clone();
    let path: Arc<str> = request.uri().path().into();
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    let mut response = next.run(request).instrument(span.clone()).await;
    response.headers_mut().insert(REQUEST_ID, id);
    let route = Route::of(&path);
    app.metrics.count(route, response.status());
    app.metrics.took(route, started.elapsed());
    span.in_scope(|| write_line(&method, &path, client, &response, started));
    response
}

fn write_line(method: &Method, path: &str, client: Option<Client>, response: &Response, started: Instant) {
    let status = response.status().as_u16();
    let code = response.extensions().get::<ErrorCode>().map(|code| format!("{code:?}"));
    let tenant = response
        .extensions()
        .get::<LoggedTenant>()
        .map(|tenant| tenant.0.to_string());
    let client = client.map(|client| client.address.to_string());
    let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    // A stranger's path is cut and printed escaped: it must not forge lines.
    let path: String = path.chars().take(128).collect();
    // Reads by the thousand are for debugging; writes and refusals are what an operator looks for.
    let read = *method == Method::GET || *method == Method::HEAD || path.ends_with("/heartbeat");
    let usual = matches!(status, 200..=399 | 404);
    if read && usual {
        tracing::debug!(
            target: "dirless_backend::access",
            %method, ?path, status, code, tenant, client, took_us, "a request was answered"
        );
    } else {
        tracing::info!(
            target: "dirless_backend::access",
            %method, ?path, status, code, tenant, client, took_us, "a request was answered"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_ids_are_kept_when_harmless_and_replaced_otherwise() {
        let ids = RequestIds::new();
        let id = |given: Option<&str>| {
            let mut request = Request::new(axum::body::Body::empty());
            if let Some(given) = given {
                request
                    .headers_mut()
                    .insert(REQUEST_ID, HeaderValue::from_str(given).unwrap());
            }
            ids.of(&request).to_str().unwrap().to_owned()
        };
        assert_eq!(id(Some("abc-1.2_x")), "abc-1.2_x");
        assert_ne!(id(Some("a b")), "a b");
        assert_ne!(id(Some(&"x".repeat(65))).len(), 65);
        assert_ne!(id(None), id(None));
    }
}
