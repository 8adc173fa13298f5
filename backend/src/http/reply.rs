//! Answers: JSON for everything that is not a sealed body, errors above all.
//!
//! Which error becomes which: what the client can mend carries a [`ErrorReply`] with its own code and
//! a hint; a full disk is 507, a store that is stopping or locked 503 (both worth another try); the
//! rest is 500, logged once here with the request id that the client sees, and says nothing more.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use dirless_wire::trust::SCHEME;
use dirless_wire::{AgePublicKey, ETag, ErrorCode, ErrorReply, StatusReply, header};
use http::header::{ALLOW, CONTENT_TYPE, ETAG, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::store::StoreError;

/// Why a request is not answered with success.
#[derive(Debug)]
pub(crate) struct Failure {
    reply: Box<ErrorReply>,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
    /// How to prove who one is (RFC 9110 section 11.6.1).
    challenge: &'static str,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, error: impl Into<String>) -> Self {
        Self {
            reply: Box::new(ErrorReply::new(code, error)),
            retry_after: None,
            allow: None,
            challenge: "Bearer",
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.reply.hint = Some(hint.into());
        self
    }

    pub(crate) fn registered_key(mut self, key: AgePublicKey) -> Self {
        self.reply.registered_key = Some(key);
        self
    }

    /// The one answer to a wrong bearer, an unknown tenant and another realm's tenant.
    pub(crate) fn unauthorized() -> Self {
        Self::new(
            ErrorCode::Unauthorized,
            "the bearer and the tenant id do not belong together, or one is unknown",
        )
    }

    /// The one answer of the verified protocol to whatever is wrong with who asks.
    pub(crate) fn unauthorized_trust() -> Self {
        let text = "the key or token and the tenant do not belong together, or one is unknown, or the time is wrong";
        let mut failure = Self::new(ErrorCode::Unauthorized, text);
        failure.challenge = SCHEME;
        failure
    }

    pub(crate) fn suspended() -> Self {
        Self::new(ErrorCode::RealmSuspended, "this account is suspended").hint("ask the operator of the server")
    }

    /// 429; `seconds` until another try makes sense.
    pub(crate) fn rate_limited(seconds: u64) -> Self {
        let mut failure = Self::new(ErrorCode::RateLimited, "too many requests");
        failure.retry_after = Some(seconds.max(1));
        failure
    }

    /// 503 with a time to come back.
    pub(crate) fn unavailable(error: &str, seconds: u64) -> Self {
        let mut failure = Self::new(ErrorCode::Unavailable, error);
        failure.retry_after = Some(seconds);
        failure
    }

    pub(crate) fn too_large(limit: u64) -> Self {
        Self::new(
            ErrorCode::PayloadTooLarge,
            format!("the body is longer than {limit} bytes"),
        )
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let mut failure = Self::new(ErrorCode::MethodNotAllowed, "this route does not take this method");
        failure.allow = Some(allow);
        failure
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.reply.code
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BodyTooLarge { limit } => Self::too_large(limit),
            StoreError::DiskFull => {
                tracing::error!(%error, "a request failed");
                let mut failure = Self::new(ErrorCode::StorageFull, "the server's disk is full");
                failure.retry_after = Some(60);
                failure
            }
            StoreError::Unavailable { .. } => {
                // Said once by the store when it began, not for each request.
                tracing::debug!(%error, "a request failed and will be asked to come again");
                Self::unavailable("the store's database cannot be reached; nothing was lost, try again", 2)
            }
            StoreError::Nul => Self::new(ErrorCode::InvalidRequest, "a text holds a NUL character"),
            StoreError::Busy | StoreError::Superseded | StoreError::Closed => {
                tracing::warn!(%error, "a request failed and will be asked to come again");
                Self::unavailable("the server is busy or stopping; try again", 1)
            }
            other => {
                tracing::error!(error = %other, "a request failed");
                Self::new(ErrorCode::Internal, "the server failed; its log says why")
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.reply.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(status, &self.reply);
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 15.5.2 wants a challenge.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(self.challenge));
        }
        // The access log wants the code without parsing the body again.
        response.extensions_mut().insert(self.reply.code);
        response
    }
}

/// A JSON answer.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    // Our reply types have text keys and no failing serialiser; should one fail all the same, an
    // empty object is still JSON.
    let text = serde_json::to_string(value).unwrap_or_else(|_unserialisable| "{}".to_owned());
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(header::JSON_MEDIA_TYPE));
    response
}

/// A JSON answer to a write that left something with this tag behind.
pub(crate) fn json_with_tag<T: Serialize>(value: &T, tag: &ETag) -> Response {
    let mut response = json(StatusCode::OK, value);
    if let Ok(tag) = HeaderValue::from_str(tag.header()) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// `{"status":"ok"}`.
pub(crate) fn status_ok() -> Response {
    json(StatusCode::OK, &StatusReply::ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_carry_their_status_and_headers() {
        let response = Failure::rate_limited(0).into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let response = Failure::method_not_allowed("GET, HEAD").into_response();
        assert_eq!(
            (response.status().as_u16(), response.headers()[ALLOW].to_str().unwrap()),
            (405, "GET, HEAD")
        );
        let response = Failure::unauthorized().into_response();
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
    }

    #[test]
    fn store_errors_are_told_apart() {
        let code = |error: StoreError| Failure::from(error).code();
        assert_eq!(code(StoreError::DiskFull), ErrorCode::StorageFull);
        assert_eq!(code(StoreError::Busy), ErrorCode::Unavailable);
        let down = StoreError::Unavailable { what: "x".to_owned() };
        assert_eq!(code(down), ErrorCode::Unavailable);
        assert_eq!(code(StoreError::Nul), ErrorCode::InvalidRequest);
        assert_eq!(code(StoreError::BodyTooLarge { limit: 1 }), ErrorCode::PayloadTooLarge);
        let damaged = StoreError::Corrupt { what: "x".to_owned() };
        assert_eq!(code(damaged), ErrorCode::Internal);
    }
}
