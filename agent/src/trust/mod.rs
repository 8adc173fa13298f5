//! The verified protocol on a host: fetch a tenant's signed files from whoever has them, and keep what the tenant's own
//! keys vouch for.
//!
//! ```text
//! policies → head and lease → manifest → body → key → (worker) content root, scope, host limits
//! ```
//!
//! `docs/protocol.md` has the order of the checks; `dirless_seal::trust` makes them. What always holds: what was accepted is
//! remembered on disk before anything that depends on it is put in place; a refusal leaves everything as it was.

mod admission;
mod body;
mod install;
mod join;
mod keeper;
mod log;
mod pending;
mod reach;
mod receipt;
mod rules;
mod staging;
mod walk;

pub use admission::{Admission, admission, join_anew, next_key_is_accepted};
pub use body::{SignedBody, SignedBodyError};
pub use join::{Carried, JoinArguments, JoinError, Joining, join};
pub use keeper::{Joined, Keeper, KeeperError, believed_tenant};
pub use log::KeptLog;
pub use pending::Pending;
pub(crate) use reach::on_wire;
pub use reach::{ReachError, at_backends, files, request_key, timeouts};
pub use receipt::{Applied, Unserved, of_alarms, receipt};
pub use rules::unsigned_rules_count;
pub(crate) use staging::clear as clear_joins;
pub use walk::{Alarm, Installed, Walked, follow_policies, kept, walk};

/// The source whose body is the access rules: the JSON that the classic protocol answers with.
pub const ACCESS_RULES: &str = "access-rules";
