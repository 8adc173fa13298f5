//! The HTTP interface over real sockets, one module a group of routes.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect has to stop"
)]

mod access;
mod authz_config;
mod ca_public_key;
mod connections;
mod duplicates;
mod enrollment;
mod health;
mod heartbeat;
mod keys;
mod limits;
mod metrics;
mod openapi;
mod public_key;
mod recorded;
mod settings;
mod snapshot_read;
mod snapshot_write;
mod state;
mod support;
mod syncer_sync;
mod tls;
mod trust;
mod watch;
