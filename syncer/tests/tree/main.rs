//! The directory tree: its store against models, its skeleton, its changelog, its schema.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod model;
mod operations;
mod schema;
mod support;
