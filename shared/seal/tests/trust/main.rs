//! The rules by which hosts believe, played against whoever serves the objects.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod head;
mod join;
mod log;
mod making;
mod manifest;
mod memory;
mod policy;
mod receipts;
mod succession;
mod support;
mod texts;
mod vectors;
