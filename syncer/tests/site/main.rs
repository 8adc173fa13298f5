//! The whole program against a site of stand-ins.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests"
)]

mod cycle;
mod durability;
mod guard;
mod migrate;
mod moto;
mod over_tree;
mod revoke;
mod service;
mod stability;
mod support;
