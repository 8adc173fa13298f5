//! What hosts believe, and why: the signed objects of a tenant and the pure rules that accept or refuse them.
//!
//! Nothing here reads a file, a socket or a clock. An object is a text of lines in one fixed order with exactly
//! one spelling; it travels as a signed [`Note`](crate::Note). `docs/protocol.md` specifies every one of them.
//!
//! What always holds: an accepted version never goes down and never has two contents ([`Memory`]); a key says
//! only what the [`Policy`] lets it say; what was refused changes nothing.

mod head;
mod join;
mod known;
pub mod log;
mod manifest;
mod memory;
mod nodes;
mod policy;
mod receipt;
mod refusal;
mod scope;
mod succession;
mod text;
mod wrap;

pub use head::{Entry, Head, Lease};
pub use join::{JoinCode, JoinCodeError, JoinRequest, JoinSecret, Proof};
pub use manifest::Manifest;
pub use memory::{Freshness, Memory, Seen};
pub use nodes::{Node, NodeList, Renewal, Revoked, node_name};
pub use policy::{Compartment, Enroller, OnExpiry, Policy, Publisher, roots_fingerprint};
pub use receipt::{About, Receipt, ReceiptAlarm, SplitView};
pub use refusal::Refusal;
pub use scope::{IdRange, NamePattern, Right, Scope, ScopeError};
pub use succession::{MOST_SUCCESSIONS, Succession};
pub use text::{FormatError, Object, parse, print, read};
pub use wrap::{Wrap, WrapError};

/// The largest version of anything: what a double holds exactly, so that no program in between rounds it.
pub const LARGEST_VERSION: u64 = 1 << 53;
/// How far a version may lie above the last one seen: whoever takes a larger step wants to use the numbers up.
pub const LARGEST_STEP: u64 = 1 << 32;
/// The format that this code writes and the newest that it reads.
pub const FORMAT: u32 = 1;
