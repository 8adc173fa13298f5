//! `POST /v1/enrollment/enroll`: a tenant comes to belong to the realm of the bearer.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use dirless_wire::{EnrollReply, EnrollRequest, ErrorCode, ErrorReply};
use http::StatusCode;
use http::request::Parts;

use super::asked::{Parsed, client_of};
use crate::app::App;
use crate::http::address::Client;
use crate::http::limits::Pace;
use crate::http::log::LoggedTenant;
use crate::http::{Failure, auth, json};
use crate::store::{Credential, Enrolment, Origin};

/// Old tools send a CA certificate along.
const LONGEST: usize = 64 * 1024;

/// A request of a realm, which names its tenant in the body.
pub(super) struct Bearer {
    credential: Arc<Credential>,
    client: Client,
}

impl FromRequestParts<Arc<App>> for Bearer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let client = client_of(parts)?;
        let credential = auth::credential(app, &parts.headers, &client)?;
        Ok(Self { credential, client })
    }
}

/// Enrols a tenant, or enrols it again. `aws___X` and `X` are the same tenant.
#[utoipa::path(post, path = "/v1/enrollment/enroll", tag = "tenant", operation_id = "enroll",
    request_body = EnrollRequest,
    responses(
        (status = 200, body = EnrollReply),
        (status = 400, body = ErrorReply), (status = 401, body = ErrorReply), (status = 403, body = ErrorReply),
        (status = 409, body = ErrorReply, description = "Another key is registered and stays; see registered_key"),
        (status = 413, body = ErrorReply), (status = 422, body = ErrorReply), (status = 429, body = ErrorReply),
    ), security(("bearer" = [])))]
pub(super) async fn enroll(
    State(app): State<Arc<App>>,
    Bearer { credential, client }: Bearer,
    Parsed(request): Parsed<EnrollRequest, LONGEST>,
) -> Result<Response, Failure> {
    if let Pace::Wait(seconds) = app.limits.tenant(&request.tenant_id) {
        return Err(Failure::rate_limited(seconds));
    }
    let (tenant, key) = (&request.tenant_id, &request.age_public_key);
    let (replace_by, origin) = (app.config.keys.replace_by, Origin::network(client.address));
    match app.store.enroll(&credential, tenant, key, replace_by, origin).await? {
        Enrolment::Enrolled | Enrolment::Unchanged | Enrolment::KeyReplaced { .. } => {
            let mut reply = json(StatusCode::OK, &EnrollReply::enrolled());
            reply.extensions_mut().insert(LoggedTenant(request.tenant_id));
            Ok(reply)
        }
        Enrolment::KeyConflict { registered } => {
            let failure = Failure::new(ErrorCode::KeyMismatch, "this tenant is enrolled with another key");
            Err(failure
                .registered_key(registered)
                .hint("use the registered key pair, or replace the key with rotate-key"))
        }
        Enrolment::NotYours => {
            app.limits.failed(&client);
            Err(Failure::unauthorized())
        }
    }
}
