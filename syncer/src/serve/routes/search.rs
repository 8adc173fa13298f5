//! `POST /v1/search`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dirless_directory::{Dn, DnKey, Filter};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::entries::EntryReply;
use crate::serve::app::{App, Reads, name};
use crate::serve::body;
use crate::serve::json::Secrets;
use crate::serve::problem::{BodyRefusals, Code, Problem, ProblemReply, Refusals};
use crate::tree;

/// Entries of one page when nobody says how many, and at most.
pub(crate) const PAGE: usize = 100;
/// Entries of one page at most.
pub(crate) const LONGEST_PAGE: usize = 1000;

/// How far below its base a search looks.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SearchScope {
    /// The base alone.
    Base,
    /// Right below the base.
    One,
    /// The base and everything below it.
    #[default]
    Sub,
}

/// What to look for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SearchBody {
    /// Where it starts; the base of the tree without.
    base: Option<String>,
    /// How far it goes.
    scope: SearchScope,
    /// What entries must match, as RFC 4515 writes it; everything without.
    filter: Option<String>,
    /// Attributes to show; all without.
    attributes: Vec<String>,
    /// Entries of this page, 1 to 1000.
    #[schema(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
}

/// One page of what was found, in the order of names from the base down.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchReply {
    /// The entries.
    entries: Vec<EntryReply>,
    /// Where to go on; absent when this was all.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Finds entries.
#[utoipa::path(post, path = "/v1/search", tag = "entries", operation_id = "search", request_body = SearchBody,
    responses((status = 200, body = SearchReply),
        (status = 400, body = ProblemReply, content_type = "application/problem+json"),
        (status = 404, body = ProblemReply, content_type = "application/problem+json", description = "There is no such base"),
        (status = 422, body = ProblemReply, content_type = "application/problem+json"),
        Refusals, BodyRefusals),
    security(("bearer" = ["read"])))]
pub(super) async fn search(
    _who: Reads,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Problem> {
    let content: SearchBody = body::read(&headers, content).await?;
    let asked = content.asked(&app.secrets)?;
    app.work(move |app| {
        let query = tree::Query {
            base: asked.base.as_ref().unwrap_or_else(|| app.tree.base()),
            scope: match content.scope {
                SearchScope::Base => tree::Scope::Base,
                SearchScope::One => tree::Scope::OneLevel,
                SearchScope::Sub => tree::Scope::Subtree,
            },
            filter: &asked.filter,
            after: asked.after.as_ref(),
        };
        let page = app.tree.search(&query, asked.limit)?;
        let entries = page.records.iter();
        let reply = SearchReply {
            entries: entries
                .map(|record| EntryReply::new(app, record, &content.attributes))
                .collect::<Result<_, _>>()?,
            next: page.next.as_ref().map(next),
        };
        Ok(body::json(StatusCode::OK, &reply))
    })
    .await
}

/// The parts of a search, read.
#[derive(Debug)]
pub(crate) struct Asked {
    base: Option<Dn>,
    pub(crate) filter: Filter,
    limit: usize,
    after: Option<DnKey>,
}

impl SearchBody {
    /// Its parts, read.
    pub(crate) fn asked(&self, secrets: &Secrets) -> Result<Asked, Problem> {
        let base = self.base.as_deref();
        Ok(Asked {
            base: base.map(|base| name(base, "body.base")).transpose()?,
            filter: filter(secrets, self.filter.as_deref(), "body.filter")?,
            limit: limit(self.limit, "body.limit")?,
            after: cursor(self.cursor.as_deref(), "body.cursor")?,
        })
    }
}

/// A filter that asks for no secret; everything when there is none.
pub(crate) fn filter(secrets: &Secrets, text: Option<&str>, place: &str) -> Result<Filter, Problem> {
    let Some(text) = text else {
        return Ok(Filter::And(Vec::new()));
    };
    let filter = Filter::parse(text).map_err(|error| {
        Problem::new(Code::InvalidFilter, error.to_string())
            .at(place)
            .hint("write it as in (&(objectClass=person)(uid=a*))")
    })?;
    if secrets.are_in(&filter) {
        return Err(Problem::new(Code::SecretInFilter, "the filter asks for a secret")
            .at(place)
            .hint("leave passwords out of filters; an extensible match must name its attribute"));
    }
    Ok(filter)
}

/// How many entries a page has.
pub(crate) fn limit(asked: Option<usize>, place: &str) -> Result<usize, Problem> {
    match asked {
        None => Ok(PAGE),
        Some(limit @ 1..=LONGEST_PAGE) => Ok(limit),
        Some(_) => Err(Problem::new(Code::InvalidRequest, format!("must be 1 to {LONGEST_PAGE}")).at(place)),
    }
}

/// Where a page starts.
pub(crate) fn cursor(text: Option<&str>, place: &str) -> Result<Option<DnKey>, Problem> {
    let wrong = |_| {
        Problem::new(Code::InvalidRequest, "is no cursor")
            .at(place)
            .hint("send \"next\" of the page before as it was received")
    };
    let bytes = text.map(|text| URL_SAFE_NO_PAD.decode(text)).transpose();
    Ok(bytes.map_err(wrong)?.map(DnKey::from))
}

/// The cursor of the page that follows.
pub(crate) fn next(key: &DnKey) -> String {
    URL_SAFE_NO_PAD.encode(key.as_bytes())
}
