use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::AgePublicKey;

/// What a client can do differently about: one code per case, stable for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 401: wrong bearer, unknown tenant or another realm's tenant; deliberately the same.
    Unauthorized,
    /// 403: the realm is suspended.
    RealmSuspended,
    /// 403: the credential is good but may not do this.
    Forbidden,
    /// 404: this source was never written.
    SourceAbsent,
    /// 404: this source was deleted on purpose.
    SourceDeleted,
    /// 404: nothing is stored under this name.
    ObjectAbsent,
    /// 404: no such route.
    NotFound,
    /// 405: the route exists, the method does not; see `Allow`.
    MethodNotAllowed,
    /// 408: the request came too slowly.
    RequestTimeout,
    /// 409: another key is registered; `registered_key` names it.
    KeyMismatch,
    /// 409: the snapshot is sealed to another key than the registered one; `registered_key` names it.
    RecipientMismatch,
    /// 409: the tenant belongs to another AWS account.
    AccountMismatch,
    /// 409: something else is stored under this name, and stays.
    AlreadyExists,
    /// 412: the stored state is not the one named by `If-Match` or `If-None-Match`.
    PreconditionFailed,
    /// 400: a snapshot without `X-Dirless-Recipient`.
    RecipientMissing,
    /// 400: the request breaks HTTP's or the route's form (a bad header value, a bad name).
    InvalidRequest,
    /// 411: a body without a usable length where one is needed.
    LengthRequired,
    /// 413: over the configured limit.
    PayloadTooLarge,
    /// 415: the body is of a type the route does not take.
    UnsupportedMediaType,
    /// 422: fields missing or malformed.
    InvalidBody,
    /// 422: the body is plainly in clear; sealed bodies only.
    NotSealed,
    /// 422: sent by a client whose snapshots nobody can open.
    UnsupportedClient,
    /// 422: the body has another digest than the path or `Content-Digest` names.
    DigestMismatch,
    /// 428: the write must say what it replaces.
    PreconditionRequired,
    /// 429: slow down; see `Retry-After`.
    RateLimited,
    /// 431: too many or too long headers.
    HeadersTooLarge,
    /// 500: our fault, logged under the request id.
    Internal,
    /// 507: the disk of the server is full.
    StorageFull,
    /// 503: the store is busy or stopping; try again.
    Unavailable,
    /// A code this version does not know.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// The HTTP status the server sends with this code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::RecipientMissing | Self::InvalidRequest => 400,
            Self::Unauthorized => 401,
            Self::RealmSuspended | Self::Forbidden => 403,
            Self::SourceAbsent | Self::SourceDeleted | Self::ObjectAbsent | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::KeyMismatch | Self::RecipientMismatch | Self::AccountMismatch | Self::AlreadyExists => 409,
            Self::LengthRequired => 411,
            Self::PreconditionFailed => 412,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::InvalidBody | Self::NotSealed | Self::UnsupportedClient | Self::DigestMismatch => 422,
            Self::PreconditionRequired => 428,
            Self::RateLimited => 429,
            Self::HeadersTooLarge => 431,
            Self::Unavailable => 503,
            Self::StorageFull => 507,
            Self::Internal | Self::Unknown => 500,
        }
    }
}

/// Body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorReply {
    /// What is wrong, for people; deployed tools print it.
    pub error: String,
    /// What is wrong, for programs.
    #[serde(default = "unknown")]
    pub code: ErrorCode,
    /// What to do about it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The tenant's key, where the conflict is about keys; deployed tools compare it with theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_key: Option<AgePublicKey>,
}

impl ErrorReply {
    /// A reply with neither hint nor key.
    pub fn new(code: ErrorCode, error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            code,
            hint: None,
            registered_key: None,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// The same with the registered key.
    #[must_use]
    pub fn with_registered_key(self, key: AgePublicKey) -> Self {
        Self {
            registered_key: Some(key),
            ..self
        }
    }
}

fn unknown() -> ErrorCode {
    ErrorCode::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_exactly_its_fields() {
        let plain = ErrorReply::new(ErrorCode::SourceDeleted, "gone");
        assert_eq!(
            serde_json::to_string(&plain).unwrap(),
            r#"{"error":"gone","code":"source_deleted"}"#
        );
        let key = AgePublicKey::new("age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s").unwrap();
        let full = ErrorReply::new(ErrorCode::KeyMismatch, "x")
            .with_hint("y")
            .with_registered_key(key);
        let text = serde_json::to_string(&full).unwrap();
        assert!(
            text.contains(r#""hint":"y""#) && text.contains(r#""registered_key":"age17vcec"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<ErrorReply>(&text).unwrap(), full);
    }

    #[test]
    fn other_servers_errors_are_read() {
        let bare: ErrorReply = serde_json::from_str(r#"{"error":"no"}"#).unwrap();
        assert_eq!(bare.code, ErrorCode::Unknown);
        let later: ErrorReply = serde_json::from_str(r#"{"error":"no","code":"invented_later"}"#).unwrap();
        assert_eq!(later.code, ErrorCode::Unknown);
    }

    #[test]
    fn the_statuses_deployed_tools_tell_apart_hold() {
        for (code, status) in [
            (ErrorCode::Unauthorized, 401),
            (ErrorCode::RealmSuspended, 403),
            (ErrorCode::KeyMismatch, 409),
            (ErrorCode::InvalidBody, 422),
            (ErrorCode::RecipientMissing, 400),
            (ErrorCode::PayloadTooLarge, 413),
        ] {
            assert_eq!(code.status(), status);
        }
    }
}
