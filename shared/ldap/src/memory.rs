//! A directory in memory: for tests, benchmarks, and as an example of what a store has to do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Bound, ControlFlow};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dirless_directory::encoded::{Attributes, encode};
use dirless_directory::filter::Truth;
use dirless_directory::{AttributeName, Dn, DnKey, Entry, Filter, Schema, Value};
use tokio::sync::watch;

use crate::{
    Candidate, Change, ChangeKind, Changed, Directory, Failure, Identity, Modification, Query, Refusal, ResultCode,
    State, Stored, Visibility, WriteRequest, Writer, Written,
};

/// Attributes that are indexed for equality.
const INDEXED: [&str; 9] = [
    "uid",
    "cn",
    "uidNumber",
    "gidNumber",
    "member",
    "memberUid",
    "memberOf",
    "mail",
    "objectClass",
];

struct Held {
    dn: Box<str>,
    encoded: Box<[u8]>,
    uuid: [u8; 16],
}

#[derive(Default)]
struct Content {
    entries: BTreeMap<Vec<u8>, Held>,
    /// By attribute, then by value: the entries that have it.
    index: HashMap<String, HashMap<Vec<u8>, BTreeSet<Vec<u8>>>>,
    log: Vec<(u64, Changed)>,
}

/// Decides what somebody sees of the entry of a key.
pub type Rule = Box<dyn Fn(&Identity, &[u8]) -> Visibility + Send + Sync>;

/// A directory in memory.
pub struct Memory {
    schema: Schema,
    contexts: Vec<Dn>,
    content: RwLock<Content>,
    state: watch::Sender<State>,
    rule: Rule,
    writable: bool,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Memory({} entries)", self.read().entries.len())
    }
}

impl Memory {
    /// A directory with nothing but the names of its topmost entries, open to everybody.
    #[must_use]
    pub fn new(schema: Schema, contexts: Vec<Dn>) -> Self {
        let state = State {
            lineage: "memory".into(),
            number: 0,
        };
        Self {
            schema,
            contexts,
            content: RwLock::default(),
            state: watch::Sender::new(state),
            rule: Box::new(|_, _| Visibility::Whole),
            writable: false,
        }
    }

    /// Shows no more than `rule` says.
    #[must_use]
    pub fn with_rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }

    /// Lets clients make changes.
    #[must_use]
    pub fn writable(mut self) -> Self {
        self.writable = true;
        self
    }

    fn read(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> RwLockWriteGuard<'_, Content> {
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the entry or puts it in place of the one of its name.
    pub fn put(&self, entry: &Entry) {
        if let Some(key) = self.schema.dn_key(entry.dn()) {
            let mut content = self.locked();
            let kind = if content.entries.contains_key(key.as_bytes()) {
                ChangeKind::Modified
            } else {
                ChangeKind::Added
            };
            content.unindex(&self.schema, &key);
            content.insert(&self.schema, &key, entry);
            self.log(&mut content, key, kind);
        }
    }

    /// Removes the entry of that name.
    pub fn remove(&self, dn: &Dn) {
        if let Some(key) = self.schema.dn_key(dn) {
            let mut content = self.locked();
            if content.entries.contains_key(key.as_bytes()) {
                self.log(&mut content, key.clone(), ChangeKind::Deleted);
                content.unindex(&self.schema, &key);
                content.entries.remove(key.as_bytes());
            }
        }
    }

    fn log(&self, content: &mut Content, key: DnKey, kind: ChangeKind) {
        let Some(held) = content.entries.get(key.as_bytes()) else {
            return;
        };
        let changed = Changed {
            uuid: held.uuid,
            dn: held.dn.clone(),
            key,
            kind,
        };
        self.state.send_modify(|state| state.number += 1);
        let number = self.state.borrow().number;
        content.log.push((number, changed));
    }

    fn entry(content: &Content, key: &DnKey) -> Option<Entry> {
        let held = content.entries.get(key.as_bytes())?;
        let dn = Dn::parse(&held.dn).ok()?;
        Attributes::new(&held.encoded).ok()?.entry(dn).ok()
    }
}

/// The indexed values of an entry: attribute and key.
fn indexed(schema: &Schema, attributes: Attributes<'_>) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for attribute in attributes.iter() {
        if let Some(name) = INDEXED.iter().find(|name| name.eq_ignore_ascii_case(attribute.name))
            && let Some(rule) = schema.equality(name)
        {
            let keys = attribute.values.filter_map(|value| rule.key(schema, value));
            found.extend(keys.map(|key| (name.to_ascii_lowercase(), key)));
        }
    }
    found
}

impl Content {
    fn insert(&mut self, schema: &Schema, key: &DnKey, entry: &Entry) {
        let encoded = encode(schema, entry).into_boxed_slice();
        let dn = entry.dn().to_string();
        let mut uuid = [0; 16];
        if let Ok(attributes) = Attributes::new(&encoded) {
            for (name, value) in indexed(schema, attributes) {
                let values = self.index.entry(name).or_default();
                values.entry(value).or_default().insert(key.as_bytes().to_vec());
            }
            uuid = crate::emit::uuid(&Stored {
                key: key.as_bytes(),
                dn: &dn,
                attributes,
            });
        }
        let held = Held {
            dn: dn.into(),
            encoded,
            uuid,
        };
        self.entries.insert(key.as_bytes().to_vec(), held);
    }

    fn unindex(&mut self, schema: &Schema, key: &DnKey) {
        let Some(held) = self.entries.get(key.as_bytes()) else {
            return;
        };
        if let Ok(attributes) = Attributes::new(&held.encoded) {
            for (name, value) in indexed(schema, attributes) {
                if let Some(keys) = self.index.get_mut(&name).and_then(|values| values.get_mut(&value)) {
                    keys.remove(key.as_bytes());
                }
            }
        }
    }

    /// The entries that an index answers with, and whether that is the whole answer; none when no
    /// index helps.
    fn narrowed(&self, schema: &Schema, filter: &Filter) -> Option<(BTreeSet<Vec<u8>>, bool)> {
        match filter {
            Filter::Equality(name, value) => {
                let name = schema.attribute(name.as_str())?.name().to_ascii_lowercase();
                INDEXED.iter().find(|indexed| indexed.eq_ignore_ascii_case(&name))?;
                let key = schema.equality(&name)?.key(schema, value.as_bytes())?;
                let keys = self.index.get(&name).and_then(|values| values.get(&key));
                Some((keys.cloned().unwrap_or_default(), true))
            }
            Filter::And(filters) => {
                let narrowest = filters
                    .iter()
                    .filter(|filter| !matches!(filter, Filter::Equality(name, _) if name.as_str().eq_ignore_ascii_case("objectClass")))
                    .filter_map(|filter| self.narrowed(schema, filter))
                    .min_by_key(|(keys, _)| keys.len());
                narrowest.map(|(keys, _)| (keys, false))
            }
            Filter::Or(filters) => {
                let parts: Option<Vec<_>> = filters.iter().map(|filter| self.narrowed(schema, filter)).collect();
                let parts = parts?;
                let exact = parts.iter().all(|(_, exact)| *exact);
                Some((parts.into_iter().flat_map(|(keys, _)| keys).collect(), exact))
            }
            _ => None,
        }
    }
}

impl Directory for Memory {
    fn schema(&self) -> Schema {
        self.schema.clone()
    }

    fn naming_contexts(&self) -> Vec<Dn> {
        self.contexts.clone()
    }

    fn lookup(&self, key: &DnKey, visit: &mut dyn FnMut(Stored<'_>)) -> Result<bool, Failure> {
        let content = self.read();
        let held = content.entries.get(key.as_bytes());
        if let Some(held) = held {
            visit(stored(key.as_bytes(), held)?);
        }
        Ok(held.is_some())
    }

    fn candidates(
        &self,
        query: &Query<'_>,
        visit: &mut dyn FnMut(Candidate<'_>) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let content = self.read();
        let after = |key: &[u8]| query.after.is_none_or(|after| key > after);
        let in_scope = |key: &[u8]| query.scope.holds(query.base, key) && after(key);
        if let Some((keys, exact)) = content.narrowed(&self.schema, query.filter) {
            for key in keys.iter().filter(|key| in_scope(key)) {
                let Some(held) = content.entries.get(key) else { continue };
                let stored = stored(key, held)?;
                let candidate = Candidate {
                    exact,
                    ..Candidate::alone(stored)
                };
                if visit(candidate).is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let from = match query.after {
            Some(after) => Bound::Excluded(after.to_vec()),
            None => Bound::Included(query.base.as_bytes().to_vec()),
        };
        let until = Bound::Excluded(query.base.subtree_end());
        if matches!((&from, &until), (Bound::Excluded(a) | Bound::Included(a), Bound::Excluded(b)) if a >= b) {
            return Ok(());
        }
        for (key, held) in content.entries.range((from, until)).filter(|(key, _)| in_scope(key)) {
            let stored = stored(key, held)?;
            if visit(Candidate::alone(stored)).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    fn changes(&self, since: u64) -> Result<Option<Vec<Changed>>, Failure> {
        let content = self.read();
        let mut last: Vec<Changed> = Vec::new();
        for (_, changed) in content.log.iter().filter(|(number, _)| *number > since) {
            last.retain(|earlier| earlier.uuid != changed.uuid);
            last.push(changed.clone());
        }
        Ok(Some(last))
    }

    fn visibility(&self, who: &Identity, key: &[u8]) -> Visibility {
        (self.rule)(who, key)
    }

    fn writer(&self) -> Option<&dyn Writer> {
        self.writable.then_some(self)
    }
}

fn stored<'a>(key: &'a [u8], held: &'a Held) -> Result<Stored<'a>, Failure> {
    Ok(Stored {
        key,
        dn: &held.dn,
        attributes: Attributes::new(&held.encoded).map_err(|error| Failure(error.into()))?,
    })
}

fn refusal(code: ResultCode, message: &str) -> Refusal {
    Refusal {
        code,
        matched: None,
        message: message.to_owned(),
    }
}

impl Writer for Memory {
    fn write(&self, request: WriteRequest<'_>) -> Result<Written, Refusal> {
        let dn = match &request.change {
            Change::Add(entry) => entry.dn(),
            Change::Modify(dn, _) | Change::Delete(dn) | Change::Rename { dn, .. } => dn,
        };
        let key = self
            .schema
            .dn_key(dn)
            .ok_or_else(|| refusal(ResultCode::InvalidDnSyntax, "no name"))?;
        let before = Self::entry(&self.read(), &key);
        if let (Some(filter), Some(entry)) = (request.assertion, &before)
            && filter.evaluate(&self.schema, entry) != Truth::True
        {
            return Err(refusal(ResultCode::AssertionFailed, ""));
        }
        let (before, mut after) = match (&request.change, before) {
            (Change::Add(_), Some(_)) => return Err(refusal(ResultCode::EntryAlreadyExists, "")),
            (Change::Add(entry), None) => (None, Some(entry.clone())),
            (_, None) => return Err(refusal(ResultCode::NoSuchObject, "")),
            (Change::Delete(_), before) => (before, None),
            (_, Some(entry)) => (Some(entry.clone()), Some(entry)),
        };
        match (request.change, &mut after) {
            (Change::Modify(_, changes), Some(entry)) => changes.into_iter().for_each(|one| modify(entry, one)),
            (Change::Rename { dn, rdn, superior, .. }, Some(entry)) => {
                let above = superior.or_else(|| dn.parent()).unwrap_or_default();
                entry.rename(above.child(rdn));
                self.remove(&dn);
            }
            (Change::Delete(dn), _) => self.remove(&dn),
            _ => {}
        }
        if let Some(entry) = &after {
            self.put(entry);
        }
        Ok(Written { before, after })
    }
}

fn modify(entry: &mut Entry, modification: Modification) {
    let without = |entry: &Entry, name: &AttributeName, gone: &[Value]| -> Vec<Value> {
        let held = entry.values(name).iter();
        held.filter(|value| !gone.is_empty() && !gone.contains(value))
            .cloned()
            .collect()
    };
    match modification {
        Modification::Add(name, values) => values.into_iter().for_each(|value| entry.add(name.clone(), value)),
        Modification::Delete(name, values) => {
            let left = without(entry, &name, &values);
            entry.set(name, left);
        }
        Modification::Replace(name, values) => entry.set(name, values),
        Modification::Increment(name, by) => {
            let number = |value: &Value| value.as_str().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
            let values = entry.values(&name).iter();
            let sums = values
                .map(|value| Value::from((number(value) + number(&by)).to_string()))
                .collect();
            entry.set(name, sums);
        }
    }
}
