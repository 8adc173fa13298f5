//! `/v1/revocations`: who is taken away, whatever their sources say.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use dirless_publish::revocation::{
    LONGEST_WAIT, RestoreReply, RevocationReply, RevocationsReply, RevokeReply, RevokeRequest,
};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::{Path, Query};
use crate::serve::app::{App, Restores, Revokes, SeesRevoked};
use crate::serve::body;
use crate::serve::problem::{BodyRefusals, Code, Problem, ProblemReply, Refusals};
use crate::serve::revoker::RevokeError;

/// Takes people away now: user, keys, groups and entries, from everything that is published, until their sources agree.
/// Answers once they are on the list, on disk, and published without; asked again it does what was left undone.
#[utoipa::path(post, path = "/v1/revocations", tag = "revocations", operation_id = "revoke",
    request_body = RevokeRequest,
    responses((status = 200, body = RevokeReply),
        (status = 404, body = ProblemReply, content_type = "application/problem+json", description = "Nobody is published under one of the names; nothing was done"),
        (status = 409, body = ProblemReply, content_type = "application/problem+json", description = "This syncer publishes nothing yet"),
        (status = 422, body = ProblemReply, content_type = "application/problem+json"),
        (status = 503, body = ProblemReply, content_type = "application/problem+json"),
        Refusals, BodyRefusals),
    security(("bearer" = ["revoke"])))]
pub(super) async fn revoke(
    Revokes(token): Revokes,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let request: RevokeRequest = body::read(&headers, body).await?;
    wait_of(Some(request.wait_seconds), "body.wait_seconds", Code::InvalidBody)?;
    let by = format!("token {}", token.name);
    answer(&app, app.revoker.revoke(request, by)).await
}

/// Everybody who is revoked, and how far hosts are with each.
#[utoipa::path(get, path = "/v1/revocations", tag = "revocations", operation_id = "revocations",
    responses((status = 200, body = RevocationsReply),
        (status = 503, body = ProblemReply, content_type = "application/problem+json"),
        Refusals),
    security(("bearer" = ["revoke"]), ("bearer" = ["restore"])))]
pub(super) async fn list(_who: SeesRevoked, State(app): State<Arc<App>>) -> Result<Response, Problem> {
    answer(&app, app.revoker.list()).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    /// Answer only when all connected hosts have applied it, or after so many seconds: at most 60.
    #[param(maximum = 60)]
    wait: Option<u64>,
}

/// Somebody who is revoked, and how far hosts are.
#[utoipa::path(get, path = "/v1/revocations/{name}", tag = "revocations", operation_id = "revocation",
    params(("name" = String, Path, description = "The login name"), WaitQuery),
    responses((status = 200, body = RevocationReply),
        (status = 400, body = ProblemReply, content_type = "application/problem+json"),
        (status = 404, body = ProblemReply, content_type = "application/problem+json"),
        (status = 503, body = ProblemReply, content_type = "application/problem+json"),
        Refusals),
    security(("bearer" = ["revoke"]), ("bearer" = ["restore"])))]
pub(super) async fn one(
    _who: SeesRevoked,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<WaitQuery>,
) -> Result<Response, Problem> {
    let wait = wait_of(query.wait, "query.wait", Code::InvalidRequest)?;
    answer(&app, app.revoker.look(name, wait)).await
}

/// Lets somebody come back with the next read of their sources.
#[utoipa::path(delete, path = "/v1/revocations/{name}", tag = "revocations", operation_id = "restore",
    params(("name" = String, Path, description = "The login name")),
    responses((status = 200, body = RestoreReply),
        (status = 404, body = ProblemReply, content_type = "application/problem+json"),
        (status = 503, body = ProblemReply, content_type = "application/problem+json"),
        Refusals),
    security(("bearer" = ["restore"])))]
pub(super) async fn restore(
    Restores(token): Restores,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let by = format!("token {}", token.name);
    answer(&app, app.revoker.restore(name, by)).await
}

fn wait_of(seconds: Option<u64>, place: &str, code: Code) -> Result<Duration, Problem> {
    match seconds.unwrap_or_default() {
        seconds if seconds <= LONGEST_WAIT => Ok(Duration::from_secs(seconds)),
        seconds => Err(
            Problem::new(code, format!("{seconds} seconds are longer than {LONGEST_WAIT}"))
                .at(place)
                .hint("ask again for as long as it takes"),
        ),
    }
}

/// Answers when it is done, or the server ends.
async fn answer<T: Serialize>(
    app: &App,
    work: impl Future<Output = Result<T, RevokeError>>,
) -> Result<Response, Problem> {
    let mut ending = app.ending.clone();
    let done = tokio::select! {
        done = work => done,
        _ = ending.wait_for(|ending| *ending) => {
            let stopping = Problem::new(Code::Unavailable, "the syncer is stopping");
            return Err(stopping.hint("what was asked for goes on; asking again does no harm").retry_after(5));
        }
    };
    match done {
        Ok(reply) => Ok(body::json(StatusCode::OK, &reply)),
        Err(error) => Err(refusal(&error)),
    }
}

fn refusal(error: &RevokeError) -> Problem {
    let text = error.to_string();
    match error {
        RevokeError::Malformed(_) => Problem::new(Code::InvalidBody, text).at("body"),
        RevokeError::NotPublished(_) => Problem::new(Code::NotPublished, text).at("body.names"),
        RevokeError::NotRevoked(_) => Problem::new(Code::NotRevoked, text).at("path"),
        RevokeError::NotConfigured(_) => Problem::new(Code::NotConfigured, text).at("the syncer's configuration"),
        RevokeError::Failed(_) => {
            tracing::error!(event = "revoke.failed", "{text}");
            // An operator must know whether somebody is still in.
            Problem::new(Code::Internal, text).hint("the log of the syncer says more; asking again does no harm")
        }
    }
}
