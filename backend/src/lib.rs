//! The Dirless backend: it keeps sealed snapshots and heartbeats of many tenants and cannot read them.

#![forbid(unsafe_code)]

pub mod admin;
pub mod store;
