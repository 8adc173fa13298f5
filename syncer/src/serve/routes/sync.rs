//! `POST /v1/sync/{what}`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::Path;
use crate::serve::app::{App, Syncs};
use crate::serve::body;
use crate::serve::problem::{Code, Problem, ProblemReply, Refusals};
use crate::serve::triggers::{SyncReply, Trigger, TriggerError};

/// Reads sources or runs engines now, and answers when that is done. A part that failed is told in its
/// outcome; the others went on.
#[utoipa::path(post, path = "/v1/sync/{what}", tag = "sync", operation_id = "sync",
    params(("what" = Trigger, Path, description = "What to sync")),
    responses((status = 200, body = SyncReply),
        (status = 404, body = ProblemReply, content_type = "application/problem+json"),
        (status = 409, body = ProblemReply, content_type = "application/problem+json", description = "Nothing of that kind is configured"),
        (status = 503, body = ProblemReply, content_type = "application/problem+json"),
        Refusals),
    security(("bearer" = ["sync"])))]
pub(super) async fn run(
    Syncs(token): Syncs,
    State(app): State<Arc<App>>,
    Path(what): Path<String>,
) -> Result<Response, Problem> {
    let Some(trigger) = Trigger::parse(&what) else {
        let words: Vec<_> = Trigger::ALL.iter().map(|trigger| trigger.as_str()).collect();
        return Err(Problem::new(Code::NotFound, format!("there is no sync of {what:?}"))
            .at("path")
            .hint(format!("there are {}", words.join(", "))));
    };
    tracing::info!(
        event = "sync.asked",
        what = trigger.as_str(),
        token = token.name.as_str(),
        "sync asked for"
    );
    let mut ending = app.ending.clone();
    let ran = tokio::select! {
        ran = app.triggers.run(trigger) => ran,
        _ = ending.wait_for(|ending| *ending) => Err(TriggerError::Stopping),
    };
    match ran {
        Ok(reply) => Ok(body::json(StatusCode::OK, &reply)),
        Err(error @ TriggerError::NotConfigured(_)) => Err(Problem::new(Code::NotConfigured, error.to_string())
            .at("the syncer's configuration")
            .hint("docs/rest.md says which table each sync needs")),
        Err(error @ TriggerError::Stopping) => Err(Problem::new(Code::Unavailable, error.to_string()).retry_after(5)),
    }
}
