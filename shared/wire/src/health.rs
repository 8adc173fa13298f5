use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::AwsAccountId;

/// Reply of `GET /v1/health`. Callers without the right to the full view get `status` alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` while the server serves.
    pub status: String,
    /// Everything else, absent in the short view.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub details: Option<HealthDetails>,
}

/// The full view, in the shape deployed portals read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthDetails {
    /// Enrolled tenants.
    pub tenants: u64,
    /// Users over all sources, as the syncers counted them when they pushed.
    pub users: u64,
    /// When a snapshot last changed, RFC 3339 in UTC; null before the first.
    pub data_updated_at: Option<String>,
    /// Hosts whose last heartbeat is recent enough.
    pub active_agents: u64,
    /// Those hosts, latest first, capped by the server.
    pub agents: Vec<HealthAgent>,
    /// The AWS account, when there is exactly one over all tenants.
    pub aws_account_id: Option<AwsAccountId>,
    /// What keeps the data: `sqlite` or `postgresql`. Deployed backends do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_engine: Option<String>,
    /// Where hosts were shown different contents under one version, of the last thirty days. Anything in it is an alarm.
    /// Deployed backends do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_views: Option<Vec<HealthSplitView>>,
}

/// A policy or a head of which hosts applied different contents under one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthSplitView {
    /// Its tenant.
    pub tenant_id: String,
    /// `policy` or `head/PUBLISHER`.
    pub about: String,
    /// The latest version that is split.
    pub version: u64,
    /// How many versions are.
    pub versions: u64,
    /// When the first of them was noticed, RFC 3339 in UTC.
    pub since: String,
    /// The contents of the latest.
    pub contents: Vec<HealthSplitContent>,
}

/// One of several contents under one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthSplitContent {
    /// Its SHA-256.
    pub digest: String,
    /// Nodes that say that they applied it; at most sixteen.
    pub nodes: Vec<String>,
}

/// One host that has sent a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthAgent {
    /// Its tenant.
    pub tenant_id: String,
    /// The id from its configuration.
    pub agent_id: String,
    /// Its kernel host name.
    pub hostname: String,
    /// Last heartbeat, RFC 3339 in UTC.
    pub last_seen_at: String,
}

impl Health {
    /// The short view: the server is up.
    #[must_use]
    pub fn up() -> Self {
        Self {
            status: "ok".to_owned(),
            details: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_health_is_read_and_written_the_same() {
        let body = concat!(
            r#"{"status":"ok","tenants":1,"users":1001,"data_updated_at":"2026-05-31T00:00:00Z","#,
            r#""active_agents":2,"agents":[{"tenant_id":"t","agent_id":"a","hostname":"h","#,
            r#""last_seen_at":"2026-05-31T00:00:00Z"}],"aws_account_id":"123456789012"}"#
        );
        let health: Health = serde_json::from_str(body).unwrap();
        assert_eq!(health.details.as_ref().unwrap().users, 1001);
        assert_eq!(serde_json::to_string(&health).unwrap(), body);
    }

    #[test]
    fn the_short_view_says_nothing_else() {
        assert_eq!(serde_json::to_string(&Health::up()).unwrap(), r#"{"status":"ok"}"#);
        assert_eq!(
            serde_json::from_str::<Health>(r#"{"status":"ok"}"#).unwrap(),
            Health::up()
        );
    }
}
