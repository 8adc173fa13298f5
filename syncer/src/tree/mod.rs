//! The directory tree: entries with a schema, indexes and a changelog, in one SQLite file.
//!
//! [`TreeStore`] is the way in. It reads on as many connections as are wanted and writes on one; a
//! [`Reader`] sees one state however much is written meanwhile, and a [`Batch`] happens whole or not at
//! all. What always holds: every entry follows the schema, but for numbers that the ledger is still to give;
//! it stands below one that is there, has an owner and its operational attributes; every write has a line in the changelog, in the same transaction,
//! from which it can be done again; and passwords are in no such line.

mod actor;
pub mod by_hand;
mod candidates;
mod config;
mod context;
mod database;
pub mod derive;
pub mod difference;
mod error;
mod modify;
pub mod numbers;
mod operational;
pub mod people;
mod read;
pub mod reconcile;
mod record;
pub mod restore;
pub mod secrets;
pub mod skeleton;
mod store;
mod write;

pub use actor::Actor;
pub use config::TreeConfig;
pub use error::TreeError;
pub use modify::Modification;
pub use read::{Change, Operation, Page, Query, Reader, Scope, Stats};
pub use record::Record;
pub use store::{Settings, TreeStore};
pub use write::{Batch, Expect, Put};
