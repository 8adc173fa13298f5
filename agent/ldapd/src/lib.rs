//! LDAP on a host: the published copy of the directory, served on a local socket and the loopback.
//!
//! It parses what strangers send, so it holds no key, writes no file and reaches no network: it reads
//! the copy that the agent publishes and notices when there is a newer one. Without agent, syncer and
//! backend it answers on.

#![forbid(unsafe_code)]

pub mod command;
mod config;
mod served;
mod service;

pub use config::{Address, Config};
pub use served::Served;
