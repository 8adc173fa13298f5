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
//! names only files that are all there; whoever was revoked is given no later key; nothing new is signed that the
//! policy does not let this publisher say.

#![forbid(unsafe_code)]

mod adopt;
mod backend;
mod book;
mod config;
mod custody;
mod enroller;
mod epochs;
mod error;
mod fleet;
mod folder;
mod grow;
mod index;
mod join;
mod line;
mod lists;
mod mirror;
mod nodes;
mod paths;
mod policy;
mod publish;
pub mod revocation;
mod scope;
mod settle;
mod stock;
mod view;

use std::collections::BTreeSet;
use std::sync::Arc;

use dirless_program::Clock;
use dirless_seal::{Digest, Label, SigningKey};
use jiff::Timestamp;

pub use adopt::{Adopted, Facts};
pub use backend::{BackendFolder, request_key};
pub use book::{Book, Current};
pub use config::{CompartmentConfig, SignedConfig};
pub use custody::{Custody, CustodyError, PublicLines, enroller_of};
pub use enroller::{Attended, Enroller, Office};
pub use epochs::Begun;
pub use error::SignedError;
pub use fleet::{Awaited, Behind, CONNECTED_FOR, Fleet, Host, Pace, Receipts, Roster, Standing, Waited};
pub use folder::{DiskFolder, Folder, Registry};
pub use join::{Admission, CodeFacts, NewCode, Waiting};
pub use line::{KeyFacts, NextKey, asking_key, follow_successions};
pub use mirror::{Mirrored, Policies};
pub use nodes::NodeFacts;
pub use settle::{Settled, Wish};
pub use stock::{Kind, Stocked, content_root, records};
pub use view::HostsOf;

/// The source under which access rules travel.
pub const ACCESS_RULES: &str = "access-rules";

/// What signs.
#[derive(Debug)]
pub struct Signer {
    config: SignedConfig,
    tenant: Digest,
    /// The publisher's first key; its successors are in the state folder.
    key: SigningKey,
    handed_over: bool,
    enroller: Enroller,
    /// What only this program reads.
    state: Arc<dyn Folder>,
    /// What hosts read.
    tenant_folder: Arc<dyn Folder>,
    clock: Clock,
}

impl Signer {
    /// One over these folders.
    #[must_use]
    pub fn over(
        config: SignedConfig,
        tenant: Digest,
        keys: Custody,
        state: Arc<dyn Folder>,
        tenant_folder: Arc<dyn Folder>,
        clock: Clock,
    ) -> Self {
        let office = Office {
            tenant,
            roots: config.roots,
            first: config.policy,
            state: Arc::clone(&state),
            folder: Arc::clone(&tenant_folder),
            clock: clock.clone(),
        };
        Self {
            config,
            tenant,
            key: keys.publisher,
            handed_over: keys.handed_over,
            enroller: Enroller::new(keys.enroller, keys.identity, office),
            state,
            tenant_folder,
            clock,
        }
    }

    /// Name of the keys that sign heads.
    #[must_use]
    pub fn publisher(&self) -> &Label {
        self.key.verifying().name()
    }

    /// Who lets hosts in.
    #[must_use]
    pub fn enroller(&self) -> &Enroller {
        &self.enroller
    }

    /// What is known to be published.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn book(&self) -> Result<Book, SignedError> {
        Book::load(self.state.as_ref(), self.publisher())
    }

    fn now(&self) -> Timestamp {
        whole_second(&self.clock)
    }

    /// The configured compartments.
    fn compartments(&self) -> BTreeSet<Label> {
        self.config.compartments().into_iter().map(|own| own.name).collect()
    }
}

/// Signed times are whole seconds.
fn whole_second(clock: &Clock) -> Timestamp {
    let now = clock.now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
