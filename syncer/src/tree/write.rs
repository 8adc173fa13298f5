//! Writing: one transaction at a time, each with as many operations as its maker likes.

use dirless_directory::encoded::encode;
use dirless_directory::{Dn, DnKey, Entry, Rdn, Value};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Map, Value as Json, json};

use super::actor::Actor;
use super::context::Context;
use super::modify::Modification;
use super::operational::{self, Csn, Stamp, name};
use super::read::{Operation, Reader};
use super::record::{COLUMNS, Record};
use super::{TreeError, difference, numbers, skeleton};

/// What an entry must be for a write to happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// Whatever it is.
    #[default]
    Anything,
    /// Not there.
    Absent,
    /// There, with this version.
    Version(u64),
}

/// What [`Batch::put`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The entry appeared.
    Added,
    /// The entry changed.
    Updated,
    /// The entry said that already; nothing was written.
    Unchanged,
}

/// Operations that happen together or not at all.
#[derive(Debug)]
pub struct Batch<'a> {
    connection: &'a Connection,
    context: &'a Context,
    actor: &'a Actor,
    now: Timestamp,
    csn: Csn,
    last_csn: Option<String>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        context: &'a Context,
        actor: &'a Actor,
        now: Timestamp,
    ) -> Result<Self, TreeError> {
        let reader = Reader { connection, context };
        Ok(Self {
            csn: Csn::after(reader.context_csn()?.as_deref(), now),
            connection,
            context,
            actor,
            now,
            last_csn: None,
        })
    }

    /// Writes what only the end of the batch knows.
    pub(super) fn finish(self) -> Result<(), TreeError> {
        if let Some(csn) = &self.last_csn {
            let sql = "INSERT OR REPLACE INTO settings (name, value) VALUES ('csn', ?1)";
            self.connection.prepare_cached(sql)?.execute([csn])?;
        }
        Ok(())
    }

    /// A look at the tree with what this batch has done so far.
    #[must_use]
    pub fn reader(&self) -> Reader<'a> {
        Reader {
            connection: self.connection,
            context: self.context,
        }
    }

    /// Adds an entry below one that is there; values of its RDN may be missing. A tenant gets its
    /// sub-units.
    ///
    /// # Errors
    /// [`TreeError::Exists`], [`TreeError::Absent`] for the entry above, [`TreeError::KeptByServer`],
    /// [`TreeError::Schema`].
    pub fn add(&mut self, entry: &Entry) -> Result<(), TreeError> {
        let kept = |name| operational::is_kept_by_server(&self.context.schema, name);
        if let Some((name, _)) = entry.attributes().find(|(name, _)| kept(name)) {
            return Err(TreeError::KeptByServer(name.clone()));
        }
        let key = self.context.key(entry.dn())?;
        if self.reader().by_key(key.as_bytes())?.is_some() {
            return Err(TreeError::Exists(entry.dn().clone()));
        }
        self.insert(entry, &key, None)
    }

    /// Adds an entry that was lost, under the `entryUUID` that it had; what else the server keeps is
    /// made anew.
    ///
    /// # Errors
    /// As [`Batch::add`].
    pub(super) fn restore(&mut self, entry: &Entry) -> Result<(), TreeError> {
        let schema = &self.context.schema;
        let key = self.context.key(entry.dn())?;
        if self.reader().by_key(key.as_bytes())?.is_some() {
            return Err(TreeError::Exists(entry.dn().clone()));
        }
        let uuid = entry.values(&name("entryUUID")).first().and_then(Value::as_str);
        let uuid = uuid.map(str::to_owned);
        let mut new = Entry::new(entry.dn().clone());
        for (name, values) in entry
            .attributes()
            .filter(|(name, _)| !operational::is_kept_by_server(schema, name))
        {
            new.set(name.clone(), values.to_vec());
        }
        self.insert(&new, &key, uuid)
    }

    /// Puts an entry in place of the one of that name, or adds it. What the server keeps is passed
    /// over in `entry` and kept as it was; so are numbers that it lacks and the ledger would give.
    ///
    /// # Errors
    /// [`TreeError::Version`] when the entry is not as expected, and those of [`Batch::add`].
    pub fn put(&mut self, entry: &Entry, expect: Expect) -> Result<Put, TreeError> {
        let schema = &self.context.schema;
        let key = self.context.key(entry.dn())?;
        let held = self.reader().by_key(key.as_bytes())?;
        check_expected(entry.dn(), held.as_ref(), expect)?;
        let mut new = Entry::new(entry.dn().clone());
        for (name, values) in entry.attributes() {
            if !operational::is_kept_by_server(schema, name) {
                new.set(name.clone(), values.to_vec());
            }
        }
        let Some(held) = held else {
            self.insert(&new, &key, None)?;
            return Ok(Put::Added);
        };
        let old = held.entry()?;
        new.rename(held.dn().clone());
        numbers::keep(&old, &mut new);
        Ok(if self.replace(&held, &old, new)? {
            Put::Updated
        } else {
            Put::Unchanged
        })
    }

    /// Changes an entry step by step; only the outcome must follow the schema. True when it changed.
    ///
    /// # Errors
    /// [`TreeError::Absent`], [`TreeError::Version`], those of each step, [`TreeError::StructuralClass`],
    /// [`TreeError::Schema`].
    pub fn modify(&mut self, dn: &Dn, steps: &[Modification], expect: Expect) -> Result<bool, TreeError> {
        let held = self.reader().require(dn)?;
        check_expected(dn, Some(&held), expect)?;
        let old = held.entry()?;
        let mut new = old.clone();
        for step in steps {
            step.apply(&self.context.schema, &mut new)?;
        }
        let (from, to) = (
            operational::structural_class(&self.context.schema, &old),
            operational::structural_class(&self.context.schema, &new),
        );
        numbers::check(&self.context.schema, &new)?;
        if from != to {
            return Err(TreeError::StructuralClass {
                dn: dn.clone(),
                from: from.to_owned(),
                to: to.to_owned(),
            });
        }
        self.replace(&held, &old, new)
    }

    /// Removes an entry that has none below it.
    ///
    /// # Errors
    /// [`TreeError::Absent`], [`TreeError::Version`], [`TreeError::NotLeaf`].
    pub fn delete(&mut self, dn: &Dn, expect: Expect) -> Result<(), TreeError> {
        let held = self.reader().require(dn)?;
        check_expected(dn, Some(&held), expect)?;
        if held.children > 0 {
            return Err(TreeError::NotLeaf(dn.clone()));
        }
        self.remove(&held)
    }

    /// Removes an entry and everything below it; answers how many entries that were.
    ///
    /// # Errors
    /// [`TreeError::Absent`].
    pub fn delete_subtree(&mut self, dn: &Dn) -> Result<usize, TreeError> {
        let top = self.reader().require(dn)?;
        let below = self.below(&top)?;
        for id in below.iter().rev() {
            if let Some(record) = self.reader().by_id(*id)? {
                self.remove(&record)?;
            }
        }
        Ok(below.len())
    }

    /// Gives an entry another RDN, and another entry to stand below when `above` names one; all that
    /// stands below it moves along. Names in the values of other entries stay as they are.
    ///
    /// # Errors
    /// [`TreeError::Absent`], [`TreeError::Exists`], [`TreeError::Move`], [`TreeError::Schema`].
    pub fn rename(
        &mut self,
        dn: &Dn,
        rdn: Rdn,
        delete_old: bool,
        above: Option<&Dn>,
        expect: Expect,
    ) -> Result<(), TreeError> {
        let held = self.reader().require(dn)?;
        check_expected(dn, Some(&held), expect)?;
        let Some(old_parent) = held.parent else {
            return Err(TreeError::Move(dn.clone()));
        };
        let parent = match above {
            Some(above) => self.reader().require(above)?,
            None => self
                .reader()
                .by_id(old_parent)?
                .ok_or_else(|| TreeError::Move(dn.clone()))?,
        };
        if parent.key().is_within(held.key()) {
            return Err(TreeError::Move(dn.clone()));
        }
        let to = parent.dn().child(rdn);
        let key = self.context.key(&to)?;
        if key != *held.key() && self.reader().by_key(key.as_bytes())?.is_some() {
            return Err(TreeError::Exists(to));
        }
        let old = held.entry()?;
        let new = self.renamed(&old, to, delete_old);
        let below = self.below(&held)?;
        self.move_keys(&held, &below, new.dn(), &key)?;
        if parent.id != old_parent {
            self.connection
                .prepare_cached("UPDATE entries SET parent = ?2 WHERE id = ?1")?
                .execute(params![held.id, parent.id])?;
            self.count_children(old_parent, -1)?;
            self.count_children(parent.id, 1)?;
        }
        let to = operational::text(new.dn())?;
        self.write_over(&held, &old, new, |set| {
            (Operation::Rename, json!({"to": to, "set": set}))
        })
    }

    fn renamed(&self, old: &Entry, to: Dn, delete_old: bool) -> Entry {
        let schema = &self.context.schema;
        let mut new = old.clone();
        new.rename(to);
        for ava in old.dn().rdn().into_iter().flat_map(Rdn::avas).filter(|_| delete_old) {
            let name = operational::canonical_name(schema, &ava.name);
            let gone = operational::comparable(schema, &name, &ava.value);
            let mut left: Vec<Value> = new.values(&name).to_vec();
            left.retain(|value| operational::comparable(schema, &name, value) != gone);
            new.set(name, left);
        }
        operational::add_naming_values(schema, &mut new);
        new
    }

    /// The ids of an entry and everything below it, an entry before those below it.
    fn below(&self, top: &Record) -> Result<Vec<i64>, TreeError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT id FROM entries WHERE key >= ?1 AND key < ?2 ORDER BY key")?;
        let ids = select.query_map(params![top.key().as_bytes(), top.key().subtree_end()], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    fn move_keys(&self, top: &Record, below: &[i64], to: &Dn, key: &DnKey) -> Result<(), TreeError> {
        let mut update = self
            .connection
            .prepare_cached("UPDATE entries SET key = ?2, dn = ?3 WHERE id = ?1")?;
        let depth = top.dn().rdns().len();
        for id in below {
            let Some(record) = self.reader().by_id(*id)? else {
                continue;
            };
            let own = record.dn().rdns().len() - depth;
            let rdns = record.dn().rdns().iter().take(own).rev();
            let dn = rdns.fold(to.clone(), |dn, rdn| dn.child(rdn.clone()));
            let mut new_key = key.as_bytes().to_vec();
            new_key.extend_from_slice(
                record
                    .key()
                    .as_bytes()
                    .get(top.key().as_bytes().len()..)
                    .unwrap_or_default(),
            );
            update.execute(params![id, new_key, operational::text(&dn)?])?;
        }
        Ok(())
    }

    fn stamp(&mut self) -> Stamp {
        let csn = self.csn.next();
        self.last_csn = Some(csn.clone());
        Stamp {
            actor: self.actor.dn().to_string(),
            time: operational::time(self.now),
            csn,
        }
    }

    fn insert(&mut self, entry: &Entry, key: &DnKey, uuid: Option<String>) -> Result<(), TreeError> {
        let context = self.context;
        let parent = self.parent_of(entry.dn(), key)?;
        let mut entry = operational::canonical(&context.schema, entry);
        operational::add_naming_values(&context.schema, &mut entry);
        operational::add_superclasses(&context.schema, &mut entry);
        let inherited = match &parent {
            Some(parent) if entry.values(&name("aitherOwnerUid")).is_empty() => {
                let owner = parent.entry()?.values(&name("aitherOwnerUid")).first().cloned();
                owner.and_then(|owner| owner.as_str().map(str::to_owned))
            }
            _ => None,
        };
        let actor = self.actor;
        operational::add_owner(&context.schema, &mut entry, || actor.uid().or(inherited));
        let stamp = self.stamp();
        operational::finish(&context.schema, &mut entry, None, &stamp, || {
            uuid.unwrap_or_else(|| operational::uuid(rand::random()))
        })?;
        self.connection
            .prepare_cached("INSERT INTO entries (key, parent, version, dn, attributes) VALUES (?1, ?2, 1, ?3, ?4)")?
            .execute(params![
                key.as_bytes(),
                parent.as_ref().map(|parent| parent.id),
                operational::text(entry.dn())?,
                encode(&context.schema, &entry)
            ])?;
        let id = self.connection.last_insert_rowid();
        self.index(id, context.index_values(&entry).iter())?;
        if let Some(parent) = &parent {
            self.count_children(parent.id, 1)?;
        }
        self.log(
            entry.dn(),
            Operation::Add,
            &json!({"add": difference::attributes(&entry, &context.secrets)}),
        )?;
        skeleton::below_tenant(self, &entry)
    }

    /// The entry above a new one; none for the base, which may be missing only while it is made.
    fn parent_of(&self, dn: &Dn, key: &DnKey) -> Result<Option<Record>, TreeError> {
        if *key == self.context.base_key {
            return Ok(None);
        }
        if !key.is_within(&self.context.base_key) {
            return Err(TreeError::Outside {
                dn: dn.clone(),
                base: self.context.base.clone(),
            });
        }
        let above = dn.parent().unwrap_or_default();
        match self.reader().get(&above)? {
            Some(parent) => Ok(Some(parent)),
            None => Err(self.reader().absent(dn)?),
        }
    }

    fn replace(&mut self, held: &Record, old: &Entry, new: Entry) -> Result<bool, TreeError> {
        let schema = &self.context.schema;
        let mut new = operational::canonical(schema, &new);
        operational::add_naming_values(schema, &mut new);
        operational::add_superclasses(schema, &mut new);
        let owner = old.values(&name("aitherOwnerUid")).first().and_then(Value::as_str);
        operational::add_owner(schema, &mut new, || owner.map(str::to_owned));
        if operational::says_the_same(schema, old, &new) {
            return Ok(false);
        }
        self.write_over(held, old, new, |set| (Operation::Update, json!({"set": set})))?;
        Ok(true)
    }

    fn write_over(
        &mut self,
        held: &Record,
        old: &Entry,
        mut new: Entry,
        told: impl FnOnce(Map<String, Json>) -> (Operation, Json),
    ) -> Result<(), TreeError> {
        let context = self.context;
        let stamp = self.stamp();
        operational::finish(&context.schema, &mut new, Some(old), &stamp, String::new)?;
        self.connection
            .prepare_cached("UPDATE entries SET attributes = ?2, version = version + 1 WHERE id = ?1")?
            .execute(params![held.id, encode(&context.schema, &new)])?;
        let (before, after) = (context.index_values(old), context.index_values(&new));
        self.unindex(held.id, before.difference(&after))?;
        self.index(held.id, after.difference(&before))?;
        let (operation, told) = told(difference::between(old, &new, &context.secrets));
        self.log(held.dn(), operation, &told)
    }

    fn remove(&mut self, held: &Record) -> Result<(), TreeError> {
        let old = held.entry()?;
        self.unindex(held.id, self.context.index_values(&old).iter())?;
        self.connection
            .prepare_cached("DELETE FROM entries WHERE id = ?1")?
            .execute([held.id])?;
        if let Some(parent) = held.parent {
            self.count_children(parent, -1)?;
        }
        // The state of the context moves on although no entry has the number.
        let _ = self.stamp();
        self.log(
            held.dn(),
            Operation::Delete,
            &json!({"remove": difference::attributes(&old, &self.context.secrets)}),
        )
    }

    fn count_children(&self, id: i64, by: i64) -> Result<(), TreeError> {
        let sql = "UPDATE entries SET children = children + ?2 WHERE id = ?1 RETURNING children";
        let left: Option<i64> = self
            .connection
            .prepare_cached(sql)?
            .query_row(params![id, by], |row| row.get(0))
            .optional()?;
        // Only the first child that comes and the last that goes change what the entry says.
        if left != Some(by.max(0)) {
            return Ok(());
        }
        if let Some(record) = self.reader().by_id(id)? {
            let mut entry = record.entry()?;
            let says = if by > 0 { "TRUE" } else { "FALSE" };
            entry.set(name("hasSubordinates"), vec![Value::from(says)]);
            self.connection
                .prepare_cached("UPDATE entries SET attributes = ?2 WHERE id = ?1")?
                .execute(params![id, encode(&self.context.schema, &entry)])?;
        }
        Ok(())
    }

    fn index<'v>(&self, id: i64, values: impl Iterator<Item = &'v (i64, Vec<u8>)>) -> Result<(), TreeError> {
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO indexed (attribute, value, entry) VALUES (?1, ?2, ?3)")?;
        for (attribute, value) in values {
            insert.execute(params![attribute, value, id])?;
        }
        Ok(())
    }

    fn unindex<'v>(&self, id: i64, values: impl Iterator<Item = &'v (i64, Vec<u8>)>) -> Result<(), TreeError> {
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM indexed WHERE attribute = ?1 AND value = ?2 AND entry = ?3")?;
        for (attribute, value) in values {
            delete.execute(params![attribute, value, id])?;
        }
        Ok(())
    }

    fn log(&self, dn: &Dn, operation: Operation, told: &Json) -> Result<(), TreeError> {
        self.connection
            .prepare_cached("INSERT INTO changes (dn, operation, actor, at, difference) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                dn.to_string(),
                operation.text(),
                self.actor.dn().to_string(),
                self.now.as_millisecond(),
                told.to_string()
            ])?;
        Ok(())
    }

    /// Forgets all but the newest `keep` lines of the changelog; answers how many that were.
    ///
    /// # Errors
    /// When the database fails.
    pub fn forget_changes(&mut self, keep: u64) -> Result<usize, TreeError> {
        let last = self.reader().state()?.saturating_sub(keep);
        let last = i64::try_from(last).unwrap_or(i64::MAX);
        Ok(self.connection.execute("DELETE FROM changes WHERE id <= ?1", [last])?)
    }

    /// Makes all keys and indexes anew, after the schema or the list of indexes has changed.
    pub(super) fn rebuild(&mut self) -> Result<(), TreeError> {
        self.connection.execute("DELETE FROM indexed", [])?;
        self.connection.execute("DELETE FROM indexed_attributes", [])?;
        for indexed in &self.context.indexed {
            let sql = "INSERT INTO indexed_attributes (id, name) VALUES (?1, ?2)";
            self.connection.execute(sql, params![indexed.id, indexed.name])?;
        }
        let mut after = 0;
        loop {
            let sql = format!("SELECT {COLUMNS} FROM entries WHERE id > ?1 ORDER BY id LIMIT 1000");
            let mut select = self.connection.prepare_cached(&sql)?;
            let mut rows = select.query([after])?;
            let mut records = Vec::new();
            while let Some(row) = rows.next()? {
                records.push(Record::read(row)?);
            }
            let Some(last) = records.last() else { return Ok(()) };
            after = last.id;
            for record in &records {
                let entry = record.entry()?;
                self.index(record.id, self.context.index_values(&entry).iter())?;
                let key = self.context.key(record.dn())?;
                self.connection
                    .prepare_cached("UPDATE entries SET key = ?2 WHERE id = ?1 AND key <> ?2")?
                    .execute(params![record.id, key.as_bytes()])?;
            }
        }
    }
}

fn check_expected(dn: &Dn, held: Option<&Record>, expect: Expect) -> Result<(), TreeError> {
    let version = held.map_or(0, Record::version);
    match expect {
        Expect::Anything => Ok(()),
        Expect::Absent if held.is_none() => Ok(()),
        Expect::Absent => Err(TreeError::Exists(dn.clone())),
        Expect::Version(expected) if expected == version => Ok(()),
        Expect::Version(expected) => Err(TreeError::Version {
            dn: dn.clone(),
            held: version,
            expected,
        }),
    }
}
