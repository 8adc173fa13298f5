//! An LDAPv3 server (RFC 4510 to 4519 and extensions) over any [`Directory`].
//!
//! It knows no store: a directory looks entries up, lists them in key order and reports changes, and
//! keeps each entry in the form in which it is sent ([`dirless_directory::encoded`]). What always holds:
//! no request does work before its limits were checked; a connection that does not read costs memory
//! for itself alone, and a bounded amount; no answer shows more than [`Directory::visibility`] allows;
//! and a control that is critical and not understood stops its operation.

#![forbid(unsafe_code)]

mod directory;
mod result;

pub use directory::{
    Candidate, Change, ChangeKind, Changed, Credentials, Directory, Failure, Identity, Modification, Peer, Query,
    Refusal, Scope, State, Stored, Verify, Visibility, WriteRequest, Writer, Written,
};
pub use result::ResultCode;
