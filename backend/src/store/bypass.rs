//! The one way around tenant scope: the server's own view of everything, for its health page,
//! metrics and operators. Nothing that answers a tenant's credential may use it.

use std::collections::HashMap;

use dirless_wire::{AwsAccountId, TenantId};
use jiff::Timestamp;

use super::directory::parsed;
use super::sql::params;
use super::types::{timestamp, unsigned};
use super::{Agent, AuditEntry, HeartbeatSink, Store, StoreError, audit};

/// The view without tenant scope, from [`Store::all_tenants_bypassing_realm_scope`].
#[derive(Clone, Debug)]
pub struct AllTenants(Store);

/// Sums over all tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tenants enrolled.
    pub tenants: u64,
    /// Users in all current snapshots, as their writers said.
    pub users: u64,
    /// Bytes in all current snapshots.
    pub body_bytes: u64,
    /// When a snapshot was stored last.
    pub data_updated_at: Option<Timestamp>,
    /// The AWS account, when all tenants that have one have the same.
    pub only_account: Option<AwsAccountId>,
}

impl Store {
    /// The server's own view of all tenants. Only for callers who may see every realm.
    #[must_use]
    pub fn all_tenants_bypassing_realm_scope(&self) -> AllTenants {
        AllTenants(self.clone())
    }
}

impl AllTenants {
    /// Sums over all tenants.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn totals(&self) -> Result<Totals, StoreError> {
        self.0
            .read(|connection| {
                let mut select = connection.prepare(
                    "SELECT (SELECT count(*) FROM tenants), CAST(coalesce(sum(g.users), 0) AS BIGINT), \
                     CAST(coalesce(sum(g.length), 0) AS BIGINT), max(g.stored_at) \
                     FROM sources s JOIN generations g ON g.id = s.current",
                )?;
                let (tenants, users, bytes, updated) = select.query_row(params![], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<Option<i64>>(3)?))
                })?;
                let mut select =
                    connection.prepare("SELECT DISTINCT account FROM tenants WHERE account IS NOT NULL LIMIT 2")?;
                let mut rows = select.query(params![])?;
                let mut accounts: Vec<AwsAccountId> = Vec::new();
                while let Some(row) = rows.next()? {
                    accounts.push(parsed(row, 0)?);
                }
                Ok(Totals {
                    tenants: unsigned(tenants)?,
                    users: unsigned(users)?,
                    body_bytes: unsigned(bytes)?,
                    data_updated_at: updated.map(timestamp).transpose()?,
                    only_account: if accounts.len() == 1 { accounts.pop() } else { None },
                })
            })
            .await
    }

    /// Lines of the audit log after number `after`, oldest first, at most `limit` and 1,000.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        audit::read(&self.0, None, after, limit).await
    }

    /// [`AllTenants::audit`] of one tenant, of whichever realm.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn audit_of(&self, tenant: &TenantId, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        audit::read(&self.0, Some(tenant.clone()), after, limit).await
    }

    /// Agents of all tenants seen at or after `since`, from memory and disk, by tenant and id. Not those that were seen further
    /// in the future than `since` is in the past, by a clock that was ahead.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn active_agents(&self, sink: &HeartbeatSink, since: Timestamp) -> Result<Vec<Agent>, StoreError> {
        sink.active_merged(None, since).await
    }

    pub(super) fn store(&self) -> &Store {
        &self.0
    }

    /// Names of tenants by their rows.
    pub(crate) fn names(store: &Store) -> HashMap<i64, TenantId> {
        store.directory().tenant_names()
    }
}
