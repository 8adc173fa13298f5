//! `POST /v1/enrollment/enroll`: a tenant comes to belong to the realm of the bearer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use dirless_wire::{EnrollReply, EnrollRequest, ErrorCode, ErrorReply};
use http::{HeaderMap, StatusCode};

use crate::app::App;
use crate::http::address::Client;
use crate::http::limits::Pace;
use crate::http::log::LoggedTenant;
use crate::http::{Failure, auth, json, read_json};
use crate::store::{Enrolment, Origin};

/// Old tools send a CA certificate along.
const LONGEST: usize = 64 * 1024;

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
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let credential = auth::credential(&app, &headers, &client)?;
    let pause = Duration::from_secs(u64::from(app.config.server.body_seconds));
    let request: EnrollRequest = read_json(&headers, body, LONGEST, pause).await?;
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
