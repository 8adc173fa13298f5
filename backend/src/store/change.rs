//! What the store tells others after a commit.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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
    stored: Mutex<Stored>,
}

/// Counts what was stored for hosts of the verified protocol to apply. Heads are not: they are signed again each minute.
#[derive(Default)]
struct Stored {
    of: HashMap<TenantId, u64>,
    /// How often nobody knows what it was.
    unknown: u64,
}

impl Stored {
    fn count(&mut self, change: &Change) {
        match change {
            Change::Object { tenant, path } if !path.starts_with("head/") => {
                *self.of.entry(tenant.clone()).or_default() += 1;
            }
            Change::Everything => self.unknown += 1,
            _ => {}
        }
    }
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
            stored: Mutex::default(),
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.sender.subscribe()
    }

    /// Sets the observer; `false` when there is one already.
    pub(crate) fn observe(&self, observer: Observer) -> bool {
        self.observer.set(observer).is_ok()
    }

    /// Changes whenever something that hosts apply is stored for the tenant, before anybody is told of it.
    pub(crate) fn stored(&self, tenant: &TenantId) -> u64 {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.unknown + stored.of.get(tenant).copied().unwrap_or_default()
    }

    pub(crate) fn tell(&self, change: Change) {
        self.stored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count(&change);
        if let Some(observer) = self.observer.get() {
            observer(&change);
        }
        // That nobody listens is fine.
        let _unheard = self.sender.send(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_hosts_apply_counts_and_heads_do_not() {
        let notices = Notices::new();
        let tenants: [TenantId; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let counts = || tenants.each_ref().map(|tenant| notices.stored(tenant));
        let object = |path: &str| Change::Object {
            tenant: tenants[0].clone(),
            path: path.to_owned(),
        };
        assert_eq!(counts(), [0, 0]);
        notices.tell(object("head/syncer"));
        notices.tell(Change::Credentials);
        assert_eq!(counts(), [0, 0]);
        notices.tell(object("log/syncer/people/all/1/7"));
        notices.tell(object("policy/2"));
        assert_eq!(counts(), [2, 0]);
        notices.tell(Change::Everything);
        assert_eq!(counts(), [3, 1]);
    }
}
