//! One connection to the database, as all operations of the store see it.
//!
//! What it is: the little of SQL that the store needs, in one dialect that every engine takes
//! (numbered parameters `?1`, `RETURNING`, `ON CONFLICT`), with values of four kinds. What it is
//! not: a way to begin or end transactions, which is the business of those who hand a connection
//! out: the writer and the readers.

mod row;
mod statement;
mod value;

pub(crate) use row::Row;
pub(crate) use statement::Statement;
pub(crate) use value::{Bind, OwnedValue, Value, params};

use super::StoreError;
use super::postgres::Session;

/// An open connection.
#[derive(Debug)]
pub(crate) enum Connection {
    /// To the embedded engine.
    Sqlite(rusqlite::Connection),
    /// To PostgreSQL.
    Postgres(Session),
}

impl Connection {
    /// A statement, made once for each connection and text.
    pub(crate) fn prepare(&self, sql: &str) -> Result<Statement<'_>, StoreError> {
        match self {
            Self::Sqlite(connection) => Ok(Statement::Sqlite(connection.prepare_cached(sql)?)),
            Self::Postgres(session) => Ok(Statement::Postgres(session.prepare(sql)?)),
        }
    }

    /// Statements without parameters and results.
    pub(crate) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Self::Postgres(session) => session.batch(sql),
        }
    }

    /// Whether the connection is good for the next transaction.
    pub(crate) fn is_idle(&self) -> bool {
        match self {
            Self::Sqlite(connection) => connection.is_autocommit(),
            Self::Postgres(session) => session.is_idle(),
        }
    }

    /// Begins a transaction that sees one state of the database, however long it takes.
    pub(crate) fn begin_reading(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => self.batch("BEGIN"),
            Self::Postgres(session) => session.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
        }
    }

    /// Begins a transaction that writes. On PostgreSQL each statement sees what was committed before it: groups
    /// of writes keep out of one another's way by a lock of their own.
    pub(crate) fn begin_writing(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => self.batch("BEGIN IMMEDIATE"),
            Self::Postgres(session) => session.begin("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"),
        }
    }

    /// Ends a transaction.
    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => self.batch("COMMIT"),
            Self::Postgres(session) => session.commit(),
        }
    }

    /// Ends a transaction without a trace, if one is open.
    pub(crate) fn rollback(&self) {
        match self {
            Self::Sqlite(connection) => {
                if !connection.is_autocommit()
                    && let Err(error) = connection.execute_batch("ROLLBACK")
                {
                    tracing::error!(%error, "rolling back failed");
                }
            }
            Self::Postgres(session) => session.rollback(),
        }
    }
}
