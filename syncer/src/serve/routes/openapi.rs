//! The description of the API: made from the handlers, committed, served, and compared in a test.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{changelog, entries, look, permissions, revocations, search, sync, typed};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Dirless syncer",
        description = "The directory tree of one site: entries, look-ups, changes, permissions, syncs, revocations.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        entries::read,
        entries::put,
        entries::delete,
        entries::rename,
        search::search,
        typed::list,
        typed::one,
        changelog::page,
        changelog::stream,
        look::stats,
        look::tree,
        sync::run,
        permissions::check,
        revocations::revoke,
        revocations::list,
        revocations::one,
        revocations::restore,
        look::health,
        read,
    ),
    components(schemas(typed::Kind)),
    modifiers(&Credentials)
)]
struct Description;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An operator token with the scope that the operation names"))
            .build();
        let schemes = openapi.components.get_or_insert_default();
        schemes.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The description as it is committed and served.
#[must_use]
pub fn description() -> String {
    // It is made of texts and lists; serialising it cannot fail.
    let mut text = Description::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "operator", operation_id = "openapi",
    responses((status = 200, body = Object, content_type = "application/json")))]
pub(super) async fn read() -> Response {
    let mut response = Response::new(Body::from(description()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
