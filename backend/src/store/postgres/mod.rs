//! The distributed engine: PostgreSQL 15 or newer, shared by any number of backends.
//!
//! What it is: connections, their settings and errors, the schema's history, and the table in which
//! backends tell one another what changed. What it is not: statements of the store, which are the
//! same for both engines and go through [`super::sql`].

mod changes;
mod error;
mod home;
mod place;
mod schema;
mod session;
mod tls;

pub(crate) use changes::{Found, forget, look, note, read};
pub(crate) use home::{Home, Wake};
pub use place::{PlaceError, PostgresPlace};
pub(crate) use schema::{checked_version, migrate};
pub(crate) use session::{PgRow, PgRows, PgStatement, Session};

/// The lock that servers share and a copy of the store takes alone (`pg_advisory_lock`); "dirless" in hexadecimal.
pub(crate) const IN_USE: i64 = 0x6469_726c_6573_7301;

/// The lock of whoever brings the schema up to date.
pub(crate) const MIGRATING: i64 = 0x6469_726c_6573_7302;

/// Where notices of changes are sent (`NOTIFY`).
pub(crate) const CHANNEL: &str = "dirless_changes";
