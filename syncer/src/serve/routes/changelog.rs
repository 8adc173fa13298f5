//! `GET /v1/changelog` and the live stream of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::ToSchema;

use super::{Query, search};
use crate::serve::app::{App, Reads};
use crate::serve::body;
use crate::serve::problem::{Code, Problem, ProblemReply, Refusals};
use crate::tree::Change;

/// Changes that a stream reads at once.
const BATCH: usize = 256;
/// How often a quiet stream shows that it is alive.
const ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// Only changes after this number.
    #[serde(default)]
    after: u64,
    /// Changes of this page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// A change of an entry.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangeReply {
    /// Its number; grows.
    id: u64,
    /// The entry, under the name that it had.
    dn: String,
    /// `add`, `update`, `delete` or `rename`.
    operation: String,
    /// Who did it.
    actor: String,
    /// When.
    at: String,
    /// What changed.
    #[schema(value_type = Object)]
    difference: serde_json::Value,
}

impl From<Change> for ChangeReply {
    fn from(change: Change) -> Self {
        Self {
            id: change.id,
            dn: change.dn,
            operation: change.operation.text().to_owned(),
            actor: change.actor,
            at: change.at.to_string(),
            difference: change.difference,
        }
    }
}

/// One page of changes, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangelogReply {
    /// The changes.
    changes: Vec<ChangeReply>,
    /// `after` of the next page; absent when this was all.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
    /// The number of the newest change.
    state: u64,
    /// Changes after `after` are not known any more: read everything again.
    lost: bool,
}

/// What happened to the tree.
#[utoipa::path(get, path = "/v1/changelog", tag = "changes", operation_id = "changelog", params(PageQuery),
    responses((status = 200, body = ChangelogReply),
        (status = 400, body = ProblemReply, content_type = "application/problem+json"),
        Refusals),
    security(("bearer" = ["read"])))]
pub(super) async fn page(
    _who: Reads,
    State(app): State<Arc<App>>,
    Query(query): Query<PageQuery>,
) -> Result<Response, Problem> {
    let limit = search::limit(query.limit, "query.limit")?;
    app.work(move |app| {
        let reply = app.tree.read(|reader| {
            let mut changes = reader.changes(query.after, limit + 1)?;
            let more = changes.len() > limit;
            changes.truncate(limit);
            let next = changes.last().map(|change| change.id).filter(|_| more);
            Ok::<_, Problem>(ChangelogReply {
                next,
                state: reader.state()?,
                lost: reader.is_forgotten(query.after)?,
                changes: changes.into_iter().map(ChangeReply::from).collect(),
            })
        })?;
        Ok(body::json(StatusCode::OK, &reply))
    })
    .await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamQuery {
    /// Start after this number; without it and `Last-Event-ID`, with the next change.
    after: Option<u64>,
}

/// Changes as they happen, as server-sent events (WHATWG HTML, section 9.2): event `change` with the
/// change as its data and its number as its id; first an event `lost` when changes between the asked
/// one and the first are not known any more. Who does not read for a minute is dropped, and resumes
/// with `Last-Event-ID`.
#[utoipa::path(get, path = "/v1/changelog/stream", tag = "changes", operation_id = "changelogStream",
    params(StreamQuery, ("Last-Event-ID" = Option<u64>, Header, description = "Number of the last change received")),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 400, body = ProblemReply, content_type = "application/problem+json"),
        (status = 503, body = ProblemReply, content_type = "application/problem+json"),
        Refusals),
    security(("bearer" = ["read"])))]
pub(super) async fn stream(
    _who: Reads,
    State(app): State<Arc<App>>,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last = match headers.get("last-event-id") {
        None => query.after,
        Some(id) => Some(
            id.to_str()
                .ok()
                .and_then(|id| id.trim().parse().ok())
                .ok_or_else(|| Problem::new(Code::InvalidRequest, "is no number").at("header Last-Event-ID"))?,
        ),
    };
    let place = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        Problem::new(Code::Unavailable, "too many streams are open")
            .hint("raise streams in [serve], or close one")
            .retry_after(10)
    })?;
    let states = app.tree.watch();
    let (after, lost) = app
        .work(move |app| {
            app.tree.read(|reader| match last {
                None => Ok((reader.state()?, false)),
                Some(after) => Ok((after, reader.is_forgotten(after)?)),
            })
        })
        .await?;
    let follower = Follower {
        ending: app.ending.clone(),
        app,
        states,
        after,
        lost,
        waiting: Vec::new(),
        _place: place,
    };
    let events = Sse::new(follower.events()).keep_alive(KeepAlive::new().interval(ALIVE));
    Ok(events.into_response())
}

/// Where one stream is.
struct Follower {
    app: Arc<App>,
    states: watch::Receiver<u64>,
    ending: watch::Receiver<bool>,
    after: u64,
    lost: bool,
    /// Read and not sent, newest first.
    waiting: Vec<Change>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })
    }

    /// The next event, whenever that is; none when the server ends or cannot read its changelog.
    async fn next(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.lost) {
            return Some(Event::default().event("lost").data("{}"));
        }
        while self.waiting.is_empty() {
            if *self.ending.borrow() {
                return None;
            }
            self.states.borrow_and_update();
            let after = self.after;
            let read = self
                .app
                .work(move |app| Ok(app.tree.read(|reader| reader.changes(after, BATCH))?));
            self.waiting = read.await.ok()?;
            self.waiting.reverse();
            if self.waiting.is_empty() {
                tokio::select! {
                    changed = self.states.changed() => changed.ok()?,
                    _ = self.ending.changed() => return None,
                }
            }
        }
        let change = self.waiting.pop()?;
        self.after = change.id;
        let event = Event::default().event("change").id(change.id.to_string());
        event.json_data(ChangeReply::from(change)).ok()
    }
}
