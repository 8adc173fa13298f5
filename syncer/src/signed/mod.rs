//! The syncer as publisher and enroller: what it read becomes files that hosts believe without believing
//! whoever serves them (docs/protocol.md).
//!
//! Two halves meet here. [`Signer::stock`] notes in the state folder what is to be published; nothing of it is
//! signed yet. [`Signer::settle`] brings the tenant folder to what state folder and policy say: it admits hosts, renews
//! epochs, seals bodies, signs manifests and at last the head. It is one list of steps that each look at what is
//! there, so that whatever was interrupted is finished by the next run.
//!
//! What always holds: a version is on disk before anything bears it, and is never borne by a second thing; a head
//! names only files that are all there; whoever was revoked is given no later key; nothing is signed that the
//! policy does not let this publisher say.

mod adopt;
mod book;
pub mod config;
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
use std::path::Path;

use dirless_program::{Clock, Lookup};
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

use crate::config::Config;

/// The source under which access rules travel.
pub const ACCESS_RULES: &str = "access-rules";
/// Where its state is, below the state folder.
const STATE: &str = "signed";

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
    /// As `config` says; none when it has no `[signed]`.
    ///
    /// # Errors
    /// When the keys are missing or unusable, or the tenant is unknown.
    pub fn of(config: &Config, environment: Lookup<'_>, clock: Clock) -> Result<Option<Self>, SignedError> {
        let Some(own) = &config.signed else {
            return Ok(None);
        };
        let keys = Custody::load(own.key_folder(config), environment)?;
        let state = DiskFolder::private(&config.syncer.state_folder.join(STATE));
        Ok(Some(Self {
            config: own.clone(),
            tenant: own.tenant(config)?,
            keys,
            state: Box::new(state),
            tenant_folder: Box::new(DiskFolder::public(&own.folder)),
            clock,
        }))
    }

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

    /// The folder of the state, for messages.
    #[must_use]
    pub fn state_folder(config: &Config) -> std::path::PathBuf {
        Path::new(&config.syncer.state_folder).join(STATE)
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
