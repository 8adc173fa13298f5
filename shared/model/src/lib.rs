//! The domain types of Dirless: names, ids, users, groups, keys and the snapshot that carries them.
//!
//! Pure values with their invariants: whoever holds a [`Name`] or a [`Uid`] never checks it again.
//! Nothing here knows files, sockets, clocks, databases or the wire. What always holds: one name
//! grammar and one comparison of names; no type has a default that means "root" or "nobody".

#![forbid(unsafe_code)]

pub mod access;
mod field;
mod id;
pub mod key;
pub mod merge;
mod name;
pub mod pattern;
mod record;
pub mod snapshot;
pub mod texts;

pub use field::{Gecos, GecosError, HostPath, HostPathError, ObjectId, ObjectIdError};
pub use id::{Caution, Gid, IdError, IdRange, IdRangeError, Uid};
pub use name::{Name, NameError, NameKind, NameRule};
pub use record::{Group, User};
