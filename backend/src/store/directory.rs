//! Realms, credentials and the binding of tenants, kept in memory so that checking a request never
//! waits for the database. Filled at start, updated by the writer's thread after each commit, and
//! read again whole when another process (the command line) has written.
//!
//! A tenant takes some 300 bytes here: 100,000 tenants, 30 MB.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use super::sql::{Connection, Row, Value, params};
use dirless_wire::trust::KeyId;
use dirless_wire::{AgePublicKey, TenantId};
use jiff::Timestamp;

use super::trust::{self, KeyCredential};
use super::types::{millis, timestamp};
use super::{RealmName, RealmState, Role, Scope, SecretHash, StoreError, TokenId};

/// A realm's own credential, as presented by a node, publisher or portal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub(crate) realm_row: i64,
    pub(crate) realm: RealmName,
    pub(crate) state: RealmState,
    pub(crate) role: Role,
    pub(crate) token: Option<TokenId>,
    pub(crate) expires_at: Option<i64>,
}

impl Credential {
    /// The realm it belongs to.
    #[must_use]
    pub fn realm(&self) -> &RealmName {
        &self.realm
    }

    /// What it may do.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether it is good until it is withdrawn, and not only until some time.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        self.expires_at.is_none()
    }

    /// Whether its realm is suspended: such a caller gets 403, once the tenant is known to be its
    /// realm's.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.state == RealmState::Suspended
    }
}

/// An operator's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    pub(crate) id: TokenId,
    pub(crate) realm: Option<RealmName>,
    pub(crate) scopes: Vec<Scope>,
}

impl Operator {
    /// Its public id.
    #[must_use]
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// The only realm it reaches; `None` is all of them.
    #[must_use]
    pub fn realm(&self) -> Option<&RealmName> {
        self.realm.as_ref()
    }

    /// Whether it allows `scope`; [`Scope::Admin`] allows all.
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

/// Who presented a bearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// A realm's credential.
    Realm(Arc<Credential>),
    /// An operator's token.
    Operator(Arc<Operator>),
}

/// What is known of a tenant without asking the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) row: i64,
    pub(crate) tenant: TenantId,
    pub(crate) realm_row: i64,
    /// `None` for a tenant of the verified protocol that was never enrolled the classic way.
    pub(crate) public_key: Option<AgePublicKey>,
}

/// What is known of a realm without asking the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RealmEntry {
    pub(crate) name: RealmName,
    pub(crate) state: RealmState,
}

/// What a write did to the keys of a tenant (its row first).
#[derive(Debug)]
pub(crate) enum KeyEffect {
    Registered(i64, Arc<KeyCredential>),
    Revoked(i64, KeyId),
}

type Keys = HashMap<i64, HashMap<KeyId, Arc<KeyCredential>>>;

#[derive(Clone)]
struct Bearer {
    hash: SecretHash,
    principal: Principal,
    expires_at: Option<i64>,
}

#[derive(Default)]
struct Entries {
    bearers: HashMap<SecretHash, Bearer>,
    tenants: HashMap<TenantId, Arc<Binding>>,
    realms: HashMap<i64, RealmEntry>,
    /// By tenant's row.
    keys: Keys,
}

#[derive(Default)]
pub(crate) struct Directory {
    entries: RwLock<Entries>,
    version: AtomicU64,
    loads: AtomicU64,
}

impl Directory {
    /// A number that is another one after each change, so that who remembers an answer given here can
    /// tell whether it still is one. To be taken before the question is asked.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// How often everything was read, as after each loss of the connection. The database may be an earlier state of itself
    /// since then: a standby that was behind, or a copy from before. Numbers of rows that were learned before the last time
    /// may be nobody's or others'. A write that asks while it runs is told as of its own transaction.
    pub(crate) fn loads(&self) -> u64 {
        self.loads.load(Ordering::Acquire)
    }

    /// Changes the entries, under a new version before anybody reads them.
    fn change(&self) -> RwLockWriteGuard<'_, Entries> {
        let entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        self.version.fetch_add(1, Ordering::Release);
        entries
    }

    /// The principal of a bearer, when it is known and not expired at `now`.
    pub(crate) fn authenticate(&self, hash: &SecretHash, now: Timestamp) -> Option<Principal> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let bearer = entries.bearers.get(hash)?;
        let alive = bearer.expires_at.is_none_or(|end| millis(now) < end);
        // The map already compared; comparing again in constant time costs nothing and keeps the
        // property whatever the map does.
        (alive && bearer.hash == *hash).then(|| bearer.principal.clone())
    }

    /// The tenant and the credential of a bearer, when that is known, not expired at `now`, and of the realm that enrolled the
    /// tenant. Both are looked up whatever becomes of the other: a bearer that somebody has takes as long as one that
    /// nobody has.
    pub(crate) fn binding_for(
        &self,
        hash: &SecretHash,
        tenant: &str,
        now: Timestamp,
    ) -> Option<(Arc<Binding>, Arc<Credential>)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let (bearer, binding) = (entries.bearers.get(hash), entries.tenants.get(tenant));
        let nobody = SecretHash([0; 32]);
        let same = hash == bearer.map_or(&nobody, |bearer| &bearer.hash);
        if bearer.is_none() {
            // What the map did with one that it has.
            std::hint::black_box(hash == &nobody);
        }
        let (bearer, binding) = (bearer?, binding?);
        let alive = same && bearer.expires_at.is_none_or(|end| millis(now) < end);
        match &bearer.principal {
            Principal::Realm(credential) if alive && binding.realm_row == credential.realm_row => {
                Some((Arc::clone(binding), Arc::clone(credential)))
            }
            _ => None,
        }
    }

    pub(crate) fn binding(&self, tenant: &str) -> Option<Arc<Binding>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.tenants.get(tenant).cloned()
    }

    /// The tenant and its realm.
    pub(crate) fn binding_with_realm(&self, tenant: &str) -> Option<(Arc<Binding>, RealmEntry)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let binding = entries.tenants.get(tenant)?;
        Some((Arc::clone(binding), entries.realms.get(&binding.realm_row)?.clone()))
    }

    /// A key of the tenant that is neither revoked nor expired at `now`.
    pub(crate) fn key(
        &self,
        tenant: &str,
        id: &KeyId,
        now: Timestamp,
    ) -> Option<(Arc<Binding>, RealmEntry, Arc<KeyCredential>)> {
        let (binding, realm) = self.binding_with_realm(tenant)?;
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let key = entries.keys.get(&binding.row)?.get(id)?;
        let alive = key.expires_at.is_none_or(|end| millis(now) < end);
        alive.then(|| (binding, realm, Arc::clone(key)))
    }

    /// Without a new version: what that speaks of, bearers and tenants, is as it was.
    pub(crate) fn apply_key(&self, effect: KeyEffect) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        match effect {
            KeyEffect::Registered(tenant, key) => {
                entries.keys.entry(tenant).or_default().insert(key.id().clone(), key);
            }
            KeyEffect::Revoked(tenant, id) => {
                if let Some(keys) = entries.keys.get_mut(&tenant) {
                    keys.remove(&id);
                }
            }
        }
    }

    /// Reads the keys of one tenant again.
    pub(crate) fn load_keys(&self, connection: &Connection, tenant: i64) -> Result<(), StoreError> {
        let keys = trust::load_keys_of(connection, tenant)?;
        let keys = keys.into_iter().map(|key| (key.id().clone(), Arc::new(key))).collect();
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.keys.insert(tenant, keys);
        Ok(())
    }

    pub(crate) fn bind(&self, binding: Arc<Binding>) {
        let mut entries = self.change();
        entries.tenants.insert(binding.tenant.clone(), binding);
    }

    pub(crate) fn tenant_names(&self) -> HashMap<i64, TenantId> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries
            .tenants
            .values()
            .map(|binding| (binding.row, binding.tenant.clone()))
            .collect()
    }

    /// Reads realms, secrets and tokens again.
    pub(crate) fn load_bearers(&self, connection: &Connection) -> Result<(), StoreError> {
        let (bearers, realms) = (read_bearers(connection)?, read_realms(connection)?);
        let mut entries = self.change();
        entries.bearers = bearers;
        entries.realms = realms;
        Ok(())
    }

    /// Reads everything again.
    pub(crate) fn load(&self, connection: &Connection) -> Result<(), StoreError> {
        let mut statement = connection.prepare("SELECT id, tenant, realm_id, public_key FROM tenants")?;
        let mut rows = statement.query(params![])?;
        let mut tenants = HashMap::new();
        while let Some(row) = rows.next()? {
            let binding = read_binding(row)?;
            tenants.insert(binding.tenant.clone(), Arc::new(binding));
        }
        let mut keys = Keys::new();
        for (tenant, key) in trust::load_keys(connection)? {
            keys.entry(tenant).or_default().insert(key.id().clone(), Arc::new(key));
        }
        let loaded = Entries {
            bearers: read_bearers(connection)?,
            tenants,
            realms: read_realms(connection)?,
            keys,
        };
        let mut entries = self.change();
        self.loads.fetch_add(1, Ordering::Release);
        *entries = loaded;
        Ok(())
    }
}

/// Reads `id, tenant, realm_id, public_key`.
pub(crate) fn read_binding(row: Row<'_>) -> Result<Binding, StoreError> {
    Ok(Binding {
        row: row.get(0)?,
        tenant: parsed(row, 1)?,
        realm_row: row.get(2)?,
        public_key: match row.text(3)? {
            "" => None,
            _ => Some(parsed(row, 3)?),
        },
    })
}

/// Parses a text column into one of the wire's types.
pub(crate) fn parsed<T: std::str::FromStr>(row: Row<'_>, column: usize) -> Result<T, StoreError> {
    let text = row.text(column)?;
    text.parse()
        .map_err(|_refused| StoreError::corrupt(format!("{} {text:?}", std::any::type_name::<T>())))
}

pub(crate) fn parsed_or_null<T: std::str::FromStr>(row: Row<'_>, column: usize) -> Result<Option<T>, StoreError> {
    match row.value(column)? {
        Value::Null => Ok(None),
        _ => parsed(row, column).map(Some),
    }
}

fn read_realms(connection: &Connection) -> Result<HashMap<i64, RealmEntry>, StoreError> {
    let mut statement = connection.prepare("SELECT id, name, state FROM realms")?;
    let mut rows = statement.query(params![])?;
    let mut realms = HashMap::new();
    while let Some(row) = rows.next()? {
        let entry = RealmEntry {
            name: parsed(row, 1)?,
            state: RealmState::parse(row.text(2)?)?,
        };
        realms.insert(row.get(0)?, entry);
    }
    Ok(realms)
}

fn read_bearers(connection: &Connection) -> Result<HashMap<SecretHash, Bearer>, StoreError> {
    let mut bearers = HashMap::new();
    let mut statement = connection.prepare(
        "SELECT s.hash, s.expires_at, r.id, r.name, r.state FROM realm_secrets s JOIN realms r ON r.id = s.realm_id",
    )?;
    let mut rows = statement.query(params![])?;
    while let Some(row) = rows.next()? {
        let hash = SecretHash::from_column(row.bytes(0)?)?;
        let expires_at = row.get(1)?;
        let credential = Credential {
            realm_row: row.get(2)?,
            realm: parsed(row, 3)?,
            state: RealmState::parse(row.text(4)?)?,
            role: Role::Classic,
            token: None,
            expires_at,
        };
        let bearer = Bearer {
            hash,
            principal: Principal::Realm(Arc::new(credential)),
            expires_at,
        };
        bearers.insert(hash, bearer);
    }
    let mut statement = connection.prepare(
        "SELECT t.hash, t.expires_at, t.id, t.scopes, r.name FROM tokens t LEFT JOIN realms r ON r.id = t.realm_id \
         WHERE t.revoked_at IS NULL",
    )?;
    let mut rows = statement.query(params![])?;
    while let Some(row) = rows.next()? {
        let hash = SecretHash::from_column(row.bytes(0)?)?;
        let operator = Operator {
            id: TokenId(row.get::<String>(2)?.into()),
            realm: parsed_or_null(row, 4)?,
            scopes: parse_scopes(row.text(3)?)?,
        };
        let bearer = Bearer {
            hash,
            principal: Principal::Operator(Arc::new(operator)),
            expires_at: row.get(1)?,
        };
        bearers.insert(hash, bearer);
    }
    Ok(bearers)
}

/// Scopes are kept as words with blanks between.
pub(crate) fn parse_scopes(text: &str) -> Result<Vec<Scope>, StoreError> {
    text.split_ascii_whitespace().map(Scope::parse).collect()
}

pub(crate) fn optional_time(millis: Option<i64>) -> Result<Option<Timestamp>, StoreError> {
    millis.map(timestamp).transpose()
}
