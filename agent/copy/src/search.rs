//! Searching a finished generation.

use std::ops::ControlFlow;

use dirless_directory::encoded::{Matcher, Subject};
use dirless_directory::filter::Truth;
use dirless_directory::{DnKey, Filter};
use rusqlite::params;

use crate::CopyError;
use crate::plan::{Terms, conjuncts, terms};
use crate::reader::{Reader, Row, Scope, as_row};

/// Most entries that are looked up one by one; with more the subtree is read in order.
const MOST: usize = 2048;
/// Entries of one set of classes that are looked at together.
const BATCH: usize = 512;
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
        let range = Range::new(base, scope, after);
        if scope == Scope::Base {
            if range.holds(base.as_bytes()) {
                self.lookup(base.as_bytes(), &mut |row| {
                    let _ = visit(row);
                })?;
            }
            return Ok(());
        }
        let parts = conjuncts(filter);
        let mut conditions: Vec<(usize, Terms)> = parts
            .iter()
            .enumerate()
            .filter_map(|(at, part)| Some((at, terms(&self.schema, part)?)))
            .collect();
        conditions.sort_by_key(|(_, terms)| terms.rank());
        let mut best: Option<(usize, Vec<i64>)> = None;
        let mut classes = None;
        for (at, condition) in &conditions {
            if best.as_ref().is_some_and(|(_, ids)| ids.len() <= 8) {
                break;
            }
            if let Terms::Class(oid) = condition {
                classes.get_or_insert(oid);
                continue;
            }
            let most = best.as_ref().map_or(MOST, |(_, ids)| ids.len());
            let mut ids = Vec::new();
            if self.collect(condition, most, &mut ids)? {
                best = Some((*at, ids));
            }
        }
        if let Some((answered, ids)) = best {
            let answered = conditions
                .iter()
                .any(|(at, terms)| *at == answered && terms.exact())
                .then_some(answered);
            let rest: Vec<Filter> = (0..)
                .zip(&parts)
                .filter(|(at, _)| Some(*at) != answered)
                .map(|(_, part)| (*part).clone())
                .collect();
            return self.visit_ids(ids, &range, &Filter::And(rest), visit);
        }
        match classes.map(|oid| self.sets_with(oid)) {
            // A set that nearly everyone is in is no help, but no harm either.
            Some(sets) => self.visit_classes(&sets, &range, visit),
            None => self.visit_range(&range, visit),
        }
    }

    /// Adds the entries that meet a condition; false when there are more than `most`.
    fn collect(&self, condition: &Terms, most: usize, ids: &mut Vec<i64>) -> Result<bool, CopyError> {
        let limit = |have: usize| i64::try_from(most.saturating_sub(have) + 1).unwrap_or(i64::MAX);
        match condition {
            Terms::Nothing => {}
            Terms::Equal { attributes, key, .. } => {
                for attribute in attributes.iter().filter_map(|name| self.attributes.get(name)) {
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
                for attribute in attributes.iter().filter_map(|name| self.attributes.get(name)) {
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
        mut ids: Vec<i64>,
        range: &Range<'_>,
        rest: &Filter,
        visit: &mut dyn FnMut(Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), CopyError> {
        if ids.len() > 1 {
            let mut statement = self
                .connection
                .prepare_cached("SELECT key FROM entries WHERE id = ?1")?;
            let mut keyed: Vec<(Vec<u8>, i64)> = Vec::with_capacity(ids.len());
            for id in ids {
                let key: Vec<u8> = statement.query_row([id], |row| row.get(0))?;
                if range.holds(&key) {
                    keyed.push((key, id));
                }
            }
            keyed.sort_unstable();
            ids = keyed.into_iter().map(|(_, id)| id).collect();
        }
        let matcher = match rest {
            Filter::And(rest) if rest.is_empty() => None,
            rest => Some(Matcher::new(&self.schema, rest)),
        };
        let mut statement = self
            .connection
            .prepare_cached("SELECT key, dn, attributes FROM entries WHERE id = ?1")?;
        for id in ids {
            let mut rows = statement.query([id])?;
            let Some(row) = rows.next()? else { continue };
            let row = as_row(row, true)?;
            let subject = Subject {
                dn: row.dn,
                key: row.key,
                attributes: row.attributes,
            };
            let matches = |matcher: &Matcher| matcher.matches(&self.schema, subject) == Truth::True;
            if range.holds(row.key) && matcher.as_ref().is_none_or(matches) && visit(row).is_break() {
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
        visit: &mut dyn FnMut(Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), CopyError> {
        let mut from = range.from.to_vec();
        let mut keys = self.connection.prepare_cached(
            "SELECT key, id FROM entries INDEXED BY entries_classes WHERE classes = ?1 AND key > ?2 AND key < ?3
             ORDER BY key LIMIT ?4",
        )?;
        let mut whole = self
            .connection
            .prepare_cached("SELECT key, dn, attributes FROM entries WHERE id = ?1")?;
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
                if range.holds(key) {
                    let mut rows = whole.query([id])?;
                    if let Some(row) = rows.next()?
                        && visit(as_row(row, false)?).is_break()
                    {
                        return Ok(());
                    }
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
        visit: &mut dyn FnMut(Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), CopyError> {
        let mut from = range.from.to_vec();
        let mut statement = self.connection.prepare_cached(
            "SELECT key, dn, attributes FROM entries INDEXED BY entries_key WHERE key > ?1 AND key < ?2 ORDER BY key",
        )?;
        'again: loop {
            let mut rows = statement.query(params![from, range.below])?;
            while let Some(row) = rows.next()? {
                let key = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
                if range.holds(key) {
                    if visit(as_row(row, false)?).is_break() {
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
