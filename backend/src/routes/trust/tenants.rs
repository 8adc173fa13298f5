//! `POST /v2/{tenant}`: a tenant comes to belong to the realm of an operator.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use dirless_wire::{ErrorCode, StatusReply, TenantId};
use http::StatusCode;
use http::request::Parts;

use super::asked::{operator, split};
use crate::app::App;
use crate::http::limits::Pace;
use crate::http::{Failure, json};
use crate::routes::asked::client_of;
use crate::store::{NewTenant, Origin};

/// Makes a tenant, unless it is there.
pub(super) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (parts, _body) = request.into_parts();
    match ensure(&app, &parts).await? {
        NewTenant::Created => Ok(json(StatusCode::CREATED, &StatusReply::ok())),
        _ => Ok(json(StatusCode::OK, &StatusReply::ok())),
    }
}

/// The tenant of the path belongs to the realm of the operator who asks, if it is nobody else's.
pub(super) async fn ensure(app: &App, parts: &Parts) -> Result<NewTenant, Failure> {
    let client = client_of(parts)?;
    let operator = operator(app, parts, &client)?;
    let tenant = TenantId::new(split(&parts.uri).0)
        .map_err(|error| Failure::new(ErrorCode::InvalidRequest, error.to_string()))?;
    if let Pace::Wait(seconds) = app.limits.tenant(&tenant) {
        return Err(Failure::rate_limited(seconds));
    }
    let origin = Origin::network(client.address);
    match app.store.create_tenant(&operator, &tenant, origin).await? {
        NewTenant::NotYours => {
            app.limits.failed(&client);
            Err(Failure::unauthorized_trust())
        }
        made => Ok(made),
    }
}
