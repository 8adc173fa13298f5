//! `GET /v1/permissions/check`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use super::Query;
use crate::permissions::tree::{Question, QuestionError, ask};
use crate::permissions::{Answer, Permission};
use crate::serve::app::{App, Reads};
use crate::serve::body;
use crate::serve::problem::{Code, Problem, ProblemReply, Refusals};

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckQuery {
    /// `uid` of a user or agent, or a distinguished name.
    user: String,
    /// `resource:action:scope`.
    permission: String,
    /// The tenant that it is about; the platform itself without.
    tenant: Option<String>,
}

/// May somebody do something, and which roles say so?
#[utoipa::path(get, path = "/v1/permissions/check", tag = "permissions", operation_id = "checkPermission",
    params(CheckQuery),
    responses((status = 200, body = Answer),
        (status = 400, body = ProblemReply, content_type = "application/problem+json"),
        (status = 404, body = ProblemReply, content_type = "application/problem+json", description = "There is no such user or tenant"),
        Refusals),
    security(("bearer" = ["read"])))]
pub(super) async fn check(
    _who: Reads,
    State(app): State<Arc<App>>,
    Query(query): Query<CheckQuery>,
) -> Result<Response, Problem> {
    let permission = Permission::parse(&query.permission)
        .map_err(|error| Problem::new(Code::InvalidRequest, error.to_string()).at("query.permission"))?;
    let question = Question {
        user: query.user,
        permission,
        tenant: query.tenant,
    };
    app.work(move |app| {
        let answer = app
            .tree
            .read(|reader| ask(reader, &question))
            .map_err(|error| match error {
                QuestionError::NoUser(_) => Problem::new(Code::EntryAbsent, error.to_string()).at("query.user"),
                QuestionError::NoTenant(_) => Problem::new(Code::TenantAbsent, error.to_string()).at("query.tenant"),
                QuestionError::Tree(error) => error.into(),
            })?;
        Ok(body::json(StatusCode::OK, &answer))
    })
    .await
}
