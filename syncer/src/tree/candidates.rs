//! Which entries a search looks at: from the indexes when they narrow it down, else the whole range.
//!
//! An index answers with at least what matches; the filter itself has the last word on each entry.

use std::collections::BTreeSet;

use dirless_directory::filter::Pieces;
use dirless_directory::{AttributeName, DnKey, Filter, Value};
use rusqlite::{ToSql, params};

use super::TreeError;
use super::context::Indexed;
use super::read::{Query, Reader, Scope};
use super::record::Record;

/// Above this many candidates reading the range in order is as good, and needs no memory.
const MOST: usize = 20_000;
/// How far the parts of a conjunction are counted before the next larger step: most searches have one
/// part that few entries match, and need not know how many match the others.
const STEPS: [usize; 2] = [64, 1_024];
/// A further index is read when it holds at most this many times what is left: reading a row of an
/// index costs about a tenth of reading and matching an entry.
const WORTH: usize = 8;

/// The part of the tree that a search is about.
#[derive(Debug)]
pub(super) enum Range {
    /// One entry.
    One(Box<Record>),
    /// The children of that entry; of the root when none.
    Children(Option<i64>),
    /// All keys from the one up to, not including, the other.
    Keys { from: Vec<u8>, end: Vec<u8> },
}

/// What the table knows of a candidate besides its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) id: i64,
    parent: Option<i64>,
}

impl Range {
    pub(super) fn of(reader: Reader<'_>, query: &Query<'_>) -> Result<Self, TreeError> {
        if query.base.is_root() && query.scope != Scope::Base {
            return Ok(match query.scope {
                Scope::OneLevel => Self::Children(None),
                Scope::Base | Scope::Subtree => Self::whole(),
            });
        }
        let record = reader.require(query.base)?;
        Ok(match query.scope {
            Scope::Base => Self::One(Box::new(record)),
            Scope::OneLevel => Self::Children(Some(record.id)),
            Scope::Subtree => Self::Keys {
                from: record.key().as_bytes().to_vec(),
                end: record.key().subtree_end(),
            },
        })
    }

    pub(super) fn whole() -> Self {
        Self::Keys {
            from: Vec::new(),
            end: vec![u8::MAX],
        }
    }

    pub(super) fn holds(&self, (key, slot): &(DnKey, Slot)) -> bool {
        match self {
            Self::One(record) => record.id == slot.id,
            Self::Children(parent) => slot.parent == *parent,
            Self::Keys { from, end } => key.as_bytes() >= from.as_slice() && key.as_bytes() < end.as_slice(),
        }
    }

    /// How many entries it has, counted up to `most`.
    fn count(&self, reader: Reader<'_>, most: usize) -> Result<usize, TreeError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        match self {
            Self::One(_) => Ok(1),
            Self::Children(None) => Ok(1),
            Self::Children(Some(parent)) => {
                let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM entries WHERE parent = ?1 LIMIT ?2)";
                count(reader, sql, &[parent, &most])
            }
            Self::Keys { from, end } => {
                let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM entries WHERE key >= ?1 AND key < ?2 LIMIT ?3)";
                count(reader, sql, &[from, end, &most])
            }
        }
    }
}

/// The entries to hold against the filter.
#[derive(Debug)]
pub(super) enum Candidates {
    /// All of the range.
    Anything,
    /// Only these, in the order of their keys.
    These(BTreeSet<(DnKey, Slot)>),
}

impl Candidates {
    pub(super) fn of(reader: Reader<'_>, filter: &Filter, range: &Range) -> Result<Self, TreeError> {
        let Some(estimate) = estimate(reader, filter, MOST)? else {
            return Ok(Self::Anything);
        };
        if estimate > MOST || (estimate > 0 && range.count(reader, estimate + 1)? <= estimate) {
            return Ok(Self::Anything);
        }
        let Some(ids) = collect(reader, filter)? else {
            return Ok(Self::Anything);
        };
        let mut these = BTreeSet::new();
        let mut select = reader
            .connection
            .prepare_cached("SELECT key, parent FROM entries WHERE id = ?1")?;
        for id in ids {
            let mut rows = select.query(params![id])?;
            if let Some(row) = rows.next()? {
                let slot = Slot {
                    id,
                    parent: row.get(1)?,
                };
                these.insert((DnKey::from(row.get::<_, Vec<u8>>(0)?), slot));
            }
        }
        Ok(Self::These(these))
    }
}

/// A stretch of one index.
struct Stretch {
    attribute: i64,
    from: Vec<u8>,
    /// The end, which is not part of it; none for the end of the attribute.
    end: Option<Vec<u8>>,
}

impl Stretch {
    fn equal(indexed: &Indexed, value: Vec<u8>) -> Self {
        // Nothing sorts between a value and the value with a zero byte after it.
        let mut end = value.clone();
        end.push(0);
        Self {
            attribute: indexed.id,
            from: value,
            end: Some(end),
        }
    }

    fn starting(indexed: &Indexed, prefix: Vec<u8>) -> Self {
        Self {
            attribute: indexed.id,
            end: after_prefix(&prefix),
            from: prefix,
        }
    }

    /// How many rows it has, counted up to just above `most`.
    fn count(&self, reader: Reader<'_>, most: usize) -> Result<usize, TreeError> {
        let most = i64::try_from(most.saturating_add(1)).unwrap_or(i64::MAX);
        match &self.end {
            Some(end) => count(
                reader,
                "SELECT COUNT(*) FROM (SELECT 1 FROM indexed WHERE attribute = ?1 AND value >= ?2 AND value < ?3 LIMIT ?4)",
                &[&self.attribute, &self.from, end, &most],
            ),
            None => count(
                reader,
                "SELECT COUNT(*) FROM (SELECT 1 FROM indexed WHERE attribute = ?1 AND value >= ?2 LIMIT ?3)",
                &[&self.attribute, &self.from, &most],
            ),
        }
    }

    fn ids(&self, reader: Reader<'_>) -> Result<BTreeSet<i64>, TreeError> {
        // Values are kept below 257 bytes, so this is after all of them.
        let last = vec![u8::MAX; 300];
        let mut select = reader
            .connection
            .prepare_cached("SELECT entry FROM indexed WHERE attribute = ?1 AND value >= ?2 AND value < ?3")?;
        let rows = select.query_map(
            params![self.attribute, self.from, self.end.as_ref().unwrap_or(&last)],
            |row| row.get(0),
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// What an index knows about one assertion.
enum Known {
    /// Nothing.
    Nothing,
    /// That it never holds.
    Never,
    /// That it holds for these alone.
    Within(Stretch),
}

fn known(reader: Reader<'_>, filter: &Filter) -> Known {
    let schema = reader.schema();
    let with = |name: &AttributeName, use_it: &dyn Fn(&Indexed) -> Option<Known>| {
        reader.context.index_of(name).and_then(use_it).unwrap_or(Known::Nothing)
    };
    let equal = |name: &AttributeName, value: &Value| {
        with(name, &|indexed| {
            // A value that does not fit leaves the assertion Undefined, which is not True.
            Some(
                indexed
                    .value(schema, value.as_bytes())
                    .map_or(Known::Never, |value| Known::Within(Stretch::equal(indexed, value))),
            )
        })
    };
    match filter {
        Filter::Equality(name, value) | Filter::Approximate(name, value) => equal(name, value),
        Filter::Present(name) => with(name, &|indexed| {
            Some(Known::Within(Stretch {
                attribute: indexed.id,
                from: Vec::new(),
                end: None,
            }))
        }),
        Filter::GreaterOrEqual(name, value) => with(name, &|indexed| {
            let from = indexed.value(schema, value.as_bytes()).filter(|_| indexed.ordered)?;
            Some(Known::Within(Stretch {
                attribute: indexed.id,
                from,
                end: None,
            }))
        }),
        Filter::LessOrEqual(name, value) => with(name, &|indexed| {
            let mut end = indexed.value(schema, value.as_bytes()).filter(|_| indexed.ordered)?;
            end.push(0);
            Some(Known::Within(Stretch {
                attribute: indexed.id,
                from: Vec::new(),
                end: Some(end),
            }))
        }),
        Filter::Substrings(name, Pieces { initial, .. }) => with(name, &|indexed| {
            let initial = initial.as_ref().filter(|_| indexed.substrings)?;
            let piece = indexed.rule.piece(initial.as_bytes(), true, false)?;
            Some(Known::Within(Stretch::starting(indexed, Indexed::cut(piece))))
        }),
        Filter::Extensible(extensible) if !extensible.dn_attributes && extensible.rule.is_none() => extensible
            .name
            .as_ref()
            .map_or(Known::Nothing, |name| equal(name, &extensible.value)),
        Filter::Extensible(_) | Filter::And(_) | Filter::Or(_) | Filter::Not(_) => Known::Nothing,
    }
}

/// At most how many entries match, as far as indexes can tell; counted up to just above `most`.
fn estimate(reader: Reader<'_>, filter: &Filter, most: usize) -> Result<Option<usize>, TreeError> {
    match filter {
        Filter::And(filters) => Ok(smallest(reader, filters, most)?.map(|(_, count)| count)),
        Filter::Or(filters) => {
            let mut all = 0_usize;
            for filter in filters {
                match estimate(reader, filter, most.saturating_sub(all))? {
                    Some(count) => all = all.saturating_add(count),
                    None => return Ok(None),
                }
            }
            Ok(Some(all))
        }
        single => match known(reader, single) {
            Known::Nothing => Ok(None),
            Known::Never => Ok(Some(0)),
            Known::Within(stretch) => stretch.count(reader, most).map(Some),
        },
    }
}

/// The place of the part of a conjunction that the fewest match, and how many those are.
fn smallest(reader: Reader<'_>, filters: &[Filter], most: usize) -> Result<Option<(usize, usize)>, TreeError> {
    let steps = STEPS.into_iter().filter(|step| *step < most).chain([most]);
    let mut found = None;
    for step in steps {
        found = None;
        for (at, filter) in filters.iter().enumerate() {
            if let Some(count) = estimate(reader, filter, step)?
                && found.is_none_or(|(_, least)| count < least)
            {
                found = Some((at, count));
            }
        }
        if found.is_none_or(|(_, count)| count <= step) {
            break;
        }
    }
    Ok(found)
}

/// The entries that may match; none when the indexes cannot tell or there are too many.
fn collect(reader: Reader<'_>, filter: &Filter) -> Result<Option<BTreeSet<i64>>, TreeError> {
    match filter {
        Filter::And(filters) => {
            let Some((first, _)) = smallest(reader, filters, MOST)?.filter(|(_, count)| *count <= MOST) else {
                return Ok(None);
            };
            let mut left = match filters.get(first) {
                Some(filter) => collect(reader, filter)?,
                None => None,
            };
            for (at, filter) in filters.iter().enumerate() {
                let Some(ids) = left.as_mut().filter(|ids| at != first && !ids.is_empty()) else {
                    continue;
                };
                let worth = ids.len().saturating_mul(WORTH).min(MOST);
                if estimate(reader, filter, worth)?.is_some_and(|count| count <= worth)
                    && let Some(others) = collect(reader, filter)?
                {
                    ids.retain(|id| others.contains(id));
                }
            }
            Ok(left)
        }
        Filter::Or(filters) => {
            let mut all = BTreeSet::new();
            for filter in filters {
                match collect(reader, filter)? {
                    Some(ids) => all.extend(ids),
                    None => return Ok(None),
                }
            }
            Ok((all.len() <= MOST).then_some(all))
        }
        single => match known(reader, single) {
            Known::Nothing => Ok(None),
            Known::Never => Ok(Some(BTreeSet::new())),
            Known::Within(stretch) => stretch.ids(reader).map(Some),
        },
    }
}

fn count(reader: Reader<'_>, sql: &str, parameters: &[&dyn ToSql]) -> Result<usize, TreeError> {
    let count: i64 = reader
        .connection
        .prepare_cached(sql)?
        .query_row(parameters, |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}
