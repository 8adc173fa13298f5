//! `GET /v1/stats`, `/v1/tree` and `/v1/health`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use dirless_directory::schema::object_class;
use dirless_directory::{Rdn, Value};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Query, search};
use crate::serve::app::{App, Reads, name};
use crate::serve::body;
use crate::serve::problem::{Problem, ProblemReply, Refusals};

/// How many entries stand in a part of the tree.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SubtreeReply {
    /// Its own name.
    rdn: String,
    /// Entries below it.
    entries: u64,
}

/// Counts of what is there.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatsReply {
    /// Entries in all.
    entries: u64,
    /// Rows of the indexes.
    indexed_values: u64,
    /// Lines of the changelog.
    changes: u64,
    /// The number of the newest change.
    state: u64,
    /// Bytes of the database.
    bytes: u64,
    /// The parts right below the base.
    subtrees: Vec<SubtreeReply>,
}

/// Counts of what is there.
#[utoipa::path(get, path = "/v1/stats", tag = "tree", operation_id = "stats",
    responses((status = 200, body = StatsReply),
        Refusals),
    security(("bearer" = ["read"])))]
pub(super) async fn stats(_who: Reads, State(app): State<Arc<App>>) -> Result<Response, Problem> {
    app.work(|app| {
        let stats = app.tree.read(|reader| reader.stats())?;
        let subtrees = stats.subtrees.into_iter();
        let reply = StatsReply {
            entries: stats.entries,
            indexed_values: stats.indexed_values,
            changes: stats.changes,
            state: stats.state,
            bytes: stats.bytes,
            subtrees: subtrees.map(|(rdn, entries)| SubtreeReply { rdn, entries }).collect(),
        };
        Ok(body::json(StatusCode::OK, &reply))
    })
    .await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct TreeQuery {
    /// The entry to look below; the base of the tree without.
    dn: Option<String>,
    /// Entries of this page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
}

/// An entry as a node of the tree.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NodeReply {
    /// Its distinguished name.
    dn: String,
    /// Its own name.
    rdn: String,
    /// What it is.
    object_classes: Vec<String>,
    /// How many entries stand right below it.
    children: u64,
}

/// The entries right below one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TreeReply {
    /// The entry that was looked below.
    dn: String,
    /// Those below it.
    nodes: Vec<NodeReply>,
    /// Where to go on; absent when this was all.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What stands right below an entry.
#[utoipa::path(get, path = "/v1/tree", tag = "tree", operation_id = "tree", params(TreeQuery),
    responses((status = 200, body = TreeReply),
        (status = 400, body = ProblemReply, content_type = "application/problem+json"),
        (status = 404, body = ProblemReply, content_type = "application/problem+json"),
        Refusals),
    security(("bearer" = ["read"])))]
pub(super) async fn tree(
    _who: Reads,
    State(app): State<Arc<App>>,
    Query(query): Query<TreeQuery>,
) -> Result<Response, Problem> {
    let dn = match &query.dn {
        Some(dn) => name(dn, "query.dn")?,
        None => app.tree.base().clone(),
    };
    let limit = search::limit(query.limit, "query.limit")?;
    let after = search::cursor(query.cursor.as_deref(), "query.cursor")?;
    app.work(move |app| {
        let page = app.tree.read(|reader| reader.children(&dn, after.as_ref(), limit))?;
        let node = |record: &crate::tree::Record| -> Result<NodeReply, Problem> {
            let entry = record.entry()?;
            let classes = entry.values(&object_class()).iter().filter_map(Value::as_str);
            Ok(NodeReply {
                dn: record.dn().to_string(),
                rdn: record.dn().rdn().map(Rdn::to_string).unwrap_or_default(),
                object_classes: classes.map(str::to_owned).collect(),
                children: record.children(),
            })
        };
        let reply = TreeReply {
            dn: dn.to_string(),
            nodes: page.records.iter().map(node).collect::<Result<_, _>>()?,
            next: page.next.as_ref().map(search::next),
        };
        Ok(body::json(StatusCode::OK, &reply))
    })
    .await
}

/// That the server answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthReply {
    /// `ok`
    status: &'static str,
}

/// Is it there? Says nothing else, and needs no token.
#[utoipa::path(get, path = "/v1/health", tag = "operator", operation_id = "health",
    responses((status = 200, body = HealthReply)))]
pub(super) async fn health() -> Response {
    body::json(StatusCode::OK, &HealthReply { status: "ok" })
}
