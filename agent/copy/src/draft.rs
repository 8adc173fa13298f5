//! A generation in the making.

use std::collections::VecDeque;
use std::path::Path;

use dirless_directory::encoded::Attributes;
use dirless_directory::{DnKey, Schema};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::CopyError;
use crate::appender::Appender;
use crate::catch_up::catch_up;
use crate::files::{Files, named_by, open_draft, open_generation};
use crate::layout::{self, meta};
use crate::rebuild::rebuild;
use crate::records::{MARK, Records};
use crate::row::{Existing, NewRow, Rows, Stamp, stamped, uuid_at};

/// Keys of the generation before that are read at once.
const AHEAD: usize = 1024;
/// Deletions that are remembered for those who follow the changes.
const REMEMBERED: i64 = 50_000;
/// Bytes of an entry's digest.
const DIGEST: usize = 16;

/// An entry as it is published.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The key of its name.
    pub key: &'a DnKey,
    /// Its name.
    pub dn: &'a str,
    /// Its `entryUUID`, the same in every generation.
    pub uuid: [u8; 16],
    /// Its attributes as [`dirless_directory::encoded::encode`] makes them. Timestamps, `entryCSN`,
    /// `entryUUID` and `hasSubordinates` are added where they are absent.
    pub attributes: &'a [u8],
    /// Values that match are spelled alike, so that of a large group only what differs is looked at.
    pub canonical: bool,
}

/// What a generation changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries in it.
    pub entries: u64,
    /// Entries that were not there before.
    pub added: u64,
    /// Entries that differ.
    pub changed: u64,
    /// Entries that are gone.
    pub deleted: u64,
    /// Its state number.
    pub number: u64,
}

/// The next generation of a copy, filled in the order of keys. Dropped before it is finished, it leaves
/// no trace.
pub struct Draft {
    files: Files,
    pub(crate) next: Connection,
    before: Option<Before>,
    pub(crate) rows: Rows,
    pub(crate) records: Appender,
    lineage: String,
    /// State number of the generation before.
    pub(crate) start: i64,
    pub(crate) number: i64,
    /// Microseconds since 1970.
    pub(crate) time: i64,
    pending: Option<Pending>,
    pub(crate) summary: Summary,
    /// Entries of the generation before, when those that are not put stay.
    kept: Option<u64>,
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Draft({}, {:?})", self.files.current.display(), self.summary)
    }
}

/// Key and digest of an entry of the generation before.
type OldEntry = (Vec<u8>, Vec<u8>);

/// The generation before, read along.
struct Before {
    /// None when it is read in the draft itself, which holds it under another schema.
    connection: Option<Connection>,
    ahead: VecDeque<OldEntry>,
    after: Vec<u8>,
    ended: bool,
}

/// An entry that waits for the next one: that tells whether it has subordinates.
pub(crate) struct Pending {
    key: DnKey,
    dn: String,
    uuid: [u8; 16],
    attributes: Vec<u8>,
    canonical: bool,
}

impl Draft {
    /// The digest of the content that the copy at `path` holds, when there is one that can be used.
    #[must_use]
    pub fn content(path: &Path) -> Option<String> {
        let (connection, records) = open_generation(path).ok()?;
        let files = Files::of(path);
        // One that its readers cannot open is to be made again.
        let readable = files.of_the_group(path) && files.of_the_group(records.path());
        layout::text(&connection, meta::CONTENT).ok().filter(|_| readable)
    }

    /// Begins the generation after the one at `path`, or the first one when there is none, when it is
    /// of another format, or when `anew` says that it cannot be used. `lineage` names a series of
    /// generations that starts now; it must never have been used before. Under another `schema` than the
    /// one before it begins with the same entries made anew.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn begin(path: &Path, schema: Schema, lineage: &str, now: Timestamp, anew: bool) -> Result<Self, CopyError> {
        let before = if anew { None } else { open_generation(path).ok() };
        Self::after(path, before, schema, lineage, now)
    }

    /// Begins the generation after `before`, which is the one at `path`.
    pub(crate) fn after(
        path: &Path,
        before: Option<(Connection, Records)>,
        schema: Schema,
        lineage: &str,
        now: Timestamp,
    ) -> Result<Self, CopyError> {
        let files = Files::of(path);
        let schema_text = schema.extension_text();
        let same_schema = match &before {
            Some((before, _)) => layout::text(before, meta::SCHEMA)? == schema_text,
            None => true,
        };
        let there = files.make_draft(before.is_some() && same_schema)?;
        // What the current generation names stays also when nothing is taken from it: it may be served.
        let named = before.as_ref().map(|(_, records)| records.number());
        files.remove_records(named.or_else(|| named_by(path)).as_slice())?;
        let mut next = open_draft(&files.draft)?;
        if let (Some((before, records)), true) = (&before, there)
            && !catch_up(before, records, &next, &schema)?
        {
            drop(next);
            std::fs::copy(&files.current, &files.draft).map_err(CopyError::file("copy to", &files.draft))?;
            next = open_draft(&files.draft)?;
        }
        next.execute_batch("BEGIN")?;
        let (mut start, mut last, mut name) = (0, 0, lineage.to_owned());
        if let Some((before, _)) = &before {
            start = layout::number(before, meta::NUMBER)?;
            last = layout::number(before, meta::TIME)?;
            name = layout::text(before, meta::LINEAGE)?;
        }
        if before.is_none() || !same_schema {
            next.execute_batch(layout::TABLES)?;
            next.pragma_update(None, "user_version", layout::FORMAT)?;
            layout::set(&next, meta::SCHEMA, schema_text)?;
        }
        let mut rows = Rows::new(schema.clone());
        let (mut number, mut deleted) = (start, 0);
        let mark = mark(lineage, now, &name, start);
        let records = match &before {
            None => {
                rows.sort_terms(&files.draft)?;
                Appender::create(&files, mark)?
            }
            Some((before, records)) if !same_schema => {
                let mut appender = Appender::create(&files, mark)?;
                (number, deleted) = rebuild(
                    (before, records),
                    (&next, &mut appender),
                    &mut rows,
                    &files.draft,
                    &schema,
                )?;
                appender
            }
            Some((_, records)) if records.is_wasteful() || !files.of_the_group(records.path()) => {
                Appender::moved(&files, mark, &next, records)?
            }
            Some((_, records)) => Appender::after(records)?,
        };
        Ok(Self {
            files,
            rows,
            records,
            before: before.map(|(connection, _)| Before {
                connection: same_schema.then_some(connection),
                ahead: VecDeque::new(),
                after: Vec::new(),
                ended: false,
            }),
            next,
            lineage: name,
            start,
            number,
            // Also with a clock that went back, later changes have later stamps.
            time: now.as_microsecond().max(last + 1),
            pending: None,
            summary: Summary {
                deleted,
                ..Summary::default()
            },
            kept: None,
        })
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// When its key does not follow the one before, or the file cannot be written; the draft is of no
    /// more use then.
    pub fn put(&mut self, record: &Record<'_>) -> Result<(), CopyError> {
        if let Some(pending) = self.pending.take() {
            if pending.key >= *record.key {
                return Err(CopyError::Order(record.dn.to_owned()));
            }
            let has_subordinates = record.key.is_within(&pending.key);
            self.take(&pending, has_subordinates)?;
            self.pending = Some(pending);
        }
        let pending = self.pending.get_or_insert_with(|| Pending {
            key: DnKey::from(Vec::new()),
            dn: String::new(),
            uuid: [0; 16],
            attributes: Vec::new(),
            canonical: false,
        });
        pending.key.clone_from(record.key);
        pending.dn.clear();
        pending.dn.push_str(record.dn);
        pending.attributes.clear();
        pending.attributes.extend_from_slice(record.attributes);
        (pending.uuid, pending.canonical) = (record.uuid, record.canonical);
        Ok(())
    }

    /// Puts the generation in place. `content` is what [`Draft::content`] will tell of it.
    ///
    /// # Errors
    /// When a file cannot be written; the generation before stays then.
    pub fn finish(mut self, content: &str) -> Result<Summary, CopyError> {
        if let Some(pending) = self.pending.take() {
            self.take(&pending, false)?;
        }
        while let Some((key, _)) = self.old()? {
            self.skip_old();
            self.delete(&key)?;
        }
        if self.before.is_none() {
            self.rows.insert_sorted(&self.next)?;
            self.next.execute_batch(layout::INDEXES)?;
        }
        if self.summary.deleted > 0 {
            self.forget()?;
        }
        layout::set(&self.next, meta::LINEAGE, &self.lineage)?;
        layout::set(&self.next, meta::NUMBER, self.number)?;
        layout::set(&self.next, meta::CONTENT, content)?;
        layout::set(&self.next, meta::TIME, self.time)?;
        if let Some(kept) = self.kept {
            self.summary.entries = (kept + self.summary.added).saturating_sub(self.summary.deleted);
        }
        let entries = i64::try_from(self.summary.entries).unwrap_or(i64::MAX);
        layout::set(&self.next, meta::ENTRIES, entries)?;
        self.records.finish(&self.next)?;
        self.next.flush_prepared_statement_cache();
        self.next.execute_batch("COMMIT")?;
        drop(self.before.take());
        let done = std::mem::replace(&mut self.next, Connection::open_in_memory()?);
        done.close().map_err(|(_, error)| error)?;
        // From the rename on it is needed, and whether that came to pass is not known for sure if it fails.
        self.records.keep();
        self.files.put_in_place()?;
        if self.records.is_new() {
            // Whoever reads a generation of another file holds that open; what cannot go now goes next time.
            let _ = self.files.remove_records(&[self.records.number()]);
        }
        self.summary.number = u64::try_from(self.number).unwrap_or(0);
        Ok(self.summary)
    }

    /// Removes the copy at `path`.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove_all(path: &Path) -> Result<(), CopyError> {
        Files::of(path).remove_all()
    }

    /// Forgets the oldest deletions when there are too many.
    fn forget(&mut self) -> Result<(), CopyError> {
        let count: i64 = self.next.query_row("SELECT count(*) FROM gone", [], |row| row.get(0))?;
        if count > REMEMBERED {
            let oldest: i64 = self.next.query_row(
                "SELECT number FROM gone ORDER BY number LIMIT 1 OFFSET ?1",
                [count - REMEMBERED / 2],
                |row| row.get(0),
            )?;
            self.next.execute("DELETE FROM gone WHERE number < ?1", [oldest])?;
            layout::set(&self.next, meta::OLDEST, oldest - 1)?;
        }
        Ok(())
    }

    /// Holds one entry against the generation before.
    fn take(&mut self, record: &Pending, has_subordinates: bool) -> Result<(), CopyError> {
        self.summary.entries += 1;
        let digest = digest(&record.dn, &record.uuid, &record.attributes, has_subordinates);
        while let Some((key, held)) = self.old()? {
            match key.as_slice().cmp(record.key.as_bytes()) {
                std::cmp::Ordering::Less => {
                    self.skip_old();
                    self.delete(&key)?;
                }
                std::cmp::Ordering::Equal => {
                    self.skip_old();
                    if held == digest {
                        return Ok(());
                    }
                    break;
                }
                std::cmp::Ordering::Greater => break,
            }
        }
        self.write(record, &digest, has_subordinates)
    }

    pub(crate) fn write(&mut self, record: &Pending, digest: &[u8], has_subordinates: bool) -> Result<(), CopyError> {
        let mut old = None;
        let mut added = None;
        let mut created = None;
        if self.before.is_some() {
            // Another entry of that name goes first; an entry of that identity moves here.
            if uuid_at(&self.next, record.key.as_bytes())?.is_some_and(|uuid| uuid != record.uuid) {
                self.delete(record.key.as_bytes())?;
            }
            old = Existing::by_uuid(&self.next, &self.records, &record.uuid)?;
            (added, created) = match &old {
                Some(old) => (Some(old.added), old.created()),
                None => self
                    .revive(&record.uuid)?
                    .map_or((None, None), |(added, created)| (Some(added), Some(created))),
            };
        }
        self.number += 1;
        let index = self.number - self.start;
        let count = if added.is_some() {
            &mut self.summary.changed
        } else {
            &mut self.summary.added
        };
        *count += 1;
        let (modified, csn) = stamps(self.time, index);
        let created = created.unwrap_or_else(|| modified.clone().into_bytes());
        let given = Attributes::new(&record.attributes)?;
        let parted = self.rows.part(given);
        let (shown, secret) = match &parted {
            Some((shown, secret)) => (Attributes::new(shown)?, secret.as_slice()),
            None => (given, &[][..]),
        };
        let attributes = stamped(
            shown,
            &Stamp {
                uuid: record.uuid,
                csn: &csn,
                created: &created,
                modified: &modified,
                has_subordinates,
            },
        );
        let row = NewRow {
            id: old.as_ref().map(|old| old.id),
            key: record.key.as_bytes(),
            digest,
            uuid: &record.uuid,
            added: added.unwrap_or(self.number),
            changed: self.number,
            canonical: record.canonical,
            dn: &record.dn,
            secret,
            attributes: &attributes,
        };
        self.rows.write(&self.next, &mut self.records, &row, old.as_ref())
    }

    /// An entry that this very generation has deleted under another name.
    fn revive(&mut self, uuid: &[u8]) -> Result<Option<(i64, Vec<u8>)>, CopyError> {
        let found: Option<(i64, i64, Vec<u8>)> = self
            .next
            .prepare_cached("SELECT number, added, created FROM gone WHERE uuid = ?1")?
            .query_row([uuid], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((number, added, created)) = found else {
            return Ok(None);
        };
        self.next
            .prepare_cached("DELETE FROM gone WHERE uuid = ?1")?
            .execute([uuid])?;
        if number <= self.start {
            return Ok(None);
        }
        self.summary.deleted -= 1;
        Ok(Some((added, created)))
    }

    pub(crate) fn delete(&mut self, key: &[u8]) -> Result<(), CopyError> {
        // Not there any more: it has moved.
        match Existing::by_key(&self.next, &self.records, key)? {
            Some(old) => self.delete_row(&old),
            None => Ok(()),
        }
    }

    fn delete_row(&mut self, old: &Existing) -> Result<(), CopyError> {
        self.rows.remove(&self.next, old)?;
        self.records.forget(old.size);
        self.number += 1;
        self.summary.deleted += 1;
        Ok(old.bury(&self.next, self.number)?)
    }

    /// Entries of the generation before that are not put stay.
    pub(crate) fn keep_the_rest(&mut self) -> Result<(), CopyError> {
        if let Some(before) = &mut self.before {
            let connection = before.connection.as_ref().unwrap_or(&self.next);
            let entries = layout::number(connection, meta::ENTRIES)?;
            self.kept = Some(u64::try_from(entries).unwrap_or(0));
            before.ended = true;
        }
        Ok(())
    }

    /// Number and digest of the entry with that key.
    pub(crate) fn held(&self, key: &[u8]) -> Result<Option<(i64, Vec<u8>)>, CopyError> {
        let mut statement = self
            .next
            .prepare_cached("SELECT id, digest FROM entries WHERE key = ?1")?;
        let found = statement.query_row([key], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(found.optional()?)
    }

    /// The key of the entry of that identity.
    pub(crate) fn key_of(&self, uuid: &[u8; 16]) -> Result<Option<Vec<u8>>, CopyError> {
        let mut statement = self.next.prepare_cached("SELECT key FROM entries WHERE uuid = ?1")?;
        Ok(statement.query_row([uuid.as_slice()], |row| row.get(0)).optional()?)
    }

    /// Key and digest of the next entry of the generation before.
    fn old(&mut self) -> Result<Option<OldEntry>, CopyError> {
        let Some(before) = &mut self.before else {
            return Ok(None);
        };
        if before.ahead.is_empty() && !before.ended {
            let connection = before.connection.as_ref().unwrap_or(&self.next);
            let mut statement = connection.prepare_cached(
                "SELECT key, digest FROM entries INDEXED BY entries_key WHERE key > ?1 ORDER BY key LIMIT ?2",
            )?;
            let mut rows = statement.query(params![before.after, i64::try_from(AHEAD).unwrap_or(i64::MAX)])?;
            while let Some(row) = rows.next()? {
                before.ahead.push_back((row.get(0)?, row.get(1)?));
            }
            before.ended = before.ahead.len() < AHEAD;
            if let Some((key, _)) = before.ahead.back() {
                before.after.clone_from(key);
            }
        }
        Ok(before.ahead.front().cloned())
    }

    fn skip_old(&mut self) {
        if let Some(before) = &mut self.before {
            before.ahead.pop_front();
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After finish it has another name. What cannot be removed now is removed by the next draft.
        let _ = std::fs::remove_file(&self.files.draft);
    }
}

impl From<&Record<'_>> for Pending {
    fn from(record: &Record<'_>) -> Self {
        Self {
            key: record.key.clone(),
            dn: record.dn.to_owned(),
            uuid: record.uuid,
            attributes: record.attributes.to_vec(),
            canonical: record.canonical,
        }
    }
}

/// What no other flat file has in it: the series that was to begin, the one that goes on, and when.
fn mark(lineage: &str, now: Timestamp, series: &str, start: i64) -> [u8; MARK] {
    let text = format!("{lineage} {} {series} {start}", now.as_nanosecond());
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Of what the publisher gave.
pub(crate) fn digest(dn: &str, uuid: &[u8; 16], attributes: &[u8], has_subordinates: bool) -> [u8; DIGEST] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&[u8::from(has_subordinates)]);
    context.update(uuid);
    context.update(dn.as_bytes());
    context.update(&[0]);
    context.update(attributes);
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

/// `modifyTimestamp` and `entryCSN` of the change with that index in a generation of that time, in
/// microseconds since 1970.
pub(crate) fn stamps(time: i64, index: i64) -> (String, String) {
    let time = time.saturating_add(index >> 24);
    let moment = Timestamp::from_microsecond(time).unwrap_or(Timestamp::MAX);
    let text = moment.strftime("%Y%m%d%H%M%S").to_string();
    let csn = format!(
        "{text}.{:06}Z#{:06x}#000#000000",
        time.rem_euclid(1_000_000),
        index & 0xff_ffff
    );
    (text + "Z", csn)
}
