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
pub(crate) use value::{Bind, Value, params};

use super::StoreError;

/// An open connection.
#[derive(Debug)]
pub(crate) enum Connection {
    /// To the embedded engine.
    Sqlite(rusqlite::Connection),
}

impl Connection {
    /// A statement, made once for each connection and text.
    pub(crate) fn prepare(&self, sql: &str) -> Result<Statement<'_>, StoreError> {
        match self {
            Self::Sqlite(connection) => Ok(Statement::Sqlite(connection.prepare_cached(sql)?)),
        }
    }

    /// Statements without parameters and results.
    pub(crate) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
        }
    }

    /// Whether the connection is good for the next transaction.
    pub(crate) fn is_idle(&self) -> bool {
        match self {
            Self::Sqlite(connection) => connection.is_autocommit(),
        }
    }
}
