//! The lookup table: one file with all users and groups of a host, written whole and memory-mapped by
//! every process that asks. The format is described in `format.rs`.
//!
//! It depends on the standard library alone, for the NSS module loads it into every program. What
//! always holds: a lookup allocates nothing, makes no system call, and neither panics nor reads outside
//! the file for any bytes; "there is none" is said only when the table says so; a table is replaced by
//! rename and never changed in place, except for two words in its header: one tells readers of the old one
//! to look again, one names the table's [`overlay`], the small file that says what changed since.
//!
//! Everything the NSS module reaches is `#[inline]`: compiled as one piece with the module, it is seen
//! to be free of panics, and their machinery stays out of every process on the host.
//!
//! It is not a place for policy: ids and names are stored as given. Limits are checked before.

mod base;
mod body;
mod check;
mod checksum;
mod draft;
mod error;
mod format;
#[expect(
    unsafe_code,
    reason = "mapping a file is a system call the standard library does not wrap"
)]
mod map;
mod memberships;
mod names;
mod out;
pub mod overlay;
mod publish;
mod reader;
mod record;
mod writer;

pub use draft::Draft;
pub use error::{Corrupt, OpenError, WriteError};
pub use publish::{publish, publish_bytes, publish_changed};
pub use reader::{Lookup, Table, TableStats};
pub use record::{Gids, Group, User};
pub use writer::{GroupRecord, TableBuilder, TableMeta, UserRecord};

/// Where the agent publishes the table and the NSS module looks for it.
pub const TABLE_PATH: &str = "/var/lib/dirless/nss/table";

/// [`TABLE_PATH`] as C has it.
pub const TABLE_PATH_C: &std::ffi::CStr = c"/var/lib/dirless/nss/table";
