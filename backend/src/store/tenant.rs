//! The tenant-scoped handle, the only way to a tenant's data, and its registered key.

use std::sync::Arc;

use super::sql::{Connection, params};
use dirless_wire::{AgePublicKey, TenantId};
use jiff::Timestamp;
use serde_json::json;

use super::audit::{self, Actor};
use super::directory::{Binding, Credential, read_binding};
use super::policy::{KeyCall, KeyDecision, ReplaceBy, decide_key};
use super::types::millis;
use super::writer::Effects;
use super::{Change, Origin, Store, StoreError};

/// One tenant, reached by a credential of its realm. Cheap to clone; good for one request, or for as long as
/// [`Store::version`] stays the same, since key and credential are what they were when it was made.
#[derive(Clone, Debug)]
pub struct TenantHandle {
    store: Store,
    binding: Arc<Binding>,
    credential: Arc<Credential>,
}

/// What became of a key brought by `PUT /v1/snapshot/public-key`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum KeyChange {
    /// It is the registered one already.
    Unchanged,
    /// It is registered now.
    Replaced {
        /// The one before.
        previous: AgePublicKey,
    },
    /// The registered one stays: 409.
    Conflict {
        /// The registered key.
        registered: AgePublicKey,
    },
}

impl TenantHandle {
    /// `None` for a tenant that was never enrolled the classic way: it has no key that anything is sealed to.
    pub(crate) fn new(store: Store, binding: Arc<Binding>, credential: Arc<Credential>) -> Option<Self> {
        binding.public_key.is_some().then_some(Self {
            store,
            binding,
            credential,
        })
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.binding.tenant
    }

    /// The credential it was reached with.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// The registered key. Memory only, never waits.
    ///
    /// # Panics
    /// Never: a handle is made only of a binding with a key.
    #[must_use]
    pub fn public_key(&self) -> &AgePublicKey {
        let key = self.binding.public_key.as_ref();
        key.expect("a handle is made only of a binding with a key")
    }

    /// Brings another key, by the rule of `replace_by`.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn put_public_key(
        &self,
        offered: &AgePublicKey,
        replace_by: ReplaceBy,
        origin: Origin,
    ) -> Result<KeyChange, StoreError> {
        let (offered, now, row, actor) = (offered.clone(), self.store.now(), self.row(), self.actor(origin));
        self.store
            .write(move |connection, effects| {
                let binding = current(connection, row)?;
                let decision = decide_key(binding.public_key.as_ref(), &offered, KeyCall::PutPublicKey, replace_by);
                match decision {
                    KeyDecision::Refuse(registered) => Ok(KeyChange::Conflict { registered }),
                    KeyDecision::Same | KeyDecision::First => Ok(KeyChange::Unchanged),
                    KeyDecision::Replace(previous) => {
                        replace_key(connection, effects, &binding, &offered, now)?;
                        let details = json!({"public_key": offered.as_str(), "previous": previous.as_str()});
                        audit::record(connection, now, &actor, Some(&binding.tenant), "key.replace", &details)?;
                        Ok(KeyChange::Replaced { previous })
                    }
                }
            })
            .await
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn row(&self) -> i64 {
        self.binding.row
    }

    pub(crate) fn actor(&self, origin: Origin) -> Actor {
        Actor::of(&self.credential, origin)
    }
}

/// The binding as the database has it, inside a write.
pub(crate) fn current(connection: &Connection, row: i64) -> Result<Binding, StoreError> {
    let mut select = connection.prepare("SELECT id, tenant, realm_id, public_key FROM tenants WHERE id = ?1")?;
    let mut rows = select.query(params![row])?;
    match rows.next()? {
        Some(row) => read_binding(row),
        None => Err(StoreError::corrupt(format!("tenant row {row} is gone"))),
    }
}

/// Registers `key` in place of the one of `binding`.
pub(crate) fn replace_key(
    connection: &Connection,
    effects: &mut Effects,
    binding: &Binding,
    key: &AgePublicKey,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare("UPDATE tenants SET public_key = ?2, key_changed_at = ?3 WHERE id = ?1")?
        .execute(params![binding.row, key.as_str(), millis(now)])?;
    effects.binding = Some(Arc::new(Binding {
        public_key: Some(key.clone()),
        ..binding.clone()
    }));
    effects.changes.push(Change::Tenant {
        tenant: binding.tenant.clone(),
    });
    Ok(())
}
