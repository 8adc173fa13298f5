//! What a run works on: everything it needs to know, as values.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;

use dirless_model::NameRule;
use dirless_seal::Identity;
use dirless_seal::trust::{Policy, Wrap};

use super::limits::HostLimits;
use super::ratchet::Ratchet;

/// The sources in the order of precedence, unless the configuration has another.
pub const SOURCES: [&str; 2] = ["local", "aws-identity-center"];

/// What the backend said about a source when it was asked last, beside the sealed body. The daemon
/// writes it as JSON to [`crate::paths::Paths::source_note`], after the body.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SourceNote {
    /// Is there a body?
    pub state: SourceState,
    /// Did the answer carry `X-Dirless-Encrypted: age`? Only an error text depends on it: nothing but
    /// a sealed body is ever opened.
    #[serde(default)]
    pub encrypted: bool,
    /// `ETag` of the body.
    #[serde(default)]
    pub etag: Option<String>,
    /// `X-Dirless-Registered-Key`: the key that the backend has for the tenant.
    #[serde(default)]
    pub registered_key: Option<String>,
    /// `X-Dirless-Snapshot-Recipient`: the key that the body was sealed to, as its pusher said.
    #[serde(default)]
    pub snapshot_recipient: Option<String>,
    /// When the body was fetched (RFC 3339).
    #[serde(default)]
    pub fetched_at: Option<String>,
}

/// Whether a source has a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// It was fetched and lies beside the note.
    Present,
    /// The backend never had one: the source is empty.
    Absent,
    /// It was deleted, and the daemon or the operator took that as meant: the source is empty.
    Deleted,
}

/// A sealed body.
#[derive(Clone, Debug)]
pub enum Body {
    /// In a file.
    File(PathBuf),
    /// In memory.
    Bytes(Vec<u8>),
}

impl Body {
    /// A reader from the start, and the length in bytes.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(&self) -> io::Result<(Box<dyn Read + '_>, u64)> {
        match self {
            Self::File(path) => {
                let file = File::open(path)?;
                let len = file.metadata()?.len();
                Ok((Box::new(file), len))
            }
            Self::Bytes(bytes) => Ok((Box::new(Cursor::new(bytes)), bytes.len() as u64)),
        }
    }
}

/// One source.
#[derive(Clone, Debug)]
pub struct SourceInput {
    /// Its name on the wire, for instance `local`.
    pub name: String,
    /// What is known about it; `None` when it was never asked for.
    pub note: Option<SourceNote>,
    /// The body as last fetched.
    pub fetched: Option<Body>,
    /// The last body that was read to its end, when it is another one.
    pub last_good: Option<Body>,
}

/// The access rules, as text.
#[derive(Clone, Debug, Default)]
pub struct AccessInput {
    /// As last fetched, whatever it holds.
    pub fetched: Option<Vec<u8>>,
    /// The last that were well-formed.
    pub last_good: Option<Vec<u8>>,
    /// Whose word both are.
    pub from: RulesFrom,
}

/// Whose word access rules are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RulesFrom {
    /// A backend's: nobody signed them.
    #[default]
    Backend,
    /// A publisher's, signed.
    Publisher,
    /// This host's own: nobody made any, or a lease has run out.
    Host,
}

/// The accounts that the host itself has, as the texts of its files.
#[derive(Clone, Debug, Default)]
pub struct HostFiles {
    /// passwd(5).
    pub passwd: String,
    /// group(5).
    pub group: String,
    /// shells(5), when there is one.
    pub shells: Option<String>,
}

/// The directory tree.
#[derive(Clone, Debug)]
pub struct DirectoryInput {
    /// Where the copy begins.
    pub base: dirless_directory::Dn,
    /// Its sources; of two entries with the same name the first one's wins.
    pub sources: Vec<SourceInput>,
}

/// What opens the bodies, and vouches for them or not.
#[derive(Debug)]
pub enum Opener {
    /// The tenant's one key: whoever knows its public half may have sealed them.
    Key(Identity),
    /// Keys of epochs, for bodies that come with manifests which were accepted.
    Signed {
        /// The policy that holds: it says what publishers may say.
        policy: Box<Policy>,
        /// The keys that this host was given.
        keys: Vec<Wrap>,
    },
}

/// Everything that a run depends on.
#[derive(Debug)]
pub struct Inputs {
    /// The sources; the first wins.
    pub sources: Vec<SourceInput>,
    /// What the directory copy is made from besides; none when there is to be no copy.
    pub directory: Option<DirectoryInput>,
    /// What opens the bodies.
    pub opener: Opener,
    /// The access rules.
    pub access: AccessInput,
    /// How raw names become names.
    pub name_rule: NameRule,
    /// The kernel's host name.
    pub hostname: String,
    /// The host limits.
    pub limits: HostLimits,
    /// The host's own accounts.
    pub host: HostFiles,
    /// Highest sequence numbers seen.
    pub ratchet: Ratchet,
}
