//! The description of the API: made from the handlers, committed, served, and compared in a test.

use axum::body::Body;
use axum::response::Response;
use dirless_wire::header;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{
    authz_config, ca_public_key, duplicates, enrollment, health, heartbeat, metrics, public_key, settings, snapshot,
    state, syncer_sync, trust, watch,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Dirless backend",
        description = "Keeps sealed snapshots of many tenants and cannot read them.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        enrollment::enroll,
        public_key::read,
        public_key::replace,
        authz_config::read,
        authz_config::replace,
        ca_public_key::read,
        duplicates::report,
        state::read,
        snapshot::read,
        snapshot::replace,
        snapshot::remove,
        heartbeat::beat,
        watch::of_state,
        settings::set,
        syncer_sync::refuse,
        health::read,
        metrics::read,
        read,
    ),
    components(schemas(
        dirless_wire::SourceName,
        dirless_wire::AgePublicKey,
        dirless_wire::AwsAccountId,
        dirless_wire::TenantId,
        dirless_wire::trust::Label,
        dirless_wire::trust::Version,
        dirless_wire::trust::Digest,
        dirless_wire::trust::KeyId,
        dirless_wire::trust::CredentialRequest,
        dirless_wire::trust::CredentialList,
        dirless_wire::trust::JoinCodeRequest,
        dirless_wire::trust::JoinList,
        dirless_wire::trust::HeartbeatReply,
        dirless_wire::trust::ReceiptList,
        dirless_wire::trust::StoredList,
    )),
    modifiers(&Credentials, &Verified)
)]
struct Description;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let schemes = openapi.components.get_or_insert_default();
        let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        schemes.add_security_scheme("bearer", bearer);
        let tenant = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Tenant-ID")));
        schemes.add_security_scheme("tenant", tenant);
        let signed = ApiKey::Header(ApiKeyValue::with_description(
            "Authorization",
            "Dirless-Ed25519 key=\"NAME+HASH\", time=\"…\", signature=\"…\", see docs/protocol.md",
        ));
        schemes.add_security_scheme("signed", SecurityScheme::ApiKey(signed));
    }
}

struct Verified;

impl Modify for Verified {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        trust::describe::add(openapi);
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
    responses((status = 200, body = Object, content_type = "application/json"),
        (status = 429, body = dirless_wire::ErrorReply)))]
pub(super) async fn read() -> Response {
    let mut response = Response::new(Body::from(description()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(header::JSON_MEDIA_TYPE));
    response
}
