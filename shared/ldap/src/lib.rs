//! An LDAPv3 server (RFC 4510 to 4519 and extensions) over any [`Directory`].
//!
//! It knows no store: a directory looks entries up, lists them in key order and reports changes, and
//! keeps each entry in the form in which it is sent ([`dirless_directory::encoded`]). What always holds:
//! no request does work before its limits were checked; a connection that does not read costs memory
//! for itself alone, and a bounded amount; no answer shows more than [`Directory::visibility`] allows;
//! and a control that is critical and not understood stops its operation.

#![forbid(unsafe_code)]

mod answers;
mod begin;
mod ber;
mod chain;
mod change;
mod config;
mod connection;
mod controls;
mod decode_filter;
mod directory;
mod emit;
pub mod memory;
mod password;
mod reply;
mod request;
mod result;
mod root;
mod search;
mod select;
mod server;
mod session;
mod sort;
mod stream;
mod sync;
mod workers;
mod writes;

pub use ber::DecodeError;
pub use change::{Change, Modification, PasswordRequest, Refusal, WriteRequest, Writer, Written};
pub use config::{Config, Limits};
pub use directory::{
    Apart, Candidate, ChangeKind, Changed, Credentials, Directory, Failure, Identity, NotReady, Peer, Purpose, Query,
    Scope, State, Stored, Verify, Visibility, Wants,
};
pub use password::{hash as hash_password, is_hashed as is_hashed_password, verify as verify_password};
pub use result::ResultCode;
pub use server::{Listener, Setup, serve, serve_on_threads};

/// What [`check_message`] read.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The message's number.
    pub id: u32,
    /// Base, filter and wanted attributes, when it is a search.
    pub search: Option<(String, dirless_directory::Filter, Vec<String>)>,
}

/// Reads one whole message as the server does and tells what it read: what is fuzzed.
///
/// # Errors
/// Why the connection would end.
pub fn check_message(bytes: &[u8]) -> Result<Checked, DecodeError> {
    let limits = decode_filter::FilterLimits { nodes: 4096 };
    let message = request::decode(bytes, limits)?;
    for purpose in [controls::For::Search, controls::For::Write] {
        let _ = controls::Controls::read(&message.controls, purpose, limits);
    }
    let search = match message.operation {
        request::Operation::Other(operation) => {
            writes::check_extended(&operation);
            None
        }
        request::Operation::Search(search) => {
            let attributes = search.attributes.into_iter().map(str::to_owned).collect();
            Some((search.base.to_owned(), search.filter, attributes))
        }
        _ => None,
    };
    Ok(Checked { id: message.id, search })
}

#[cfg(test)]
mod tests;
