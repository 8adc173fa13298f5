//! The shipped module under real glibc: getent, id, C programs, threads, forks, chroots, set-uid.
#![expect(clippy::unwrap_used, reason = "tests")]

mod beside;
mod lookups;
mod namespace;
mod processes;
mod shape;
#[path = "../common/tables.rs"]
mod tables;
