//! Why something that the backend served is not believed.

use super::text::FormatError;
use crate::{Label, NoteError};

/// Why an object is refused. Each kind has a stable [code](Refusal::code) for alarms, and none of them changes
/// what a host has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no signed note.
    #[error("the {0} is no signed note: {1}")]
    NoNote(&'static str, NoteError),
    /// The text is not the object that it should be.
    #[error("the {0} cannot be read: {1}")]
    Malformed(&'static str, FormatError),
    /// It belongs to another tenant.
    #[error("the {0} is of another tenant")]
    OtherTenant(&'static str),
    /// Nobody who may sign such a thing did.
    #[error("the {0} is not signed by anybody who may sign it")]
    Forged(&'static str),
    /// Its version is below one that was accepted.
    #[error("the {kind} has version {found}, but {seen} was accepted before: an old one is being served")]
    Rollback {
        /// What.
        kind: &'static str,
        /// Its version.
        found: u64,
        /// The version that was accepted.
        seen: u64,
    },
    /// Two different ones have the same version: somebody shows different hosts different things, or an old
    /// copy of a publisher's state was started again.
    #[error("the {kind} of version {version} is another one than was accepted under the same version")]
    Fork {
        /// What.
        kind: &'static str,
        /// The version.
        version: u64,
    },
    /// Its version is absurdly far ahead.
    #[error("the {kind} has version {found}, which nobody reaches by counting on from {seen}")]
    Leap {
        /// What.
        kind: &'static str,
        /// Its version.
        found: u64,
        /// The version that was accepted; 0 when there was none.
        seen: u64,
    },
    /// It does not follow on what was accepted.
    #[error("the {0} does not continue the one before")]
    Chain(&'static str),
    /// The pinned roots did not make this policy.
    #[error("its roots are not the ones that this host was given when it joined")]
    OtherRoots,
    /// The policy is for newer programs.
    #[error("the policy asks for format {wanted}; this program reads up to {}", super::FORMAT)]
    FormatTooNew {
        /// The format.
        wanted: u32,
    },
    /// A head was made under a policy that nobody shows us.
    #[error("the head was made under policy {wanted}, but only {known} is being served: the newer one is withheld")]
    Withheld {
        /// The policy's version.
        wanted: u64,
        /// The newest that is known.
        known: u64,
    },
    /// The lease is longer than the policy allows.
    #[error("the head's lease of {found} seconds is longer than the {allowed} that the policy allows")]
    Lease {
        /// Its length.
        found: u32,
        /// The policy's.
        allowed: u32,
    },
    /// The publisher speaks of what is not its own.
    #[error("publisher {publisher} may not speak of {what}")]
    Scope {
        /// The publisher.
        publisher: Label,
        /// What it spoke of.
        what: String,
    },
    /// The object is not the one that the head names.
    #[error("the {0} is not the one that the head names")]
    Mixed(&'static str),
    /// The body is larger or smaller than signed.
    #[error("the sealed body has {found} bytes, {signed} are signed")]
    Size {
        /// Its size, or as much of it as was read.
        found: u64,
        /// The signed one.
        signed: u64,
    },
    /// The body is another one than signed.
    #[error("the sealed body is not the one that was signed: bytes were changed on the way")]
    Body,
    /// The key that was handed out is not the epoch's.
    #[error("the wrapped key is not the key of epoch {0}")]
    Epoch(u64),
    /// The records are not those that were signed.
    #[error("the records do not have the signed content root")]
    Content,
}

impl Refusal {
    /// A short stable word for logs, metrics and alarms.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoNote(..) => "no-note",
            Self::Malformed(..) => "malformed",
            Self::OtherTenant(_) => "other-tenant",
            Self::Forged(_) => "forged",
            Self::Rollback { .. } => "rollback",
            Self::Fork { .. } => "fork",
            Self::Leap { .. } => "leap",
            Self::Chain(_) => "chain",
            Self::OtherRoots => "other-roots",
            Self::FormatTooNew { .. } => "format-too-new",
            Self::Withheld { .. } => "policy-withheld",
            Self::Lease { .. } => "lease-too-long",
            Self::Scope { .. } => "out-of-scope",
            Self::Mixed(_) => "mixed",
            Self::Size { .. } => "body-size",
            Self::Body => "body-changed",
            Self::Epoch(_) => "epoch-key",
            Self::Content => "content-root",
        }
    }
}
