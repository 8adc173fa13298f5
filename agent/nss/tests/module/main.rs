//! The module in this process: single calls, enumerations, replaced tables.
#![expect(
    unsafe_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests call a C interface"
)]

mod ask;
mod enumeration;
#[path = "../common/host.rs"]
mod host;
mod lookups;
mod overlay;
mod replacement;
#[path = "../common/tables.rs"]
mod tables;
