//! What backends tell one another. The number of a group of writes is the truth: whoever has seen
//! all up to one number and finds a higher one reads what lies between. Notices only say that it is
//! time to look.

use super::super::change::Change;
use super::super::directory::KeyEffect;
use super::super::sql::{Connection, Row, params};
use super::super::types::{signed, unsigned};
use super::super::writer::Effects;
use super::super::{Generation, StoreError};

/// How many groups back changes are kept. One who is further behind reads everything again.
const KEPT: i64 = 10_000;

/// How often those that are older are deleted, in groups.
const SWEPT_EVERY: i64 = 500;

/// How long the row of a server that writes nothing stays, milliseconds.
const WRITER_KEPT: i64 = 24 * 60 * 60 * 1000;

/// Something that another backend changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A change as caches know it.
    Change(Change),
    /// Realms, secrets or tokens are to be read again.
    Bearers,
    /// The tenant of this row is to be read again.
    Binding(i64),
    /// The keys of the tenant of this row are to be read again.
    Keys(i64),
}

/// The number of the last group, and up to which one changes are forgotten.
pub(crate) fn look(connection: &Connection) -> Result<(i64, i64), StoreError> {
    connection
        .prepare("SELECT sequence, forgotten FROM store_state WHERE id = 1")?
        .query_row(params![], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Notes what a group changed; whether that is anything.
pub(crate) fn note<'a>(
    connection: &Connection,
    sequence: i64,
    group: impl Iterator<Item = &'a Effects>,
) -> Result<bool, StoreError> {
    let mut insert = connection.prepare(
        "INSERT INTO changes (sequence, position, kind, tenant, name, number, tag) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let mut position = 0_i64;
    let mut add = |line: Line<'_>| {
        position += 1;
        let Line(kind, tenant, name, number, tag) = line;
        insert.send(params![sequence, position, kind, tenant, name, number, tag])
    };
    for effects in group {
        if effects.reload_bearers {
            add(Line("bearers", None, None, None, None))?;
        }
        if let Some(binding) = &effects.binding {
            add(Line("binding", None, None, Some(binding.row), None))?;
        }
        if let Some(KeyEffect::Registered(tenant, _) | KeyEffect::Revoked(tenant, _)) = &effects.key {
            add(Line("keys", None, None, Some(*tenant), None))?;
        }
        for change in &effects.changes {
            add(line(change))?;
        }
    }
    Ok(position > 0)
}

/// What the groups after `seen` changed, up to `last`.
pub(crate) fn read(connection: &Connection, seen: i64, last: i64) -> Result<Vec<Found>, StoreError> {
    connection
        .prepare(
            "SELECT kind, tenant, name, number, tag FROM changes WHERE sequence > ?1 AND sequence <= ?2 \
             ORDER BY sequence, position",
        )?
        .query_all(params![seen, last], found)
}

/// Deletes what nobody needs any more, now and then.
pub(crate) fn forget(connection: &Connection, sequence: i64, now: i64) -> Result<(), StoreError> {
    if sequence % SWEPT_EVERY != 0 {
        return Ok(());
    }
    let forgotten = (sequence - KEPT).max(0);
    connection
        .prepare("UPDATE store_state SET forgotten = ?1 WHERE id = 1")?
        .send(params![forgotten])?;
    connection
        .prepare("DELETE FROM changes WHERE sequence <= ?1")?
        .send(params![forgotten])?;
    connection
        .prepare("DELETE FROM writers WHERE written_at < ?1")?
        .send(params![now - WRITER_KEPT])
}

struct Line<'a>(
    &'static str,
    Option<&'a str>,
    Option<&'a str>,
    Option<i64>,
    Option<&'a str>,
);

fn line(change: &Change) -> Line<'_> {
    match change {
        Change::Snapshot {
            tenant,
            source,
            generation,
            etag,
        } => Line(
            "snapshot",
            Some(tenant.as_str()),
            Some(source.as_str()),
            Some(signed(generation.0)),
            Some(etag.header()),
        ),
        Change::SourceDeleted {
            tenant,
            source,
            generation,
        } => Line(
            "source_deleted",
            Some(tenant.as_str()),
            Some(source.as_str()),
            Some(signed(generation.0)),
            None,
        ),
        Change::AccessRules { tenant } => Line("access_rules", Some(tenant.as_str()), None, None, None),
        Change::Setting { tenant, key } => Line("setting", Some(tenant.as_str()), Some(key), None, None),
        Change::Tenant { tenant } => Line("tenant", Some(tenant.as_str()), None, None, None),
        Change::Object { tenant, path } => Line("object", Some(tenant.as_str()), Some(path), None, None),
        Change::Credentials => Line("credentials", None, None, None, None),
        Change::Everything => Line("everything", None, None, None, None),
    }
}

fn found(row: Row<'_>) -> Result<Found, StoreError> {
    let unknown = || StoreError::corrupt("a change that makes no sense");
    let tenant = || row.text(1)?.parse().map_err(|_refused| unknown());
    let source = || row.text(2)?.parse().map_err(|_refused| unknown());
    let generation = || Ok::<_, StoreError>(Generation(unsigned(row.get(3)?)?));
    let change = match row.text(0)? {
        "bearers" => return Ok(Found::Bearers),
        "binding" => return Ok(Found::Binding(row.get(3)?)),
        "keys" => return Ok(Found::Keys(row.get(3)?)),
        "snapshot" => Change::Snapshot {
            tenant: tenant()?,
            source: source()?,
            generation: generation()?,
            etag: row.text(4)?.to_owned().try_into().map_err(|_refused| unknown())?,
        },
        "source_deleted" => Change::SourceDeleted {
            tenant: tenant()?,
            source: source()?,
            generation: generation()?,
        },
        "access_rules" => Change::AccessRules { tenant: tenant()? },
        "setting" => Change::Setting {
            tenant: tenant()?,
            key: row.get(2)?,
        },
        "tenant" => Change::Tenant { tenant: tenant()? },
        "object" => Change::Object {
            tenant: tenant()?,
            path: row.get(2)?,
        },
        "credentials" => Change::Credentials,
        // Also what a newer program tells.
        _ => Change::Everything,
    };
    Ok(Found::Change(change))
}
