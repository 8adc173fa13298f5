//! Answers that are no success: `application/problem+json` (RFC 9457) with a code for programs, and
//! for people what is wrong, where, and what to do.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::serve::tokens::TokenError;
use crate::tree::TreeError;

/// Media type of a problem.
const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong, for programs: one code per case, stable for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// 400: the request breaks the route's form.
    InvalidRequest,
    /// 400: a name is no distinguished name, or does not belong here.
    InvalidName,
    /// 400: a filter is malformed.
    InvalidFilter,
    /// 400: a filter asks for a secret.
    SecretInFilter,
    /// 401: no token, or one that is unknown, revoked or expired; deliberately the same.
    Unauthorized,
    /// 403: the token does not allow this.
    Forbidden,
    /// 404: no such route.
    NotFound,
    /// 404: no such entry.
    EntryAbsent,
    /// 404: no such tenant.
    TenantAbsent,
    /// 404: nobody is published under that name.
    NotPublished,
    /// 404: nobody of that name is revoked.
    NotRevoked,
    /// 405: the route takes other methods; see `Allow`.
    MethodNotAllowed,
    /// 408: the body came too slowly.
    RequestTimeout,
    /// 409: the entry exists.
    EntryExists,
    /// 409: the entry has others below it.
    NotLeaf,
    /// 409: more than one entry has that name.
    Ambiguous,
    /// 409: what was asked for is not configured.
    NotConfigured,
    /// 412: the entry is not the one that `If-Match` or `If-None-Match` names.
    VersionMismatch,
    /// 413: over the limit.
    PayloadTooLarge,
    /// 415: the body is not JSON.
    UnsupportedMediaType,
    /// 422: the body has not the right fields.
    InvalidBody,
    /// 422: the entry would break the schema.
    SchemaViolation,
    /// 422: the entry cannot be changed so.
    Refused,
    /// 429: too many wrong tokens; see `Retry-After`.
    RateLimited,
    /// 500: our fault; the log says more.
    Internal,
    /// 502: the sync that was asked for failed.
    SyncFailed,
    /// 503: the program is stopping or busy.
    Unavailable,
}

impl Code {
    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest | Self::InvalidName | Self::InvalidFilter | Self::SecretInFilter => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound | Self::EntryAbsent | Self::TenantAbsent | Self::NotPublished | Self::NotRevoked => {
                StatusCode::NOT_FOUND
            }
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::EntryExists | Self::NotLeaf | Self::Ambiguous | Self::NotConfigured => StatusCode::CONFLICT,
            Self::VersionMismatch => StatusCode::PRECONDITION_FAILED,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidBody | Self::SchemaViolation | Self::Refused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::SyncFailed => StatusCode::BAD_GATEWAY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The body of every answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProblemReply {
    /// The HTTP status.
    pub status: u16,
    /// What went wrong, for programs.
    pub code: Code,
    /// What is wrong.
    pub title: String,
    /// Where: an entry, a field, a header.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Why a request is not answered with success.
#[derive(Clone, Debug)]
pub struct Problem {
    reply: Box<ProblemReply>,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
}

impl Problem {
    /// A problem with what is wrong.
    #[must_use]
    pub fn new(code: Code, title: impl Into<String>) -> Self {
        let reply = ProblemReply {
            status: code.status().as_u16(),
            code,
            title: title.into(),
            place: None,
            hint: None,
        };
        Self {
            reply: Box::new(reply),
            retry_after: None,
            allow: None,
        }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.reply.place = Some(place.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.reply.hint = Some(hint.into());
        self
    }

    /// Says when another try makes sense.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    pub(super) fn allow(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(Code::Unauthorized, "there is no good token in this request")
            .at("header Authorization")
            .hint("send \"Authorization: Bearer TOKEN\"; make a token with: dirless-syncer token create")
    }

    pub(super) fn internal() -> Self {
        Self::new(Code::Internal, "the request failed on our side").hint("the log of the syncer says why")
    }

    /// What programs get.
    #[must_use]
    pub fn code(&self) -> Code {
        self.reply.code
    }
}

impl From<TreeError> for Problem {
    fn from(error: TreeError) -> Self {
        let text = error.to_string();
        match error {
            TreeError::Absent { dn, matched } => {
                let nearest = if matched.is_root() {
                    "no part of that name is there".to_owned()
                } else {
                    format!("the nearest entry above that is there is {:?}", matched.to_string())
                };
                Self::new(Code::EntryAbsent, text).at(dn.to_string()).hint(nearest)
            }
            TreeError::Exists(dn) => Self::new(Code::EntryExists, text)
                .at(dn.to_string())
                .hint("leave If-None-Match out to replace it"),
            TreeError::NotLeaf(dn) => Self::new(Code::NotLeaf, text)
                .at(dn.to_string())
                .hint("?subtree=true removes it with everything below it"),
            TreeError::Version { dn, .. } => Self::new(Code::VersionMismatch, text)
                .at(dn.to_string())
                .hint("read the entry again and repeat the change with its ETag"),
            TreeError::Schema { dn, .. } | TreeError::StructuralClass { dn, .. } => {
                Self::new(Code::SchemaViolation, text)
                    .at(dn.to_string())
                    .hint("the classes and their attributes are in the subschema entry and in schema_folder")
            }
            TreeError::Name(dn) => Self::new(Code::InvalidName, text).at(dn.to_string()),
            TreeError::Outside { dn, base } => Self::new(Code::InvalidName, text)
                .at(dn.to_string())
                .hint(format!("all entries stand below {:?}", base.to_string())),
            TreeError::KeptByServer(_)
            | TreeError::NoSuchValue(_)
            | TreeError::ValueExists(_)
            | TreeError::NotInteger(_) => Self::new(Code::Refused, text),
            TreeError::Move(dn) => Self::new(Code::Refused, text).at(dn.to_string()),
            other => {
                tracing::error!(event = "rest.failed", error = %other, "a request failed");
                Self::internal()
            }
        }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        tracing::error!(event = "rest.failed", %error, "a request failed");
        Self::internal()
    }
}

/// For the description: what every route with a token may answer.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "a list of what there is, which nobody makes")]
pub(crate) enum Refusals {
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(ProblemReply),
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(ProblemReply),
    #[response(status = 429, content_type = "application/problem+json")]
    RateLimited(ProblemReply),
}

/// For the description: what every route with a body may answer besides.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "a list of what there is, which nobody makes")]
pub(crate) enum BodyRefusals {
    #[response(status = 408, content_type = "application/problem+json")]
    RequestTimeout(ProblemReply),
    #[response(status = 413, content_type = "application/problem+json")]
    PayloadTooLarge(ProblemReply),
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(ProblemReply),
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.reply.code.status();
        // Texts and a number: it cannot fail to serialise.
        let text = serde_json::to_string(&self.reply).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 15.5.2 wants a challenge.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        response.extensions_mut().insert(self.reply.code);
        response
    }
}
