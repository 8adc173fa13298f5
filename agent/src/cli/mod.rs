//! The command lines of the two programs.

pub mod agent;
mod authority;
pub mod dirless;
mod places;
mod report;
mod revoke;
