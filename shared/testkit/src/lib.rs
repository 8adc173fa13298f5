//! What tests of several crates share: a machine of their own ([`isolated`]), real programs run and
//! watched ([`Program`]), waiting without guessing ([`eventually`]), stand-ins for AWS ([`aws`]), and servers of
//! PostgreSQL ([`Postgres`]).
//!
//! Tests and tools for tests depend on it, programs never. What always holds: whatever is started here ends with the value that
//! stands for it, also when the test panics.

#![forbid(unsafe_code)]

pub mod aws;
mod isolated;
mod postgres;
mod process;
mod wait;

pub use isolated::{command as isolated_command, inside, isolated};
pub use postgres::Postgres;
pub use process::{Outcome, Program, Running, built, command};
pub use wait::eventually;
