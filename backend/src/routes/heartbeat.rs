//! `POST /v1/agent/heartbeat`: a host is alive, and says what it serves.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use dirless_wire::{ErrorCode, ErrorReply, Heartbeat, HostReport, StatusReply, header};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;

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

/// A heartbeat whose report was passed over.
#[derive(Deserialize)]
struct Sender<'a> {
    #[serde(borrow)]
    agent_id: Cow<'a, str>,
    #[serde(borrow)]
    hostname: Cow<'a, str>,
    #[serde(default)]
    report: Option<IgnoredAny>,
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
    let extras = heartbeat.report.map(fit);
    let beat = Beat {
        agent_id: &heartbeat.agent_id,
        hostname: &heartbeat.hostname,
        extras: extras.as_deref(),
    };
    app.heartbeats.beat_marked(tenant, beat, mark)
}

/// The report as text that the store takes: of long lists the end is left out, the totals stay.
fn fit(mut report: HostReport) -> String {
    report.cap();
    loop {
        let text = serde_json::to_string(&report).unwrap_or_default();
        if text.len() <= EXTRAS_MAX {
            return text;
        }
        if report.dropped.is_empty() && report.problems.is_empty() && report.sources.is_empty() {
            return String::new();
        }
        let half = report.dropped.len() / 2;
        report.dropped.truncate(half);
        if half == 0 {
            report.problems.truncate(report.problems.len() / 2);
            report.sources.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use dirless_wire::DroppedEntry;

    use super::*;

    #[test]
    fn a_long_report_is_cut_to_what_the_store_takes() {
        let entry = DroppedEntry {
            kind: "user".to_owned(),
            name: "n".repeat(256),
            reason: "r".repeat(256),
        };
        let report = HostReport {
            dropped: vec![entry; 500],
            dropped_total: 500,
            problems: vec!["p".repeat(300); 40],
            ..HostReport::default()
        };
        let text = fit(report);
        assert!(text.len() <= EXTRAS_MAX && !text.is_empty());
        let kept: HostReport = serde_json::from_str(&text).unwrap();
        assert_eq!(kept.dropped_total, 500);
        assert!(!kept.dropped.is_empty());
    }
}
