//! Small bodies, read whole with a limit in bytes and in time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use dirless_wire::ErrorCode;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use serde::Deserialize;

use super::Failure;

/// Refuses by the announced length, before a byte is read.
pub(crate) fn check_announced(headers: &HeaderMap, limit: u64) -> Result<(), Failure> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        Err(Failure::too_large(limit))
    } else {
        Ok(())
    }
}

/// The next piece of a body; `None` at its end.
pub(crate) async fn next_piece(body: &mut Body, pause: Duration) -> Result<Option<Bytes>, Failure> {
    loop {
        let frame = tokio::time::timeout(pause, body.frame())
            .await
            .map_err(|_elapsed| Failure::new(ErrorCode::RequestTimeout, "the body of the request stopped arriving"))?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => {
                return Err(Failure::new(
                    ErrorCode::InvalidRequest,
                    "the body of the request broke off",
                ));
            }
            // Trailers say nothing to us.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A body of at most `limit` bytes.
pub(crate) async fn read_small(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    pause: Duration,
) -> Result<Bytes, Failure> {
    check_announced(headers, limit as u64)?;
    let mut whole = BytesMut::new();
    // Small bodies get one pause in all: a drip of bytes must not hold the task for hours.
    let reading = async {
        while let Some(piece) = next_piece(&mut body, pause).await? {
            if whole.len() + piece.len() > limit {
                return Err(Failure::too_large(limit as u64));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(())
    };
    match tokio::time::timeout(pause * 2, reading).await {
        Ok(outcome) => outcome.map(|()| whole.freeze()),
        Err(_elapsed) => Err(Failure::new(
            ErrorCode::RequestTimeout,
            "the body of the request arrives too slowly",
        )),
    }
}

/// A whole JSON body.
pub(crate) fn parse_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Failure> {
    // A derived reader takes a list for the fields in their order; no client means that.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Failure::new(
            ErrorCode::InvalidBody,
            "the body is not as it should be: expected an object",
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| Failure::new(ErrorCode::InvalidBody, explain(&error)))
}

/// What is wrong with a JSON body, without repeating it: it may hold a secret in the wrong place.
fn explain(error: &serde_json::Error) -> String {
    let place = format!("line {} column {}", error.line(), error.column());
    if !error.is_data() {
        return format!("the body is not JSON ({place})");
    }
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or_default();
    // Serde quotes unexpected values: `invalid type: string "…", expected …`.
    let reason = match (reason.starts_with("invalid type"), reason.rsplit_once(", expected ")) {
        (true, Some((_, expected))) => format!("expected {expected}"),
        _ => reason.to_owned(),
    };
    format!("the body is not as it should be: {reason} ({place})")
}

#[cfg(test)]
mod tests {
    use dirless_wire::EnrollRequest;

    use super::*;

    #[test]
    fn reasons_name_the_field_and_never_the_value() {
        let reason = |body: &str| explain(&serde_json::from_str::<EnrollRequest>(body).unwrap_err());
        assert!(reason(r#"{"tenant_id":"a"}"#).contains("missing field `age_public_key`"));
        assert!(reason("nonsense").contains("not JSON"));
        assert!(!reason(r#"{"tenant_id":["sekret"]}"#).contains("sekret"));
        assert!(!reason(r#"{"tenant_id":"a","age_public_key":{"sekret":1}}"#).contains("sekret"));
        assert!(!reason(r#"{"tenant_id":"a","age_public_key":"AGE-SECRET-KEY-1QQX"}"#).contains("QQX"));
        assert!(!reason(r#""sekret""#).contains("sekret"));
    }
}
