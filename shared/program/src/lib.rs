//! What every Dirless program does the same way, so that an operator learns it once: reading a
//! configuration file, keeping secrets, telling the time, writing logs, talking to the service
//! manager, publishing files whole, and the exit codes.
//!
//! It knows nothing of directories, tenants or the wire. What always holds: a [`Secret`] never
//! prints itself, a published file is seen old or new and never in between, and a configuration
//! with an unknown key does not start.

#![forbid(unsafe_code)]

mod clock;
pub mod command;
pub mod config;
pub mod fs;
pub mod log;
mod secret;
pub mod service;
pub mod tls;

pub use clock::Clock;
pub use secret::{Secret, SecretError};

/// A lookup in the process environment, passed as an argument so that tests bring their own.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process environment as a [`Lookup`]. Only `main` passes this on.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the ambient environment"
)]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
