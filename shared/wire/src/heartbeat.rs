use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ETag, SourceName};

/// Body of `POST /v1/agent/heartbeat`. Deployed agents send the first two fields only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Heartbeat {
    /// The id from the host's configuration.
    #[schema(min_length = 1, max_length = 255)]
    pub agent_id: String,
    /// Kernel host name.
    #[schema(min_length = 1, max_length = 255)]
    pub hostname: String,
    /// What the host has applied; our own addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<HostReport>,
}

impl Heartbeat {
    /// Longest `agent_id` and `hostname`, in bytes (HOST_NAME_MAX is 64, a DNS name 253).
    pub const MAX_NAME_BYTES: usize = 255;
}

/// What a host serves now, and what it left out. Servers cut what is longer than the limits below.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct HostReport {
    /// Version of the agent.
    pub version: String,
    /// Number of the published lookup table, counted by the host.
    pub generation: u64,
    /// When that table was published, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_at: Option<String>,
    /// What was applied of each source.
    #[schema(value_type = BTreeMap<String, AppliedSource>)]
    pub sources: BTreeMap<SourceName, AppliedSource>,
    /// Users in the table.
    pub users: u64,
    /// Groups in the table.
    pub groups: u64,
    /// Users with at least one SSH key.
    pub ssh_keys: u64,
    /// How many entries were left out, also beyond those listed.
    pub dropped_total: u64,
    /// The first of them.
    pub dropped: Vec<DroppedEntry>,
    /// Problems that need a person, in plain words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// People whose sessions this host ended since it was set up, because they were removed.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions_ended: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl HostReport {
    /// Most dropped entries a heartbeat lists; `dropped_total` has the real number.
    pub const MAX_DROPPED: usize = 64;
    /// Most sources a heartbeat names.
    pub const MAX_SOURCES: usize = 32;
    /// Most problems a heartbeat names.
    pub const MAX_PROBLEMS: usize = 16;
    /// Longest text in any field, in bytes; longer ones are cut at a character.
    pub const MAX_TEXT_BYTES: usize = 256;

    /// Cuts every list and text to its limit. Senders call it before sending, servers before
    /// storing, so a heartbeat can never grow past a few tens of KiB.
    pub fn cap(&mut self) {
        self.dropped.truncate(Self::MAX_DROPPED);
        self.problems.truncate(Self::MAX_PROBLEMS);
        while self.sources.len() > Self::MAX_SOURCES {
            self.sources.pop_last();
        }
        cut(&mut self.version, 64);
        if let Some(at) = &mut self.published_at {
            cut(at, 64);
        }
        self.problems
            .iter_mut()
            .for_each(|text| cut(text, Self::MAX_TEXT_BYTES));
        for entry in &mut self.dropped {
            cut(&mut entry.kind, 32);
            cut(&mut entry.name, Self::MAX_TEXT_BYTES);
            cut(&mut entry.reason, Self::MAX_TEXT_BYTES);
        }
    }
}

/// The state of one source on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AppliedSource {
    /// Tag of the applied snapshot, as the backend sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub etag: Option<ETag>,
    /// The snapshot's own sequence number, when it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Users taken from this source.
    pub users: u64,
    /// Groups taken from this source.
    pub groups: u64,
}

/// One entry a host refused to publish.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DroppedEntry {
    /// `user`, `group`, `member` or `key`.
    pub kind: String,
    /// Its name, cut to a safe length.
    pub name: String,
    /// Why, in plain words.
    pub reason: String,
}

fn cut(text: &mut String, max: usize) {
    text.truncate(text.floor_char_boundary(max));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_heartbeat_is_read_and_written_the_same() {
        let body = r#"{"agent_id":"node-a","hostname":"vm"}"#;
        let heartbeat: Heartbeat = serde_json::from_str(body).unwrap();
        assert_eq!(heartbeat.report, None);
        assert_eq!(serde_json::to_string(&heartbeat).unwrap(), body);
    }

    #[test]
    fn a_report_survives_the_round_trip_and_unknown_fields() {
        let body = concat!(
            r#"{"agent_id":"a","hostname":"h","report":{"version":"0.1.0","generation":7,"#,
            r#""sources":{"local":{"etag":"\"x\"","sequence":3,"users":2,"groups":1,"later":1}},"#,
            r#""dropped":[{"kind":"user","name":"root","reason":"reserved name"}],"dropped_total":1,"later":{}}}"#
        );
        let heartbeat: Heartbeat = serde_json::from_str(body).unwrap();
        let report = heartbeat.report.clone().unwrap();
        assert_eq!(report.sources[&SourceName::local()].sequence, Some(3));
        assert_eq!(report.dropped[0].name, "root");
        let again = serde_json::to_string(&heartbeat).unwrap();
        assert_eq!(serde_json::from_str::<Heartbeat>(&again).unwrap(), heartbeat);
    }

    #[test]
    fn capping_bounds_everything() {
        let long = "é".repeat(10_000);
        let entry = DroppedEntry {
            kind: long.clone(),
            name: long.clone(),
            reason: long.clone(),
        };
        let mut report = HostReport {
            version: long.clone(),
            published_at: Some(long.clone()),
            dropped: vec![entry; 1000],
            dropped_total: 1000,
            problems: vec![long; 100],
            sources: (0..100)
                .map(|n| (SourceName::new(&format!("s{n}")).unwrap(), AppliedSource::default()))
                .collect(),
            ..HostReport::default()
        };
        report.cap();
        assert_eq!(
            (report.dropped.len(), report.dropped_total),
            (HostReport::MAX_DROPPED, 1000)
        );
        assert!(serde_json::to_string(&report).unwrap().len() < 64 * 1024);
        let capped = report.clone();
        report.cap();
        assert_eq!(report, capped);
    }
}
