//! `GET /v1/health`.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::Response;
use dirless_wire::{ErrorReply, Health, HealthAgent, HealthDetails, HealthSplitContent, HealthSplitView};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use crate::app::App;
use crate::http::address::Client;
use crate::http::{Failure, auth, json};
use crate::store::{Agent, Scope, SplitView};

/// Whether the server is up; to programs on this machine and operator tokens with the scope also
/// what it holds. `[health] public` opens the full view to everyone.
#[utoipa::path(get, path = "/v1/health", tag = "operator", operation_id = "health",
    responses((status = 200, body = Health), (status = 429, body = ErrorReply)), security((), ("bearer" = [])))]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let full = client.is_local || app.config.health.public || {
        // The page is about all realms, so a token of one realm does not open it.
        let operator = auth::operator(&app, &headers, &client);
        operator.is_some_and(|operator| operator.allows(Scope::Health) && operator.realm().is_none())
    };
    if !full {
        return Ok(json(StatusCode::OK, &Health::up()));
    }
    let details = details(&app).await?;
    Ok(json(
        StatusCode::OK,
        &Health {
            details: Some(details),
            ..Health::up()
        },
    ))
}

async fn details(app: &App) -> Result<HealthDetails, Failure> {
    let everything = app.store.all_tenants_bypassing_realm_scope();
    let totals = everything.totals().await?;
    let window = Duration::from_secs(u64::from(app.config.health.active_seconds));
    let since = app.clock.now().checked_sub(window).unwrap_or(Timestamp::MIN);
    let mut active = everything.active_agents(&app.heartbeats, since).await?;
    let active_agents = active.len() as u64;
    active.sort_by_key(|agent| Reverse(agent.last_seen_at));
    active.truncate(app.config.health.max_agents);
    let splits = everything.split_views().await?;
    Ok(HealthDetails {
        tenants: totals.tenants,
        users: totals.users,
        data_updated_at: totals.data_updated_at.map(to_seconds),
        active_agents,
        agents: active.into_iter().map(shown).collect(),
        aws_account_id: totals.only_account,
        store_engine: Some(app.store.engine().name.to_owned()),
        split_views: Some(splits.into_iter().map(split).collect()),
    })
}

fn shown(agent: Agent) -> HealthAgent {
    HealthAgent {
        tenant_id: agent.tenant.to_string(),
        agent_id: agent.agent_id,
        hostname: agent.hostname,
        last_seen_at: to_seconds(agent.last_seen_at),
    }
}

fn split(view: SplitView) -> HealthSplitView {
    let contents = view.views.into_iter().map(|content| HealthSplitContent {
        digest: content.digest.to_string(),
        nodes: content.nodes.into_iter().collect(),
    });
    HealthSplitView {
        tenant_id: view.tenant.to_string(),
        about: view.about,
        version: view.version,
        versions: view.versions,
        since: to_seconds(view.since),
        contents: contents.collect(),
    }
}

/// Whole seconds, as deployed backends print times.
fn to_seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}
