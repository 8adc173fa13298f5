//! One struct for each table of the file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use dirless_program::Secret;
use serde::Deserialize;

use super::Network;
use crate::store::ReplaceBy;

/// `[server]`: listening, connections and their time limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address to bind. The default is loopback: plain HTTP belongs behind a front or `[tls]`.
    pub host: IpAddr,
    /// Port to bind; 0 lets the system choose.
    pub port: u16,
    /// Threads that serve, each with its own listener; 0 means one for each core.
    pub workers: usize,
    /// Connections over all workers; further ones are closed at once. Each costs a descriptor and
    /// some 10 KiB (40 KiB with TLS).
    pub max_connections: usize,
    /// How many of them may be kept open by hosts that wait for notices; none given: nine tenths, so that there is
    /// always room for requests.
    pub max_watchers: Option<usize>,
    /// Fronts whose `X-Forwarded-For` names the client. A front on this machine is, unless the list
    /// is given: the worst a local program can do with it is to count against another address.
    pub trusted_proxies: Vec<Network>,
    /// Longest TLS handshake, seconds.
    pub handshake_seconds: u32,
    /// Longest time from the first byte of a request to the end of its headers, seconds.
    pub header_seconds: u32,
    /// Longest pause while a body is read, seconds.
    pub body_seconds: u32,
    /// Longest pause between two requests of a connection, seconds. Above the agents' interval (60), so
    /// that those that keep connections can.
    pub idle_seconds: u32,
    /// Longest time a reader may leave our answer unread, seconds.
    pub write_seconds: u32,
    /// How long requests in progress may take to finish at shutdown, seconds.
    pub drain_seconds: u32,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 4000,
            workers: 0,
            max_connections: 20_000,
            max_watchers: None,
            trusted_proxies: Network::loopback().to_vec(),
            handshake_seconds: 10,
            header_seconds: 10,
            body_seconds: 30,
            idle_seconds: 90,
            write_seconds: 30,
            drain_seconds: 10,
        }
    }
}

impl ServerConfig {
    /// How many hosts may wait for notices at a time.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.max_watchers.unwrap_or(self.max_connections / 10 * 9)
    }
}

/// `[hmac]`: the classic secret, the bearer of all deployed components.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HmacConfig {
    /// The secret itself, as deployed files have it. A file is better.
    pub secret: Option<Secret>,
    /// A file that holds it, readable by its owner alone.
    pub secret_file: Option<PathBuf>,
}

/// `[sync]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SyncConfig {
    /// Longest snapshot body, bytes as sent (base64 included).
    pub max_payload_bytes: u64,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            max_payload_bytes: 50 * 1024 * 1024,
        }
    }
}

/// `[keys]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// Which call may replace a registered key.
    pub replace_by: ReplaceBy,
}

/// `[health]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// Gives the full view to everyone, as deployed backends do. It names hosts and tenants.
    pub public: bool,
    /// How recent a heartbeat must be for its host to count as active, seconds. Three agent
    /// intervals of 60 s: one lost heartbeat does not make a host look dead.
    pub active_seconds: u32,
    /// Most hosts listed in `agents`; `active_agents` counts them all.
    pub max_agents: usize,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            public: false,
            active_seconds: 180,
            max_agents: 1000,
        }
    }
}

/// `[metrics]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// An address of its own for `/metrics`, open to whoever reaches it. Without it, `/metrics` is
    /// on the main address for loopback callers and operator tokens with the scope.
    pub listen: Option<SocketAddr>,
}

/// `[limits]`: requests a minute; 0 switches a limit off.
///
/// The defaults fit 10,000 hosts behind one address translator, each polling every 60 s: one cycle of
/// a deployed agent is 6 requests (3 snapshot routes, duplicates, heartbeat, ca-public-key) and one
/// probe, so 10,000 × 7 = 70,000 a minute from one address. Twice that leaves room for clocks that
/// bunch up and for hosts that start together after a power cut.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// From one client address (IPv6: one /64), before authentication.
    pub address_per_minute: u32,
    /// At once from one address, on top of the rate. A whole fleet of 10,000 starting together asks
    /// 70,000 times.
    pub address_burst: u32,
    /// What an authentication failure costs, in requests. A probe without any credential costs 1.
    /// 140,000 / 100 leaves 1,400 guesses a minute, against a 256-bit secret.
    pub failed_authentication_cost: u32,
    /// From one tenant, after authentication.
    pub tenant_per_minute: u32,
    /// At once from one tenant.
    pub tenant_burst: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            address_per_minute: 140_000,
            address_burst: 70_000,
            failed_authentication_cost: 100,
            tenant_per_minute: 140_000,
            tenant_burst: 70_000,
        }
    }
}

/// `[cache]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Memory for bodies that are asked for again and again, bytes.
    pub max_bytes: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            max_bytes: 256 * 1024 * 1024,
        }
    }
}
