//! The Dirless backend: it keeps sealed snapshots and heartbeats of many tenants and hands them to
//! their hosts.
//!
//! It is not a directory and cannot become one: it has no key and no code that opens what it keeps,
//! and a test on its dependency tree proves that. It never calls anybody.
//!
//! What always holds: a tenant's data is reached only with a credential of the realm that enrolled
//! it; a write that was answered is on disk; a read that is in memory touches neither the database nor
//! another thread.

#![forbid(unsafe_code)]

pub mod admin;
mod app;
mod cache;
pub mod command;
pub mod config;
mod http;
mod kept;
mod metrics;
pub mod net;
mod routes;
mod service;
pub mod store;
mod watch;

pub use app::App;
pub use routes::description;
