//! All routes in one list. A handler takes the request apart, does its work on one state of the tree
//! or in one write, and answers.

mod changelog;
mod entries;
mod look;
mod openapi;
mod permissions;
mod revocations;
mod search;
mod sync;
mod typed;

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use tower_http::catch_panic::CatchPanicLayer;

pub(crate) use entries::{EntryBody, RenameBody};
pub use openapi::description;
pub(crate) use search::{SearchBody, cursor, next};

use super::app::App;
use super::problem::{Code, Problem};

/// Everything the server answers.
pub fn router(app: &Arc<App>) -> Router {
    let routes = [
        (
            "/v1/entries/{dn}",
            only(
                get(entries::read).put(entries::put).delete(entries::delete),
                "GET, HEAD, PUT, DELETE",
            ),
        ),
        ("/v1/entries/{dn}/rename", only(post(entries::rename), "POST")),
        ("/v1/search", only(post(search::search), "POST")),
        ("/v1/changelog", only(get(changelog::page), "GET, HEAD")),
        ("/v1/changelog/stream", only(get(changelog::stream), "GET, HEAD")),
        ("/v1/stats", only(get(look::stats), "GET, HEAD")),
        ("/v1/tree", only(get(look::tree), "GET, HEAD")),
        ("/v1/sync/{what}", only(post(sync::run), "POST")),
        ("/v1/permissions/check", only(get(permissions::check), "GET, HEAD")),
        (
            "/v1/revocations",
            only(get(revocations::list).post(revocations::revoke), "GET, HEAD, POST"),
        ),
        (
            "/v1/revocations/{name}",
            only(get(revocations::one).delete(revocations::restore), "GET, HEAD, DELETE"),
        ),
        ("/v1/health", only(get(look::health), "GET, HEAD")),
        ("/openapi.json", only(get(openapi::read), "GET, HEAD")),
        ("/v1/{kind}", only(get(typed::list), "GET, HEAD")),
        ("/v1/{kind}/{name}", only(get(typed::one), "GET, HEAD")),
    ];
    routes
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(unknown)
        // Each body is read with a limit and a deadline of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(finish))
        .with_state(Arc::clone(app))
}

fn only(methods: MethodRouter<Arc<App>>, allow: &'static str) -> MethodRouter<Arc<App>> {
    methods.fallback(move || async move {
        Problem::new(Code::MethodNotAllowed, "this route does not take this method")
            .hint(format!("it takes {allow}"))
            .allow(allow)
    })
}

async fn unknown() -> Problem {
    Problem::new(Code::NotFound, "there is no such route").hint("all routes are in /openapi.json")
}

/// Answers are about people: no cache between us and the operator keeps them.
async fn finish(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    let code = response.extensions().get::<Code>().copied();
    tracing::debug!(event = "rest.request", %method, path, status = response.status().as_u16(), ?code);
    response
}

/// A defect in a handler costs one request, not the connection or the server.
fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
    tracing::error!(
        event = "rest.panicked",
        cause = text,
        "a handler panicked; this is a defect"
    );
    Problem::internal().into_response()
}

/// `axum`'s path, with our problems.
pub(crate) struct Path<T>(pub(crate) T);

/// `axum`'s query, with our problems.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: serde::de::DeserializeOwned + Send> FromRequestParts<Arc<App>> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut http::request::Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let wrong = |error: PathRejection| Problem::new(Code::InvalidRequest, error.body_text()).at("path");
        let path = axum::extract::Path::<T>::from_request_parts(parts, app).await;
        path.map(|path| Self(path.0)).map_err(wrong)
    }
}

impl<T: serde::de::DeserializeOwned + Send> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut http::request::Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let wrong = |error: QueryRejection| Problem::new(Code::InvalidRequest, error.body_text()).at("query");
        let query = axum::extract::Query::<T>::from_request_parts(parts, app).await;
        query.map(|query| Self(query.0)).map_err(wrong)
    }
}
