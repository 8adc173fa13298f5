//! What the store tells others after a commit.

use std::fmt;
use std::sync::{Arc, OnceLock};

use dirless_wire::{ETag, SourceName, TenantId};
use tokio::sync::broadcast;

use super::Generation;

/// How many changes a slow [`broadcast::Receiver`] may be behind before it lags.
const BACKLOG: usize = 4096;

/// Something that is now durable. A cache is right as long as it applies these in order and drops
/// everything on [`Change::Everything`] or when its receiver has lagged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A snapshot was stored, or stored again with the same body.
    Snapshot {
        /// Its tenant.
        tenant: TenantId,
        /// Its source.
        source: SourceName,
        /// Its number.
        generation: Generation,
        /// Tag of its body.
        etag: ETag,
    },
    /// A source was deleted.
    SourceDeleted {
        /// Its tenant.
        tenant: TenantId,
        /// The source.
        source: SourceName,
        /// The number the deletion got.
        generation: Generation,
    },
    /// The access rules of a tenant changed.
    AccessRules {
        /// The tenant.
        tenant: TenantId,
    },
    /// A setting of a tenant changed.
    Setting {
        /// The tenant.
        tenant: TenantId,
        /// The key.
        key: String,
    },
    /// A tenant enrolled, or its key or account changed.
    Tenant {
        /// The tenant.
        tenant: TenantId,
    },
    /// An object of the verified protocol was stored or deleted.
    Object {
        /// Its tenant.
        tenant: TenantId,
        /// Where, below the tenant.
        path: String,
    },
    /// Realms, secrets or tokens changed, or a key was revoked: cached credentials are void.
    Credentials,
    /// Another process wrote: forget everything.
    Everything,
}

/// Told of each change, in commit order.
pub(crate) struct Notices {
    sender: broadcast::Sender<Change>,
    observer: OnceLock<Observer>,
}

/// A function called on the writer's thread after the commit and before the writer's callers are
/// answered, so that whoever saw a write acknowledged also sees its effect in a cache. It must
/// return at once: no input or output, no waiting for a task.
pub type Observer = Arc<dyn Fn(&Change) + Send + Sync>;

impl fmt::Debug for Notices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Notices").finish_non_exhaustive()
    }
}

impl Notices {
    pub(crate) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(BACKLOG),
            observer: OnceLock::new(),
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.sender.subscribe()
    }

    /// Sets the observer; `false` when there is one already.
    pub(crate) fn observe(&self, observer: Observer) -> bool {
        self.observer.set(observer).is_ok()
    }

    pub(crate) fn tell(&self, change: Change) {
        if let Some(observer) = self.observer.get() {
            observer(&change);
        }
        // That nobody listens is fine.
        let _unheard = self.sender.send(change);
    }
}
