//! Statements.

use super::super::StoreError;
use super::row::{Row, Rows};
use super::value::Value;

/// A statement, to be run with values for its parameters.
pub(crate) enum Statement<'a> {
    Sqlite(rusqlite::CachedStatement<'a>),
}

impl Statement<'_> {
    /// Runs it and gives the number of rows it changed.
    pub(crate) fn execute(&mut self, values: &[Value<'_>]) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(statement) => Ok(statement.execute(rusqlite::params_from_iter(values))? as u64),
        }
    }

    /// Runs it without a word about the rows it changed. An engine that is far away need not be
    /// waited for: an error may be told by what is asked next, or at the end of the transaction.
    pub(crate) fn send(&mut self, values: &[Value<'_>]) -> Result<(), StoreError> {
        self.execute(values).map(drop)
    }

    /// Runs it and gives its rows.
    pub(crate) fn query(&mut self, values: &[Value<'_>]) -> Result<Rows<'_>, StoreError> {
        match self {
            Self::Sqlite(statement) => Ok(Rows::Sqlite(statement.query(rusqlite::params_from_iter(values))?)),
        }
    }

    /// The first row of the result, read by `read`; `None` without one.
    pub(crate) fn query_optional<T>(
        &mut self,
        values: &[Value<'_>],
        read: impl FnOnce(Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.query(values)?.next()?.map(read).transpose()
    }

    /// The first row of a result that has one whatever is stored.
    pub(crate) fn query_row<T>(
        &mut self,
        values: &[Value<'_>],
        read: impl FnOnce(Row<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.query_optional(values, read)?
            .ok_or_else(|| StoreError::corrupt("a result without its row"))
    }

    /// All rows of the result.
    pub(crate) fn query_all<T, C: FromIterator<T>>(
        &mut self,
        values: &[Value<'_>],
        mut read: impl FnMut(Row<'_>) -> Result<T, StoreError>,
    ) -> Result<C, StoreError> {
        let mut rows = self.query(values)?;
        std::iter::from_fn(|| rows.next().and_then(|row| row.map(&mut read).transpose()).transpose()).collect()
    }
}
