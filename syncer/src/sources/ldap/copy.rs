//! What a server said last, kept so that the next read asks only for what changed.
//!
//! A cache: losing it costs one whole read. It holds what was asked for and no more, never passwords,
//! and changes only as a whole: a read that fails leaves the copy of the read before.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::record::Record;
use crate::sources::SourceError;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS record (
        id TEXT PRIMARY KEY, is_group INTEGER NOT NULL, name TEXT NOT NULL, stamp TEXT NOT NULL, attributes BLOB NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS chain (id TEXT PRIMARY KEY, users TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS state (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1), settings TEXT NOT NULL, way TEXT NOT NULL, cookie BLOB NOT NULL,
        whole_at INTEGER NOT NULL
    ) STRICT;";

/// User or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    User,
    Group,
}

/// How far a copy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The settings that it was read by.
    pub(super) settings: String,
    /// How changes are found.
    pub(super) way: String,
    /// Where the next read goes on.
    pub(super) cookie: Vec<u8>,
    /// When everything was read last (seconds since 1970).
    pub(super) whole_at: i64,
}

/// A copy, open and its own from here on: dropped without [`Copy::keep`] it is as it was before.
#[derive(Debug)]
pub(super) struct Copy {
    connection: Connection,
    path: Option<PathBuf>,
}

impl Copy {
    /// Opens the copy at `path`, or one for this read only when there is no path or somebody else is
    /// reading into it.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, SourceError> {
        if let Some(path) = path {
            match Self::begin(Connection::open(path), Some(path)) {
                Ok(copy) => return Ok(copy),
                Err(error) if is_busy(&error) => {}
                Err(error) => {
                    tracing::warn!(
                        event = "ldap.copy_unusable",
                        path = %path.display(),
                        "everything is read again, for what was read last cannot be used ({error}); delete the file"
                    );
                }
            }
        }
        // A private file without a name that is gone with the connection (sqlite.org/inmemorydb.html).
        Self::begin(Connection::open(""), None).map_err(|error| damaged(None, &error))
    }

    fn begin(connection: rusqlite::Result<Connection>, path: Option<&Path>) -> rusqlite::Result<Self> {
        let connection = connection?;
        connection.busy_timeout(std::time::Duration::ZERO)?;
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA}"))?;
        let path = path.map(ToOwned::to_owned);
        Ok(Self { connection, path })
    }

    fn done<T>(&self, outcome: rusqlite::Result<T>) -> Result<T, SourceError> {
        outcome.map_err(|error| damaged(self.path.as_deref(), &error))
    }

    /// How far it is; `None` when it is empty.
    pub(super) fn state(&mut self) -> Result<Option<State>, SourceError> {
        let sql = "SELECT settings, way, cookie, whole_at FROM state";
        let row = self.connection.query_row(sql, [], |row| {
            Ok(State {
                settings: row.get(0)?,
                way: row.get(1)?,
                cookie: row.get(2)?,
                whole_at: row.get(3)?,
            })
        });
        self.done(row.optional())
    }

    /// Empties it.
    pub(super) fn clear(&mut self) -> Result<(), SourceError> {
        self.done(
            self.connection
                .execute_batch("DELETE FROM record; DELETE FROM chain; DELETE FROM state;"),
        )
    }

    /// Puts an entry in, or another in its place. An id that is there already with another name must
    /// not be: with `whole` that is an error.
    pub(super) fn put(
        &mut self,
        kind: Kind,
        id: &str,
        stamp: &str,
        record: &Record,
        whole: bool,
    ) -> Result<(), SourceError> {
        let sql = if whole {
            "INSERT INTO record (id, is_group, name, stamp, attributes) VALUES (?1, ?2, ?3, ?4, ?5)"
        } else {
            "INSERT OR REPLACE INTO record (id, is_group, name, stamp, attributes) VALUES (?1, ?2, ?3, ?4, ?5)"
        };
        let is_group = kind == Kind::Group;
        let outcome = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params![id, is_group, record.dn, stamp, record.encoded()]));
        match outcome {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Err(
                SourceError::Inconsistent(format!("the id {id} came twice, the second time with {:?}", record.dn)),
            ),
            outcome => self.done(outcome).map(drop),
        }
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, id: &str) -> Result<(), SourceError> {
        let sql = "DELETE FROM record WHERE id = ?1";
        let outcome = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([id]));
        self.done(outcome).map(drop)
    }

    /// What is known of an entry: its kind, name and stamp.
    pub(super) fn known(&mut self, id: &str) -> Result<Option<(Kind, String, String)>, SourceError> {
        let sql = "SELECT is_group, name, stamp FROM record WHERE id = ?1";
        let row = self.connection.prepare_cached(sql).and_then(|mut statement| {
            statement
                .query_row([id], |row| Ok((kind(row.get(0)?), row.get(1)?, row.get(2)?)))
                .optional()
        });
        self.done(row)
    }

    /// The ids of all entries, each with its stamp.
    pub(super) fn ids(&mut self) -> Result<Vec<(String, String)>, SourceError> {
        let all = self
            .connection
            .prepare_cached("SELECT id, stamp FROM record")
            .and_then(|mut statement| statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect());
        self.done(all)
    }

    /// All entries of that kind, in the order of their ids.
    pub(super) fn each(
        &mut self,
        kind: Kind,
        mut sink: impl FnMut(&Record) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let sql = "SELECT name, attributes FROM record WHERE is_group = ?1 ORDER BY id";
        let mut statement = self.done(self.connection.prepare_cached(sql))?;
        let mut rows = self.done(statement.query([kind == Kind::Group]))?;
        while let Some(row) = self.done(rows.next())? {
            let name: String = self.done(row.get(0))?;
            let attributes = self.done(row.get_ref(1).map(|value| value.as_blob().unwrap_or_default()))?;
            sink(&Record::read(&name, attributes)?)?;
        }
        Ok(())
    }

    /// The users that the server found in each group at any depth.
    pub(super) fn chains(&mut self) -> Result<std::collections::BTreeMap<String, Vec<String>>, SourceError> {
        let all = self
            .connection
            .prepare_cached("SELECT id, users FROM chain")
            .and_then(|mut statement| {
                let rows = statement.query_map([], |row| {
                    let users: String = row.get(1)?;
                    Ok((row.get(0)?, users.lines().map(ToOwned::to_owned).collect()))
                })?;
                rows.collect()
            });
        self.done(all)
    }

    /// Keeps these for [`Copy::chains`], and no others.
    pub(super) fn set_chains(
        &mut self,
        chains: &std::collections::BTreeMap<String, Vec<String>>,
    ) -> Result<(), SourceError> {
        self.done(self.connection.execute_batch("DELETE FROM chain"))?;
        for (id, users) in chains {
            let sql = "INSERT INTO chain (id, users) VALUES (?1, ?2)";
            let outcome = self.connection.prepare_cached(sql);
            let outcome = outcome.and_then(|mut statement| statement.execute(params![id, users.join("\n")]));
            self.done(outcome)?;
        }
        Ok(())
    }

    /// Makes what was done last.
    pub(super) fn keep(self, state: &State) -> Result<(), SourceError> {
        if self.path.is_none() {
            return Ok(());
        }
        let sql = "INSERT OR REPLACE INTO state (only_row, settings, way, cookie, whole_at) VALUES (1, ?1, ?2, ?3, ?4)";
        let row = params![state.settings, state.way, state.cookie, state.whole_at];
        self.done(self.connection.execute(sql, row))?;
        self.done(self.connection.execute_batch("COMMIT"))
    }
}

fn kind(is_group: bool) -> Kind {
    if is_group { Kind::Group } else { Kind::User }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

fn damaged(path: Option<&Path>, error: &rusqlite::Error) -> SourceError {
    match path {
        Some(path) => SourceError::Setup(format!(
            "{}: {error}; if the disk is not full, delete the file: it only spares a whole read",
            path.display()
        )),
        None => SourceError::Setup(format!("a temporary file for the read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> Record {
        let mut record = Record::new(name);
        record.add("cn", vec![0xff, 0]);
        record
    }

    fn state(cookie: &[u8]) -> State {
        State {
            settings: "s".to_owned(),
            way: "timestamps".to_owned(),
            cookie: cookie.to_vec(),
            whole_at: 7,
        }
    }

    fn names(copy: &mut Copy, kind: Kind) -> Vec<String> {
        let mut names = Vec::new();
        copy.each(kind, |record| {
            assert_eq!(record.values("cn"), [[0xff, 0]]);
            names.push(record.dn.clone());
            Ok(())
        })
        .unwrap();
        names
    }

    #[test]
    fn a_copy_is_kept_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.db");
        let mut copy = Copy::open(Some(&path)).unwrap();
        assert_eq!(copy.state().unwrap(), None);
        copy.put(Kind::User, "1", "a", &record("cn=u"), true).unwrap();
        copy.put(Kind::Group, "2", "b", &record("cn=g"), true).unwrap();
        assert!(
            copy.put(Kind::User, "1", "c", &record("cn=x"), true)
                .unwrap_err()
                .to_string()
                .contains("twice")
        );
        copy.set_chains(&[("2".to_owned(), vec!["1".to_owned(), "9".to_owned()])].into())
            .unwrap();
        copy.keep(&state(b"one")).unwrap();

        let mut copy = Copy::open(Some(&path)).unwrap();
        copy.put(Kind::User, "1", "d", &record("cn=v"), false).unwrap();
        copy.remove("2").unwrap();
        assert_eq!(
            (names(&mut copy, Kind::User), names(&mut copy, Kind::Group)),
            (vec!["cn=v".to_owned()], vec![])
        );
        drop(copy);

        let mut copy = Copy::open(Some(&path)).unwrap();
        assert_eq!(copy.state().unwrap(), Some(state(b"one")));
        assert_eq!(
            (names(&mut copy, Kind::User), names(&mut copy, Kind::Group)),
            (vec!["cn=u".to_owned()], vec!["cn=g".to_owned()])
        );
        assert_eq!(
            copy.known("1").unwrap(),
            Some((Kind::User, "cn=u".to_owned(), "a".to_owned()))
        );
        assert_eq!(copy.known("3").unwrap(), None);
        assert_eq!(copy.ids().unwrap().len(), 2);
        assert_eq!(copy.chains().unwrap()["2"], ["1", "9"]);
    }

    #[test]
    fn two_readers_at_once_and_a_damaged_file_cost_a_whole_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.db");
        let first = Copy::open(Some(&path)).unwrap();
        let mut second = Copy::open(Some(&path)).unwrap();
        assert_eq!((second.path.is_none(), second.state().unwrap()), (true, None));
        second.put(Kind::User, "1", "a", &record("cn=u"), true).unwrap();
        second.keep(&state(b"two")).unwrap();
        first.keep(&state(b"one")).unwrap();
        assert_eq!(Copy::open(Some(&path)).unwrap().state().unwrap(), Some(state(b"one")));
        std::fs::write(
            &path,
            "this is no database at all, and long enough to be seen as none".repeat(20),
        )
        .unwrap();
        assert_eq!(Copy::open(Some(&path)).unwrap().state().unwrap(), None);
    }
}
