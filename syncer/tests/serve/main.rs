//! The REST interface as its clients see it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod access;
mod changes;
mod entries;
mod ldap;
mod objects;
mod openapi;
mod permissions;
mod program;
mod revocations;
mod search;
mod support;
mod sync;
