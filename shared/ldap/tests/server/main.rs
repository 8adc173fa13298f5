//! The server as clients see it: OpenLDAP's tools and raw bytes, over every kind of socket.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod controls;
mod limits;
mod operations;
mod support;
mod sync;
mod transport;
