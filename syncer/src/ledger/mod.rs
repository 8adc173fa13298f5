//! The permanent id ledger: which number belongs to which object of which source, for good.
//!
//! Users and groups draw from one number space, so that a user's private group, whose gid is the
//! user's own number, can never be somebody else's group. An assignment is written once, is never
//! changed or removed (the database refuses it), and its number is never given to another object,
//! also after the object is gone. What happens later (retired, returned, renamed) is appended as
//! events.

mod allocate;
mod error;
mod events;
mod preview;
mod schema;
mod store;

use dirless_model::ObjectId;
use dirless_model::snapshot::ObjectKind;
use jiff::Timestamp;

pub use allocate::{Allocator, Exhausted, NoRoom};
pub use error::LedgerError;
pub use preview::{Preview, Settled};
pub use store::Ledger;

/// What identifies an object: the source, the kind, and the source's own id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    /// The source's name, such as `aws-identity-center`.
    pub source: String,
    /// User or group.
    pub kind: ObjectKind,
    /// The source's own id.
    pub id: ObjectId,
}

impl std::fmt::Display for Object {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} of {}", kind_text(self.kind), self.id, self.source)
    }
}

/// How a number came into the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Given out of the configured range.
    Assigned,
    /// Taken over from a snapshot or a passwd or group file.
    Imported,
    /// Read back from the ledger in a sealed snapshot.
    Rebuilt,
}

impl Origin {
    /// The word in the file and on the screen.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Imported => "imported",
            Self::Rebuilt => "rebuilt",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [Self::Assigned, Self::Imported, Self::Rebuilt];
        all.into_iter().find(|origin| origin.text() == text)
    }
}

/// One line of the ledger, with what later events say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The uid or gid.
    pub number: u32,
    /// Whose it is.
    pub object: Object,
    /// The name it had when it was first seen.
    pub first_name: String,
    /// The name it had last.
    pub last_name: String,
    /// When the number was given.
    pub assigned_at: Timestamp,
    /// How.
    pub origin: Origin,
    /// First of the subordinate ids (subuid(5)) that go with it, and how many.
    pub subids: Option<(u32, u32)>,
    /// Was it gone from the source when last looked?
    pub retired: bool,
}

/// `user` or `group`.
#[must_use]
pub fn kind_text(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::User => "user",
        ObjectKind::Group => "group",
    }
}

/// The id under which a number is kept that an import found in use but that matches no object.
///
/// # Errors
/// When `name` holds control characters or is too long.
pub fn reservation(kind: ObjectKind, name: &str) -> Result<ObjectId, dirless_model::ObjectIdError> {
    ObjectId::parse(&format!("reserved:{}:{name}", kind_text(kind)))
}

#[cfg(test)]
mod tests;
