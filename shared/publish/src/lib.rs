//! Publisher and enroller of a tenant: what was read becomes files that hosts believe without believing
//! whoever serves them (docs/protocol.md). Used by the syncer, and by operators on a machine of their own; it reads
//! no source and knows no directory.
//!
//! Two halves meet here. [`Signer::stock`] notes in the state folder what is to be published; nothing of it is
//! signed yet. [`Signer::settle`] brings the tenant folder to what state folder and policy say: it admits hosts, renews
//! epochs, seals bodies, signs manifests and at last the head. It is one list of steps that each look at what is
//! there, so that whatever was interrupted is finished by the next run.
//!
//! What always holds: a version is on disk before anything bears it, and is never borne by a second thing; a head
//! names only files that are all there; whoever was revoked is given no later key; nothing is signed that the
//! policy does not let this publisher say.

#![forbid(unsafe_code)]

mod adopt;
mod book;
mod config;
mod custody;
mod epochs;
mod error;
mod folder;
mod join;
mod nodes;
mod paths;
mod policy;
mod publish;
mod scope;
mod settle;
mod stock;

use std::collections::BTreeSet;

use dirless_program::Clock;
use dirless_seal::{Digest, Label};
use jiff::Timestamp;

pub use adopt::{Adopted, Facts};
pub use book::{Book, Current};
pub use config::{CompartmentConfig, SignedConfig};
pub use custody::{Custody, CustodyError, PublicLines};
pub use epochs::Begun;
pub use error::SignedError;
pub use folder::{DiskFolder, Folder};
pub use join::{CodeFacts, NewCode};
pub use nodes::NodeFacts;
pub use settle::{Settled, Wish};
pub use stock::{Kind, Stocked};

/// The source under which access rules travel.
pub const ACCESS_RULES: &str = "access-rules";

/// What signs.
#[derive(Debug)]
pub struct Signer {
    config: SignedConfig,
    tenant: Digest,
    keys: Custody,
    /// What only this program reads.
    state: Box<dyn Folder>,
    /// What hosts read.
    tenant_folder: Box<dyn Folder>,
    clock: Clock,
}

impl Signer {
    /// One over these folders.
    #[must_use]
    pub fn over(
        config: SignedConfig,
        tenant: Digest,
        keys: Custody,
        state: Box<dyn Folder>,
        tenant_folder: Box<dyn Folder>,
        clock: Clock,
    ) -> Self {
        Self {
            config,
            tenant,
            keys,
            state,
            tenant_folder,
            clock,
        }
    }

    /// Name of the key that signs heads.
    #[must_use]
    pub fn publisher(&self) -> &Label {
        self.keys.publisher.verifying().name()
    }

    /// What join requests are sealed to.
    #[must_use]
    pub fn enroller_recipient(&self) -> dirless_seal::Recipient {
        self.keys.identity.recipient()
    }

    /// What is known to be published.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn book(&self) -> Result<Book, SignedError> {
        Book::load(self.state.as_ref(), self.publisher())
    }

    /// Signed times are whole seconds.
    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    /// The configured compartments.
    fn compartments(&self) -> BTreeSet<Label> {
        self.config.compartments().into_iter().map(|own| own.name).collect()
    }
}
