//! The module in this process: single calls, enumerations, replaced tables.
#![expect(
    unsafe_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests call a C interface"
)]

mod ask;
#[path = "../common/mod.rs"]
mod common;
mod enumeration;
mod lookups;
mod replacement;
