//! Statements.

use super::super::StoreError;
use super::super::postgres::PgStatement;
use super::row::{Row, Rows};
use super::value::Value;

/// A statement, to be run with values for its parameters.
pub(crate) enum Statement<'a> {
    Sqlite(rusqlite::CachedStatement<'a>),
    Postgres(PgStatement<'a>),
}

impl Statement<'_> {
    /// Runs it and gives the number of rows it changed.
    pub(crate) fn execute(&mut self, values: &[Value<'_>]) -> Result<u64, StoreError> {
        storable(values)?;
        match self {
            Self::Sqlite(statement) => Ok(statement.execute(rusqlite::params_from_iter(values))? as u64),
            Self::Postgres(statement) => statement.execute(values),
        }
    }

    /// Runs it without a word about the rows it changed. An engine that is far away need not be
    /// waited for: an error may be told by what is asked next, or at the end of the transaction.
    pub(crate) fn send(&mut self, values: &[Value<'_>]) -> Result<(), StoreError> {
        storable(values)?;
        match self {
            Self::Sqlite(_) => self.execute(values).map(drop),
            Self::Postgres(statement) => statement.send(values),
        }
    }

    /// Runs it and gives its rows.
    pub(crate) fn query(&mut self, values: &[Value<'_>]) -> Result<Rows<'_>, StoreError> {
        storable(values)?;
        match self {
            Self::Sqlite(statement) => Ok(Rows::Sqlite(statement.query(rusqlite::params_from_iter(values))?)),
            Self::Postgres(statement) => Ok(Rows::Postgres(statement.query(values)?)),
        }
    }

    /// Runs it for each of many lists of values, and gives the first row of each result; `None` without one.
    pub(crate) fn query_each<T, const VALUES: usize>(
        &mut self,
        lists: &[[Value<'_>; VALUES]],
        mut read: impl FnMut(Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<Option<T>>, StoreError> {
        match self {
            Self::Sqlite(_) => lists
                .iter()
                .map(|values| self.query_optional(values, &mut read))
                .collect(),
            Self::Postgres(statement) => {
                lists.iter().try_for_each(|values| storable(values))?;
                let each = statement.query_each(lists)?;
                let first = |mut rows| Rows::next(&mut rows)?.map(&mut read).transpose();
                each.into_iter().map(Rows::Postgres).map(first).collect()
            }
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

/// PostgreSQL stores no NUL in a text; what one engine refuses the other does as well.
fn storable(values: &[Value<'_>]) -> Result<(), StoreError> {
    let nul = |value: &Value<'_>| matches!(value, Value::Text(text) if text.contains('\0'));
    if values.iter().any(nul) {
        return Err(StoreError::Nul);
    }
    Ok(())
}
