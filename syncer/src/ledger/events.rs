use jiff::Timestamp;
use rusqlite::{Connection, Transaction, params};

/// What can happen to an object after it got its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It is gone from the source.
    Retired,
    /// It is back.
    Returned,
    /// It is called otherwise now.
    Named(String),
}

/// Every event with its number, oldest first.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<(u32, Event)>> {
    let mut query = connection.prepare("SELECT number, what, name FROM events ORDER BY id")?;
    let rows = query.query_map([], |row| {
        let what: String = row.get(1)?;
        let name: Option<String> = row.get(2)?;
        let event = match what.as_str() {
            "retired" => Event::Retired,
            "returned" => Event::Returned,
            _ => Event::Named(name.unwrap_or_default()),
        };
        Ok((row.get(0)?, event))
    })?;
    rows.collect()
}

pub(super) fn append(transaction: &Transaction<'_>, events: &[(u32, Event)], now: Timestamp) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare("INSERT INTO events (number, at, what, name) VALUES (?1, ?2, ?3, ?4)")?;
    for (number, event) in events {
        let (what, name) = match event {
            Event::Retired => ("retired", None),
            Event::Returned => ("returned", None),
            Event::Named(name) => ("named", Some(name)),
        };
        insert.execute(params![number, now.as_millisecond(), what, name])?;
    }
    Ok(())
}
