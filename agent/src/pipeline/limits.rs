//! Host limits: what this host takes from a directory at all, whatever the directory says.
//!
//! They are the host's own, in a file that only root may write. The directory can never widen them;
//! the built-in reserved names can be added to and not taken away.

mod accounts;
mod apply;
mod builtin;
mod config;

pub use accounts::Accounts;
pub(super) use apply::apply;
pub use apply::{Limit, PrivateGroups};
pub use config::{HostLimits, LimitsError};
