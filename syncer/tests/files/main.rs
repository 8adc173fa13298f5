//! Files of a platform, in a real git checkout, through the program to the tree and to a real backend.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail by panicking"
)]

mod engines;
mod people;
mod support;
mod watched;
