//! `GET /v1/{kind}` and `/v1/{kind}/{name}`: look-ups of the kinds of objects that a platform asks for,
//! with their attributes as fields of the right types.

mod kinds;

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use dirless_directory::{AttributeName, Dn, DnKey, Filter, Value};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use super::{Path, Query, search};
use crate::serve::app::{App, Reads};
use crate::serve::body;
use crate::serve::etag;
use crate::serve::problem::{Code, Problem, ProblemReply, Refusals};
use crate::tree::skeleton::{tenant, unit};
use crate::tree::{self, Reader, Record, Scope, TreeError};

pub(crate) use kinds::Kind;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Look in this tenant; in the platform's own part of the tree without.
    tenant: Option<String>,
    /// Only those that match this filter (RFC 4515).
    filter: Option<String>,
    /// Objects of this page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct OneQuery {
    /// Look in this tenant; in the platform's own part of the tree without.
    tenant: Option<String>,
}

/// An object.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ObjectReply {
    /// Its distinguished name.
    dn: String,
    /// Its name among its kind.
    name: String,
    /// The version of its entry.
    version: u64,
    /// What is known of it; docs/rest.md lists the fields of each kind. What is not known is absent.
    #[schema(value_type = Object)]
    fields: Map<String, Json>,
}

/// One page of objects.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ObjectsReply {
    /// The objects, in the order of their names in the tree.
    objects: Vec<ObjectReply>,
    /// Where to go on; absent when this was all.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl ObjectReply {
    fn new(kind: Kind, record: &Record) -> Result<Self, TreeError> {
        let entry = record.entry()?;
        Ok(Self {
            dn: record.dn().to_string(),
            name: kind.name_of(&entry),
            version: record.version(),
            fields: kind.fields(&entry),
        })
    }
}

/// All objects of a kind.
#[utoipa::path(get, path = "/v1/{kind}", tag = "objects", operation_id = "listObjects",
    params(("kind" = Kind, Path, description = "Kind of object"), ListQuery),
    responses((status = 200, body = ObjectsReply),
        (status = 400, body = ProblemReply, content_type = "application/problem+json"),
        (status = 404, body = ProblemReply, content_type = "application/problem+json", description = "There is no such tenant or kind"),
        Refusals),
    security(("bearer" = ["read"])))]
pub(super) async fn list(
    _who: Reads,
    State(app): State<Arc<App>>,
    Path(kind): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let kind = known(&kind)?;
    let own = search::filter(&app.secrets, query.filter.as_deref(), "query.filter")?;
    let limit = search::limit(query.limit, "query.limit")?;
    let after = search::cursor(query.cursor.as_deref(), "query.cursor")?;
    app.work(move |app| {
        let filter = Filter::And(vec![kind.filter(), own]);
        let (records, next) = app.tree.read(|reader| {
            let place = place(reader, query.tenant.as_deref())?;
            find(reader, kind, &place, &filter, after.as_ref(), limit)
        })?;
        let objects = records.iter().map(|record| ObjectReply::new(kind, record));
        let reply = ObjectsReply {
            objects: objects.collect::<Result<_, _>>()?,
            next: next.as_ref().map(search::next),
        };
        Ok(body::json(StatusCode::OK, &reply))
    })
    .await
}

/// The object of that name.
#[utoipa::path(get, path = "/v1/{kind}/{name}", tag = "objects", operation_id = "readObject",
    params(("kind" = Kind, Path, description = "Kind of object"), ("name" = String, Path, description = "Its name"), OneQuery),
    responses((status = 200, body = ObjectReply, headers(("ETag" = String))),
        (status = 400, body = ProblemReply, content_type = "application/problem+json"),
        (status = 404, body = ProblemReply, content_type = "application/problem+json"),
        (status = 409, body = ProblemReply, content_type = "application/problem+json", description = "Several have that name"),
        Refusals),
    security(("bearer" = ["read"])))]
pub(super) async fn one(
    _who: Reads,
    State(app): State<Arc<App>>,
    Path((kind, name)): Path<(String, String)>,
    Query(query): Query<OneQuery>,
) -> Result<Response, Problem> {
    let kind = known(&kind)?;
    app.work(move |app| {
        let filter = Filter::And(vec![kind.filter(), kind.named(&name)]);
        let (records, _) = app.tree.read(|reader| {
            let place = place(reader, query.tenant.as_deref())?;
            find(reader, kind, &place, &filter, None, 2)
        })?;
        match records.as_slice() {
            [record] => Ok(body::tagged(
                StatusCode::OK,
                &ObjectReply::new(kind, record)?,
                &etag::of(record),
            )),
            [] => Err(Problem::new(
                Code::EntryAbsent,
                format!("there is none of that name among the {}", kind.as_str()),
            )
            .at(query
                .tenant
                .map_or_else(|| "the platform".to_owned(), |tenant| format!("tenant {tenant}")))
            .hint("?tenant=NAME looks in a tenant")),
            [one, other, ..] => Err(Problem::new(Code::Ambiguous, "several have that name")
                .at(format!("{}; {}", one.dn(), other.dn()))
                .hint("read the entry by its distinguished name")),
        }
    })
    .await
}

fn known(kind: &str) -> Result<Kind, Problem> {
    Kind::parse(kind).ok_or_else(|| {
        let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        Problem::new(Code::NotFound, format!("there is no kind {kind:?}"))
            .at("path")
            .hint(format!("there are {}", kinds.join(", ")))
    })
}

/// The part of the tree that is the tenant's, or the platform's own.
fn place(reader: Reader<'_>, name: Option<&str>) -> Result<Dn, Problem> {
    let Some(name) = name else {
        return Ok(reader.base().clone());
    };
    let dn = tenant(reader.base(), name);
    match reader.get(&dn)? {
        Some(record) => Ok(record.dn().clone()),
        None => Err(Problem::new(Code::TenantAbsent, format!("there is no tenant {name:?}"))
            .at("query.tenant")
            .hint("GET /v1/tenants lists them")),
    }
}

/// Objects below the units of a kind, and where to go on.
fn find(
    reader: Reader<'_>,
    kind: Kind,
    place: &Dn,
    filter: &Filter,
    after: Option<&DnKey>,
    limit: usize,
) -> Result<(Vec<Record>, Option<DnKey>), Problem> {
    let units: Vec<Dn> = kind.units().iter().map(|name| unit(place, name)).collect();
    let mut keyed: Vec<(DnKey, &Dn)> = units
        .iter()
        .filter_map(|dn| Some((reader.schema().dn_key(dn)?, dn)))
        .collect();
    keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (mut found, mut next) = (Vec::new(), None);
    for (key, dn) in keyed {
        // Pages go through the units in the order of their keys.
        if next.is_some() || after.is_some_and(|after| after > &key && !after.is_within(&key)) {
            continue;
        }
        let query = tree::Query {
            base: dn,
            scope: Scope::Subtree,
            filter,
            after,
        };
        let visited = reader.visit(&query, |record: Record| {
            if found.len() == limit {
                next = found.last().map(|last: &Record| last.key().clone());
                return ControlFlow::Break(());
            }
            found.push(record);
            ControlFlow::Continue(())
        });
        match visited {
            // A site may have removed a unit that it has no use for.
            Ok(()) | Err(TreeError::Absent { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((found, next))
}

fn attribute(text: &'static str) -> AttributeName {
    AttributeName::parse(text).expect("attribute names in this program are letters and digits")
}

fn equality(name: &'static str, value: &str) -> Filter {
    Filter::Equality(attribute(name), Value::from(value))
}
