//! Why nothing was signed.

use std::io;

use dirless_seal::trust::{FormatError, Refusal};
use dirless_seal::{Label, NoteError};

use super::custody::CustodyError;

/// Why nothing was signed. What hosts have stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// A key is missing or unusable.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] io::Error),
    /// A file of the state folder is not what this program wrote.
    #[error(
        "{path} in the state folder is damaged: {reason}; put it back from a backup, or run `dirless-syncer signing adopt`"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody says which tenant it is.
    #[error("no tenant is known: set [signed] tenant to the id that `dirless tenant init` printed")]
    NoTenant,
    /// There is no policy.
    #[error(
        "there is no policy/{0} in the tenant folder: copy there what `dirless tenant init` and `dirless policy sign` wrote"
    )]
    NoPolicy(u64),
    /// A file of the tenant folder is not believed.
    #[error("{path}: {refusal} ({})", .refusal.code())]
    Refused {
        /// The file.
        path: String,
        /// Why.
        refusal: Refusal,
    },
    /// The policy does not have our key.
    #[error(
        "policy {version} has no publisher {publisher} with the key in use: it was withdrawn, or never added; nothing is \
         signed. Let an operator run `dirless publisher add` with what `dirless-syncer signing init` printed"
    )]
    NoPublisher {
        /// The policy.
        version: u64,
        /// Our name.
        publisher: Label,
    },
    /// The key in use is not the current one.
    #[error(
        "{path}: the key in use has a successor that is not here: the state folder was lost or is older, another copy of this \
         program runs, or somebody stole the key; nothing is signed. Put the newest state back, or let the policy name another \
         key (dirless publisher rotate {publisher}), which ends the successors of this one"
    )]
    Succeeded {
        /// What says so.
        path: String,
        /// Our name.
        publisher: Label,
    },
    /// The policy does not have our enroller key.
    #[error("policy {version} has no enroller {enroller} with the key in use; no host can be admitted or revoked")]
    NoEnroller {
        /// The policy.
        version: u64,
        /// Our name.
        enroller: Label,
    },
    /// The policy does not have a compartment.
    #[error("policy {version} has no compartment {compartment}, which [signed] names; nothing is signed")]
    NoCompartment {
        /// The policy.
        version: u64,
        /// The compartment.
        compartment: Label,
    },
    /// Somebody else signs with our key.
    #[error(
        "the tenant folder has head {found} of {publisher}, signed with the key in use, but this syncer has signed only up \
         to {known}: another copy of it runs, or its state was lost. Stop the other; if there is none, run \
         `dirless-syncer signing adopt`"
    )]
    Copy {
        /// Our name.
        publisher: Label,
        /// The version in the folder.
        found: u64,
        /// The last that we signed.
        known: u64,
    },
    /// A file that must be new is there with other bytes.
    #[error(
        "{path} is there already and is not what this syncer wrote: another copy of it runs, or its state was lost; if no \
         other runs, use `dirless-syncer signing adopt`"
    )]
    Taken {
        /// The file.
        path: String,
    },
    /// What was to be signed cannot be written down.
    #[error("the {what} cannot be written: {reason}")]
    Unwritable {
        /// What it is.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// What is to be published is no snapshot.
    #[error("source {source_name}: what is to be published cannot be read back: {reason}")]
    Unreadable {
        /// The source.
        source_name: Label,
        /// Why.
        reason: String,
    },
    /// A host or a code is not there.
    #[error("{0}")]
    Nothing(String),
}

impl SignedError {
    pub(super) fn damaged(path: impl Into<String>, reason: impl ToString) -> Self {
        Self::Damaged {
            path: path.into(),
            reason: reason.to_string(),
        }
    }

    pub(super) fn refused(path: impl Into<String>) -> impl FnOnce(Refusal) -> Self {
        let path = path.into();
        move |refusal| Self::Refused { path, refusal }
    }

    pub(super) fn no_note(path: impl Into<String>, kind: &'static str) -> impl FnOnce(NoteError) -> Self {
        let path = path.into();
        move |error| Self::Refused {
            path,
            refusal: Refusal::NoNote(kind, error),
        }
    }

    pub(super) fn unwritable(what: &'static str) -> impl FnOnce(FormatError) -> Self {
        move |error| Self::Unwritable {
            what,
            reason: error.to_string(),
        }
    }
}
