//! Searching a finished generation.

use std::ops::ControlFlow;

use dirless_directory::{DnKey, Filter};
use rusqlite::params;

use crate::CopyError;
use crate::plan::{Planner, Terms, conjuncts, terms};
use crate::reader::{Found, Manner, Reader, Row, Scope, Wants};
use crate::record::Parts;
use crate::records::{Records, Source};

/// Most entries that are looked up one by one; with more the subtree is read in order.
const MOST: usize = 2048;
/// Entries of one set of classes that are looked at together.
const BATCH: usize = 512;
const IN_ORDER: &str = "SELECT key, id FROM entries INDEXED BY entries_key WHERE key > ?1 AND key < ?2 ORDER BY key";

/// Which entries are asked for.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// The base; empty for everything.
    pub base: &'a DnKey,
    /// The scope below it.
    pub scope: Scope,
    /// What they must match.
    pub filter: &'a Filter,
    /// Only entries whose key sorts after these bytes.
    pub after: Option<&'a [u8]>,
    /// Which attributes are looked at when a row is exact; others may be left out then.
    pub wants: Wants<'a>,
    /// Large attributes of an exact row may stay in the file ([`Row::apart`]).
    pub apart: bool,
}

impl std::fmt::Debug for Query<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Query({:?}, {:?})", self.scope, self.filter)
    }
}

/// What the plan of a query leaves to be done for each entry.
struct Rest {
    /// Sets of classes of which an entry must have one, for each class that is asked for.
    classes: Vec<Vec<i64>>,
    /// Nothing is left beyond these.
    exact: bool,
}

impl Reader {
    /// Shows the entries in scope that may match `filter`, in the order of their keys, those after
    /// `after` only, until `visit` breaks.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn candidates(
        &self,
        base: &DnKey,
        scope: Scope,
        filter: &Filter,
        after: Option<&[u8]>,
        visit: &mut dyn FnMut(Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), CopyError> {
        let query = Query {
            base,
            scope,
            filter,
            after,
            wants: None,
            apart: false,
        };
        self.search(&query, visit)
    }

    /// Shows the entries that may match, in the order of their keys, until `visit` breaks.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn search(
        &self,
        query: &Query<'_>,
        visit: &mut dyn FnMut(Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), CopyError> {
        let range = Range::new(query.base, query.scope, query.after);
        let parts = conjuncts(query.filter);
        let manner = |exact| Manner {
            exact,
            wants: query.wants,
            apart: query.apart,
        };
        if query.scope == Scope::Base {
            if range.holds(query.base.as_bytes()) {
                let exact = parts.iter().all(|part| self.everyone_matches(part));
                self.lookup_as(query.base.as_bytes(), manner(exact), |row| {
                    let _ = visit(row);
                })?;
            }
            return Ok(());
        }
        let find = |name: &str| self.planned(name);
        let planner = Planner {
            schema: &self.schema,
            find: &find,
        };
        let mut conditions: Vec<(usize, Terms)> = parts
            .iter()
            .enumerate()
            .filter_map(|(at, part)| Some((at, terms(planner, part)?)))
            .collect();
        conditions.sort_by_key(|(_, terms)| terms.rank());
        let mut best: Option<(usize, Vec<i64>)> = None;
        for (at, condition) in &conditions {
            if matches!(condition, Terms::Class(_)) || best.as_ref().is_some_and(|(_, ids)| ids.len() <= 8) {
                break;
            }
            let most = best.as_ref().map_or(MOST, |(_, ids)| ids.len());
            let mut ids = Vec::new();
            if self.collect(condition, most, &mut ids)? {
                best = Some((*at, ids));
            }
        }
        let answered = best.as_ref().map(|(at, _)| *at);
        let rest = self.rest(&parts, &conditions, answered);
        if let Some((_, ids)) = best {
            return self.visit_ids(&ids, &range, &rest.classes, manner(rest.exact), visit);
        }
        match rest.classes.first() {
            // A set that nearly everyone is in is no help, but no harm either. The other classes that are
            // asked for are left to whoever asks.
            Some(sets) => self.visit_classes(sets, &range, manner(rest.exact && rest.classes.len() == 1), visit),
            None => self.visit_range(&range, manner(rest.exact), visit),
        }
    }

    /// What is left of a filter when the index has answered one part of it.
    fn rest(&self, parts: &[&Filter], conditions: &[(usize, Terms)], answered: Option<usize>) -> Rest {
        let mut rest = Rest {
            classes: Vec::new(),
            exact: true,
        };
        for (at, part) in parts.iter().enumerate() {
            match conditions.iter().find(|(of, _)| *of == at).map(|(_, terms)| terms) {
                Some(terms) if answered == Some(at) => rest.exact &= terms.exact(),
                Some(Terms::Class(oid)) => rest.classes.push(self.sets_with(oid)),
                _ => rest.exact &= self.everyone_matches(part),
            }
        }
        rest
    }

    /// Everything has a class, as clients know who ask for `(objectClass=*)`.
    fn everyone_matches(&self, part: &Filter) -> bool {
        let is_class = |name: &str| name.eq_ignore_ascii_case("objectClass");
        matches!(part, Filter::Present(name) if is_class(name.as_str()))
            && self
                .class_sets
                .iter()
                .all(|(_, classes)| classes.iter().any(|class| !class.is_empty()))
    }

    /// Adds the entries that meet a condition; false when there are more than `most`.
    fn collect(&self, condition: &Terms, most: usize, ids: &mut Vec<i64>) -> Result<bool, CopyError> {
        let limit = |have: usize| i64::try_from(most.saturating_sub(have) + 1).unwrap_or(i64::MAX);
        match condition {
            Terms::Nothing => {}
            Terms::Equal { attributes, key, .. } => {
                let hot = self.hot.as_ref().filter(|hot| hot.has(attributes));
                for attribute in attributes.iter() {
                    if hot.is_some_and(|hot| hot.collect(*attribute, key, most, ids)) {
                        continue;
                    }
                    let mut statement = self
                        .connection
                        .prepare_cached("SELECT entry FROM terms WHERE attribute = ?1 AND key = ?2 LIMIT ?3")?;
                    let mut rows = statement.query(params![attribute, key, limit(ids.len())])?;
                    while let Some(row) = rows.next()? {
                        ids.push(row.get(0)?);
                    }
                }
            }
            Terms::Range {
                attributes,
                from,
                below,
                ..
            } => {
                for attribute in attributes.iter() {
                    let mut statement = self.connection.prepare_cached(
                        "SELECT entry FROM terms WHERE attribute = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3) LIMIT ?4",
                    )?;
                    let mut rows = statement.query(params![attribute, from, below, limit(ids.len())])?;
                    while let Some(row) = rows.next()? {
                        ids.push(row.get(0)?);
                    }
                }
            }
            Terms::Class(oid) => {
                for set in self.sets_with(oid) {
                    let mut statement = self
                        .connection
                        .prepare_cached("SELECT id FROM entries WHERE classes = ?1 LIMIT ?2")?;
                    let mut rows = statement.query(params![set, limit(ids.len())])?;
                    while let Some(row) = rows.next()? {
                        ids.push(row.get(0)?);
                    }
                }
            }
            Terms::Any(conditions) => {
                for one in conditions {
                    if !self.collect(one, most, ids)? {
                        return Ok(false);
                    }
                }
            }
        }
        if ids.len() > 1 {
            ids.sort_unstable();
            ids.dedup();
        }
        Ok(ids.len() <= most)
    }

    fn sets_with(&self, oid: &str) -> Vec<i64> {
        let with = |classes: &[String]| classes.iter().any(|class| class == oid);
        let sets = self.class_sets.iter();
        sets.filter(|(_, classes)| with(classes)).map(|(id, _)| *id).collect()
    }

    fn visit_ids(
        &self,
        ids: &[i64],
        range: &Range<'_>,
        classes: &[Vec<i64>],
        manner: Manner<'_>,
        visit: &mut dyn FnMut(Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), CopyError> {
        let fits =
            |parts: &Parts<'_>| classes.iter().all(|sets| sets.contains(&parts.classes)) && range.holds(parts.key);
        if let [id] = ids {
            let Some(found) = self.found(*id)? else { return Ok(()) };
            return self.with_record(found, false, |parts| {
                if fits(&parts) {
                    let _ = self.show(found, parts, manner, &mut *visit)?;
                }
                Ok(())
            });
        }
        // They are kept until all are there to be sorted.
        let mut kept = Kept::default();
        for id in ids {
            if let Some(found) = self.found(*id)? {
                kept.take(&self.records, found, fits)?;
            }
        }
        for (found, parts) in kept.in_order() {
            if self.show(found, parts, manner, &mut *visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Entries of several sets of classes, merged into the order of their keys.
    fn visit_classes(
        &self,
        sets: &[i64],
        range: &Range<'_>,
        manner: Manner<'_>,
        visit: &mut dyn FnMut(Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), CopyError> {
        let mut from = range.from.to_vec();
        let mut keys = self.connection.prepare_cached(
            "SELECT key, id FROM entries INDEXED BY entries_classes WHERE classes = ?1 AND key > ?2 AND key < ?3
             ORDER BY key LIMIT ?4",
        )?;
        let batch = i64::try_from(BATCH).unwrap_or(i64::MAX);
        loop {
            let mut found: Vec<(Vec<u8>, i64)> = Vec::new();
            // Up to here every set has been read.
            let mut until: Option<Vec<u8>> = None;
            for set in sets {
                let before = found.len();
                let mut rows = keys.query(params![set, from, range.below, batch])?;
                while let Some(row) = rows.next()? {
                    found.push((row.get(0)?, row.get(1)?));
                }
                if found.len() - before == BATCH
                    && let Some((last, _)) = found.last()
                    && until.as_ref().is_none_or(|until| last < until)
                {
                    until = Some(last.clone());
                }
            }
            found.sort_unstable();
            for (key, id) in found
                .iter()
                .filter(|(key, _)| until.as_ref().is_none_or(|until| key <= until))
            {
                if range.holds(key) && self.visit_next(*id, manner, visit)?.is_break() {
                    return Ok(());
                }
            }
            match until {
                Some(until) => from = until,
                None => return Ok(()),
            }
        }
    }

    fn visit_range(
        &self,
        range: &Range<'_>,
        manner: Manner<'_>,
        visit: &mut dyn FnMut(Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), CopyError> {
        let mut from = range.from.to_vec();
        let mut statement = self.connection.prepare_cached(IN_ORDER)?;
        'again: loop {
            let mut rows = statement.query(params![from, range.below])?;
            while let Some(row) = rows.next()? {
                let key = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
                if range.holds(key) {
                    if self.visit_next(row.get(1)?, manner, visit)?.is_break() {
                        return Ok(());
                    }
                } else if let Some(child) = range.child_above(key) {
                    // Deeper than asked for: the next child of the base is after all below this one.
                    let end = DnKey::from(child.to_vec()).subtree_end();
                    // The query excludes its start, and no key ends so.
                    from = end;
                    continue 'again;
                }
            }
            return Ok(());
        }
    }

    /// Shows the next of many entries.
    fn visit_next(
        &self,
        id: i64,
        manner: Manner<'_>,
        visit: &mut dyn FnMut(Row<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, CopyError> {
        let Some(found) = self.found(id)? else {
            return Ok(ControlFlow::Continue(()));
        };
        self.with_record(found, true, |parts| self.show(found, parts, manner, visit))
    }
}

/// Records that wait to be shown in the order of their keys, in one piece of memory.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    rows: Vec<KeptRow>,
}

/// Where a record and its key are in that piece.
#[derive(Clone, Copy)]
struct KeptRow {
    start: usize,
    end: usize,
    key: (usize, usize),
    found: Found,
}

impl Kept {
    /// Reads a record, and keeps it if it `fits`.
    fn take(
        &mut self,
        records: &Records,
        found: Found,
        fits: impl FnOnce(&Parts<'_>) -> bool,
    ) -> Result<(), CopyError> {
        let (start, length) = (self.bytes.len(), found.place.length());
        records.within(found.place.offset(), length)?;
        self.bytes.resize(start + length, 0);
        let bytes = self.bytes.get_mut(start..).unwrap_or_default();
        records.read_at(bytes, found.place.offset())?;
        let parts = Parts::read(bytes, found.id).ok_or_else(|| records.damaged(found.place.offset()))?;
        if fits(&parts) {
            let key = start + parts.key_at();
            self.rows.push(KeptRow {
                start,
                end: start + length,
                key: (key, key + parts.key.len()),
                found,
            });
        } else {
            self.bytes.truncate(start);
        }
        Ok(())
    }

    fn in_order(&mut self) -> impl Iterator<Item = (Found, Parts<'_>)> {
        let bytes = &self.bytes;
        let key = |row: &KeptRow| bytes.get(row.key.0..row.key.1);
        self.rows.sort_unstable_by(|one, other| key(one).cmp(&key(other)));
        self.rows
            .iter()
            .filter_map(move |row| Some((row.found, Parts::read_again(bytes.get(row.start..row.end)?)?)))
    }
}

/// The keys in scope.
struct Range<'a> {
    base: &'a [u8],
    scope: Scope,
    /// All keys are after this one.
    from: &'a [u8],
    /// And before this one.
    below: Vec<u8>,
    after: Option<&'a [u8]>,
}

impl<'a> Range<'a> {
    fn new(base: &'a DnKey, scope: Scope, after: Option<&'a [u8]>) -> Self {
        let base_key = base.as_bytes();
        // Keys end in a separator: without it, this sorts right before the base itself.
        let before_base = base_key.split_last().map_or(&[][..], |(_, rest)| rest);
        Self {
            base: base_key,
            scope,
            from: after.filter(|after| *after > before_base).unwrap_or(before_base),
            below: base.subtree_end(),
            after,
        }
    }

    fn holds(&self, key: &[u8]) -> bool {
        let Some(below) = key.strip_prefix(self.base) else {
            return false;
        };
        let depth = below.iter().filter(|byte| **byte == 0).count();
        let in_scope = match self.scope {
            Scope::Base => depth == 0,
            Scope::OneLevel => depth == 1,
            Scope::Subtree => true,
        };
        in_scope && self.after.is_none_or(|after| key > after)
    }

    /// For a search of one level: the key of the base's child that `key` is below.
    fn child_above<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        if self.scope != Scope::OneLevel {
            return None;
        }
        let below = key.strip_prefix(self.base)?;
        let end = below.iter().position(|byte| *byte == 0)? + 1;
        (end < below.len()).then(|| key.get(..self.base.len() + end)).flatten()
    }
}
