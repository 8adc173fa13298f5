//! Small documents of a tenant: settings, access rules, the reports of duplicate names.

use super::sql::{Connection, params};
use bytes::Bytes;
use dirless_wire::ETag;
use jiff::Timestamp;
use serde_json::json;

use super::types::{digest_column, etag_of, etag_of_digest, millis, sha256, timestamp};
use super::{Change, Expected, Origin, StoreError, TenantHandle, audit};

/// The access rules of a tenant, as they were put: JSON that is not looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRules {
    /// The body.
    pub body: Bytes,
    /// Its tag.
    pub etag: ETag,
    /// When it was put.
    pub changed_at: Timestamp,
}

/// Names that one agent found in several sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicatesReport {
    /// The agent, when it said who it is.
    pub agent_id: Option<String>,
    /// The names, sorted.
    pub usernames: Vec<String>,
    /// When it was reported.
    pub reported_at: Timestamp,
}

impl TenantHandle {
    /// Sets `key`.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn put_setting(&self, key: &str, value: &str, origin: Origin) -> Result<(), StoreError> {
        let (row, now, actor, tenant) = (
            self.row(),
            self.store().now(),
            self.actor(origin),
            self.tenant().clone(),
        );
        let (key, value) = (key.to_owned(), value.to_owned());
        self.store()
            .write(move |connection, effects| {
                connection
                    .prepare(
                        "INSERT INTO settings (tenant_id, key, value, changed_at) VALUES (?1, ?2, ?3, ?4) \
                         ON CONFLICT (tenant_id, key) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at",
                    )?
                    .execute(params![row, key, value, millis(now)])?;
                let details = json!({"key": key, "length": value.len()});
                audit::record(connection, now, &actor, Some(&tenant), "setting.put", &details)?;
                effects.changes.push(Change::Setting {
                    tenant: tenant.clone(),
                    key: key.clone(),
                });
                Ok(())
            })
            .await
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        let (row, key) = (self.row(), key.to_owned());
        self.store()
            .read(move |connection| stored_setting(connection, row, &key))
            .await
    }

    /// All settings, by key.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn settings(&self) -> Result<Vec<(String, String)>, StoreError> {
        let row = self.row();
        self.store()
            .read(move |connection| {
                let mut select =
                    connection.prepare("SELECT key, value FROM settings WHERE tenant_id = ?1 ORDER BY key")?;
                select.query_all(params![row], |row| Ok((row.get(0)?, row.get(1)?)))
            })
            .await
    }

    /// Replaces the access rules. That the body is what it should be is the caller's to check.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn put_access_rules(&self, body: Bytes, origin: Origin) -> Result<ETag, StoreError> {
        let tag = etag_of(&body);
        self.put_access_rules_if(body, Expected::Anything, &tag, origin).await?;
        Ok(tag)
    }

    /// [`TenantHandle::put_access_rules`], provided that what is stored is what the writer expects;
    /// `None` when it is not. `absent` is the tag that readers see while there are no rules.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn put_access_rules_if(
        &self,
        body: Bytes,
        expected: Expected,
        absent: &ETag,
        origin: Origin,
    ) -> Result<Option<ETag>, StoreError> {
        let (row, now, actor, tenant) = (
            self.row(),
            self.store().now(),
            self.actor(origin),
            self.tenant().clone(),
        );
        let absent = absent.clone();
        self.store()
            .write(move |connection, effects| {
                let stored = stored_tag(connection, row)?;
                if !expected.holds(Some(stored.as_ref().unwrap_or(&absent))) {
                    return Ok(None);
                }
                let digest = sha256(&body);
                connection
                    .prepare(
                        "INSERT INTO access_rules (tenant_id, body, sha256, changed_at) VALUES (?1, ?2, ?3, ?4) \
                         ON CONFLICT (tenant_id) DO UPDATE SET body = excluded.body, sha256 = excluded.sha256, \
                         changed_at = excluded.changed_at",
                    )?
                    .execute(params![row, body.as_ref(), digest, millis(now)])?;
                let etag = etag_of_digest(&digest);
                let details = json!({"etag": etag.header(), "length": body.len()});
                audit::record(connection, now, &actor, Some(&tenant), "access_rules.put", &details)?;
                effects.changes.push(Change::AccessRules { tenant: tenant.clone() });
                Ok(Some(etag))
            })
            .await
    }

    /// The access rules, if any were ever put.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn access_rules(&self) -> Result<Option<AccessRules>, StoreError> {
        let row = self.row();
        self.store()
            .read(move |connection| {
                let mut select =
                    connection.prepare("SELECT body, sha256, changed_at FROM access_rules WHERE tenant_id = ?1")?;
                let mut rows = select.query(params![row])?;
                let Some(row) = rows.next()? else { return Ok(None) };
                let digest = digest_column(row.bytes(1)?)?;
                Ok(Some(AccessRules {
                    body: row.get::<Vec<u8>>(0)?.into(),
                    etag: etag_of_digest(&digest),
                    changed_at: timestamp(row.get(2)?)?,
                }))
            })
            .await
    }

    /// Replaces the report of one agent, or the tenant's when the agent did not say who it is. An
    /// empty list takes the report away.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn put_duplicates(
        &self,
        agent_id: Option<&str>,
        usernames: &[String],
        origin: Origin,
    ) -> Result<(), StoreError> {
        let (row, now, actor, tenant) = (
            self.row(),
            self.store().now(),
            self.actor(origin),
            self.tenant().clone(),
        );
        let agent_id = agent_id.unwrap_or_default().to_owned();
        let mut usernames = usernames.to_vec();
        usernames.sort_unstable();
        usernames.dedup();
        self.store()
            .write(move |connection, _effects| {
                if usernames.is_empty() {
                    connection
                        .prepare("DELETE FROM duplicates WHERE tenant_id = ?1 AND agent_id = ?2")?
                        .execute(params![row, agent_id])?;
                } else {
                    connection
                        .prepare(
                            "INSERT INTO duplicates (tenant_id, agent_id, usernames, reported_at) VALUES (?1, ?2, ?3, ?4) \
                             ON CONFLICT (tenant_id, agent_id) DO UPDATE SET usernames = excluded.usernames, \
                             reported_at = excluded.reported_at",
                        )?
                        .execute(params![row, agent_id, json!(usernames).to_string(), millis(now)])?;
                }
                let details = json!({"agent_id": agent_id, "count": usernames.len()});
                audit::record(connection, now, &actor, Some(&tenant), "duplicates.put", &details)
            })
            .await
    }

    /// The reports of all agents that have duplicates.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn duplicates(&self) -> Result<Vec<DuplicatesReport>, StoreError> {
        let row = self.row();
        self.store()
            .read(move |connection| {
                let mut select = connection.prepare(
                    "SELECT agent_id, usernames, reported_at FROM duplicates WHERE tenant_id = ?1 ORDER BY agent_id",
                )?;
                let mut rows = select.query(params![row])?;
                let mut reports = Vec::new();
                while let Some(row) = rows.next()? {
                    let agent_id: String = row.get(0)?;
                    reports.push(DuplicatesReport {
                        agent_id: (!agent_id.is_empty()).then_some(agent_id),
                        usernames: serde_json::from_str(&row.get::<String>(1)?)
                            .map_err(|_broken| StoreError::corrupt("a duplicates report that is not JSON"))?,
                        reported_at: timestamp(row.get(2)?)?,
                    });
                }
                Ok(reports)
            })
            .await
    }
}

pub(crate) fn stored_setting(connection: &Connection, tenant: i64, key: &str) -> Result<Option<String>, StoreError> {
    let mut select = connection.prepare("SELECT value FROM settings WHERE tenant_id = ?1 AND key = ?2")?;
    select.query_optional(params![tenant, key], |row| row.get(0))
}

/// Tag of the access rules, if any were ever put.
pub(crate) fn stored_tag(connection: &Connection, tenant: i64) -> Result<Option<ETag>, StoreError> {
    let digest: Option<Vec<u8>> = connection
        .prepare("SELECT sha256 FROM access_rules WHERE tenant_id = ?1")?
        .query_optional(params![tenant], |row| row.get(0))?;
    digest
        .map(|digest| Ok(etag_of_digest(&digest_column(&digest)?)))
        .transpose()
}
