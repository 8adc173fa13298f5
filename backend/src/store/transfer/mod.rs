//! Copying a store from one place to another, whichever engine keeps either: whole or not at all,
//! and compared row by row before it counts.

mod tables;

use std::sync::Arc;
use std::time::Duration;

use dirless_program::fs as files;
use dirless_wire::trust::Digest;
use ring::digest::{Context, SHA256};

use super::lock::Lock;
use super::postgres::{self, Home, IN_USE};
use super::sql::{Connection, OwnedValue, Value, params};
use super::{Location, PostgresPlace, StoreError, schema};
use tables::{TABLES, Table};

/// Rows read at a time; of those with bodies only some, since each is up to 1 MiB long.
const PAGE: i64 = 500;
const BODIES: i64 = 8;

/// Why nothing was copied. Neither place has changed, but that its schema may be up to date now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// One of the places cannot be used.
    #[error("{place}: {source}")]
    Store {
        /// Which.
        place: String,
        /// Why.
        source: StoreError,
    },
    /// There is something in the target.
    #[error("{place} is not empty (there are rows in {table}): name an empty folder or database")]
    NotEmpty {
        /// The target.
        place: String,
        /// A table with rows.
        table: &'static str,
    },
    /// The copy is not what was copied.
    #[error(
        "the copy in {place} differs from its original in {table}, so it was thrown away: try again, and check both disks"
    )]
    Differs {
        /// The target.
        place: String,
        /// The table.
        table: &'static str,
    },
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// Rows of all tables.
    pub rows: u64,
    /// Bytes of all bodies, sealed snapshots and objects.
    pub body_bytes: u64,
    /// SHA-256 over all rows, the same on both sides.
    pub digest: String,
}

/// Copies everything at `from` to `to`, which must be empty, while nobody serves either. Blocks.
///
/// # Errors
/// [`TransferError`]; [`StoreError::InUse`] while anybody has one of them open.
pub fn transfer(from: &Location, to: &Location) -> Result<Transferred, TransferError> {
    let at = |place: &Location| {
        let place = place.to_string();
        move |source| TransferError::Store { place, source }
    };
    if from.database.is_none() {
        let file = from.folder.join(schema::DATABASE);
        std::fs::metadata(&file).map_err(|error| at(from)(StoreError::file(&file, error)))?;
    }
    let source = End::open(from).map_err(at(from))?;
    let target = End::open(to).map_err(at(to))?;
    source.connection.begin_reading().map_err(at(from))?;
    target.connection.begin_writing().map_err(at(to))?;
    target.defer_checks().map_err(at(to))?;
    for table in &TABLES {
        if !is_empty(&target.connection, table).map_err(at(to))? {
            target.connection.rollback();
            return Err(TransferError::NotEmpty {
                place: to.to_string(),
                table: table.name,
            });
        }
    }
    let (mut all, mut sums) = (Context::new(&SHA256), (0, 0));
    for table in &TABLES {
        let copied = copy(&source.connection, &target.connection, table).map_err(|end| match end {
            Side::From(error) => at(from)(error),
            Side::To(error) => at(to)(error),
        })?;
        let found = sum(&target.connection, table).map_err(at(to))?;
        if found.digest != copied.digest {
            target.connection.rollback();
            return Err(TransferError::Differs {
                place: to.to_string(),
                table: table.name,
            });
        }
        all.update(&copied.digest);
        sums = (sums.0 + copied.rows, sums.1 + copied.body_bytes);
    }
    target.count_on().map_err(at(to))?;
    target.connection.commit().map_err(at(to))?;
    source.connection.rollback();
    Ok(Transferred {
        rows: sums.0,
        body_bytes: sums.1,
        digest: Digest::from_bytes(finished(all)).to_string(),
    })
}

/// One of the two places, which nobody else has open.
struct End {
    connection: Connection,
    _home: Option<Arc<Home>>,
    _lock: Option<Lock>,
}

impl End {
    fn open(location: &Location) -> Result<Self, StoreError> {
        match &location.database {
            None => {
                let folder = &location.folder;
                files::ensure_folder(folder, 0o700).map_err(|error| StoreError::file(folder, error))?;
                let lock = Lock::alone(folder)?;
                let connection = schema::open_writer(&folder.join(schema::DATABASE))?;
                Ok(Self {
                    connection: Connection::Sqlite(connection),
                    _home: None,
                    _lock: Some(lock),
                })
            }
            Some(place) => {
                let home = Home::new(place.clone())?;
                let connection = postgres::migrate(home.connect(None)?, place)?;
                take_alone(&connection, place)?;
                Ok(Self {
                    connection,
                    _home: Some(home),
                    _lock: None,
                })
            }
        }
    }

    /// Sources point at generations that come after them.
    fn defer_checks(&self) -> Result<(), StoreError> {
        self.connection.batch(match self.connection {
            Connection::Sqlite(_) => "PRAGMA defer_foreign_keys = ON",
            Connection::Postgres(_) => "SET CONSTRAINTS ALL DEFERRED",
        })
    }

    /// Further ids are above those that were copied, and servers read everything again.
    fn count_on(&self) -> Result<(), StoreError> {
        if matches!(self.connection, Connection::Sqlite(_)) {
            return Ok(());
        }
        for Table { name, .. } in TABLES.iter().filter(|table| table.counts) {
            let sql = format!(
                "SELECT setval(pg_get_serial_sequence('{name}', 'id'), coalesce(max(id), 0) + 1, false) FROM {name}"
            );
            self.connection.prepare(&sql)?.query_row(params![], |_row| Ok(()))?;
        }
        self.connection
            .batch("UPDATE store_state SET sequence = sequence + 1, forgotten = sequence + 1")
    }
}

/// The lock that servers share. One that has just stopped may still be letting go.
fn take_alone(connection: &Connection, place: &PostgresPlace) -> Result<(), StoreError> {
    for _attempt in 0..20 {
        let free: bool = connection
            .prepare("SELECT pg_try_advisory_lock(?1)")?
            .query_row(params![IN_USE], |row| row.get(0))?;
        if free {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(StoreError::InUse {
        path: place.to_string().into(),
    })
}

fn is_empty(connection: &Connection, table: &Table) -> Result<bool, StoreError> {
    let sql = format!("SELECT NOT EXISTS (SELECT 1 FROM {})", table.name);
    connection.prepare(&sql)?.query_row(params![], |row| row.get(0))
}

/// Where an error came from.
enum Side {
    From(StoreError),
    To(StoreError),
}

/// What is in a table.
struct Sum {
    digest: [u8; 32],
    rows: u64,
    body_bytes: u64,
}

fn copy(source: &Connection, target: &Connection, table: &Table) -> Result<Sum, Side> {
    let width = table.columns.split(',').count();
    let places: Vec<String> = (1..=width).map(|place| format!("?{place}")).collect();
    let sql = format!(
        "INSERT INTO {} ({}) VALUES ({})",
        table.name,
        table.columns,
        places.join(", ")
    );
    let mut insert = target.prepare(&sql).map_err(Side::To)?;
    each_row(
        source,
        table,
        |values| insert.send(values).map_err(Side::To),
        Side::From,
    )
}

fn sum(connection: &Connection, table: &Table) -> Result<Sum, StoreError> {
    each_row(connection, table, |_values| Ok(()), |error| error)
}

/// Reads a table by its key, page by page: a table of bodies is longer than the memory.
fn each_row<E>(
    connection: &Connection,
    table: &Table,
    mut take: impl FnMut(&[Value<'_>]) -> Result<(), E>,
    failed: impl Fn(StoreError) -> E,
) -> Result<Sum, E> {
    let width = table.columns.split(',').count();
    let (mut digest, mut rows, mut body_bytes) = (Context::new(&SHA256), 0, 0);
    let mut last: Option<Vec<OwnedValue>> = None;
    loop {
        let page = page(connection, table, last.as_deref()).map_err(&failed)?;
        for row in &page {
            let values: Vec<Value<'_>> = row.iter().map(OwnedValue::value).collect();
            values.iter().for_each(|value| add(&mut digest, value));
            rows += 1;
            if let (true, Some(Value::Bytes(bytes))) = (table.bodies, values.get(2)) {
                body_bytes += bytes.len() as u64;
            }
            debug_assert_eq!(values.len(), width);
            take(&values)?;
        }
        let Some(mut end) = page.into_iter().last() else { break };
        end.truncate(table.key.len());
        last = Some(end);
    }
    Ok(Sum {
        digest: finished(digest),
        rows,
        body_bytes,
    })
}

fn page(
    connection: &Connection,
    table: &Table,
    after: Option<&[OwnedValue]>,
) -> Result<Vec<Vec<OwnedValue>>, StoreError> {
    let (key, width) = (table.key.join(", "), table.columns.split(',').count());
    let limit = if table.bodies { BODIES } else { PAGE };
    let rest = match after {
        None => String::new(),
        Some(_) => {
            let places: Vec<String> = (1..=table.key.len()).map(|place| format!("?{place}")).collect();
            format!("WHERE ({key}) > ({})", places.join(", "))
        }
    };
    let sql = format!(
        "SELECT {} FROM {} {rest} ORDER BY {key} LIMIT {limit}",
        table.columns, table.name
    );
    let values: Vec<Value<'_>> = after.unwrap_or_default().iter().map(OwnedValue::value).collect();
    connection.prepare(&sql)?.query_all(&values, |row| {
        (0..width)
            .map(|column| row.value(column).map(|value| OwnedValue::of(&value)))
            .collect::<Result<Vec<_>, _>>()
    })
}

/// A value, told apart from every other: its kind, its length, its bytes.
fn add(digest: &mut Context, value: &Value<'_>) {
    let number;
    let (kind, bytes): (u8, &[u8]) = match value {
        Value::Null => (0, &[]),
        Value::Integer(integer) => {
            number = integer.to_be_bytes();
            (1, &number)
        }
        Value::Text(text) => (2, text.as_bytes()),
        Value::Bytes(bytes) => (3, bytes),
    };
    digest.update(&[kind]);
    digest.update(&(bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}

fn finished(digest: Context) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_differ_have_other_sums() {
        let sum = |values: &[Value<'_>]| {
            let mut digest = Context::new(&SHA256);
            values.iter().for_each(|value| add(&mut digest, value));
            finished(digest)
        };
        let rows: [&[Value<'_>]; 6] = [
            &[Value::Null],
            &[Value::Integer(0)],
            &[Value::Text("")],
            &[Value::Bytes(b"")],
            &[Value::Text("ab"), Value::Text("c")],
            &[Value::Text("a"), Value::Text("bc")],
        ];
        let sums: std::collections::BTreeSet<_> = rows.iter().map(|row| sum(row)).collect();
        assert_eq!(sums.len(), rows.len());
    }
}
