//! The verified protocol's part of the store: opaque objects, keys, join codes, receipts. Nothing of it is
//! understood here; who may do what is the routes' to decide, by the [`Caller`].

mod haste;
mod join;
mod keys;
mod objects;
mod receipts;
mod said;
mod sightings;
mod tenants;

use std::sync::Arc;

use dirless_wire::TenantId;
use dirless_wire::trust::{KeyId, Label};

pub use join::{JoinCode, JoinPost, JoinRequest};
pub use keys::{KeyCredential, KeyInfo, Registration, Revocation};
pub(crate) use keys::{KeyUses, load as load_keys, load_of as load_keys_of};
pub use objects::{News, ObjectMeta, ObjectPut, Page};
pub use receipts::Receipt;
pub(crate) use receipts::Receipts;
pub(crate) use sightings::sweep as sweep_sightings;
pub use sightings::{SplitContent, SplitView};
pub use tenants::NewTenant;

use super::audit::Actor;
use super::directory::{Binding, RealmEntry};
use super::{Operator, Origin, RealmState, Role, SecretHash, Store, StoreError};

/// Most entries of a list in one answer.
pub const PAGE_MAX: usize = 1000;

/// Who asks.
#[derive(Clone, Debug)]
pub enum Caller {
    /// The owner of a registered key, once its signature was checked.
    Key(Arc<KeyCredential>),
    /// An operator of the tenant's realm, or of all realms.
    Operator(Arc<Operator>),
    /// Whoever holds a join code, once its bearer was checked.
    Joining,
}

/// One tenant, reached by the verified protocol. Cheap to clone; good for one request.
#[derive(Clone, Debug)]
pub struct TrustHandle {
    store: Store,
    binding: Arc<Binding>,
    realm: RealmEntry,
    caller: Caller,
}

/// A key that is registered and good now, with its tenant: not yet somebody who asks.
#[derive(Clone, Debug)]
pub struct KeyHolder {
    binding: Arc<Binding>,
    realm: RealmEntry,
    key: Arc<KeyCredential>,
}

impl KeyHolder {
    /// Whether the realm of the tenant is suspended.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.realm.state == RealmState::Suspended
    }

    /// The raw Ed25519 key.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.public_key()
    }
}

impl Store {
    /// The key `id` of a tenant, if it is neither revoked nor expired. Memory only, never waits.
    #[must_use]
    pub fn key_holder(&self, tenant: &str, id: &KeyId) -> Option<KeyHolder> {
        let (binding, realm, key) = self.directory().key(tenant, id, self.now())?;
        Some(KeyHolder { binding, realm, key })
    }

    /// The tenant, for the owner of a key. Only for who has checked a signature of it.
    #[must_use]
    pub fn tenant_of_key(&self, holder: KeyHolder) -> TrustHandle {
        holder.key.note_use(self);
        TrustHandle {
            store: self.clone(),
            binding: holder.binding,
            realm: holder.realm,
            caller: Caller::Key(holder.key),
        }
    }

    /// The tenant, for an operator whose token reaches its realm. Memory only, never waits.
    ///
    /// `None` when there is no such tenant or it is another realm's: the caller cannot tell which.
    #[must_use]
    pub fn tenant_of_operator(&self, operator: &Arc<Operator>, tenant: &str) -> Option<TrustHandle> {
        self.tenant_of_token(Some(operator), tenant)
    }

    /// The same for a token that may be nobody's, in the same time.
    #[must_use]
    pub fn tenant_of_token(&self, operator: Option<&Arc<Operator>>, tenant: &str) -> Option<TrustHandle> {
        let found = self.directory().binding_with_realm(tenant);
        let (operator, (binding, realm)) = operator.zip(found)?;
        let reaches = operator.realm().is_none_or(|only| *only == realm.name);
        reaches.then(|| TrustHandle {
            store: self.clone(),
            binding,
            realm,
            caller: Caller::Operator(Arc::clone(operator)),
        })
    }
}

impl Store {
    /// The tenant, for whoever holds a join code of it. `None` for an unknown tenant or code, a wrong bearer, one that has
    /// ended, and a suspended realm: the caller cannot tell which.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn tenant_of_join(
        &self,
        tenant: &str,
        code: &Label,
        bearer: SecretHash,
    ) -> Result<Option<TrustHandle>, StoreError> {
        // Whatever is wrong, the same is done.
        let admitted = self.admits_join(tenant, code, bearer).await?;
        let found = self.directory().binding_with_realm(tenant);
        let found = found.filter(|(_, realm)| admitted && realm.state != RealmState::Suspended);
        Ok(found.map(|(binding, realm)| TrustHandle {
            store: self.clone(),
            binding,
            realm,
            caller: Caller::Joining,
        }))
    }
}

impl TrustHandle {
    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.binding.tenant
    }

    /// Who asks.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether the realm of the tenant is suspended: such a caller gets 403.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.realm.state == RealmState::Suspended
    }

    pub(crate) fn row(&self) -> i64 {
        self.binding.row
    }

    fn actor(&self, origin: Origin) -> Actor {
        let (role, token) = match &self.caller {
            Caller::Key(key) => (Role::from(key.role()), None),
            Caller::Operator(operator) => (Role::Operator, Some(operator.id().clone())),
            Caller::Joining => (Role::Joining, None),
        };
        Actor {
            realm: Some(self.realm.name.clone()),
            role,
            token,
            key: match &self.caller {
                Caller::Key(key) => Some(key.id().clone()),
                Caller::Operator(_) | Caller::Joining => None,
            },
            origin,
        }
    }
}
