//! The host's side of Dirless: fetch sealed snapshots, open, merge, limit, publish a lookup table,
//! and explain what came of it.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod daemon;
pub mod enroll;
pub mod explain;
pub mod host;
pub mod paths;
pub mod pipeline;
pub mod trust;
