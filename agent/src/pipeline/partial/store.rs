//! The records of all sources, each under its key, and what leads from one to another.

use std::cell::Cell;
use std::collections::BTreeSet;

use dirless_model::NameRule;
use dirless_model::snapshot::{Part, record_key};
use dirless_seal::{Content, Digest, KeptError, update_content};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::content::Kept;
use super::facts::{Facts, GroupFacts, Plain, Record};
use super::tree::{self, TreeRules};

/// Another number makes the file anew.
const SHAPE: i64 = 2;
/// The note of how many bytes the entries of the tree have.
const SIZE: &str = "size of entries";

const TABLES: &str = "
    CREATE TABLE records (
        id INTEGER PRIMARY KEY, source INTEGER NOT NULL, part INTEGER NOT NULL, key BLOB NOT NULL, bytes BLOB NOT NULL,
        UNIQUE (source, part, key)
    );
    CREATE TABLE users (record INTEGER PRIMARY KEY, name TEXT, uid INTEGER, gid INTEGER);
    CREATE INDEX users_name ON users (name);
    CREATE INDEX users_uid ON users (uid);
    CREATE INDEX users_gid ON users (gid);
    CREATE TABLE groups (record INTEGER PRIMARY KEY, name TEXT, gid INTEGER, stub BLOB NOT NULL);
    CREATE INDEX groups_name ON groups (name);
    CREATE INDEX groups_gid ON groups (gid);
    CREATE TABLE keys (record INTEGER PRIMARY KEY, name TEXT);
    CREATE INDEX keys_name ON keys (name);
    CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE members (name INTEGER NOT NULL, record INTEGER NOT NULL, raw TEXT NOT NULL, PRIMARY KEY (name, record, raw))
        WITHOUT ROWID;
    CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
";

/// Records cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The file, or what is in it.
    #[error("the file of records: {0}")]
    Database(#[from] rusqlite::Error),
    /// A record that only a whole run can judge.
    #[error("a record is of a form that has to be read as a whole")]
    Odd,
}

/// The records of the sources, by the places that sources have in the order of precedence.
#[derive(Debug)]
pub(crate) struct Store {
    pub(super) db: Connection,
    rule: NameRule,
    /// How sources of the tree are read; none where they are not.
    pub(super) tree: Option<TreeRules>,
    /// Bytes of the entries of the tree.
    pub(super) size: Cell<u64>,
}

fn code(part: Part) -> i64 {
    match part {
        Part::User => 0,
        Part::Group => 1,
        Part::Entry => 2,
        Part::Other => 3,
    }
}

fn part(code: i64) -> Part {
    match code {
        0 => Part::User,
        1 => Part::Group,
        2 => Part::Entry,
        _ => Part::Other,
    }
}

impl Store {
    /// Takes over a connection; one that holds something else is emptied. Names are what `rule` makes of them: of a store
    /// that was filled by another one nothing is right.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub(crate) fn new(db: Connection, rule: NameRule) -> Result<Self, StoreError> {
        let shape: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let store = Self {
            db,
            rule,
            tree: None,
            size: Cell::new(0),
        };
        if shape != SHAPE {
            store.clear()?;
        }
        let size = store.note(SIZE)?.and_then(|text| text.parse().ok());
        store.size.set(size.unwrap_or(0));
        Ok(store)
    }

    /// Empties it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        let names: Vec<String> = {
            let mut select = self
                .db
                .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?;
            select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
        };
        for name in names {
            self.db.execute_batch(&format!("DROP TABLE \"{name}\""))?;
        }
        self.db.execute_batch(TABLES)?;
        self.db.execute_batch(super::content::TABLES)?;
        self.db.execute_batch(tree::TABLES)?;
        self.size.set(0);
        self.db.pragma_update(None, "user_version", SHAPE)?;
        Ok(())
    }

    /// Runs `work` so that all of it is kept or nothing.
    ///
    /// # Errors
    /// What `work` says, or when it cannot be kept.
    pub(crate) fn change<T, E: From<StoreError>>(&mut self, work: impl FnOnce(&Self) -> Result<T, E>) -> Result<T, E> {
        let database = |error| E::from(StoreError::Database(error));
        self.db.execute_batch("BEGIN IMMEDIATE").map_err(database)?;
        let size = self.size.get();
        let done = work(self).and_then(|done| {
            if self.size.get() != size {
                self.set_note(SIZE, &self.size.get().to_string())?;
            }
            Ok(done)
        });
        match done {
            Ok(done) => {
                self.db.execute_batch("COMMIT").map_err(database)?;
                Ok(done)
            }
            Err(error) => {
                // A database that cannot even do this is closed by the caller, which undoes as much.
                let _undone = self.db.execute_batch("ROLLBACK");
                self.size.set(size);
                Err(error)
            }
        }
    }

    /// What was noted under a name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn note(&self, name: &str) -> Result<Option<String>, StoreError> {
        let mut select = self.db.prepare_cached("SELECT value FROM state WHERE name = ?1")?;
        Ok(select.query_row([name], |row| row.get(0)).optional()?)
    }

    /// Notes something under a name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn set_note(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.db
            .prepare_cached("INSERT INTO state VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2")?
            .execute([name, value])?;
        Ok(())
    }

    /// Keeps the content root of a source, all of whose records are in `content`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn keep_content(&self, source: u8, content: &Content) -> Result<Digest, StoreError> {
        content.keep(&mut Kept { db: &self.db, source })
    }

    /// The content root of a source.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn content(&self, source: u8) -> Result<Digest, StoreError> {
        self.update_content(source, &[], &[])
    }

    /// The content root of a source after records with the leaves `gone` went and those with the leaves `come` came.
    ///
    /// # Errors
    /// When one of `gone` is not there, or the file cannot be written.
    pub(crate) fn update_content(&self, source: u8, gone: &[Digest], come: &[Digest]) -> Result<Digest, StoreError> {
        let kept = &mut Kept { db: &self.db, source };
        update_content(kept, gone, come).map_err(|error| match error {
            KeptError::Absent => StoreError::Odd,
            KeptError::Store(error) => error,
        })
    }

    /// The bytes of a record.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn get(&self, source: u8, part: Part, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut select = self
            .db
            .prepare_cached("SELECT bytes FROM records WHERE source = ?1 AND part = ?2 AND key = ?3")?;
        let found = select.query_row(params![source, code(part), key], |row| row.get(0));
        Ok(found.optional()?)
    }

    /// Puts a record in place of the one of its key, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Odd`], or when the file cannot be written.
    pub(crate) fn put(&self, source: u8, part: Part, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        let facts = self.facts(source, part, key, bytes)?;
        if record_key(part, bytes).as_deref() != Some(key) {
            return Err(StoreError::Odd);
        }
        let held = self.id(source, part, key)?;
        let id = match held {
            Some(id) => {
                self.forget_size(source, part, key)?;
                self.db
                    .prepare_cached("UPDATE records SET bytes = ?2 WHERE id = ?1")?
                    .execute(params![id, bytes])?;
                id
            }
            None => {
                self.db
                    .prepare_cached("INSERT INTO records (source, part, key, bytes) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![source, code(part), key, bytes])?;
                self.db.last_insert_rowid()
            }
        };
        if part == Part::Entry {
            self.size.set(self.size.get() + bytes.len() as u64);
        }
        match facts {
            Facts::User(user) => {
                self.db
                    .prepare_cached("INSERT OR REPLACE INTO users VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![id, user.name, user.uid, user.gid])?;
            }
            Facts::Group(group) => {
                self.db
                    .prepare_cached("INSERT OR REPLACE INTO groups VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![id, group.name, group.gid, group.stub])?;
                if held.is_none() {
                    group.members.iter().try_for_each(|member| self.join(id, member))?;
                }
            }
            Facts::Keys(name) => {
                self.db
                    .prepare_cached("INSERT OR REPLACE INTO keys VALUES (?1, ?2)")?
                    .execute(params![id, name])?;
            }
            Facts::Entry(entry) => self.put_entry(id, source, &entry)?,
            Facts::Nothing => {}
        }
        Ok(())
    }

    /// What there is to know of a record.
    pub(super) fn facts(&self, source: u8, part: Part, key: &[u8], bytes: &[u8]) -> Result<Facts, StoreError> {
        match &self.tree {
            Some(tree) if tree.has(source) => tree.facts(source, part, bytes),
            _ => Facts::of(part, key, bytes, &self.rule),
        }
    }

    /// Brings the members of a group that was put again to what they are now.
    pub(super) fn set_members(
        &self,
        record: &Record,
        before: &BTreeSet<(String, String)>,
        after: &BTreeSet<(String, String)>,
    ) -> Result<(), StoreError> {
        let Some(id) = self.id(record.source, record.part, &record.key)? else {
            return Ok(());
        };
        for left in before.difference(after) {
            self.db
                .prepare_cached(
                    "DELETE FROM members WHERE name = (SELECT id FROM names WHERE name = ?1) AND record = ?2 AND raw = ?3",
                )?
                .execute(params![left.0, id, left.1])?;
        }
        after.difference(before).try_for_each(|joined| self.join(id, joined))
    }

    fn join(&self, record: i64, (name, raw): &(String, String)) -> Result<(), StoreError> {
        self.db
            .prepare_cached("INSERT OR IGNORE INTO names (name) VALUES (?1)")?
            .execute([name])?;
        self.db
            .prepare_cached("INSERT OR IGNORE INTO members SELECT id, ?2, ?3 FROM names WHERE name = ?1")?
            .execute(params![name, record, raw])?;
        Ok(())
    }

    /// Takes a record out, with what leads to it; `members` are those of a group.
    pub(super) fn remove(&self, record: &Record) -> Result<(), StoreError> {
        let Some(id) = self.id(record.source, record.part, &record.key)? else {
            return Ok(());
        };
        if let Facts::Group(group) = &record.facts {
            self.set_members(record, &group.members, &BTreeSet::new())?;
        }
        self.forget_size(record.source, record.part, &record.key)?;
        for table in ["users", "groups", "keys", "entries"] {
            self.db
                .prepare_cached(&format!("DELETE FROM {table} WHERE record = ?1"))?
                .execute([id])?;
        }
        self.db
            .prepare_cached("DELETE FROM records WHERE id = ?1")?
            .execute([id])?;
        Ok(())
    }

    fn id(&self, source: u8, part: Part, key: &[u8]) -> Result<Option<i64>, StoreError> {
        let mut select = self
            .db
            .prepare_cached("SELECT id FROM records WHERE source = ?1 AND part = ?2 AND key = ?3")?;
        let found = select.query_row(params![source, code(part), key], |row| row.get(0));
        Ok(found.optional()?)
    }

    fn texts(&self, sql: &str, value: impl rusqlite::ToSql) -> Result<Vec<String>, StoreError> {
        let mut select = self.db.prepare_cached(sql)?;
        let found = select.query_map([value], |row| row.get::<_, Option<String>>(0))?;
        Ok(found.filter_map(Result::transpose).collect::<Result<_, _>>()?)
    }

    /// Names of the users with this uid.
    pub(super) fn users_numbered(&self, uid: u32) -> Result<Vec<String>, StoreError> {
        self.texts("SELECT DISTINCT name FROM users WHERE uid = ?1", uid)
    }

    /// Names of the users with this primary group, one more than `most` of them at most.
    pub(super) fn users_of_gid(&self, gid: u32, most: usize) -> Result<Vec<String>, StoreError> {
        let limit = most.saturating_add(1);
        self.texts(
            &format!("SELECT DISTINCT name FROM users WHERE gid = ?1 LIMIT {limit}"),
            gid,
        )
    }

    /// Uids and primary gids of the users of a name.
    pub(super) fn user_numbers(&self, name: &str) -> Result<(Vec<u32>, Vec<u32>), StoreError> {
        let mut select = self.db.prepare_cached("SELECT uid, gid FROM users WHERE name = ?1")?;
        let mut rows = select.query([name])?;
        let (mut uids, mut gids) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            uids.extend(row.get::<_, Option<u32>>(0)?);
            gids.extend(row.get::<_, Option<u32>>(1)?);
        }
        Ok((uids, gids))
    }

    /// Names of the groups with this gid.
    pub(super) fn groups_numbered(&self, gid: u32) -> Result<Vec<String>, StoreError> {
        self.texts("SELECT DISTINCT name FROM groups WHERE gid = ?1", gid)
    }

    /// Gids of the groups of a name.
    pub(super) fn group_numbers(&self, name: &str) -> Result<Vec<Option<u32>>, StoreError> {
        let mut select = self.db.prepare_cached("SELECT gid FROM groups WHERE name = ?1")?;
        let found = select.query_map([name], |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Names of the groups that list a user.
    pub(super) fn groups_of(&self, user: &str) -> Result<Vec<String>, StoreError> {
        self.texts(
            "SELECT DISTINCT groups.name FROM members JOIN groups ON groups.record = members.record \
             WHERE members.name = (SELECT id FROM names WHERE name = ?1)",
            user,
        )
    }

    /// Members of the groups of a name.
    pub(super) fn members_of(&self, group: &str) -> Result<BTreeSet<String>, StoreError> {
        let sql = "SELECT source, part, key, bytes FROM groups JOIN records ON id = record WHERE name = ?1";
        let mut names = BTreeSet::new();
        for found in self.records(sql, group)? {
            if let Facts::Group(facts) = self.facts(found.source, Part::Group, &found.key, &found.bytes)? {
                names.extend(facts.members.into_iter().map(|(name, _)| name));
            }
        }
        Ok(names)
    }

    fn records(&self, sql: &str, name: &str) -> Result<Vec<Plain>, StoreError> {
        let mut select = self.db.prepare_cached(sql)?;
        let found = select.query_map([name], |row| {
            Ok(Plain {
                source: row.get(0)?,
                part: part(row.get(1)?),
                key: row.get(2)?,
                bytes: row.get(3)?,
            })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Users and keys under a name, as they travel.
    pub(super) fn of_user(&self, name: &str) -> Result<Vec<Plain>, StoreError> {
        let mut found = Vec::new();
        for table in ["users", "keys"] {
            let sql =
                format!("SELECT source, part, key, bytes FROM {table} JOIN records ON id = record WHERE name = ?1");
            found.extend(self.records(&sql, name)?);
        }
        Ok(found)
    }

    /// Groups of a name with those members alone that are among `users`.
    pub(super) fn groups_within(&self, name: &str, users: &BTreeSet<String>) -> Result<Vec<Plain>, StoreError> {
        let mut select = self
            .db
            .prepare_cached("SELECT id, source, key, stub FROM groups JOIN records ON id = record WHERE name = ?1")?;
        let found = select.query_map([name], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, u8>(1)?,
                row.get::<_, Vec<u8>>(2)?,
                row.get::<_, Vec<u8>>(3)?,
            ))
        })?;
        let mut plain = Vec::new();
        for found in found {
            let (id, source, key, stub) = found?;
            let mut members = Vec::new();
            let mut select = self.db.prepare_cached(
                "SELECT raw FROM members WHERE name = (SELECT id FROM names WHERE name = ?1) AND record = ?2",
            )?;
            for user in users {
                let raw = select.query_map(params![user, id], |row| row.get::<_, String>(0))?;
                for raw in raw {
                    members.push(raw?);
                }
            }
            let facts = GroupFacts {
                name: None,
                gid: None,
                stub,
                members: BTreeSet::new(),
                nameless: Vec::new(),
            };
            plain.push(Plain {
                source,
                part: Part::Group,
                key,
                bytes: facts.with(members.into_iter()),
            });
        }
        Ok(plain)
    }
}
