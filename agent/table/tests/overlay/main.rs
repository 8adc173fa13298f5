//! Overlays: they answer as a table written anew would, are put in place and noticed, and harm nobody.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;
mod files;
mod hostile;
mod model;
mod sameness;
