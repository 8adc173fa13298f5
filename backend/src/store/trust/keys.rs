//! Keys of publishers and nodes. Those that are good stand in memory, so that checking a request never waits.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::sql::{Connection, Row, params};
use dirless_wire::trust::{KeyId, KeyRole, PublicKey};
use jiff::Timestamp;
use serde_json::json;

use super::super::directory::{KeyEffect, optional_time, parsed};
use super::super::types::{CLOCKS_APART, digest_column, millis, signed, timestamp};
use super::super::{Change, Origin, Store, StoreError, audit};
use super::objects::Page;
use super::{Caller, PAGE_MAX, TrustHandle};

/// How old a noted use may be before the next is noted, milliseconds: thousands of hosts that ask each minute
/// must not be thousands of writes each minute.
const NOTED_FOR: i64 = 10 * 60 * 1000;

/// Most publishers of one tenant that are good at once: a policy names at most 32, each with its successor.
const PUBLISHERS_MAX: usize = 64;

/// A registered key.
#[derive(Debug)]
pub struct KeyCredential {
    pub(crate) row: i64,
    pub(crate) id: KeyId,
    pub(crate) public_key: [u8; 32],
    pub(crate) role: KeyRole,
    pub(crate) expires_at: Option<i64>,
    pub(crate) noted: AtomicI64,
}

impl KeyCredential {
    /// Name and hash.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The raw Ed25519 key.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// What it may do.
    #[must_use]
    pub fn role(&self) -> KeyRole {
        self.role
    }

    pub(super) fn note_use(&self, store: &Store) {
        let now = millis(store.now());
        // A use in the future is one that a clock noted that was ahead.
        let since = now.saturating_sub(self.noted.load(Ordering::Relaxed));
        if (-CLOCKS_APART..NOTED_FOR).contains(&since) {
            return;
        }
        self.noted.store(now, Ordering::Relaxed);
        store.key_uses().lock().push((self.row, self.id.clone(), now));
    }
}

/// A key as its registration tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Name and hash.
    pub id: KeyId,
    /// The raw Ed25519 key.
    pub public_key: [u8; 32],
    /// What it may do.
    pub role: KeyRole,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was used last, to within ten minutes.
    pub last_used_at: Option<Timestamp>,
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Registration {
    /// It is good from now on.
    Registered,
    /// It was registered before; its end is the new one.
    Known,
    /// Its id is that of another key, of another role, or of a revoked one: 409.
    Occupied,
    /// The tenant has as many publishers as it can have: 409.
    TooMany,
}

/// What became of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Revocation {
    /// It ends now.
    Revoked,
    /// There is none with this id, or it was revoked before.
    Nothing,
    /// The caller may not revoke it: 403.
    Forbidden,
}

/// Uses since the last flush, each with the row of its key, which may be another's by then, and its id.
#[derive(Debug, Default)]
pub(crate) struct KeyUses(Mutex<Vec<(i64, KeyId, i64)>>);

impl KeyUses {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(i64, KeyId, i64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TrustHandle {
    /// Registers a key. That its hash belongs to it is the caller's to check.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn register_key(
        &self,
        key: &PublicKey,
        role: KeyRole,
        expires_at: Option<Timestamp>,
        origin: Origin,
    ) -> Result<Registration, StoreError> {
        let (row, now, actor, tenant) = (self.row(), self.store.now(), self.actor(origin), self.tenant().clone());
        let key = key.clone();
        // A publisher's successor lasts no longer than itself.
        let (by_itself, expires_at) = match self.caller() {
            Caller::Key(own) if role == KeyRole::Publisher => (true, own.expires_at.map(timestamp).transpose()?),
            _ => (false, expires_at),
        };
        self.store
            .write(move |connection, effects| {
                let id = key.id().to_string();
                let known = find(connection, row, &id)?;
                if let Some((_, known)) = &known {
                    let same = known.public_key == *key.as_bytes() && known.role == role;
                    if !same || known.revoked_at.is_some() {
                        return Ok(Registration::Occupied);
                    }
                    if known.expires_at == expires_at {
                        return Ok(Registration::Known);
                    }
                } else if role == KeyRole::Publisher {
                    let all = publishers(connection, row, now)?;
                    // A publisher brings its successor, and nobody beside the two.
                    let own = all.iter().filter(|other| other.name() == key.id().name()).count();
                    if all.len() >= PUBLISHERS_MAX || (by_itself && own >= 2) {
                        return Ok(Registration::TooMany);
                    }
                }
                let key_row: i64 = connection
                    .prepare(
                        "INSERT INTO keys (tenant_id, key, public_key, role, created_at, expires_at) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                         ON CONFLICT (tenant_id, key) DO UPDATE SET expires_at = excluded.expires_at RETURNING id",
                    )?
                    .query_row(
                        params![
                            row,
                            id,
                            key.as_bytes(),
                            role.as_str(),
                            millis(now),
                            expires_at.map(millis)
                        ],
                        |row| row.get(0),
                    )?;
                let details = json!({
                    "key": key.to_string(), "role": role.as_str(), "expires_at": expires_at.map(|end| end.to_string()),
                });
                audit::record(connection, now, &actor, Some(&tenant), "key.register", &details)?;
                effects.key = Some(KeyEffect::Registered(
                    row,
                    Arc::new(KeyCredential {
                        row: key_row,
                        id: key.id().clone(),
                        public_key: *key.as_bytes(),
                        role,
                        expires_at: expires_at.map(millis),
                        noted: AtomicI64::new(0),
                    }),
                ));
                Ok(if known.is_some() {
                    Registration::Known
                } else {
                    Registration::Registered
                })
            })
            .await
    }

    /// Ends a key for good. Operators end any; a publisher those of nodes, and of its own name those that were registered
    /// before it: whoever stole a key does not end the one that replaced it.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn revoke_key(&self, id: &KeyId, origin: Origin) -> Result<Revocation, StoreError> {
        let (row, now, actor, tenant) = (self.row(), self.store.now(), self.actor(origin), self.tenant().clone());
        let id = id.clone();
        let own = match self.caller() {
            Caller::Key(key) => Some((key.id().name().clone(), key.row)),
            Caller::Operator(_) | Caller::Joining => None,
        };
        self.store
            .write(move |connection, effects| {
                let Some((key_row, known)) = find(connection, row, &id.to_string())? else {
                    return Ok(Revocation::Nothing);
                };
                let may = own.as_ref().is_none_or(|(name, own)| match known.role {
                    KeyRole::Node => true,
                    KeyRole::Publisher => known.id.name() == name && key_row < *own,
                });
                if !may {
                    return Ok(Revocation::Forbidden);
                }
                if known.revoked_at.is_some() {
                    return Ok(Revocation::Nothing);
                }
                connection
                    .prepare("UPDATE keys SET revoked_at = ?2 WHERE id = ?1")?
                    .execute(params![key_row, millis(now)])?;
                let details = json!({"key": id.to_string(), "role": known.role.as_str()});
                audit::record(connection, now, &actor, Some(&tenant), "key.revoke", &details)?;
                effects.key = Some(KeyEffect::Revoked(row, id.clone()));
                effects.changes.push(Change::Credentials);
                Ok(Revocation::Revoked)
            })
            .await
    }

    /// Keys after `after`, by id; at most `limit` and [`PAGE_MAX`]; revoked and expired ones too.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn keys(&self, after: &str, limit: usize) -> Result<Page<KeyInfo>, StoreError> {
        let (row, after, limit) = (self.row(), after.to_owned(), limit.clamp(1, PAGE_MAX));
        self.store
            .read(move |connection| {
                let sql = format!("{COLUMNS} WHERE tenant_id = ?1 AND key > ?2 ORDER BY key LIMIT ?3");
                let mut select = connection.prepare(&sql)?;
                let mut rows = select.query(params![row, after, signed(limit as u64 + 1)])?;
                let mut entries = Vec::new();
                while let Some(row) = rows.next()? {
                    entries.push(read(row)?.1);
                }
                Ok(Page::cut(entries, limit))
            })
            .await
    }
}

impl Store {
    /// Writes the noted uses of keys, in one write; [`super::super::HeartbeatSink::run`] calls it.
    ///
    /// # Errors
    /// When writing fails; the uses of this flush are forgotten then, which only makes "last used" older
    /// than it is.
    pub async fn flush_key_uses(&self) -> Result<(), StoreError> {
        let uses = std::mem::take(&mut *self.key_uses().lock());
        if uses.is_empty() {
            return Ok(());
        }
        self.write(move |connection, _effects| {
            let mut update = connection.prepare("UPDATE keys SET last_used_at = ?3 WHERE id = ?1 AND key = ?2")?;
            for (row, id, at) in &uses {
                update.send(params![row, id.to_string(), at])?;
            }
            Ok(())
        })
        .await
    }
}

const COLUMNS: &str = "SELECT id, key, public_key, role, created_at, expires_at, revoked_at, last_used_at FROM keys";

fn find(connection: &Connection, tenant: i64, id: &str) -> Result<Option<(i64, KeyInfo)>, StoreError> {
    let mut select = connection.prepare(&format!("{COLUMNS} WHERE tenant_id = ?1 AND key = ?2"))?;
    let mut rows = select.query(params![tenant, id])?;
    rows.next()?.map(read).transpose()
}

fn read(row: Row<'_>) -> Result<(i64, KeyInfo), StoreError> {
    let info = KeyInfo {
        id: parsed(row, 1)?,
        public_key: digest_column(row.bytes(2)?)?,
        role: role_of(row.text(3)?)?,
        created_at: timestamp(row.get(4)?)?,
        expires_at: optional_time(row.get(5)?)?,
        revoked_at: optional_time(row.get(6)?)?,
        last_used_at: optional_time(row.get(7)?)?,
    };
    Ok((row.get(0)?, info))
}

/// The publishers that are good at `now`.
fn publishers(connection: &Connection, tenant: i64, now: Timestamp) -> Result<Vec<KeyId>, StoreError> {
    let mut select = connection.prepare(
        "SELECT key FROM keys WHERE tenant_id = ?1 AND role = 'publisher' AND revoked_at IS NULL \
         AND (expires_at IS NULL OR expires_at > ?2)",
    )?;
    select.query_all(params![tenant, millis(now)], |row| parsed(row, 0))
}

fn role_of(text: &str) -> Result<KeyRole, StoreError> {
    [KeyRole::Publisher, KeyRole::Node]
        .into_iter()
        .find(|role| role.as_str() == text)
        .ok_or_else(|| StoreError::corrupt(format!("role {text:?} of a key")))
}

const LOADED: &str =
    "SELECT id, key, public_key, role, expires_at, last_used_at, tenant_id FROM keys WHERE revoked_at IS NULL";

/// All keys that are not revoked, with the row of their tenant.
pub(crate) fn load(connection: &Connection) -> Result<Vec<(i64, KeyCredential)>, StoreError> {
    connection
        .prepare(LOADED)?
        .query_all(params![], |row| Ok((row.get(6)?, credential(row)?)))
}

/// Those of one tenant.
pub(crate) fn load_of(connection: &Connection, tenant: i64) -> Result<Vec<KeyCredential>, StoreError> {
    connection
        .prepare(&format!("{LOADED} AND tenant_id = ?1"))?
        .query_all(params![tenant], credential)
}

#[cfg(test)]
impl KeyCredential {
    /// A node's, for tests.
    pub(super) fn example(row: i64) -> Arc<Self> {
        Arc::new(Self {
            row,
            id: format!("n{row}+00000001").parse().unwrap(),
            public_key: [1; 32],
            role: KeyRole::Node,
            expires_at: None,
            noted: AtomicI64::new(0),
        })
    }
}

fn credential(row: Row<'_>) -> Result<KeyCredential, StoreError> {
    Ok(KeyCredential {
        row: row.get(0)?,
        id: parsed(row, 1)?,
        public_key: digest_column(row.bytes(2)?)?,
        role: role_of(row.text(3)?)?,
        expires_at: row.get(4)?,
        noted: AtomicI64::new(row.get::<Option<i64>>(5)?.unwrap_or_default()),
    })
}
