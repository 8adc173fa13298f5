//! Reading: look-ups, searches, the changelog, counts.

use std::ops::ControlFlow;

use dirless_directory::encoded::{Attributes, Matcher, Subject};
use dirless_directory::filter::Truth;
use dirless_directory::{Dn, DnKey, Filter, Schema};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Rows, params};
use serde::Serialize;
use serde_json::Value as Json;

use super::TreeError;
use super::candidates::{Candidates, Range};
use super::context::Context;
use super::record::{COLUMNS, Record};

/// How far below its base a search looks (RFC 4511 section 4.5.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The base alone.
    Base,
    /// Right below the base, without the base.
    OneLevel,
    /// The base and everything below it.
    Subtree,
}

/// What a search looks for.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// Where it starts. The empty name stands above the tree's base.
    pub base: &'a Dn,
    /// How far it goes.
    pub scope: Scope,
    /// What entries must match.
    pub filter: &'a Filter,
    /// Only entries after this one: the `next` of the page before.
    pub after: Option<&'a DnKey>,
}

/// A part of a search's answer, in the order of keys: an entry comes before those below it.
#[derive(Clone, Debug)]
pub struct Page {
    /// The entries.
    pub records: Vec<Record>,
    /// Where to go on; none when this was all.
    pub next: Option<DnKey>,
}

/// One line of the changelog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its number; grows, with gaps.
    pub id: u64,
    /// The entry, under the name that it had.
    pub dn: String,
    /// What happened to it.
    pub operation: Operation,
    /// Who did it.
    pub actor: String,
    /// When.
    pub at: Timestamp,
    /// What changed, see [`super::difference`].
    pub difference: Json,
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// It appeared.
    Add,
    /// Its attributes changed.
    Update,
    /// It disappeared.
    Delete,
    /// It got another name, and with it everything below it.
    Rename,
}

impl Operation {
    /// The word for it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Rename => "rename",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "add" => Self::Add,
            "delete" => Self::Delete,
            "rename" => Self::Rename,
            // The table takes no fifth word.
            _ => Self::Update,
        }
    }
}

/// Counts of what is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Entries.
    pub entries: u64,
    /// Rows of the indexes.
    pub indexed_values: u64,
    /// Lines of the changelog.
    pub changes: u64,
    /// The number of the newest change: the state of the tree.
    pub state: u64,
    /// Bytes of the database file.
    pub bytes: u64,
    /// Entries right below the base and how many stand below each, by name.
    pub subtrees: Vec<(String, u64)>,
}

/// A look at one state of the tree, however much is written meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    pub(super) connection: &'a Connection,
    pub(super) context: &'a Context,
}

impl<'a> Reader<'a> {
    /// The schema that entries follow.
    #[must_use]
    pub fn schema(&self) -> &'a Schema {
        &self.context.schema
    }

    /// The name above all others.
    #[must_use]
    pub fn base(&self) -> &'a Dn {
        &self.context.base
    }

    /// What keys and indexes were made for.
    pub(super) fn fingerprint(&self) -> Result<Option<String>, TreeError> {
        Ok(self
            .connection
            .prepare("SELECT value FROM settings WHERE name = 'fingerprint'")?
            .query_row([], |row| row.get(0))
            .optional()?)
    }

    /// The entry of that name.
    ///
    /// # Errors
    /// When the name makes no sense or the database fails.
    pub fn get(&self, dn: &Dn) -> Result<Option<Record>, TreeError> {
        self.by_key(self.context.key(dn)?.as_bytes())
    }

    /// The entry of that name, or the error that says how far the name leads.
    ///
    /// # Errors
    /// [`TreeError::Absent`] besides those of [`Reader::get`].
    pub fn require(&self, dn: &Dn) -> Result<Record, TreeError> {
        match self.get(dn)? {
            Some(record) => Ok(record),
            None => Err(self.absent(dn)?),
        }
    }

    pub(super) fn absent(&self, dn: &Dn) -> Result<TreeError, TreeError> {
        let mut above = dn.parent();
        while let Some(name) = above {
            if let Some(record) = self.get(&name)? {
                return Ok(TreeError::Absent {
                    dn: dn.clone(),
                    matched: record.dn().clone(),
                });
            }
            above = name.parent();
        }
        Ok(TreeError::Absent {
            dn: dn.clone(),
            matched: Dn::ROOT,
        })
    }

    pub(super) fn by_key(&self, key: &[u8]) -> Result<Option<Record>, TreeError> {
        let sql = format!("SELECT {COLUMNS} FROM entries WHERE key = ?1");
        self.one(&sql, params![key])
    }

    /// The entry of that key.
    ///
    /// # Errors
    /// When the database fails.
    pub fn find(&self, key: &DnKey) -> Result<Option<Record>, TreeError> {
        self.by_key(key.as_bytes())
    }

    pub(super) fn by_id(&self, id: i64) -> Result<Option<Record>, TreeError> {
        let sql = format!("SELECT {COLUMNS} FROM entries WHERE id = ?1");
        self.one(&sql, params![id])
    }

    fn one(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Option<Record>, TreeError> {
        let mut select = self.connection.prepare_cached(sql)?;
        let mut rows = select.query(parameters)?;
        rows.next()?.map(Record::read).transpose()
    }

    /// At most `limit` entries that match, and where to go on.
    ///
    /// # Errors
    /// [`TreeError::Absent`] when the base is not there, and when the database fails.
    pub fn search(&self, query: &Query<'_>, limit: usize) -> Result<Page, TreeError> {
        let mut page = Page {
            records: Vec::new(),
            next: None,
        };
        self.visit(query, |record| {
            if page.records.len() == limit {
                page.next = page.records.last().map(|last: &Record| last.key().clone());
                return ControlFlow::Break(());
            }
            page.records.push(record);
            ControlFlow::Continue(())
        })?;
        Ok(page)
    }

    /// Hands every entry that matches to `take`, one after the other in the order of keys, until it
    /// has enough.
    ///
    /// # Errors
    /// As [`Reader::search`].
    pub fn visit(&self, query: &Query<'_>, mut take: impl FnMut(Record) -> ControlFlow<()>) -> Result<(), TreeError> {
        let schema = self.schema();
        let matcher = Matcher::new(schema, query.filter);
        let mut offer = |record: Record| -> Result<ControlFlow<()>, TreeError> {
            let attributes = Attributes::new(record.encoded()).map_err(TreeError::damaged(record.dn().to_string()))?;
            let text = record.dn().to_string();
            let subject = Subject {
                dn: &text,
                key: record.key().as_bytes(),
                attributes,
            };
            Ok(match matcher.matches(schema, subject) {
                Truth::True => take(record),
                Truth::False | Truth::Undefined => ControlFlow::Continue(()),
            })
        };
        self.narrow(query, &mut offer)
    }

    /// Hands every entry in scope that may match to `offer`, in the order of keys, until it breaks: at
    /// least those that match, and as few others as the indexes can tell. What a front with rules of its
    /// own holds against the filter itself.
    ///
    /// # Errors
    /// As [`Reader::search`], and what `offer` reports.
    pub fn narrow(
        &self,
        query: &Query<'_>,
        mut offer: impl FnMut(Record) -> Result<ControlFlow<()>, TreeError>,
    ) -> Result<(), TreeError> {
        let range = Range::of(*self, query)?;
        if let Range::One(record) = range {
            if query.after.is_none_or(|after| record.key() > after) {
                let _ = offer(*record)?;
            }
            return Ok(());
        }
        match Candidates::of(*self, query.filter, &range)? {
            Candidates::These(keys) => {
                for key in keys {
                    let wanted = range.holds(&key) && query.after.is_none_or(|after| key.0 > *after);
                    if wanted
                        && let Some(record) = self.by_id(key.1.id)?
                        && offer(record)?.is_break()
                    {
                        break;
                    }
                }
                Ok(())
            }
            Candidates::Anything => self.scan(&range, query.after, offer),
        }
    }

    /// Shows every entry that may match `filter`, in the order of keys, as it stands in its row: key, name, attributes,
    /// and the whole record for whoever keeps it.
    pub(super) fn each(
        &self,
        filter: &Filter,
        mut take: impl FnMut(&[u8], &str, &[u8], &dyn Fn() -> Result<Record, TreeError>) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        let mut show = |row: &Row<'_>| {
            let blob = |at| row.get_ref(at)?.as_blob().map_err(rusqlite::Error::from);
            let dn = row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?;
            take(blob(1)?, dn, blob(6)?, &|| Record::read(row))
        };
        match Candidates::of(*self, filter, &Range::whole())? {
            Candidates::These(keys) => {
                let sql = format!("SELECT {COLUMNS} FROM entries WHERE id = ?1");
                let mut select = self.connection.prepare_cached(&sql)?;
                for (_, slot) in keys {
                    if let Some(row) = select.query(params![slot.id])?.next()? {
                        show(row)?;
                    }
                }
            }
            Candidates::Anything => {
                let sql = format!("SELECT {COLUMNS} FROM entries ORDER BY key");
                let mut select = self.connection.prepare_cached(&sql)?;
                let mut rows = select.query([])?;
                while let Some(row) = rows.next()? {
                    show(row)?;
                }
            }
        }
        Ok(())
    }

    fn scan(
        &self,
        range: &Range,
        after: Option<&DnKey>,
        mut offer: impl FnMut(Record) -> Result<ControlFlow<()>, TreeError>,
    ) -> Result<(), TreeError> {
        let after = after.map_or(&[][..], |after| after.as_bytes());
        let mut take = |mut rows: Rows<'_>| {
            while let Some(row) = rows.next()? {
                if offer(Record::read(row)?)?.is_break() {
                    break;
                }
            }
            Ok(())
        };
        match range {
            Range::One(_) => Ok(()),
            Range::Children(Some(parent)) => {
                let sql = format!("SELECT {COLUMNS} FROM entries WHERE parent = ?1 AND key > ?2 ORDER BY key");
                take(self.connection.prepare_cached(&sql)?.query(params![parent, after])?)
            }
            Range::Children(None) => {
                let sql = format!("SELECT {COLUMNS} FROM entries WHERE parent IS NULL AND key > ?1");
                take(self.connection.prepare_cached(&sql)?.query(params![after])?)
            }
            Range::Keys { from, end } => {
                let sql =
                    format!("SELECT {COLUMNS} FROM entries WHERE key >= ?1 AND key < ?2 AND key > ?3 ORDER BY key");
                take(self.connection.prepare_cached(&sql)?.query(params![from, end, after])?)
            }
        }
    }

    /// The entries right below `dn`, by key.
    ///
    /// # Errors
    /// As [`Reader::search`].
    pub fn children(&self, dn: &Dn, after: Option<&DnKey>, limit: usize) -> Result<Page, TreeError> {
        let query = Query {
            base: dn,
            scope: Scope::OneLevel,
            filter: &Filter::And(Vec::new()),
            after,
        };
        self.search(&query, limit)
    }

    /// The number of the newest change: the state of the tree.
    ///
    /// # Errors
    /// When the database fails.
    pub fn state(&self) -> Result<u64, TreeError> {
        let last: Option<i64> = self
            .connection
            .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0))
    }

    /// The `entryCSN` of the newest write: what syncrepl calls the state of the context.
    ///
    /// # Errors
    /// When the database fails.
    pub fn context_csn(&self) -> Result<Option<String>, TreeError> {
        Ok(self
            .connection
            .prepare_cached("SELECT value FROM settings WHERE name = 'csn'")?
            .query_row([], |row| row.get(0))
            .optional()?)
    }

    /// At most `limit` changes after number `after`, oldest first.
    ///
    /// # Errors
    /// When the database fails or a line makes no sense.
    pub fn changes(&self, after: u64, limit: usize) -> Result<Vec<Change>, TreeError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, dn, operation, actor, at, difference FROM changes WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = select.query(params![i64::try_from(after).unwrap_or(i64::MAX), limit])?;
        let mut changes = Vec::new();
        while let Some(row) = rows.next()? {
            let dn: String = row.get(1)?;
            let damaged = |reason: String| TreeError::Damaged { dn: dn.clone(), reason };
            let text = row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?;
            changes.push(Change {
                id: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
                operation: Operation::parse(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?),
                actor: row.get(3)?,
                at: Timestamp::from_millisecond(row.get(4)?).map_err(|error| damaged(error.to_string()))?,
                difference: serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?,
                dn,
            });
        }
        Ok(changes)
    }

    /// Are changes after number `after` not known any more?
    ///
    /// # Errors
    /// When the database fails.
    pub fn is_forgotten(&self, after: u64) -> Result<bool, TreeError> {
        let oldest: Option<i64> = self
            .connection
            .prepare_cached("SELECT MIN(id) FROM changes")?
            .query_row([], |row| row.get(0))?;
        let state = self.state()?;
        // Numbers are given out without gaps; with no line left, the next one would be the oldest.
        let oldest = oldest
            .and_then(|oldest| u64::try_from(oldest).ok())
            .unwrap_or(state + 1);
        Ok(after.saturating_add(1) < oldest || after > state)
    }

    /// Counts of what is there; looks at every entry, so it takes a second at a million.
    ///
    /// # Errors
    /// When the database fails.
    pub fn stats(&self) -> Result<Stats, TreeError> {
        let count = |sql: &str, parameters: &[&dyn rusqlite::ToSql]| -> Result<u64, TreeError> {
            let count: i64 = self
                .connection
                .prepare_cached(sql)?
                .query_row(parameters, |row| row.get(0))?;
            Ok(u64::try_from(count).unwrap_or(0))
        };
        let mut subtrees = Vec::new();
        for record in self.children(&self.context.base, None, 1_000)?.records {
            let below = count(
                "SELECT COUNT(*) - 1 FROM entries WHERE key >= ?1 AND key < ?2",
                &[&record.key().as_bytes(), &record.key().subtree_end()],
            )?;
            let name = record.dn().rdn().map(ToString::to_string).unwrap_or_default();
            subtrees.push((name, below));
        }
        let pages = count(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
            &[],
        )?;
        Ok(Stats {
            entries: count("SELECT COUNT(*) FROM entries", &[])?,
            indexed_values: count("SELECT COUNT(*) FROM indexed", &[])?,
            changes: count("SELECT COUNT(*) FROM changes", &[])?,
            state: self.state()?,
            bytes: pages,
            subtrees,
        })
    }
}
