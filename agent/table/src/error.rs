//! What can go wrong with a table, for those who write one and those who open one.

use std::fmt;
use std::io;

/// A record or file that cannot be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// A text holds a byte that would break a passwd or group line, is empty where it must not be, or
    /// is too long. The record was left out; the writer can go on.
    Text {
        /// Which field.
        field: &'static str,
        /// Why it is refused.
        why: &'static str,
    },
    /// The name was written before. The record was left out; the writer can go on.
    DuplicateName,
    /// The uid or gid was written before. The record was left out; the writer can go on.
    DuplicateId {
        /// The uid or gid.
        id: u32,
    },
    /// A group came after the first user. Groups come first, because a user's record holds their ids.
    GroupAfterUser,
    /// A member's number that no name was given. The record was left out; the writer can go on.
    NoSuchMember,
    /// Members join or leave a group that is not there. The change was left out; the draft can go on.
    NoSuchGroup,
    /// The change does not go into an overlay; a whole table says it.
    WholeTable {
        /// What is in the way with the table that is there.
        why: &'static str,
    },
    /// More than the format can address (16 GiB, or 2^32 names).
    TooLarge,
    /// The bytes handed over are no table.
    NotATable(OpenError),
    /// The file could not be written or put in place.
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl WriteError {
    /// Whether only the offered record was refused, so that the writer can go on without it.
    pub fn concerns_one_record(&self) -> bool {
        matches!(
            self,
            Self::Text { .. } | Self::DuplicateName | Self::DuplicateId { .. } | Self::NoSuchMember | Self::NoSuchGroup
        )
    }

    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { field, why } => write!(f, "{field} {why}"),
            Self::DuplicateName => write!(f, "the name is in the table already"),
            Self::DuplicateId { id } => write!(f, "the id {id} is in the table already"),
            Self::GroupAfterUser => write!(f, "a group was added after a user; add all groups first"),
            Self::NoSuchMember => write!(f, "a member's number is none that was given out"),
            Self::NoSuchGroup => write!(f, "there is no group of that name"),
            Self::WholeTable { why } => write!(f, "no overlay for the table in place: {why}; write a whole table"),
            Self::TooLarge => write!(f, "the table would pass 16 GiB or 2^32 names"),
            Self::NotATable(error) => write!(f, "not a lookup table: {error}"),
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::NotATable(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a table cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no file.
    Missing,
    /// The path is a symbolic link, folder, device or pipe.
    NotAFile,
    /// The file belongs to another user than expected.
    Owner {
        /// Whose it is.
        found: u32,
        /// Whose it must be.
        expected: u32,
    },
    /// Group or others may write the file.
    Writable {
        /// Its permission bits.
        mode: u32,
    },
    /// The file is shorter than a header or longer than the format allows.
    Size {
        /// Its length in bytes.
        found: u64,
    },
    /// The file does not begin like a table.
    NotATable,
    /// A version this program does not read.
    Version {
        /// The version found.
        found: u32,
    },
    /// The file is shorter or longer than it was written.
    Length {
        /// Bytes written.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A checksum or offset is wrong.
    Damaged {
        /// Which.
        what: &'static str,
    },
    /// The system refused.
    System {
        /// Its error number.
        errno: i32,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "no such file; nothing was published on this host yet"),
            Self::NotAFile => write!(f, "not a regular file"),
            Self::Owner { found, expected } => write!(f, "owned by uid {found}, must be {expected}"),
            Self::Writable { mode } => write!(f, "mode {mode:04o} lets others write it, must be 0644"),
            Self::Size { found } => write!(f, "{found} bytes cannot be a table"),
            Self::NotATable => write!(f, "does not begin like a table"),
            Self::Version { found } => write!(f, "version {found} of the format is not known here"),
            Self::Length { expected, found } => write!(f, "{found} bytes long, was written with {expected}"),
            Self::Damaged { what } => write!(f, "damaged: {what}"),
            Self::System { errno } => write!(f, "{}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

impl std::error::Error for OpenError {}

/// A record that points outside the table or is malformed: the table is damaged, and nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt;

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the lookup table is damaged; publish it again")
    }
}

impl std::error::Error for Corrupt {}

impl From<Corrupt> for WriteError {
    fn from(_: Corrupt) -> Self {
        Self::WholeTable { why: "it is damaged" }
    }
}
