//! `libnss_dirless.so.2`: answers glibc's questions about users and groups from the lookup table.
//!
//! glibc loads it into every process that asks, set-uid programs and early boot included. So: the
//! standard library and the table crate only; no environment, no threads, no signals, no stdio, no
//! thread-local with a destructor; no allocation and no system call on a hit; nothing unwinds into the
//! caller. "Not found" is said only when the table is there and says so, otherwise "unavailable".
//!
//! It knows no policy and no network; what a host lets in was decided when the table was published.

#![expect(unsafe_code, reason = "an NSS module is C functions over C pointers")]

pub mod abi;
mod cursor;
mod emit;
mod exports;
mod lock;
mod module;
mod source;
mod system;

pub use emit::Buffer;
pub use exports::*;
pub use module::{Database, GidList, Key, Module};
pub use source::{NoTable, Source};
