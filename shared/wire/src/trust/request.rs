use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Digest, KeyId, Time};
use crate::TenantId;

/// The scheme of signed requests in `Authorization`.
pub const SCHEME: &str = "Dirless-Ed25519";

/// An `Authorization` header that proves who asks, without a shared secret:
/// `Dirless-Ed25519 key="NAME+HASH", time="2026-11-22T08:00:00Z", signature="BASE64"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRequest {
    /// Which key signed.
    pub key: KeyId,
    /// When.
    pub time: Time,
    /// Ed25519 over [`SignedRequest::text`].
    pub signature: [u8; 64],
}

impl SignedRequest {
    /// What is signed. `path_and_query` begins with `/v2/` and is as it stands in the request, without what a
    /// front takes off; `body` is the digest of the body, of no bytes when there is none.
    #[must_use]
    pub fn text(method: &str, path_and_query: &str, tenant: &TenantId, time: &Time, body: &Digest) -> String {
        format!("dirless/request/v1\n{method}\n{path_and_query}\n{tenant}\n{time}\n{body}\n")
    }
}

impl fmt::Display for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, time, signature } = self;
        let signature = STANDARD.encode(signature);
        write!(f, "{SCHEME} key=\"{key}\", time=\"{time}\", signature=\"{signature}\"")
    }
}

impl FromStr for SignedRequest {
    type Err = SignedRequestError;

    /// The exact spelling alone; the scheme's name in any case (RFC 9110 section 11.1).
    fn from_str(text: &str) -> Result<Self, SignedRequestError> {
        let (scheme, rest) = text.split_at_checked(SCHEME.len()).ok_or(SignedRequestError)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(SignedRequestError);
        }
        let (key, rest) = value(rest, " key=\"").ok_or(SignedRequestError)?;
        let (time, rest) = value(rest, ", time=\"").ok_or(SignedRequestError)?;
        let (signature, rest) = value(rest, ", signature=\"").ok_or(SignedRequestError)?;
        let signature = STANDARD.decode(signature).map_err(|_| SignedRequestError)?;
        if !rest.is_empty() {
            return Err(SignedRequestError);
        }
        Ok(Self {
            key: key.parse().map_err(|_| SignedRequestError)?,
            time: Time::new(time).map_err(|_| SignedRequestError)?,
            signature: signature.try_into().map_err(|_| SignedRequestError)?,
        })
    }
}

/// What stands between `before` and the next quote, and the rest after that.
fn value<'a>(text: &'a str, before: &str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(before)?.split_once('"')
}

/// The header is no signed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signed request is {SCHEME} key=\"NAME+HASH\", time=\"RFC 3339 in UTC\", signature=\"BASE64\"")]
pub struct SignedRequestError;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> SignedRequest {
        SignedRequest {
            key: "syncer+0a1b2c3d".parse().unwrap(),
            time: Time::new("2026-11-22T08:00:00Z").unwrap(),
            signature: [7; 64],
        }
    }

    #[test]
    fn the_header_has_one_spelling() {
        let text = example().to_string();
        let signature = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw==";
        assert_eq!(
            text,
            format!(
                "Dirless-Ed25519 key=\"syncer+0a1b2c3d\", time=\"2026-11-22T08:00:00Z\", signature=\"{signature}\""
            )
        );
        assert_eq!(text.parse(), Ok(example()));
        assert_eq!(text.replace(SCHEME, "dirless-ed25519").parse(), Ok(example()));
        for wrong in [
            String::new(),
            text.replace(", time", ",time"),
            text.replace(SCHEME, "Bearer"),
            text.replace("Dirless-Ed25519 ", "Dirless-Ed25519  "),
            text.replace("Bw==", "Bw"),
            // Another spelling of the same bytes.
            text.replace("Bw==", "Bx=="),
            text.replace("00Z", "00.0Z"),
            text.replace("syncer+", "Syncer+"),
            text.replace("key", "Key"),
            format!("{text} "),
            format!("{text}, more=\"x\""),
            text[..text.len() - 1].to_owned(),
        ] {
            assert_eq!(wrong.parse::<SignedRequest>(), Err(SignedRequestError), "{wrong:?}");
        }
    }

    #[test]
    fn the_signed_text_is_the_documented_one() {
        let tenant = TenantId::new("aws___acme").unwrap();
        let text = SignedRequest::text(
            "PUT",
            "/v2/acme/head/syncer?x=1",
            &tenant,
            &example().time,
            &Digest::from_bytes([0xab; 32]),
        );
        let digest = "ab".repeat(32);
        assert_eq!(
            text,
            format!("dirless/request/v1\nPUT\n/v2/acme/head/syncer?x=1\nacme\n2026-11-22T08:00:00Z\n{digest}\n")
        );
    }

    proptest! {
        #[test]
        fn every_request_survives_its_text(name in "[a-z0-9][a-z0-9._-]{0,20}", hash in any::<[u8; 4]>(),
            seconds in 0..253_402_300_800_u64, signature in proptest::collection::vec(any::<u8>(), 64)) {
            let request = SignedRequest {
                key: KeyId::new(name.parse().unwrap(), hash),
                time: Time::from_unix_seconds(seconds).unwrap(),
                signature: signature.try_into().unwrap(),
            };
            prop_assert_eq!(request.to_string().parse(), Ok(request));
        }

        #[test]
        fn what_is_read_prints_as_it_was(at in 0..160_usize, with in any::<char>()) {
            let mut text: Vec<char> = example().to_string().chars().collect();
            if let Some(place) = text.get_mut(at) { *place = with; }
            let text: String = text.into_iter().collect();
            if let Ok(request) = text.parse::<SignedRequest>() {
                let (scheme, rest) = text.split_at(SCHEME.len());
                prop_assert!(scheme.eq_ignore_ascii_case(SCHEME));
                let printed = request.to_string();
                prop_assert_eq!(printed.split_at(SCHEME.len()).1, rest);
            }
        }

        #[test]
        fn different_requests_have_different_texts(one in ("[A-Z]{1,4}", "/[a-z/?=]{0,8}"), other in ("[A-Z]{1,4}", "/[a-z/?=]{0,8}")) {
            let text = |(method, path): &(String, String)| {
                let tenant = TenantId::new("acme").unwrap();
                SignedRequest::text(method, path, &tenant, &example().time, &Digest::from_bytes([0; 32]))
            };
            prop_assert_eq!(text(&one) == text(&other), one == other);
        }
    }
}
