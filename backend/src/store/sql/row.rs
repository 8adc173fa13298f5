//! Rows of a result.

use super::super::StoreError;
use super::super::postgres::{PgRow, PgRows};
use super::value::{FromValue, Value};

/// A row of a result.
#[derive(Clone, Copy)]
pub(crate) enum Row<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a PgRow),
}

/// The rows of a result, one after the other.
pub(crate) enum Rows<'a> {
    Sqlite(rusqlite::Rows<'a>),
    Postgres(PgRows),
}

impl Rows<'_> {
    /// The next row; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>, StoreError> {
        match self {
            Self::Sqlite(rows) => Ok(rows.next()?.map(Row::Sqlite)),
            Self::Postgres(rows) => Ok(rows.next().map(Row::Postgres)),
        }
    }
}

impl<'a> Row<'a> {
    /// The value of a column, counted from 0.
    pub(crate) fn value(self, column: usize) -> Result<Value<'a>, StoreError> {
        match self {
            Self::Sqlite(row) => Value::of_sqlite(row.get_ref(column)?),
            Self::Postgres(row) => Value::of_postgres(row, column),
        }
    }

    /// A column as something of ours.
    pub(crate) fn get<T: FromValue>(self, column: usize) -> Result<T, StoreError> {
        T::from_value(self.value(column)?).ok_or_else(|| unfit(column))
    }

    /// A column of text.
    pub(crate) fn text(self, column: usize) -> Result<&'a str, StoreError> {
        match self.value(column)? {
            Value::Text(text) => Ok(text),
            _ => Err(unfit(column)),
        }
    }

    /// A column of bytes.
    pub(crate) fn bytes(self, column: usize) -> Result<&'a [u8], StoreError> {
        match self.value(column)? {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(unfit(column)),
        }
    }
}

fn unfit(column: usize) -> StoreError {
    StoreError::corrupt(format!("column {column} of a result holds what it cannot hold"))
}
