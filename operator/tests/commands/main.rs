//! Commands as data: arguments and input, output and outcome, on folders of their own.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod help;
mod mirror;
mod policy;
mod published;
mod support;
mod tenant;
mod verify;
