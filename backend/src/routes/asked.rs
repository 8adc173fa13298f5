//! What the routes of tenants have in common: who asks is found out, paced and named for the audit
//! log before anything of the body is read.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use dirless_wire::ErrorCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::http::address::Client;
use crate::http::{Failure, auth, parse_json, read_small};
use crate::store::{Expected, Origin, TenantHandle};

/// A request of a tenant, whose bearer was good for it.
pub(super) struct Asked {
    pub(super) tenant: TenantHandle,
    client: Client,
}

impl Asked {
    /// Where it came from, for the audit log.
    pub(super) fn origin(&self) -> Origin {
        Origin::network(self.client.address)
    }
}

impl FromRequestParts<Arc<App>> for Asked {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let client = client_of(parts)?;
        let tenant = auth::tenant_paced(app, &parts.headers, &client)?;
        Ok(Self { tenant, client })
    }
}

/// Who asks, as the connection found out.
pub(super) fn client_of(parts: &Parts) -> Result<Client, Failure> {
    let client = parts.extensions.get::<Client>().copied();
    // Every request comes through a connection of ours; one that did not is nobody's.
    client.ok_or_else(|| Failure::new(ErrorCode::Internal, "the server failed; its log says why"))
}

/// What has to be there for a write to take place, by its `If-Match` and `If-None-Match`.
pub(super) struct If(pub(super) Expected);

impl FromRequestParts<Arc<App>> for If {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _app: &Arc<App>) -> Result<Self, Failure> {
        super::snapshot::precondition(&parts.headers).map(Self)
    }
}

/// A whole body of at most `LONGEST` bytes.
pub(super) struct Small<const LONGEST: usize>(pub(super) Bytes);

impl<const LONGEST: usize> FromRequest<Arc<App>> for Small<LONGEST> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let pause = Duration::from_secs(u64::from(app.config.server.body_seconds));
        read_small(&parts.headers, body, LONGEST, pause).await.map(Self)
    }
}

/// A JSON body of at most `LONGEST` bytes. The content type is not looked at: deployed tools always
/// send JSON here.
pub(super) struct Parsed<T, const LONGEST: usize>(pub(super) T);

impl<T: DeserializeOwned, const LONGEST: usize> FromRequest<Arc<App>> for Parsed<T, LONGEST> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let Small(body) = Small::<LONGEST>::from_request(request, app).await?;
        parse_json(&body).map(Self)
    }
}
