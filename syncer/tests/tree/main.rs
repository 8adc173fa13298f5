//! The directory tree: its store against models, its skeleton, its changelog, its schema.
#![expect(clippy::unwrap_used, reason = "tests")]

mod operations;
mod support;
