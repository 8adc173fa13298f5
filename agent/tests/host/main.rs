//! The daemon and the host commands against backends that answer well, badly and not at all.

#![expect(clippy::unwrap_used, reason = "tests")]

mod authority;
mod common;
mod cycle;
mod daemon;
mod enroll;
mod rotate;
