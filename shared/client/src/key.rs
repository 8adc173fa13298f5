//! Signed requests: a key, not a shared secret, says who asks.

use std::fmt;
use std::sync::Arc;

use dirless_wire::TenantId;
use dirless_wire::trust::{Digest, KeyId, PublicKey, PublicKeyError, SignedRequest, Time};
use http::HeaderValue;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};

use crate::transport::Call;

/// From a message to its signature.
type Sign = dyn Fn(&[u8]) -> Vec<u8> + Send + Sync;

/// Signs requests for the owner of an Ed25519 key. The key itself stays with whoever made this: the client links
/// nothing that could open what it carries.
#[derive(Clone)]
pub struct RequestKey {
    id: KeyId,
    sign: Arc<Sign>,
}

impl RequestKey {
    /// For the key called `id`, with what signs for it: from a message to the 64 bytes of its signature.
    #[must_use]
    pub fn new(id: KeyId, sign: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let sign = Arc::new(sign);
        Self { id, sign }
    }

    /// For the key whose public half has this text.
    ///
    /// # Errors
    /// When it is no public key's.
    pub fn of(public: &str, sign: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Result<Self, PublicKeyError> {
        let public: PublicKey = public.parse()?;
        Ok(Self::new(public.id().clone(), sign))
    }

    /// Name and hash of the key.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// What shows that the owner of the key sends `call` at `now`.
    pub(crate) fn authorization(&self, call: &Call, tenant: &TenantId, now: Timestamp) -> HeaderValue {
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let time = Time::from_unix_seconds(seconds).expect("no timestamp is after the year 9999");
        let body = digest_of(call.body.as_deref().unwrap_or_default());
        let text = SignedRequest::text(call.method.as_str(), &call.path, tenant, &time, &body);
        let request = SignedRequest {
            key: self.id.clone(),
            time,
            // One of another length is no signature, and refused as such.
            signature: (self.sign)(text.as_bytes()).try_into().unwrap_or([0; 64]),
        };
        let mut value =
            HeaderValue::from_str(&request.to_string()).expect("labels, times and base64 are visible ASCII");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for RequestKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RequestKey({})", self.id)
    }
}

/// SHA-256 of a body, as the wire has it.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    let found = digest(&SHA256, bytes);
    Digest::from_bytes(found.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn the_signature_is_over_the_documented_text_and_debug_shows_the_name_alone() {
        let key = RequestKey::new("n1+0a1b2c3d".parse().unwrap(), |text| {
            digest(&SHA256, text).as_ref().repeat(2)
        });
        let mut call = Call::new(Method::POST, "/v2/acme/heartbeat?x=1");
        call.body = Some("receipt".into());
        let now = "2026-11-22T08:00:00.7Z".parse().unwrap();
        let value = key.authorization(&call, &TenantId::new("acme").unwrap(), now);
        let request: SignedRequest = value.to_str().unwrap().parse().unwrap();
        let text = format!(
            "dirless/request/v1\nPOST\n/v2/acme/heartbeat?x=1\nacme\n2026-11-22T08:00:00Z\n{}\n",
            digest_of(b"receipt")
        );
        assert_eq!(
            request.signature.as_slice(),
            digest(&SHA256, text.as_bytes()).as_ref().repeat(2)
        );
        assert!(value.is_sensitive());
        assert_eq!(format!("{key:?}"), "RequestKey(n1+0a1b2c3d)");
    }
}
