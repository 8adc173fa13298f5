//! The directory tree: its store against models, its skeleton, its changelog, its schema.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod operations;
mod support;
