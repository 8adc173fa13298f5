//! `GET`, `PUT`, `DELETE /v1/entries/{dn}` and `POST /v1/entries/{dn}/rename`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use dirless_directory::{Dn, Entry, Rdn};
use http::header::ETAG;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use super::{Path, Query};
use crate::serve::app::{App, Reads, Writes, name};
use crate::serve::body;
use crate::serve::etag::{self, Conditions};
use crate::serve::json;
use crate::serve::passwords;
use crate::serve::problem::{BodyRefusals, Code, Problem, ProblemReply, Refusals};
use crate::tree::{Batch, Expect, Put, Record, TreeError};

/// An entry.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct EntryReply {
    /// Its distinguished name.
    dn: String,
    /// Grows by one with each write.
    version: u64,
    /// How many entries stand right below it.
    children: u64,
    /// Lists of values by attribute. A value is a text, `{"base64": "…"}`, or `{"hidden": true}` for
    /// a secret.
    #[schema(value_type = Object)]
    attributes: Map<String, Json>,
}

impl EntryReply {
    /// The entry, with the attributes that are wanted, all when none is named.
    pub(crate) fn new(app: &App, record: &Record, wanted: &[String]) -> Result<Self, TreeError> {
        let entry = record.entry()?;
        Ok(Self {
            dn: record.dn().to_string(),
            version: record.version(),
            children: record.children(),
            attributes: json::attributes(&app.schema, &app.secrets, &entry, wanted),
        })
    }
}

/// What an entry is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntryBody {
    /// Lists of values by attribute; what is not here is removed, but for what the server keeps.
    #[schema(value_type = Object)]
    pub(crate) attributes: Map<String, Json>,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WriteOutcome {
    /// It is new.
    Added,
    /// It changed.
    Updated,
    /// It said that already.
    Unchanged,
    /// It has another name.
    Renamed,
    /// It is gone.
    Deleted,
}

/// What a write did.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct WriteReply {
    /// The entry, under its name now.
    dn: String,
    /// What became of it.
    outcome: WriteOutcome,
    /// Its version now; absent when it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// How many entries that were.
    entries: usize,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadQuery {
    /// Attributes to show, with commas between; all without.
    attributes: Option<String>,
}

/// One entry.
#[utoipa::path(get, path = "/v1/entries/{dn}", tag = "entries", operation_id = "readEntry",
    params(("dn" = String, Path, description = "Distinguished name, percent-encoded"), ReadQuery,
        ("If-None-Match" = Option<String>, Header, description = "Tag of the copy at hand")),
    responses((status = 200, body = EntryReply, headers(("ETag" = String))),
        (status = 304, description = "The copy at hand is current"),
        (status = 400, body = ProblemReply, content_type = "application/problem+json"),
        (status = 404, body = ProblemReply, content_type = "application/problem+json"),
        Refusals),
    security(("bearer" = ["read"])))]
pub(super) async fn read(
    _who: Reads,
    State(app): State<Arc<App>>,
    Path(dn): Path<String>,
    Query(query): Query<ReadQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let dn = name(&dn, "path")?;
    let conditions = Conditions::read(&headers)?;
    let wanted = names(query.attributes.as_deref());
    app.work(move |app| {
        let record = app.tree.read(|reader| reader.require(&dn))?;
        let tag = etag::of(&record);
        if conditions.is_known(&record) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            if let Ok(tag) = HeaderValue::from_str(&tag) {
                response.headers_mut().insert(ETAG, tag);
            }
            return Ok(response);
        }
        Ok(body::tagged(
            StatusCode::OK,
            &EntryReply::new(app, &record, &wanted)?,
            &tag,
        ))
    })
    .await
}

/// The names in a list with commas.
pub(crate) fn names(list: Option<&str>) -> Vec<String> {
    let names = list.unwrap_or_default().split(',').map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Adds an entry, or puts it in place of the one of that name. Plain passwords are hashed.
#[utoipa::path(put, path = "/v1/entries/{dn}", tag = "entries", operation_id = "putEntry",
    request_body = EntryBody,
    params(("dn" = String, Path, description = "Distinguished name, percent-encoded"),
        ("If-Match" = Option<String>, Header, description = "Tag of the entry that is to be replaced, or * for any"),
        ("If-None-Match" = Option<String>, Header, description = "* when the entry must be new")),
    responses((status = 200, body = WriteReply, headers(("ETag" = String))),
        (status = 201, body = WriteReply, headers(("ETag" = String))),
        (status = 400, body = ProblemReply, content_type = "application/problem+json"),
        (status = 404, body = ProblemReply, content_type = "application/problem+json", description = "There is no entry above it"),
        (status = 412, body = ProblemReply, content_type = "application/problem+json"),
        (status = 422, body = ProblemReply, content_type = "application/problem+json"),
        Refusals, BodyRefusals),
    security(("bearer" = ["write"])))]
pub(super) async fn put(
    Writes(actor): Writes,
    State(app): State<Arc<App>>,
    Path(dn): Path<String>,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Problem> {
    let dn = name(&dn, "path")?;
    let conditions = Conditions::read(&headers)?;
    let content: EntryBody = body::read(&headers, content).await?;
    app.work(move |app| {
        // Hashing takes a while: it is done before the write that others wait for.
        let prepared = prepare(app, &dn, &content)?;
        let (put, record) = app.tree.write(&actor, |batch| {
            let held = batch.reader().get(&dn)?;
            conditions.check(held.as_ref(), &dn.to_string())?;
            let held = held.map(|record| record.entry()).transpose()?;
            let mut entry = json::entry(dn.clone(), &content.attributes, &app.secrets, held.as_ref())?;
            take_hashes(&mut entry, &prepared, held.as_ref());
            let put = batch.put(&entry, Expect::Anything)?;
            Ok::<_, Problem>((put, batch.reader().require(&dn)?))
        })?;
        let (status, outcome) = match put {
            Put::Added => (StatusCode::CREATED, WriteOutcome::Added),
            Put::Updated => (StatusCode::OK, WriteOutcome::Updated),
            Put::Unchanged => (StatusCode::OK, WriteOutcome::Unchanged),
        };
        Ok(written(status, &record, outcome))
    })
    .await
}

/// The entry as it will be, with plain passwords hashed, as far as that is known before the write.
fn prepare(app: &App, dn: &Dn, content: &EntryBody) -> Result<Entry, Problem> {
    let held = app.tree.get(dn)?.map(|record| record.entry()).transpose()?;
    let mut entry = json::entry(dn.clone(), &content.attributes, &app.secrets, held.as_ref())?;
    passwords::hash(&mut entry, held.as_ref());
    Ok(entry)
}

/// Takes over the hashes that were made before the write; what came in between is hashed now.
fn take_hashes(entry: &mut Entry, prepared: &Entry, held: Option<&Entry>) {
    let names: Vec<_> = entry.attributes().map(|(name, _)| name.clone()).collect();
    for name in names.into_iter().filter(passwords::is_plain) {
        if entry.values(&name).len() == prepared.values(&name).len() {
            let is_kept = held.is_some_and(|held| held.values(&name) == entry.values(&name));
            if !is_kept {
                entry.set(name.clone(), prepared.values(&name).to_vec());
            }
        }
    }
    passwords::hash(entry, held);
}

fn written(status: StatusCode, record: &Record, outcome: WriteOutcome) -> Response {
    let reply = WriteReply {
        dn: record.dn().to_string(),
        outcome,
        version: Some(record.version()),
        entries: 1,
    };
    body::tagged(status, &reply, &etag::of(record))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteQuery {
    /// Remove everything below it as well.
    #[serde(default)]
    subtree: bool,
}

/// Removes an entry.
#[utoipa::path(delete, path = "/v1/entries/{dn}", tag = "entries", operation_id = "deleteEntry",
    params(("dn" = String, Path, description = "Distinguished name, percent-encoded"), DeleteQuery,
        ("If-Match" = Option<String>, Header, description = "Tag of the entry that is to be removed")),
    responses((status = 200, body = WriteReply),
        (status = 400, body = ProblemReply, content_type = "application/problem+json"),
        (status = 404, body = ProblemReply, content_type = "application/problem+json"),
        (status = 409, body = ProblemReply, content_type = "application/problem+json"),
        (status = 412, body = ProblemReply, content_type = "application/problem+json"),
        (status = 422, body = ProblemReply, content_type = "application/problem+json"),
        Refusals),
    security(("bearer" = ["write"])))]
pub(super) async fn delete(
    Writes(actor): Writes,
    State(app): State<Arc<App>>,
    Path(dn): Path<String>,
    Query(query): Query<DeleteQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let dn = name(&dn, "path")?;
    let conditions = Conditions::read(&headers)?;
    app.work(move |app| {
        let entries = app.tree.write(&actor, |batch| {
            let held = batch.reader().require(&dn)?;
            conditions.check(Some(&held), &dn.to_string())?;
            remove(batch, &dn, query.subtree)
        })?;
        let reply = WriteReply {
            dn: dn.to_string(),
            outcome: WriteOutcome::Deleted,
            version: None,
            entries,
        };
        Ok(body::json(StatusCode::OK, &reply))
    })
    .await
}

fn remove(batch: &mut Batch<'_>, dn: &Dn, subtree: bool) -> Result<usize, Problem> {
    let base = batch.reader().schema().dn_key(batch.reader().base());
    if batch.reader().schema().dn_key(dn) == base {
        return Err(Problem::new(Code::Refused, "the base of the tree cannot be removed").at(dn.to_string()));
    }
    if subtree {
        return Ok(batch.delete_subtree(dn)?);
    }
    batch.delete(dn, Expect::Anything)?;
    Ok(1)
}

/// Another name for an entry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenameBody {
    /// Its own new name, such as `uid=bob`.
    rdn: String,
    /// The entry above it, when it moves.
    above: Option<String>,
    /// Keep the values of the old name among its attributes.
    #[serde(default)]
    keep_old: bool,
}

impl RenameBody {
    /// The new name and the entry above it, read.
    pub(crate) fn names(&self) -> Result<(Rdn, Option<Dn>), Problem> {
        let new = name(&self.rdn, "body.rdn")?;
        let [rdn] = new.rdns() else {
            return Err(Problem::new(Code::InvalidName, "the new name must have one component").at("body.rdn"));
        };
        let above = self.above.as_deref();
        let above = above.map(|above| name(above, "body.above")).transpose()?;
        Ok((rdn.clone(), above))
    }
}

/// Gives an entry, and everything below it, another name.
#[utoipa::path(post, path = "/v1/entries/{dn}/rename", tag = "entries", operation_id = "renameEntry",
    request_body = RenameBody,
    params(("dn" = String, Path, description = "Distinguished name, percent-encoded"),
        ("If-Match" = Option<String>, Header, description = "Tag of the entry that is to be renamed")),
    responses((status = 200, body = WriteReply, headers(("ETag" = String))),
        (status = 400, body = ProblemReply, content_type = "application/problem+json"),
        (status = 404, body = ProblemReply, content_type = "application/problem+json"),
        (status = 409, body = ProblemReply, content_type = "application/problem+json"),
        (status = 412, body = ProblemReply, content_type = "application/problem+json"),
        (status = 422, body = ProblemReply, content_type = "application/problem+json"),
        Refusals, BodyRefusals),
    security(("bearer" = ["write"])))]
pub(super) async fn rename(
    Writes(actor): Writes,
    State(app): State<Arc<App>>,
    Path(dn): Path<String>,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Problem> {
    let dn = name(&dn, "path")?;
    let conditions = Conditions::read(&headers)?;
    let content: RenameBody = body::read(&headers, content).await?;
    let (rdn, above) = content.names()?;
    app.work(move |app| {
        let record = app.tree.write(&actor, |batch| {
            let held = batch.reader().require(&dn)?;
            conditions.check(Some(&held), &dn.to_string())?;
            let parent = above.as_ref().cloned().or_else(|| dn.parent()).unwrap_or_default();
            batch.rename(&dn, rdn.clone(), !content.keep_old, above.as_ref(), Expect::Anything)?;
            Ok::<_, Problem>(batch.reader().require(&parent.child(rdn))?)
        })?;
        Ok(written(StatusCode::OK, &record, WriteOutcome::Renamed))
    })
    .await
}
