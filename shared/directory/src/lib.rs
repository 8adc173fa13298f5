//! The directory's own types: names, entries, schema, filters. RFC 4512 to 4519 as pure values.
//!
//! Nothing here stores, sends or reads anything. What always holds: two spellings of one name have one
//! key ([`Schema::dn_key`]); an entry that [`Schema::check`] passed has what its classes require and
//! nothing else; a filter answers for every entry, in three values; and no text, however hostile, does
//! more work than its length allows.

#![forbid(unsafe_code)]

mod dn;
pub mod encoded;
mod entry;
pub mod filter;
mod matching;
mod name;
pub mod prepare;
pub mod schema;
mod syntax;

pub use dn::{Ava, Dn, DnError, Rdn};
pub use entry::{Entry, Value};
pub use filter::Filter;
pub use matching::MatchingRule;
pub use name::{AttributeName, AttributeNameError};
pub use schema::{DnKey, Schema};
