//! The schema's history on PostgreSQL. As with the embedded engine, a migration, once released, is
//! never edited, and works under the old and the new program: servers are replaced one by one.

use super::super::StoreError;
use super::super::sql::{Connection, params};
use super::{MIGRATING, PostgresPlace, Session};

/// Number N brings schema N - 1 to N.
const STEPS: &[&str] = &[
    include_str!("../schema/postgres/0001-base.sql"),
    include_str!("../schema/postgres/0002-sightings.sql"),
    include_str!("../schema/postgres/0003-join-uses.sql"),
];

/// Newest schema number this program knows.
const NEWEST: i64 = STEPS.len() as i64;

/// Brings the schema up to date; servers that start together wait for one another.
pub(crate) fn migrate(session: Session, place: &PostgresPlace) -> Result<Connection, StoreError> {
    session.batch(&format!("SELECT pg_advisory_lock({MIGRATING})"))?;
    let connection = Connection::Postgres(session);
    let found = checked_version(&connection, place)?;
    let missing = STEPS.iter().zip(1_i64..).filter(|(_, number)| *number > found);
    for (step, number) in missing {
        connection.batch(&format!(
            "BEGIN; {step}; UPDATE store_state SET schema = {number}; COMMIT"
        ))?;
        tracing::info!(database = %place, schema = number, "brought the schema up to date");
    }
    connection.batch(&format!("SELECT pg_advisory_unlock({MIGRATING})"))?;
    Ok(connection)
}

/// Schema number of the database; 0 for one without our tables. One that this program does not know is refused.
pub(crate) fn checked_version(connection: &Connection, place: &PostgresPlace) -> Result<i64, StoreError> {
    let found = version(connection)?;
    if found > NEWEST {
        return Err(StoreError::NewerSchema {
            path: place.to_string().into(),
            found,
            known: NEWEST,
        });
    }
    Ok(found)
}

fn version(connection: &Connection) -> Result<i64, StoreError> {
    let there: bool = connection
        .prepare("SELECT to_regclass('store_state') IS NOT NULL")?
        .query_row(params![], |row| row.get(0))?;
    if !there {
        return Ok(0);
    }
    connection
        .prepare("SELECT schema FROM store_state WHERE id = 1")?
        .query_row(params![], |row| row.get(0))
}
