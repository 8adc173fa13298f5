//! The audit log: one line for each write, in the same transaction, never changed afterwards.
//! Heartbeats and the last use of tokens are presence, not writes, and leave no line.

use std::net::IpAddr;

use super::sql::{Connection, Row, params};
use dirless_wire::TenantId;
use dirless_wire::trust::KeyId;
use jiff::Timestamp;

use super::directory::{Credential, parsed_or_null};
use super::types::{millis, signed, timestamp, unsigned};
use super::{Origin, RealmName, Role, Store, StoreError, TenantHandle, TokenId};

/// Most entries in one answer.
pub const AUDIT_PAGE_MAX: usize = 1000;

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Its number; grows, with gaps.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// The realm it happened in, if in one.
    pub realm: Option<RealmName>,
    /// The tenant it happened to, if to one.
    pub tenant: Option<TenantId>,
    /// What the actor was: `classic`, `operator`, `console`, `publisher`, `node` or `joining`.
    pub role: String,
    /// The token the actor used, if any.
    pub token: Option<TokenId>,
    /// What, such as `snapshot.put`.
    pub action: String,
    /// From which network address, if from one.
    pub address: Option<IpAddr>,
    /// Particulars; never a secret or a body.
    pub details: serde_json::Value,
}

/// Who writes, as the log will say.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) realm: Option<RealmName>,
    pub(crate) role: Role,
    pub(crate) token: Option<TokenId>,
    pub(crate) key: Option<KeyId>,
    pub(crate) origin: Origin,
}

impl Actor {
    pub(crate) fn console(realm: Option<RealmName>) -> Self {
        Self {
            realm,
            role: Role::Console,
            token: None,
            key: None,
            origin: Origin::console(),
        }
    }

    pub(crate) fn of(credential: &Credential, origin: Origin) -> Self {
        Self {
            realm: Some(credential.realm.clone()),
            role: credential.role,
            token: credential.token.clone(),
            key: None,
            origin,
        }
    }
}

/// Adds a line.
pub(crate) fn record(
    connection: &Connection,
    at: Timestamp,
    actor: &Actor,
    tenant: Option<&TenantId>,
    action: &str,
    details: &serde_json::Value,
) -> Result<(), StoreError> {
    // Keys stand among the particulars: the column of tokens is for tokens.
    let details = match (&actor.key, details) {
        (Some(key), serde_json::Value::Object(details)) => {
            let mut details = details.clone();
            details.insert("by".to_owned(), key.to_string().into());
            serde_json::Value::Object(details)
        }
        _ => details.clone(),
    };
    let mut insert = connection.prepare(
        "INSERT INTO audit (at, realm, tenant, role, token, action, address, details) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    insert.send(params![
        millis(at),
        actor.realm.as_ref().map(RealmName::as_str),
        tenant.map(TenantId::as_str),
        actor.role.as_str(),
        actor.token.as_ref().map(TokenId::as_str),
        action,
        actor.origin.0.map(|address| address.to_string()),
        details.to_string(),
    ])
}

impl TenantHandle {
    /// The tenant's own lines after number `after` (0: from the beginning), oldest first, at most
    /// `limit` and 1,000.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        read(self.store(), Some(self.tenant().clone()), after, limit).await
    }
}

/// Lines of one tenant, or of all.
pub(crate) async fn read(
    store: &Store,
    tenant: Option<TenantId>,
    after: u64,
    limit: usize,
) -> Result<Vec<AuditEntry>, StoreError> {
    let limit = signed(limit.min(AUDIT_PAGE_MAX) as u64);
    let columns = "SELECT id, at, realm, tenant, role, token, action, address, details FROM audit";
    store
        .read(move |connection| {
            let mut entries = Vec::new();
            let mut take = |row: Row<'_>| entry(row).map(|entry| entries.push(entry));
            match &tenant {
                Some(tenant) => {
                    let sql = format!("{columns} WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT ?3");
                    let mut select = connection.prepare(&sql)?;
                    let mut rows = select.query(params![tenant.as_str(), signed(after), limit])?;
                    while let Some(row) = rows.next()? {
                        take(row)?;
                    }
                }
                None => {
                    let sql = format!("{columns} WHERE id > ?1 ORDER BY id LIMIT ?2");
                    let mut select = connection.prepare(&sql)?;
                    let mut rows = select.query(params![signed(after), limit])?;
                    while let Some(row) = rows.next()? {
                        take(row)?;
                    }
                }
            }
            Ok(entries)
        })
        .await
}

fn entry(row: Row<'_>) -> Result<AuditEntry, StoreError> {
    Ok(AuditEntry {
        id: unsigned(row.get(0)?)?,
        at: timestamp(row.get(1)?)?,
        realm: parsed_or_null(row, 2)?,
        tenant: parsed_or_null(row, 3)?,
        role: row.get(4)?,
        token: row.get::<Option<String>>(5)?.map(|id| TokenId(id.into())),
        action: row.get(6)?,
        address: parsed_or_null(row, 7)?,
        details: serde_json::from_str(&row.get::<String>(8)?)
            .map_err(|_broken| StoreError::corrupt("an audit entry whose details are not JSON"))?,
    })
}
