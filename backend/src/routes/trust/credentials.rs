//! Keys of publishers and nodes: registered, revoked, listed.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use dirless_wire::trust::{
    CredentialList, CredentialReply, CredentialRequest, Digest, KeyId, KeyRole, Label, PublicKey,
};
use dirless_wire::{ErrorCode, StatusReply};
use http::StatusCode;
use http::header::AUTHORIZATION;
use jiff::Timestamp;

use super::asked::{Asked, Listing, Wanted, admit, forbidden, named, publisher_or_operator};
use super::tenants;
use super::times::{moment, time};
use crate::app::App;
use crate::http::{Failure, json, parse_json, status_ok};
use crate::store::{Caller, KeyInfo, Registration, Revocation, sha256_of};

const LONGEST: u64 = 4096;

/// Registers a key. An operator's first one for a tenant makes the tenant.
pub(super) async fn register(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let id: KeyId = named(request.uri(), "credential/")?;
    let request = made_if_missing(&app, request).await?;
    let wanted = Wanted {
        longest: LONGEST,
        digest: None,
        may: &publisher_or_operator,
    };
    let Asked {
        tenant, origin, body, ..
    } = admit(&app, request, wanted).await?;
    let body = body.in_memory().cloned().unwrap_or_default();
    let wanted: CredentialRequest = parse_json(&body)?;
    check(&id, &wanted.key, wanted.role)?;
    let may = match tenant.caller() {
        Caller::Operator(_) => true,
        // A publisher names its own successor, as it does to hosts.
        Caller::Key(own) => wanted.role == KeyRole::Node || own.id().name() == wanted.key.id().name(),
        Caller::Joining => false,
    };
    if !may {
        return Err(forbidden());
    }
    let expires_at = wanted.expires_at.as_ref().map(moment);
    match tenant
        .register_key(&wanted.key, wanted.role, expires_at, origin)
        .await?
    {
        Registration::Registered => Ok(json(StatusCode::CREATED, &StatusReply::ok())),
        Registration::Known => Ok(status_ok()),
        Registration::Occupied => {
            let text = "this id is that of another key, of a key of another role, or of one that was revoked";
            Err(Failure::new(ErrorCode::AlreadyExists, text).hint("make a new key"))
        }
        Registration::TooMany => {
            let text = "this tenant has as many publishers as it can have, or this publisher has a successor already";
            Err(Failure::new(ErrorCode::AlreadyExists, text)
                .hint("revoke those that are no longer used: dirless policy push"))
        }
    }
}

/// For an operator the tenant is made first. What follows finds out again who asks.
async fn made_if_missing(app: &Arc<App>, request: Request) -> Result<Request, Failure> {
    let has_bearer = request.headers().get(AUTHORIZATION).is_some_and(|value| {
        let scheme = value.as_bytes().get(..7);
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
    });
    if !has_bearer {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let _made = tenants::ensure(app, &parts).await?;
    Ok(Request::from_parts(parts, body))
}

/// The key is what the path says, and a node has no name but that of its key.
fn check(id: &KeyId, key: &PublicKey, role: KeyRole) -> Result<(), Failure> {
    let refuse = |text: &str| Err(Failure::new(ErrorCode::InvalidBody, text));
    if key.id() != id {
        return refuse("the key is not the one that the path names");
    }
    let [first, second, third, fourth, ..] = sha256_of(&key.hashed());
    if key.id().hash() != [first, second, third, fourth] {
        return refuse("the key's hash does not belong to its name and bytes: a part of it was changed or mistyped");
    }
    if role == KeyRole::Node && *key.id().name() != node_name(key) {
        return refuse("a node is called n and the first 16 digits of its key's digest");
    }
    Ok(())
}

fn node_name(key: &PublicKey) -> Label {
    let digest = Digest::from_bytes(sha256_of(key.as_bytes())).to_string();
    let digits: String = digest.chars().take(16).collect();
    Label::new(&format!("n{digits}")).expect("n and hexadecimal digits are a label")
}

/// Revokes a key, for good.
pub(super) async fn revoke(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let id: KeyId = named(request.uri(), "credential/")?;
    let asked = admit(&app, request, Wanted::nothing(&publisher_or_operator)).await?;
    match asked.tenant.revoke_key(&id, asked.origin).await? {
        Revocation::Revoked | Revocation::Nothing => Ok(status_ok()),
        Revocation::Forbidden => Err(forbidden()),
    }
}

/// All keys of the tenant.
pub(super) async fn list(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let asked = admit(&app, request, Wanted::nothing(&publisher_or_operator)).await?;
    let listing = Listing::of(&asked.parts.uri)?;
    let page = asked.tenant.keys(&listing.after, listing.limit()).await?;
    let next = page
        .more
        .then(|| page.entries.last().map(|last| last.id.clone()))
        .flatten();
    let credentials = page.entries.into_iter().map(shown).collect();
    Ok(json(StatusCode::OK, &CredentialList { credentials, next }))
}

fn shown(info: KeyInfo) -> CredentialReply {
    let at = |at: Option<Timestamp>| at.map(time);
    CredentialReply {
        key: PublicKey::new(info.id, info.public_key),
        role: info.role,
        created_at: time(info.created_at),
        expires_at: at(info.expires_at),
        revoked_at: at(info.revoked_at),
        last_used_at: at(info.last_used_at),
    }
}
