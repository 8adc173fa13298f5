//! `POST /v1/agent/heartbeat`: a host is alive, and says what it serves.

mod body;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use dirless_wire::{ErrorCode, ErrorReply, Heartbeat, StatusReply, header};
use http::{HeaderMap, HeaderValue};

use self::body::{Sender, fit};
use super::asked::{Asked, Parsed};
use crate::app::App;
use crate::http::limits::Pace;
use crate::http::{Failure, auth, parse_json, status_ok};
use crate::store::{Absorbed, Beat, EXTRAS_MAX, Mark, TenantHandle};

/// A capped report is some 40 KiB at worst.
const LONGEST: usize = 128 * 1024;

/// Takes a heartbeat into memory; it is on disk a few seconds later.
#[utoipa::path(post, path = "/v1/agent/heartbeat", tag = "tenant", operation_id = "heartbeat",
    request_body = Heartbeat,
    responses(
        (status = 200, body = StatusReply,
            headers(("X-Dirless-Tenant-State" = String, description = "Tag of GET /v1/snapshot"))),
        (status = 400, body = ErrorReply), (status = 401, body = ErrorReply), (status = 403, body = ErrorReply),
        (status = 413, body = ErrorReply), (status = 422, body = ErrorReply), (status = 429, body = ErrorReply),
        (status = 503, body = ErrorReply, description = "Too many heartbeats wait for the disk"),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn beat(
    State(app): State<Arc<App>>,
    asked: Asked,
    Parsed(heartbeat): Parsed<Heartbeat, LONGEST>,
) -> Result<Response, Failure> {
    match absorb(&app, &asked.tenant, heartbeat, None) {
        Absorbed::Taken | Absorbed::WithoutExtras => {
            let mut reply = status_ok();
            // The heartbeat counts, whatever becomes of the rest.
            if let Ok(Some(tag)) = super::state::tag(&app, &asked.tenant).await {
                reply.headers_mut().insert(header::TENANT_STATE, tag);
            }
            Ok(reply)
        }
        Absorbed::Refused => {
            let text = format!(
                "agent_id is 1 to {0} bytes, hostname at most {0}",
                Heartbeat::MAX_NAME_BYTES
            );
            Err(Failure::new(ErrorCode::InvalidBody, text))
        }
        Absorbed::Full => Err(Failure::unavailable("too many heartbeats wait for the disk", 5)),
    }
}

/// Takes a heartbeat whose body is at hand, for the hot path; with the tag of the tenant's state. `None`
/// when anything is unusual about it, or that tag is not in memory: [`beat`] then answers.
///
/// A host says the same until its table changes, so that its message is told by its [`Mark`] and its
/// report is read once and not every time.
pub(crate) fn beat_at_hand(app: &App, headers: &HeaderMap, body: &[u8]) -> Option<(TenantHandle, HeaderValue)> {
    let tenant = auth::tenant_if_known(app, headers)?;
    let state = super::state::tag_at_hand(app, &tenant)?;
    let sender: Sender<'_> = parse_json(body).ok()?;
    if app.limits.tenant(tenant.tenant()) != Pace::Fine {
        return None;
    }
    let beat = Beat {
        agent_id: &sender.agent_id,
        hostname: &sender.hostname,
        extras: None,
    };
    let absorbed = if sender.report.is_none() {
        app.heartbeats.beat(&tenant, beat)
    } else {
        let mark = app.heartbeats.mark(body);
        if app.heartbeats.beat_again(&tenant, beat, mark) {
            return Some((tenant, state));
        }
        absorb(app, &tenant, parse_json(body).ok()?, Some(mark))
    };
    match absorbed {
        Absorbed::Taken | Absorbed::WithoutExtras => Some((tenant, state)),
        Absorbed::Refused | Absorbed::Full => None,
    }
}

fn absorb(app: &App, tenant: &TenantHandle, heartbeat: Heartbeat, mark: Option<Mark>) -> Absorbed {
    let extras = heartbeat.report.map(|report| fit(report, EXTRAS_MAX));
    let beat = Beat {
        agent_id: &heartbeat.agent_id,
        hostname: &heartbeat.hostname,
        extras: extras.as_deref(),
    };
    app.heartbeats.beat_marked(tenant, beat, mark)
}
