//! The rows of agents.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::super::StoreError;
use super::super::sql::{Bind as _, Connection, params};
use super::shard::{Ahead, Due, Seen};

/// Writes one batch and gives the row of each; `None` where there is no such tenant. Later times stay, those that are
/// believed.
pub(super) fn write_batch(
    connection: &Connection,
    batch: &[Due],
    believed_until: i64,
) -> Result<Vec<Option<i64>>, StoreError> {
    let mut seen = connection.prepare(
        "UPDATE agents SET last_seen_at = CASE WHEN last_seen_at > ?2 AND last_seen_at <= ?3 THEN last_seen_at ELSE ?2 END \
         WHERE id = ?1",
    )?;
    let mut changed = connection.prepare(
        "UPDATE agents SET last_seen_at = CASE WHEN last_seen_at > ?2 AND last_seen_at <= ?3 THEN last_seen_at ELSE ?2 END, \
         hostname = ?4, extras = coalesce(?5, extras) WHERE id = ?1",
    )?;
    let mut new = connection.prepare(
        "INSERT INTO agents (tenant_id, agent_id, hostname, last_seen_at, extras) \
         SELECT id, ?2, ?3, ?4, ?5 FROM tenants WHERE tenant = ?1 \
         ON CONFLICT (tenant_id, agent_id) DO UPDATE SET hostname = excluded.hostname, \
         last_seen_at = CASE WHEN agents.last_seen_at > excluded.last_seen_at AND agents.last_seen_at <= ?6 \
         THEN agents.last_seen_at ELSE excluded.last_seen_at END, \
         extras = coalesce(excluded.extras, agents.extras) RETURNING id",
    )?;
    let mut rows = Vec::with_capacity(batch.len());
    let mut unknown = Vec::new();
    for due in batch {
        match due.row {
            Some(row) if due.ahead == Ahead::Seen => {
                seen.send(params![row, due.last_seen, believed_until])?;
                rows.push(Some(row));
            }
            Some(row) => {
                changed.send(params![row, due.last_seen, believed_until, due.hostname, due.extras])?;
                rows.push(Some(row));
            }
            None => unknown.push([
                due.tenant.as_str().value(),
                due.agent_id.value(),
                due.hostname.value(),
                due.last_seen.value(),
                due.extras.value(),
                believed_until.value(),
            ]),
        }
    }
    // They are sorted to the end of all batches.
    rows.extend(new.query_each(&unknown, |row| row.get::<i64>(0))?);
    Ok(rows)
}

pub(super) fn on_disk(
    connection: &Connection,
    tenant: Option<i64>,
    seen_at: &RangeInclusive<i64>,
) -> Result<BTreeMap<(i64, String), Seen>, StoreError> {
    let mut select = connection.prepare(
        "SELECT tenant_id, agent_id, hostname, last_seen_at, extras FROM agents \
         WHERE last_seen_at BETWEEN ?1 AND ?2 AND (CAST(?3 AS BIGINT) IS NULL OR tenant_id = ?3)",
    )?;
    select.query_all(params![seen_at.start(), seen_at.end(), tenant], |row| {
        let seen = Seen {
            hostname: row.get(2)?,
            last_seen: row.get(3)?,
            extras: row.get(4)?,
        };
        Ok(((row.get(0)?, row.get(1)?), seen))
    })
}
