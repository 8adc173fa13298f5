//! The client against servers: well-behaved, broken and hostile ones.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod calls;
mod failover;
mod objects;
mod support;
mod tls;
mod watch;
