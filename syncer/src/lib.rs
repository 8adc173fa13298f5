//! The syncer: reads a source of people and groups, gives each object its permanent number, and
//! pushes sealed snapshots to the backend.
//!
//! It is not a directory and not a cache: what it publishes is what the source said when it was
//! last read whole. What always holds: a number, once given to an object, never changes and never
//! becomes another's; a read that failed or stopped short publishes nothing; a change that looks
//! like an accident waits for a person.

#![forbid(unsafe_code)]

pub mod audience;
pub mod command;
pub mod config;
pub mod cycle;
mod database;
pub mod document;
pub mod engines;
pub mod guard;
pub mod host_groups;
pub mod import;
pub mod keys;
pub mod ledger;
pub mod local;
pub mod permissions;
pub mod radius;
pub mod remote;
pub mod revoked;
pub mod rules;
pub mod serve;
pub mod shape;
pub mod signed;
pub mod sources;
pub mod state;
pub mod tree;
