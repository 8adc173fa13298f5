//! The `local` commands as they are typed, against a backend in this process.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod commands;
mod contention;
mod desk;
mod fake;
mod real;
