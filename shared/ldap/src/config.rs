//! What the server allows.

use std::time::Duration;

/// Limits, each checked before the work it bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request. Applications send filters of 64 KB and more.
    pub message: usize,
    /// Parts of one filter.
    pub filter_nodes: usize,
    /// Entries that one search sends; pages count each for itself.
    pub entries: usize,
    /// Entries that are sorted for one search.
    pub sorted: usize,
    /// How long one search may run.
    pub time: Duration,
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address, or of one user of this host.
    pub connections_per_peer: usize,
    /// Searches under way on one connection. More requests wait unread.
    pub outstanding: usize,
    /// Consumers that stay for changes on one connection.
    pub consumers: usize,
    /// Passwords verified, and hashed, at once; the next ones wait.
    pub verifications: usize,
    /// Passwords that something else than a hash decides about, at once. They wait for a network, so
    /// they have places of their own.
    pub asked: usize,
    /// Changes under way at once; the next ones wait.
    pub writes: usize,
    /// How long a connection may be quiet.
    pub idle: Duration,
    /// How long a client may take to read what it asked for, or to shake hands.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 1 << 20,
            filter_nodes: 65_536,
            entries: 2_000_000,
            sorted: 200_000,
            time: Duration::from_secs(600),
            connections: 4096,
            connections_per_peer: 2048,
            outstanding: 64,
            consumers: 16,
            verifications: 2,
            asked: 16,
            writes: 4,
            idle: Duration::from_secs(3600),
            write: Duration::from_secs(60),
        }
    }
}

/// How the server behaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The limits.
    pub limits: Limits,
    /// Take passwords over connections that are neither encrypted nor from this host.
    pub plain_passwords: bool,
    /// Answer clients that have not bound nothing but RootDSE and the schema.
    pub refuse_anonymous: bool,
}
