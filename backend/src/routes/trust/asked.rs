//! Who asks, and may they. In this order: the signature or the token, the rate, the role, and the body last.
//!
//! What always holds: an unknown tenant, another realm's tenant, an unknown, expired or revoked key, a wrong signature
//! and a wrong time are one answer after the same steps; a signature is checked in each case, against a key that
//! nobody may use when there is none.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use bytes::Bytes;
use dirless_wire::trust::{
    CLOCK_TOLERANCE_SECONDS, CONTENT_DIGEST, Digest, KeyRole, ObjectPath, SCHEME, SignedRequest, UNANNOUNCED_MAX,
};
use dirless_wire::{ErrorCode, TenantId};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::Deserialize;

use crate::app::App;
use crate::http::address::Client;
use crate::http::limits::Pace;
use crate::http::{Failure, auth, check_announced, next_piece, read_small};
use crate::routes::asked::client_of;
use crate::store::{Caller, Operator, Origin, Scope, SpooledBody, TrustHandle};

/// Checked against when there is no key: the public key of RFC 8032 section 7.1, test 2. What it signs is refused all
/// the same.
const NOBODY: [u8; 32] = [
    0x3d, 0x40, 0x17, 0xc3, 0xe8, 0x43, 0x89, 0x5a, 0x92, 0xb7, 0x0a, 0xa7, 0x4d, 0x1b, 0x7e, 0xbc, 0x9c, 0x98, 0x2c,
    0xcf, 0x2e, 0xc4, 0x96, 0x8c, 0xc0, 0xcd, 0x55, 0xf1, 0x2a, 0xf4, 0x66, 0x0c,
];

/// A request whose sender is known and may ask this.
pub(super) struct Asked {
    pub(super) tenant: TrustHandle,
    pub(super) origin: Origin,
    pub(super) body: SpooledBody,
    pub(super) parts: Parts,
}

/// What a route asks for.
pub(super) struct Wanted<'a> {
    /// Longest body; 0 where none is read.
    pub(super) longest: u64,
    /// The digest that the path names.
    pub(super) digest: Option<Digest>,
    /// Whether this sender may.
    pub(super) may: &'a (dyn Fn(&Caller) -> bool + Sync),
}

impl Wanted<'_> {
    /// A request without a body.
    pub(super) fn nothing<'a>(may: &'a (dyn Fn(&Caller) -> bool + Sync)) -> Wanted<'a> {
        Wanted {
            longest: 0,
            digest: None,
            may,
        }
    }
}

/// The tenant and the rest of a path below `/v2/`. A tenant that cannot be is like one that is unknown.
pub(super) fn split(uri: &Uri) -> (&str, &str) {
    let below = uri.path().strip_prefix("/v2/").unwrap_or_default();
    let (tenant, rest) = below.split_once('/').unwrap_or((below, ""));
    (TenantId::normalise(tenant).unwrap_or_default(), rest)
}

/// The object that the path names.
pub(super) fn object_path(uri: &Uri) -> Result<ObjectPath, Failure> {
    split(uri)
        .1
        .parse()
        .map_err(|error: dirless_wire::trust::ObjectPathError| Failure::new(ErrorCode::NotFound, error.to_string()))
}

/// The part of the path after `before`, such as the name of a key.
pub(super) fn named<T: std::str::FromStr<Err: std::fmt::Display>>(uri: &Uri, before: &str) -> Result<T, Failure> {
    let name = split(uri).1.strip_prefix(before).unwrap_or_default();
    name.parse()
        .map_err(|error: T::Err| Failure::new(ErrorCode::NotFound, error.to_string()))
}

/// Lets in who may, and reads the body.
pub(super) async fn admit(app: &Arc<App>, request: Request, wanted: Wanted<'_>) -> Result<Asked, Failure> {
    let (parts, body) = request.into_parts();
    let client = client_of(&parts)?;
    let mut body = Some(body);
    let mut taken = None;
    let claimed = claimed(&parts, &wanted)?;
    check_announced(&parts.headers, longest(&wanted, claimed.as_ref()))?;
    let tenant = match bearer_or_signature(&parts.headers) {
        None => return Err(Failure::unauthorized_trust()),
        Some(Presented::Bearer) => by_token(app, &parts, &client)?,
        Some(Presented::Signature(signed)) => {
            let digest = match (claimed, body.take()) {
                (Some(digest), rest) => {
                    body = rest;
                    digest
                }
                (None, rest) => {
                    let whole = small(app, &parts.headers, rest, wanted.longest.min(UNANNOUNCED_MAX)).await?;
                    let spooled = SpooledBody::from_bytes(whole);
                    let digest = Digest::from_bytes(spooled.digest);
                    taken = Some(spooled);
                    digest
                }
            };
            by_signature(app, &parts, signed.as_deref(), &digest, &client)?
        }
    };
    if tenant.is_suspended() {
        return Err(Failure::suspended());
    }
    if let Pace::Wait(seconds) = app.limits.tenant(tenant.tenant()) {
        return Err(Failure::rate_limited(seconds));
    }
    if !(wanted.may)(tenant.caller()) {
        return Err(forbidden());
    }
    let body = match taken {
        Some(body) => body,
        None if wanted.longest == 0 => SpooledBody::from_bytes(Bytes::new()),
        None => spool(app, body.unwrap_or_default(), wanted.longest).await?,
    };
    // For a token as well: what a path or a header says of the body has to be so.
    if claimed.is_some_and(|claimed| *claimed.as_bytes() != body.digest) {
        return Err(Failure::new(
            ErrorCode::DigestMismatch,
            "the body is not the one whose digest the path or Content-Digest names",
        ));
    }
    let origin = Origin::network(client.address);
    Ok(Asked {
        tenant,
        origin,
        body,
        parts,
    })
}

pub(super) fn forbidden() -> Failure {
    Failure::new(ErrorCode::Forbidden, "this key or token does not allow that")
}

/// What is known of the body before it is read. That of a request that takes none is no bytes.
fn claimed(parts: &Parts, wanted: &Wanted<'_>) -> Result<Option<Digest>, Failure> {
    if wanted.longest == 0 {
        let nothing = SpooledBody::from_bytes(Bytes::new()).digest;
        return Ok(Some(Digest::from_bytes(nothing)));
    }
    if wanted.digest.is_some() {
        return Ok(wanted.digest);
    }
    let Some(value) = parts.headers.get(CONTENT_DIGEST) else {
        return Ok(None);
    };
    let digest = value
        .to_str()
        .ok()
        .and_then(|text| Digest::from_content_digest(text).ok());
    digest.map(Some).ok_or_else(|| {
        Failure::new(ErrorCode::InvalidRequest, "Content-Digest is not sha-256=:BASE64:")
            .hint("send the SHA-256 of the body alone, as RFC 9530 has it")
    })
}

fn longest(wanted: &Wanted<'_>, claimed: Option<&Digest>) -> u64 {
    match claimed {
        // What comes with a request that takes no body is not read.
        _ if wanted.longest == 0 => u64::MAX,
        Some(_) => wanted.longest,
        None => wanted.longest.min(UNANNOUNCED_MAX),
    }
}

enum Presented {
    Bearer,
    /// `None` when it is malformed, which is as wrong as any other.
    Signature(Option<Box<SignedRequest>>),
}

fn bearer_or_signature(headers: &HeaderMap) -> Option<Presented> {
    let value = headers.get(AUTHORIZATION)?;
    let scheme = value.as_bytes().get(..SCHEME.len());
    if scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME.as_bytes())) {
        let parsed = HeaderValue::to_str(value).ok().and_then(|text| text.parse().ok());
        Some(Presented::Signature(parsed.map(Box::new)))
    } else {
        Some(Presented::Bearer)
    }
}

/// The operator of a token that allows dealing with tenants.
pub(super) fn operator(app: &App, parts: &Parts, client: &Client) -> Result<Arc<Operator>, Failure> {
    match auth::operator(app, &parts.headers, client) {
        None => Err(Failure::unauthorized_trust()),
        // Whatever the tenant: that of a token which may not is not looked for.
        Some(operator) if !operator.allows(Scope::Tenants) => Err(forbidden()),
        Some(operator) => Ok(operator),
    }
}

fn by_token(app: &App, parts: &Parts, client: &Client) -> Result<TrustHandle, Failure> {
    let operator = auth::operator_if_known(app, &parts.headers);
    if operator
        .as_ref()
        .is_some_and(|operator| !operator.allows(Scope::Tenants))
    {
        return Err(forbidden());
    }
    // Looked for whoever asks, and noted only where it was good for something: what is wrong must not show in the time.
    match app.store.tenant_of_token(operator.as_ref(), split(&parts.uri).0) {
        Some(tenant) => {
            operator
                .iter()
                .for_each(|operator| app.store.note_token_use(operator.id()));
            Ok(tenant)
        }
        None => {
            app.limits.failed(client);
            Err(Failure::unauthorized_trust())
        }
    }
}

fn by_signature(
    app: &App,
    parts: &Parts,
    signed: Option<&SignedRequest>,
    body: &Digest,
    client: &Client,
) -> Result<TrustHandle, Failure> {
    let proven = signed.and_then(|signed| proven(app, parts, signed, body));
    proven.ok_or_else(|| {
        app.limits.failed(client);
        Failure::unauthorized_trust()
    })
}

/// The tenant, if everything about the signature is right.
fn proven(app: &App, parts: &Parts, signed: &SignedRequest, body: &Digest) -> Option<TrustHandle> {
    let name = split(&parts.uri).0;
    let holder = app.store.key_holder(name, &signed.key);
    let now = u64::try_from(app.clock.now().as_second()).unwrap_or_default();
    let is_fresh = now.abs_diff(signed.time.unix_seconds()) <= CLOCK_TOLERANCE_SECONDS;
    let path = parts.uri.path_and_query().map_or("", |whole| whole.as_str());
    // A tenant that cannot be has a text as well, which nobody has signed.
    let tenant = TenantId::new(name).or_else(|_| TenantId::new("-")).ok()?;
    let text = SignedRequest::text(parts.method.as_str(), path, &tenant, &signed.time, body);
    let key = holder.as_ref().map_or(&NOBODY, |holder| holder.public_key());
    let is_signed = UnparsedPublicKey::new(&ED25519, key)
        .verify(text.as_bytes(), &signed.signature)
        .is_ok();
    let holder = holder.filter(|_| is_fresh && is_signed)?;
    Some(app.store.tenant_of_key(holder))
}

/// A body that is read before it is known who sends it: short, and within a time.
pub(super) async fn small(
    app: &App,
    headers: &HeaderMap,
    body: Option<axum::body::Body>,
    longest: u64,
) -> Result<Bytes, Failure> {
    let pause = Duration::from_secs(u64::from(app.config.server.body_seconds));
    let longest = usize::try_from(longest).unwrap_or(usize::MAX);
    read_small(headers, body.unwrap_or_default(), longest, pause).await
}

async fn spool(app: &App, mut body: axum::body::Body, longest: u64) -> Result<SpooledBody, Failure> {
    let pause = Duration::from_secs(u64::from(app.config.server.body_seconds));
    let mut writer = app.store.body_writer(longest);
    while let Some(piece) = next_piece(&mut body, pause).await? {
        writer.write(&piece).await?;
    }
    Ok(writer.finish().await?)
}

/// Any publisher.
pub(super) fn publisher(caller: &Caller) -> bool {
    matches!(caller, Caller::Key(key) if key.role() == KeyRole::Publisher)
}

/// Any publisher and any operator.
pub(super) fn publisher_or_operator(caller: &Caller) -> bool {
    publisher(caller) || matches!(caller, Caller::Operator(_))
}

/// A page of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Listing {
    /// Begin behind this one.
    pub(super) after: String,
    /// Most entries.
    pub(super) limit: Option<usize>,
}

impl Listing {
    pub(super) fn of(uri: &Uri) -> Result<Self, Failure> {
        let query = axum::extract::Query::<Self>::try_from_uri(uri);
        let mut listing = query
            .map_err(|_refused| Failure::new(ErrorCode::InvalidRequest, "the query is ?after=NAME&limit=NUMBER"))?
            .0;
        // In a form '+' is a blank, which no name has, and ids of keys have a '+'.
        listing.after = listing.after.replace(' ', "+");
        Ok(listing)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(crate::store::PAGE_MAX)
    }
}
