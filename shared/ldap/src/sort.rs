//! Server-side sorting (RFC 2891): all entries are read once for their keys, then looked up in order.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::sync::Arc;

use dirless_directory::{DnKey, Schema};

use crate::controls::{Sort, SortKey};
use crate::emit::Emitter;
use crate::{Candidate, Directory, Failure, Query, ResultCode, Stored};

const BATCH: usize = 2048;

/// One key of an order: where to find the values and how to compare them.
struct Field {
    attribute: String,
    rule: dirless_directory::MatchingRule,
    reverse: bool,
}

/// Entries being gathered to be sorted.
pub(crate) struct Sorting {
    fields: Vec<Field>,
    found: Vec<(Vec<Option<Vec<u8>>>, DnKey)>,
    most: usize,
}

pub(crate) enum Step {
    /// Go on after this key.
    More(Vec<u8>),
    /// More entries than the server sorts.
    TooMany,
    Sorted(Arc<[DnKey]>),
}

impl Sorting {
    /// Prepares an order; the code that the sort result control tells when it cannot be made.
    pub(crate) fn new(schema: &Schema, sort: &Sort, most: usize) -> Result<Self, ResultCode> {
        let field = |key: &SortKey| {
            if schema.attribute(&key.attribute).is_none() {
                return Err(ResultCode::NoSuchAttribute);
            }
            let own = || {
                schema
                    .ordering(&key.attribute)
                    .or_else(|| schema.equality(&key.attribute))
            };
            let rule = key.rule.as_deref().map_or_else(own, |rule| schema.rule(rule));
            Ok(Field {
                attribute: key.attribute.clone(),
                rule: rule.ok_or(ResultCode::InappropriateMatching)?,
                reverse: key.reverse,
            })
        };
        Ok(Self {
            fields: sort.keys.iter().map(field).collect::<Result<_, _>>()?,
            found: Vec::new(),
            most,
        })
    }

    /// Reads one batch.
    pub(crate) fn step(
        &mut self,
        directory: &dyn Directory,
        query: &Query<'_>,
        emitter: &mut Emitter,
    ) -> Result<Step, Failure> {
        let mut visits = 0;
        let mut last = Vec::new();
        let mut more = false;
        directory.candidates(query, &mut |Candidate { stored, exact, .. }| {
            let keys = emitter.matching(directory, stored, exact, |emitter, seen| {
                self.keys(&emitter.schema, &seen)
            });
            if let Some(keys) = keys {
                self.found.push((keys, DnKey::from(stored.key.to_vec())));
            }
            visits += 1;
            more = visits >= BATCH || self.found.len() > self.most;
            if more {
                last = stored.key.to_vec();
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        if self.found.len() > self.most {
            return Ok(Step::TooMany);
        }
        if more {
            return Ok(Step::More(last));
        }
        let mut found = std::mem::take(&mut self.found);
        found.sort_by(|(a, a_key), (b, b_key)| self.compare(a, b).then_with(|| a_key.cmp(b_key)));
        Ok(Step::Sorted(found.into_iter().map(|(_, key)| key).collect()))
    }

    /// The least value of each field.
    fn keys(&self, schema: &Schema, stored: &Stored<'_>) -> Vec<Option<Vec<u8>>> {
        let least = |field: &Field| {
            let held = stored
                .attributes
                .iter()
                .filter(|attribute| schema.is_subtype(attribute.name, &field.attribute));
            held.flat_map(|attribute| attribute.values)
                .filter_map(|value| field.rule.key(schema, value))
                .min()
        };
        self.fields.iter().map(least).collect()
    }

    /// An absent value is larger than every other (RFC 2891 section 2.2).
    fn compare(&self, a: &[Option<Vec<u8>>], b: &[Option<Vec<u8>>]) -> Ordering {
        let mut ordering = Ordering::Equal;
        for ((field, a), b) in self.fields.iter().zip(a).zip(b) {
            let one = match (a, b) {
                (Some(a), Some(b)) => a.cmp(b),
                (a, b) => a.is_none().cmp(&b.is_none()),
            };
            ordering = ordering.then(if field.reverse { one.reverse() } else { one });
        }
        ordering
    }
}
