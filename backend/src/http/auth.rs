//! From headers to a tenant. One place, used by the hot path and by every route.

use std::sync::Arc;

use dirless_wire::{TenantId, header};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::Failure;
use super::address::Client;
use super::limits::Pace;
use crate::app::App;
use crate::store::{Credential, Operator, Principal, SecretHash, TenantHandle};

const TENANT_ID: HeaderName = HeaderName::from_static(header::TENANT_ID);

/// The tenant that the request is about, when its bearer is good for it.
///
/// A wrong bearer, an unknown tenant and a tenant of another realm are the same failure, byte for
/// byte. A request without any bearer is a probe of a deployed agent: the same answer, but not
/// counted as a guess.
pub(crate) fn tenant(app: &App, headers: &HeaderMap, client: &Client) -> Result<TenantHandle, Failure> {
    let Some(bearer) = bearer(headers) else {
        return Err(Failure::unauthorized());
    };
    let Some(tenant) = tenant_of(app, headers, bearer) else {
        app.limits.failed(client);
        return Err(Failure::unauthorized());
    };
    if tenant.credential().is_suspended() {
        return Err(Failure::suspended());
    }
    Ok(tenant)
}

/// What a connection has proved: with which headers, and what they were good for. A host sends the same
/// ones with each request, and comparing them is cheaper than hashing the bearer and looking up whose it
/// is.
pub(crate) struct Proof {
    authorization: Zeroizing<Vec<u8>>,
    tenant_id: Vec<u8>,
    /// Realms and tenants as they were then; after any change of them the proof is made anew.
    version: u64,
    tenant: TenantHandle,
}

impl Proof {
    /// `None` for what is good for some time only.
    fn of(headers: &HeaderMap, version: u64, tenant: TenantHandle) -> Option<Self> {
        let proof = Self {
            authorization: headers.get(AUTHORIZATION)?.as_bytes().to_vec().into(),
            tenant_id: headers.get(TENANT_ID)?.as_bytes().to_vec(),
            version,
            tenant,
        };
        proof.tenant.credential().is_lasting().then_some(proof)
    }

    fn holds(&self, headers: &HeaderMap, version: u64) -> bool {
        let sent = |name| headers.get(name).map(HeaderValue::as_bytes);
        self.version == version
            && sent(TENANT_ID) == Some(&self.tenant_id)
            && sent(AUTHORIZATION).is_some_and(|sent| sent.ct_eq(&self.authorization).into())
    }
}

/// [`tenant`], for a connection that may have proved it before.
pub(crate) fn tenant_again(
    app: &App,
    headers: &HeaderMap,
    client: &Client,
    proof: &mut Option<Proof>,
) -> Result<TenantHandle, Failure> {
    let version = app.store.version();
    if let Some(proof) = proof.as_ref().filter(|proof| proof.holds(headers, version)) {
        return Ok(proof.tenant.clone());
    }
    let tenant = tenant(app, headers, client)?;
    *proof = Proof::of(headers, version, tenant.clone());
    Ok(tenant)
}

/// [`tenant`] without a verdict on those who are refused: nothing is counted, the caller leaves them
/// to a route.
pub(crate) fn tenant_if_known(app: &App, headers: &HeaderMap) -> Option<TenantHandle> {
    tenant_of(app, headers, bearer(headers)?).filter(|tenant| !tenant.credential().is_suspended())
}

fn tenant_of(app: &App, headers: &HeaderMap, bearer: &[u8]) -> Option<TenantHandle> {
    // Hashed before the header is looked at: what is wrong must not show in the time.
    let bearer = SecretHash::of(bearer);
    tenant_of_bearer(app, &bearer, tenant_id(headers).unwrap_or_default())
}

/// The tenant, when the bearer with this hash is good for it now.
pub(crate) fn tenant_of_bearer(app: &App, bearer: &SecretHash, tenant: &str) -> Option<TenantHandle> {
    app.store.tenant_of_bearer(bearer, tenant)
}

/// [`tenant`], counted against the tenant's rate limit.
pub(crate) fn tenant_paced(app: &App, headers: &HeaderMap, client: &Client) -> Result<TenantHandle, Failure> {
    let tenant = tenant(app, headers, client)?;
    match app.limits.tenant(tenant.tenant()) {
        Pace::Fine => Ok(tenant),
        Pace::Wait(seconds) => Err(Failure::rate_limited(seconds)),
    }
}

/// A realm's credential alone, for enrolment, which names its tenant in the body.
pub(crate) fn credential(app: &App, headers: &HeaderMap, client: &Client) -> Result<Arc<Credential>, Failure> {
    let Some(bearer) = bearer(headers) else {
        return Err(Failure::unauthorized());
    };
    match app.store.authenticate(&SecretHash::of(bearer)) {
        Some(Principal::Realm(credential)) if credential.is_suspended() => Err(Failure::suspended()),
        Some(Principal::Realm(credential)) => Ok(credential),
        _ => {
            app.limits.failed(client);
            Err(Failure::unauthorized())
        }
    }
}

/// An operator's token, if one is presented, without a verdict on others.
pub(crate) fn operator_if_known(app: &App, headers: &HeaderMap) -> Option<Arc<Operator>> {
    match app.store.authenticate(&SecretHash::of(bearer(headers)?)) {
        Some(Principal::Operator(operator)) => Some(operator),
        _ => None,
    }
}

/// An operator's token, if one is presented.
pub(crate) fn operator(app: &App, headers: &HeaderMap, client: &Client) -> Option<Arc<Operator>> {
    match app.store.authenticate(&SecretHash::of(bearer(headers)?)) {
        Some(Principal::Operator(operator)) => {
            app.store.note_token_use(operator.id());
            Some(operator)
        }
        Some(Principal::Realm(_)) => None,
        None => {
            app.limits.failed(client);
            None
        }
    }
}

/// What follows `Bearer` (RFC 6750 section 2.1; the scheme in any case, RFC 9110 section 11.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked(header::BEARER_PREFIX.len())?;
    let rest = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(header::BEARER_PREFIX.as_bytes()) && !rest.is_empty()).then_some(rest)
}

fn tenant_id(headers: &HeaderMap) -> Option<&str> {
    TenantId::normalise(headers.get(TENANT_ID)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_scheme_is_read_in_any_case_and_nothing_else_is_a_bearer() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(text));
            bearer(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(of("Bearer abc").unwrap(), b"abc");
        assert_eq!(of("bearer  abc ").unwrap(), b"abc");
        assert_eq!(of("BEARER a b").unwrap(), b"a b");
        for text in ["", "Bearer", "Bearer ", "Basic abc", "abc", "Bearerabc"] {
            assert_eq!(of(text), None, "{text:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn the_tenant_header_is_normalised_without_copying() {
        let mut headers = HeaderMap::new();
        headers.insert(header::TENANT_ID, HeaderValue::from_static("aws___acme"));
        assert_eq!(tenant_id(&headers), Some("acme"));
        headers.insert(header::TENANT_ID, HeaderValue::from_static("a b"));
        assert_eq!(tenant_id(&headers), None);
    }
}
