//! One connection, asked by one thread at a time.
//!
//! Statements may be sent ahead of the answers to those before them. The server works them off in
//! order; the answers are collected by what is asked next, or by the commit.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::TryStreamExt as _;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Statement};

use super::super::StoreError;
use super::super::sql::{OwnedValue, Value};
use super::Home;
use super::error::ends_connection;

/// Longest wait for an answer; long enough for a lock that another server holds while it stores a long body.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Statements sent ahead, and bytes in them, before their answers are collected.
const AHEAD_MAX: usize = 512;
const AHEAD_BYTES: usize = 8 * 1024 * 1024;

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, tokio_postgres::Error>> + Send>>;

/// A connection.
pub(crate) struct Session {
    home: Arc<Home>,
    client: Arc<Client>,
    /// How often an answer had been given up when it began.
    given_up: u64,
    statements: RefCell<HashMap<Box<str>, Statement>>,
    ahead: RefCell<Ahead>,
    /// Of no more use.
    broken: Cell<bool>,
    /// The transaction cannot be committed any more.
    failed: Cell<bool>,
    in_transaction: Cell<bool>,
}

#[derive(Default)]
struct Ahead {
    answers: VecDeque<Answer<()>>,
    bytes: usize,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(home: Arc<Home>, client: Client) -> Self {
        Self {
            given_up: home.given_up(),
            home,
            client: Arc::new(client),
            statements: RefCell::default(),
            ahead: RefCell::default(),
            broken: Cell::new(false),
            failed: Cell::new(false),
            in_transaction: Cell::new(false),
        }
    }

    /// Whether the next transaction may begin here: nothing is open, and nobody has given up an answer since it began.
    pub(crate) fn is_idle(&self) -> bool {
        !self.in_transaction.get() && !self.is_broken() && self.given_up == self.home.given_up()
    }

    /// Whether nothing more can be asked here.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.get() || self.client.is_closed()
    }

    /// Begins a transaction, without waiting for the answer.
    pub(crate) fn begin(&self, how: &str) -> Result<(), StoreError> {
        self.in_transaction.set(true);
        self.failed.set(false);
        self.send_text(how)
    }

    /// Ends a transaction. An error of a connection that is then [broken](Self::is_broken) leaves open whether
    /// it was committed; after any other it was not.
    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        let settled = self.settle();
        // The server would answer a COMMIT after an error with a ROLLBACK that looks like success.
        if settled.is_err() || self.failed.get() {
            self.rollback();
            return Err(settled
                .err()
                .unwrap_or_else(|| StoreError::corrupt("a commit after an error")));
        }
        self.batch("COMMIT").inspect(|()| self.in_transaction.set(false))
    }

    /// Ends a transaction without a trace, if one is open and the connection is good.
    pub(crate) fn rollback(&self) {
        if !self.in_transaction.get() {
            return;
        }
        // What failed before does not matter any more.
        let _failed = self.settle();
        if !self.is_broken() && self.batch("ROLLBACK").is_ok() {
            self.in_transaction.set(false);
            self.failed.set(false);
        }
    }

    /// Statements without parameters and results.
    pub(crate) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        let (client, sql) = (Arc::clone(&self.client), sql.to_owned());
        self.ask(Box::pin(async move { client.batch_execute(&sql).await }))
    }

    fn send_text(&self, sql: &str) -> Result<(), StoreError> {
        let (client, sql) = (Arc::clone(&self.client), sql.to_owned());
        self.send(Box::pin(async move { client.batch_execute(&sql).await }), 0)
    }

    /// A statement, made once for each text.
    pub(crate) fn prepare(&self, sql: &str) -> Result<PgStatement<'_>, StoreError> {
        let known = self.statements.borrow().get(sql).cloned();
        let statement = match known {
            Some(statement) => statement,
            None => {
                let (client, text) = (Arc::clone(&self.client), numbered(sql));
                let statement = self.ask(Box::pin(async move { client.prepare(&text).await }))?;
                self.statements.borrow_mut().insert(sql.into(), statement.clone());
                statement
            }
        };
        Ok(PgStatement {
            session: self,
            statement,
        })
    }

    /// Sends something and waits for its answer, and for those that are still due.
    fn ask<T: 'static>(&self, mut answer: Answer<T>) -> Result<T, StoreError> {
        // Sent by the first poll, after what was sent before and ahead of its answers.
        let first = poll_once(&mut answer);
        self.settle()?;
        match first {
            Poll::Ready(outcome) => self.judge(outcome),
            Poll::Pending => self.wait(answer),
        }
    }

    /// Sends something without waiting.
    fn send(&self, mut answer: Answer<()>, bytes: usize) -> Result<(), StoreError> {
        match poll_once(&mut answer) {
            Poll::Ready(outcome) => {
                self.settle()?;
                self.judge(outcome)
            }
            Poll::Pending => {
                let full = {
                    let mut ahead = self.ahead.borrow_mut();
                    ahead.answers.push_back(answer);
                    ahead.bytes += bytes;
                    ahead.answers.len() >= AHEAD_MAX || ahead.bytes >= AHEAD_BYTES
                };
                if full { self.settle() } else { Ok(()) }
            }
        }
    }

    /// Collects the answers that are due; gives the first error.
    fn settle(&self) -> Result<(), StoreError> {
        let ahead = self.ahead.take();
        let mut outcome = Ok(());
        for answer in ahead.answers {
            if self.broken.get() {
                break;
            }
            outcome = outcome.and(self.wait(answer));
        }
        outcome
    }

    fn wait<T>(&self, answer: Answer<T>) -> Result<T, StoreError> {
        let waited = self
            .home
            .handle()
            .block_on(async { tokio::time::timeout(ANSWER_MAX, answer).await });
        match waited {
            Ok(outcome) => self.judge(outcome),
            Err(_elapsed) => {
                self.broken.set(true);
                self.home.give_up();
                Err(StoreError::Unavailable {
                    what: format!("no answer within {} s", ANSWER_MAX.as_secs()),
                })
            }
        }
    }

    fn judge<T>(&self, outcome: Result<T, tokio_postgres::Error>) -> Result<T, StoreError> {
        outcome.map_err(|error| {
            self.failed.set(true);
            if ends_connection(&error) {
                self.broken.set(true);
            }
            error.into()
        })
    }
}

fn poll_once<T>(answer: &mut Answer<T>) -> Poll<Result<T, tokio_postgres::Error>> {
    answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// `?1` in the words of PostgreSQL: `$1`. No statement of ours has a question mark elsewhere.
fn numbered(sql: &str) -> String {
    sql.replace('?', "$")
}

/// A statement of one session.
pub(crate) struct PgStatement<'a> {
    session: &'a Session,
    statement: Statement,
}

impl PgStatement<'_> {
    pub(crate) fn execute(&self, values: &[Value<'_>]) -> Result<u64, StoreError> {
        let (client, statement, values) = self.parts(values);
        let answer = async move { client.execute_raw(&statement, values).await };
        self.session.ask(Box::pin(answer))
    }

    pub(crate) fn send(&self, values: &[Value<'_>]) -> Result<(), StoreError> {
        let bytes = values.iter().map(size).sum();
        let (client, statement, values) = self.parts(values);
        let answer = async move { client.execute_raw(&statement, values).await.map(drop) };
        self.session.send(Box::pin(answer), bytes)
    }

    pub(crate) fn query(&self, values: &[Value<'_>]) -> Result<PgRows, StoreError> {
        let rows = self.session.ask(self.rows(values))?;
        Ok(PgRows(rows.into_iter(), None))
    }

    /// Runs it for each of several lists of values at once, and gives the rows of each.
    pub(crate) fn query_each<const VALUES: usize>(
        &self,
        lists: &[[Value<'_>; VALUES]],
    ) -> Result<Vec<PgRows>, StoreError> {
        let mut each = Vec::with_capacity(lists.len());
        for some in lists.chunks(AHEAD_MAX) {
            let mut answers: Vec<_> = some.iter().map(|values| self.rows(values)).collect();
            let first: Vec<_> = answers.iter_mut().map(poll_once).collect();
            self.session.settle()?;
            for (answer, first) in answers.into_iter().zip(first) {
                let rows = match first {
                    Poll::Ready(outcome) => self.session.judge(outcome)?,
                    Poll::Pending => self.session.wait(answer)?,
                };
                each.push(PgRows(rows.into_iter(), None));
            }
        }
        Ok(each)
    }

    fn rows(&self, values: &[Value<'_>]) -> Answer<Vec<PgRow>> {
        let (client, statement, values) = self.parts(values);
        Box::pin(async move { client.query_raw(&statement, values).await?.try_collect().await })
    }

    fn parts(&self, values: &[Value<'_>]) -> (Arc<Client>, Statement, Vec<OwnedValue>) {
        let values = values.iter().map(OwnedValue::of).collect();
        (Arc::clone(&self.session.client), self.statement.clone(), values)
    }
}

/// A row as the client has it.
pub(crate) type PgRow = tokio_postgres::Row;

/// The rows of an answer.
pub(crate) struct PgRows(std::vec::IntoIter<PgRow>, Option<PgRow>);

impl PgRows {
    pub(crate) fn next(&mut self) -> Option<&PgRow> {
        self.1 = self.0.next();
        self.1.as_ref()
    }
}

impl<'a> Value<'a> {
    /// The value of a column.
    pub(crate) fn of_postgres(row: &'a PgRow, column: usize) -> Result<Self, StoreError> {
        let kind = row.columns().get(column).map(tokio_postgres::Column::type_);
        let integer = |number: Option<i64>| number.map_or(Self::Null, Self::Integer);
        let value = match kind {
            Some(&Type::INT8) => row.try_get(column).map(integer),
            Some(&Type::INT4) => row
                .try_get(column)
                .map(|number: Option<i32>| integer(number.map(i64::from))),
            Some(&Type::BOOL) => row
                .try_get(column)
                .map(|truth: Option<bool>| integer(truth.map(i64::from))),
            Some(&Type::BYTEA) => row
                .try_get(column)
                .map(|bytes: Option<&'a [u8]>| bytes.map_or(Self::Null, Self::Bytes)),
            Some(&(Type::TEXT | Type::VARCHAR | Type::NAME)) => row
                .try_get(column)
                .map(|text: Option<&'a str>| text.map_or(Self::Null, Self::Text)),
            _ => return Err(StoreError::corrupt("a column of another type than the schema's")),
        };
        value.map_err(|_unfit| StoreError::corrupt("a column that holds what its type cannot"))
    }
}

fn size(value: &Value<'_>) -> usize {
    match value {
        Value::Null | Value::Integer(_) => 8,
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
    }
}

impl ToSql for OwnedValue {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) if *kind == Type::INT4 => i32::try_from(*number)?.to_sql(kind, out),
            Self::Integer(number) => number.to_sql(kind, out),
            Self::Text(text) => (&**text).to_sql(kind, out),
            Self::Bytes(bytes) => (&**bytes).to_sql(kind, out),
        }
    }

    fn accepts(_kind: &Type) -> bool {
        true
    }

    fn encode_format(&self, _kind: &Type) -> Format {
        Format::Binary
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_in_both_dialects() {
        assert_eq!(numbered("SELECT ?1, ?12 WHERE a = ?1"), "SELECT $1, $12 WHERE a = $1");
    }
}
