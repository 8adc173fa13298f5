//! Bodies in and out.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::{Code, Problem};

/// Longest body: a large configuration document.
const LONGEST: usize = 4 * 1024 * 1024;
/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads a JSON body.
pub(crate) async fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_json = |kind: &str| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || kind.ends_with("+json")
    };
    if kind.is_some_and(|kind| !is_json(kind)) {
        return Err(
            Problem::new(Code::UnsupportedMediaType, "the body must be application/json").at("header Content-Type"),
        );
    }
    let read = tokio::time::timeout(PATIENCE, to_bytes(body, LONGEST)).await;
    let bytes = match read {
        Err(_) => {
            return Err(Problem::new(Code::RequestTimeout, "the body took too long to come").at("body"));
        }
        Ok(Err(_)) => {
            return Err(Problem::new(
                Code::PayloadTooLarge,
                format!("the body is longer than {LONGEST} bytes, or broke off"),
            )
            .at("body"));
        }
        Ok(Ok(bytes)) => bytes,
    };
    parse(&bytes)
}

/// Reads JSON.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // A list of the fields' values would be taken too.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::new(Code::InvalidBody, "the body must be a JSON object").at("body"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        Problem::new(Code::InvalidBody, error.to_string())
            .at("body")
            .hint("see /openapi.json")
    })
}

/// A JSON answer.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    // Our replies have text keys and no failing serialiser.
    let text = serde_json::to_string(value).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The same with a tag.
pub(crate) fn tagged<T: Serialize>(status: StatusCode, value: &T, tag: &str) -> Response {
    let mut response = json(status, value);
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}
