use std::future::Future;
use std::time::Duration;

use dirless_wire::{AgePublicKey, ETag, ErrorCode, header};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::refusal::{Refusal, retry_after};
use crate::transport::{Call, Identity, describe};
use crate::{Error, MAX_JSON_BYTES};

/// Longest explanation that is read from a refusal, in bytes.
const MAX_REFUSAL_BYTES: u64 = 64 * 1024;

/// Why an attempt gave no output, by what follows from it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The call is over.
    Final(Box<Error>),
    /// The backend asks to wait.
    Limited { retry_after: Option<Duration> },
    /// This backend is of no use now; another may be.
    Elsewhere { reason: String, may_have_arrived: bool },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(Box::new(error))
    }
}

/// Makes something of an answer; may be called again for another backend after a failure.
pub(crate) trait Reader: Send {
    type Output: Send;

    fn read(&mut self, answer: Answer) -> impl Future<Output = Result<Self::Output, Failure>> + Send;
}

/// An answer that is a success, 304 or 404; all else has become a [`Failure`] already.
#[derive(Debug)]
pub(crate) struct Answer {
    response: reqwest::Response,
    pub(crate) backend: String,
}

impl Answer {
    pub(crate) async fn classify(
        response: reqwest::Response,
        call: &Call,
        backend: String,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let status = response.status();
        let answer = Self { response, backend };
        if status.is_success() || status == StatusCode::NOT_MODIFIED || status == StatusCode::NOT_FOUND {
            return Ok(answer);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            let retry_after = answer
                .text_header("retry-after")
                .and_then(|text| retry_after(text, now));
            return Err(Failure::Limited { retry_after });
        }
        if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
            let refusal = answer.refusal().await;
            return Err(Failure::Elsewhere {
                reason: format!("status {}: {}", status.as_u16(), refusal.error),
                may_have_arrived: true,
            });
        }
        if status == StatusCode::UNAUTHORIZED && call.identity == Identity::Key {
            let ahead = answer.date().map(|date| now.as_second() - date.as_second());
            return Err(Error::KeyRefused { ahead }.into());
        }
        let registered = registered_key(answer.headers());
        let refusal = answer.refusal().await;
        Err(refusal.into_error(status, call, registered).into())
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(crate) fn text_header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    pub(crate) fn etag(&self) -> Option<ETag> {
        ETag::parse(self.text_header("etag")?).ok()
    }

    /// The backend's clock (RFC 9110 section 6.6.1).
    fn date(&self) -> Option<Timestamp> {
        let date = jiff::fmt::rfc2822::parse(self.text_header("date")?).ok()?;
        Some(date.timestamp())
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.response.content_length()
    }

    pub(crate) fn malformed(&self, reason: impl Into<String>) -> Failure {
        Error::Malformed {
            backend: self.backend.clone(),
            reason: reason.into(),
        }
        .into()
    }

    pub(crate) fn too_large(&self, limit: u64) -> Failure {
        Error::BodyTooLarge {
            backend: self.backend.clone(),
            limit,
        }
        .into()
    }

    /// The next piece of the body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, Failure> {
        self.response.chunk().await.map_err(|error| Failure::Elsewhere {
            reason: format!("the answer broke off: {}", describe(&error)),
            may_have_arrived: true,
        })
    }

    /// The whole body, when it has at most `limit` bytes.
    pub(crate) async fn body(&mut self, limit: u64) -> Result<Vec<u8>, Failure> {
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(self.too_large(limit));
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() as u64 + chunk.len() as u64 > limit {
                return Err(self.too_large(limit));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// What the backend says about a refusal, as far as it can be made out.
    pub(crate) async fn refusal(mut self) -> Refusal {
        let body = self.body(MAX_REFUSAL_BYTES).await.unwrap_or_default();
        Refusal::parse(&body)
    }
}

impl Refusal {
    fn into_error(self, status: StatusCode, call: &Call, registered: Option<AgePublicKey>) -> Error {
        let registered_key = self.registered_key.clone().or(registered);
        let conditional = call.headers.contains_key("if-match") || call.headers.contains_key("if-none-match");
        match status.as_u16() {
            401 => Error::Unauthorized,
            403 if self.code == ErrorCode::Forbidden => Error::Forbidden { error: self.error },
            // Deployed backends have this one reason for a 403, and send no code.
            403 if self.is_ours => Error::Suspended { error: self.error },
            409 if self.code == ErrorCode::AccountMismatch => Error::AccountConflict { error: self.error },
            409 if registered_key.is_some() => Error::KeyConflict { registered_key },
            409 if matches!(self.code, ErrorCode::KeyMismatch | ErrorCode::RecipientMismatch) => {
                Error::KeyConflict { registered_key: None }
            }
            409 if self.error.to_ascii_lowercase().contains("account") => Error::AccountConflict { error: self.error },
            412 if conditional => Error::Changed,
            413 => Error::TooLarge {
                sent: call.body.as_ref().map_or(0, |body| body.len() as u64),
                error: self.error,
            },
            _ => self.rejected(status),
        }
    }

    pub(crate) fn rejected(self, status: StatusCode) -> Error {
        let advice = match status.as_u16() {
            300..=399 => Some("redirects are not followed; configure the address it redirects to"),
            403..=405 if !self.is_ours => {
                Some("this does not look like a Dirless backend; check the URL and its path, and what stands in front")
            }
            _ => None,
        };
        Error::Rejected {
            status: status.as_u16(),
            code: self.code,
            error: self.error,
            hint: self.hint.or_else(|| advice.map(str::to_owned)),
        }
    }
}

pub(crate) fn registered_key(headers: &HeaderMap) -> Option<AgePublicKey> {
    AgePublicKey::new(headers.get(header::REGISTERED_KEY)?.to_str().ok()?).ok()
}

/// Reads a JSON body; 404 is an error.
#[derive(Debug)]
pub(crate) struct Json<T>(std::marker::PhantomData<fn() -> T>);

impl<T> Json<T> {
    pub(crate) fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T: DeserializeOwned + Send> Reader for Json<T> {
    type Output = T;

    async fn read(&mut self, mut answer: Answer) -> Result<T, Failure> {
        let status = answer.status();
        if !status.is_success() {
            return Err(answer.refusal().await.rejected(status).into());
        }
        let body = answer.body(MAX_JSON_BYTES).await?;
        serde_json::from_slice(&body).map_err(|error| answer.malformed(error.to_string()))
    }
}

/// Reads JSON as [`Json`] does, with its entity tag.
#[derive(Debug)]
pub(crate) struct Tagged<T>(Json<T>);

impl<T> Tagged<T> {
    pub(crate) fn new() -> Self {
        Self(Json::new())
    }
}

impl<T: DeserializeOwned + Send> Reader for Tagged<T> {
    type Output = (Option<ETag>, T);

    async fn read(&mut self, answer: Answer) -> Result<Self::Output, Failure> {
        let etag = answer.etag();
        Ok((etag, self.0.read(answer).await?))
    }
}

/// Reads nothing but whether it worked, and the entity tag. Bodies of deployed backends differ.
#[derive(Debug)]
pub(crate) struct Accepted;

impl Reader for Accepted {
    type Output = Option<ETag>;

    async fn read(&mut self, mut answer: Answer) -> Result<Option<ETag>, Failure> {
        let status = answer.status();
        if !status.is_success() {
            return Err(answer.refusal().await.rejected(status).into());
        }
        let etag = answer.etag();
        // Read to the end so that the connection can be used again; what is in it does not matter.
        let _ = answer.body(MAX_REFUSAL_BYTES).await;
        Ok(etag)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";

    fn error(status: u16, body: &str) -> Error {
        let call = Call::new(Method::PUT, "/v1/snapshot/local").header("if-match", "\"x\"");
        Refusal::parse(body.as_bytes()).into_error(StatusCode::from_u16(status).unwrap(), &call, None)
    }

    #[test]
    fn refusals_become_what_a_caller_can_act_on() {
        assert!(matches!(error(401, ""), Error::Unauthorized));
        assert!(matches!(
            error(403, r#"{"error":"suspended"}"#),
            Error::Suspended { .. }
        ));
        assert!(matches!(
            error(403, r#"{"error":"no","code":"forbidden"}"#),
            Error::Forbidden { .. }
        ));
        assert!(matches!(error(403, "<html>"), Error::Rejected { hint: Some(_), .. }));
        assert!(matches!(
            error(409, r#"{"error":"x","code":"account_mismatch"}"#),
            Error::AccountConflict { .. }
        ));
        assert!(matches!(
            error(409, r#"{"error":"AWS account differs"}"#),
            Error::AccountConflict { .. }
        ));
        assert!(matches!(
            error(409, r#"{"error":"?"}"#),
            Error::Rejected { status: 409, .. }
        ));
        assert!(matches!(error(412, ""), Error::Changed));
        assert!(matches!(error(413, ""), Error::TooLarge { .. }));
        assert!(matches!(error(302, ""), Error::Rejected { hint: Some(hint), .. } if hint.contains("redirect")));
        assert!(matches!(
            error(422, r#"{"error":"clear","code":"not_sealed","hint":"seal"}"#),
            Error::Rejected { code: ErrorCode::NotSealed, hint: Some(hint), .. } if hint == "seal"
        ));
        for body in [
            format!(r#"{{"registered_key":"{KEY}"}}"#),
            format!(r#"{{"error":"x","code":"key_mismatch","registered_key":"{KEY}"}}"#),
        ] {
            assert!(matches!(
                error(409, &body),
                Error::KeyConflict {
                    registered_key: Some(_)
                }
            ));
        }
        assert!(matches!(
            error(409, r#"{"error":"x","code":"key_mismatch","registered_key":"rubbish"}"#),
            Error::KeyConflict { registered_key: None }
        ));
    }

    proptest! {
        #[test]
        fn any_refusal_is_survived_and_shown_harmlessly(status in 300u16..500, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let call = Call::new(Method::GET, "/");
            let status = StatusCode::from_u16(status).unwrap();
            let text = Refusal::parse(&body).into_error(status, &call, None).to_string();
            prop_assert!(!text.chars().any(char::is_control));
        }
    }
}
