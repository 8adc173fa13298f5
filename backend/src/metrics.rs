//! Counters for Prometheus. The hot path increments handles that were registered beforehand; nothing
//! there looks a name up.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::StatusCode;
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::store::EngineState;

/// How many calls of [`Metrics::tend`] (one a second) lie between two drains of the histograms.
const UPKEEP_EVERY: u32 = 5;

/// What a request was for. A small closed set: labels must not grow with what strangers ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Enroll,
    Snapshot,
    Object,
    Credential,
    Join,
    Receipt,
    Tenant,
    Heartbeat,
    Watch,
    Settings,
    SyncerSync,
    Health,
    Metrics,
    OpenApi,
    Other,
}

impl Route {
    const ALL: [(Self, &'static str); 15] = [
        (Self::Enroll, "enroll"),
        (Self::Snapshot, "snapshot"),
        (Self::Object, "object"),
        (Self::Credential, "credential"),
        (Self::Join, "join"),
        (Self::Receipt, "receipt"),
        (Self::Tenant, "tenant"),
        (Self::Heartbeat, "heartbeat"),
        (Self::Watch, "watch"),
        (Self::Settings, "settings"),
        (Self::SyncerSync, "syncer_sync"),
        (Self::Health, "health"),
        (Self::Metrics, "metrics"),
        (Self::OpenApi, "openapi"),
        (Self::Other, "other"),
    ];

    /// The route of a path.
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/v1/enrollment/enroll" => Self::Enroll,
            "/v1/agent/heartbeat" => Self::Heartbeat,
            "/v1/watch" => Self::Watch,
            "/v1/admin/settings" => Self::Settings,
            "/v1/syncer/sync" => Self::SyncerSync,
            "/v1/health" => Self::Health,
            "/metrics" => Self::Metrics,
            "/openapi.json" => Self::OpenApi,
            _ if path.starts_with("/v1/snapshot/") => Self::Snapshot,
            _ => path.strip_prefix("/v2/").map_or(Self::Other, Self::of_tenant),
        }
    }

    /// The route of a path of the verified protocol, without what comes before the tenant.
    fn of_tenant(path: &str) -> Self {
        let mut parts = path.split('/').skip(1);
        match parts.next() {
            None | Some("") => Self::Tenant,
            Some("policy" | "head" | "manifest" | "log" | "blob" | "nodes" | "wrap") => Self::Object,
            Some("credential") => Self::Credential,
            Some("join") => Self::Join,
            Some("receipts") => Self::Receipt,
            Some("heartbeat") => Self::Heartbeat,
            Some("watch") => Self::Watch,
            Some(_) => Self::Other,
        }
    }
}

/// Statuses told apart; the rest counts as the last one of its class.
const STATUSES: [u16; 22] = [
    200, 201, 304, 299, 400, 401, 403, 404, 405, 408, 409, 411, 412, 413, 415, 422, 428, 429, 499, 503, 507, 599,
];

/// The engines of the store, as they call themselves.
const ENGINES: [&str; 2] = ["sqlite", "postgresql"];

/// All metrics of the server.
#[derive(Debug)]
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    requests: Vec<Counter>,
    seconds: Vec<Histogram>,
    pub(crate) connections_accepted: Counter,
    pub(crate) connections_refused: Counter,
    pub(crate) handshakes_failed: Counter,
    pub(crate) body_bytes_received: Counter,
    pub(crate) cache_bytes: Gauge,
    pub(crate) agents_in_memory: Gauge,
    pub(crate) watchers: Gauge,
    pub(crate) notices: Counter,
    pub(crate) split_views: Gauge,
    pub(crate) store_reachable: [Gauge; 2],
    ticks: AtomicU32,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&[0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0])
            .expect("the list of buckets is not empty")
            .build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            Self {
                handle,
                requests: Route::ALL
                    .iter()
                    .flat_map(|(_, route)| STATUSES.iter().map(move |status| (*route, *status)))
                    .map(|(route, status)| {
                        counter!("dirless_http_requests_total", "route" => route, "status" => status.to_string())
                    })
                    .collect(),
                seconds: Route::ALL
                    .iter()
                    .map(|(_, route)| histogram!("dirless_http_request_seconds", "route" => *route))
                    .collect(),
                connections_accepted: counter!("dirless_connections_accepted_total"),
                connections_refused: counter!("dirless_connections_refused_total"),
                handshakes_failed: counter!("dirless_tls_handshakes_failed_total"),
                body_bytes_received: counter!("dirless_snapshot_bytes_received_total"),
                cache_bytes: gauge!("dirless_cache_bytes"),
                agents_in_memory: gauge!("dirless_agents_in_memory"),
                watchers: gauge!("dirless_watchers"),
                notices: counter!("dirless_notices_total"),
                split_views: gauge!("dirless_split_views"),
                store_reachable: ENGINES.map(|engine| gauge!("dirless_store_reachable", "engine" => engine)),
                ticks: AtomicU32::new(0),
            }
        })
    }

    /// Counts an answer.
    pub(crate) fn count(&self, route: Route, status: StatusCode) {
        let status = status.as_u16();
        let column = STATUSES
            .iter()
            .position(|known| *known == status)
            .or_else(|| {
                STATUSES
                    .iter()
                    .position(|known| *known % 100 == 99 && *known / 100 == status / 100)
            })
            .unwrap_or(STATUSES.len() - 1);
        if let Some(counter) = self.requests.get(route as usize * STATUSES.len() + column) {
            counter.increment(1);
        }
    }

    /// Notes how long an answer took that was not at hand.
    pub(crate) fn took(&self, route: Route, time: Duration) {
        if let Some(histogram) = self.seconds.get(route as usize) {
            histogram.record(time.as_secs_f64());
        }
    }

    /// Notes how the store's engine is.
    pub(crate) fn engine(&self, engine: EngineState) {
        for (name, gauge) in ENGINES.iter().zip(&self.store_reachable) {
            if *name == engine.name {
                gauge.set(f64::from(u8::from(engine.reachable)));
            }
        }
    }

    /// The text format of Prometheus.
    pub(crate) fn render(&self) -> String {
        self.handle.render()
    }

    /// Housekeeping, called once a second: histograms keep every sample until they are drained.
    pub(crate) fn tend(&self) {
        if self.ticks.fetch_add(1, Ordering::Relaxed).is_multiple_of(UPKEEP_EVERY) {
            self.handle.run_upkeep();
        }
    }
}

fn describe() {
    describe_counter!(
        "dirless_http_requests_total",
        "Answers by route and status (299, 499 and 599 stand for the rest)"
    );
    describe_histogram!(
        "dirless_http_request_seconds",
        "Time to an answer that was not in memory"
    );
    describe_counter!("dirless_connections_accepted_total", "Connections accepted");
    describe_counter!(
        "dirless_connections_refused_total",
        "Connections closed because there were too many"
    );
    describe_counter!(
        "dirless_tls_handshakes_failed_total",
        "TLS handshakes that failed or took too long"
    );
    describe_counter!(
        "dirless_snapshot_bytes_received_total",
        "Bytes of snapshot bodies received"
    );
    describe_gauge!("dirless_cache_bytes", "Bytes of answers kept in memory");
    describe_gauge!(
        "dirless_store_reachable",
        "1 while the store's engine answers; the other engine's is 0"
    );
    describe_gauge!("dirless_agents_in_memory", "Agents whose heartbeats are in memory");
    describe_gauge!(
        "dirless_watchers",
        "Hosts that keep a request open to be told what is new"
    );
    describe_counter!("dirless_notices_total", "Notices sent to them");
    describe_gauge!(
        "dirless_split_views",
        "Policies and heads of which hosts were shown different contents under one version; anything but 0 is an alarm"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_route_and_status() {
        let metrics = Metrics::new();
        metrics.count(Route::Snapshot, StatusCode::NOT_MODIFIED);
        metrics.count(Route::Snapshot, StatusCode::NOT_MODIFIED);
        metrics.count(Route::Other, StatusCode::IM_A_TEAPOT);
        metrics.took(Route::Health, Duration::from_millis(3));
        let text = metrics.render();
        assert!(
            text.contains(r#"dirless_http_requests_total{route="snapshot",status="304"} 2"#),
            "{text}"
        );
        assert!(
            text.contains(r#"dirless_http_requests_total{route="other",status="499"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"dirless_http_request_seconds_bucket{route="health",le="0.005"} 1"#),
            "{text}"
        );
    }

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (place, (route, name)) in Route::ALL.iter().enumerate() {
            assert_eq!(*route as usize, place);
            assert!(!name.is_empty());
        }
        assert_eq!(Route::of("/v1/snapshot/local"), Route::Snapshot);
        assert_eq!(Route::of("/v1/snapshotx"), Route::Other);
        for (path, route) in [
            ("/v2/acme", Route::Tenant),
            ("/v2/acme/", Route::Tenant),
            ("/v2/acme/head/syncer", Route::Object),
            ("/v2/acme/blob/00", Route::Object),
            ("/v2/acme/credential", Route::Credential),
            ("/v2/acme/join/a/b", Route::Join),
            ("/v2/acme/heartbeat", Route::Heartbeat),
            ("/v2/acme/receipts", Route::Receipt),
            ("/v2/acme/watch", Route::Watch),
            ("/v2/acme/more", Route::Other),
            ("/v2", Route::Other),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }
}
