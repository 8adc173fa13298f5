//! Evaluation of a filter on an entry.

use super::{Extensible, Filter, Pieces};
use crate::matching::MatchingRule;
use crate::{AttributeName, Entry, Rdn, Schema, Value};

/// The outcome of a filter on an entry. Undefined is what a filter says that the schema cannot answer;
/// an entry is returned only for True.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use]
pub enum Truth {
    /// Does not match.
    False,
    /// Cannot be told.
    Undefined,
    /// Matches.
    True,
}

impl From<bool> for Truth {
    fn from(matches: bool) -> Self {
        if matches { Self::True } else { Self::False }
    }
}

impl Filter {
    /// Evaluates the filter on `entry`.
    pub fn evaluate(&self, schema: &Schema, entry: &Entry) -> Truth {
        match self {
            // With False < Undefined < True, conjunction is the minimum and disjunction the maximum.
            Self::And(filters) => filters
                .iter()
                .map(|filter| filter.evaluate(schema, entry))
                .min()
                .unwrap_or(Truth::True),
            Self::Or(filters) => filters
                .iter()
                .map(|filter| filter.evaluate(schema, entry))
                .max()
                .unwrap_or(Truth::False),
            Self::Not(filter) => match filter.evaluate(schema, entry) {
                Truth::True => Truth::False,
                Truth::Undefined => Truth::Undefined,
                Truth::False => Truth::True,
            },
            Self::Equality(name, value) | Self::Approximate(name, value) => compare(
                schema,
                entry,
                name,
                schema.equality(name.as_str()),
                value,
                |held, asserted| held == asserted,
            ),
            Self::GreaterOrEqual(name, value) => compare(
                schema,
                entry,
                name,
                schema.ordering(name.as_str()),
                value,
                |held, asserted| held >= asserted,
            ),
            Self::LessOrEqual(name, value) => compare(
                schema,
                entry,
                name,
                schema.ordering(name.as_str()),
                value,
                |held, asserted| held <= asserted,
            ),
            Self::Present(name) => Truth::from(values(schema, entry, name).next().is_some()),
            Self::Substrings(name, pieces) => substrings(schema, entry, name, pieces),
            Self::Extensible(extensible) => extensible.evaluate(schema, entry),
        }
    }
}

/// The values of an attribute and of its subtypes.
fn values<'a>(schema: &'a Schema, entry: &'a Entry, name: &'a AttributeName) -> impl Iterator<Item = &'a Value> {
    let own = entry.values(name);
    let of_subtypes = entry.attributes().filter(move |(held, _)| {
        *held != name && !name.as_str().contains(';') && schema.is_subtype(held.as_str(), name.as_str())
    });
    own.iter().chain(of_subtypes.flat_map(|(_, values)| values))
}

fn compare(
    schema: &Schema,
    entry: &Entry,
    name: &AttributeName,
    rule: Option<MatchingRule>,
    asserted: &Value,
    holds: impl Fn(&[u8], &[u8]) -> bool,
) -> Truth {
    let Some(rule) = rule else { return Truth::Undefined };
    let Some(asserted) = rule.key(schema, asserted.as_bytes()) else {
        return Truth::Undefined;
    };
    Truth::from(values(schema, entry, name).any(|value| {
        rule.key(schema, value.as_bytes())
            .is_some_and(|held| holds(&held, &asserted))
    }))
}

fn substrings(schema: &Schema, entry: &Entry, name: &AttributeName, pieces: &Pieces) -> Truth {
    let Some(rule) = schema.substring(name.as_str()) else {
        return Truth::Undefined;
    };
    let Some((initial, any, last)) = pieces.prepare(rule) else {
        return Truth::Undefined;
    };
    Truth::from(values(schema, entry, name).any(|value| {
        rule.key(schema, value.as_bytes())
            .is_some_and(|held| contains(&held, initial.as_deref(), &any, last.as_deref()))
    }))
}

/// The pieces of a substring assertion as keys: the start, those between, the end.
pub(crate) type PieceKeys = (Option<Vec<u8>>, Vec<Vec<u8>>, Option<Vec<u8>>);

impl Pieces {
    /// The pieces made ready to be looked for in keys of `rule`; none when one does not fit it.
    pub(crate) fn prepare(&self, rule: MatchingRule) -> Option<PieceKeys> {
        let piece = |value: &Value, first, last| rule.piece(value.as_bytes(), first, last);
        let initial = self.initial.as_ref().map(|value| piece(value, true, false));
        let last = self.last.as_ref().map(|value| piece(value, false, true));
        let any = self
            .any
            .iter()
            .map(|value| piece(value, false, false))
            .collect::<Option<_>>()?;
        Some((
            initial.map_or(Some(None), |one| one.map(Some))?,
            any,
            last.map_or(Some(None), |one| one.map(Some))?,
        ))
    }
}

/// Do the pieces stand in `held` in order and without overlap?
pub(crate) fn contains(held: &[u8], initial: Option<&[u8]>, any: &[Vec<u8>], last: Option<&[u8]>) -> bool {
    let Some(mut rest) = held.strip_prefix(initial.unwrap_or_default()) else {
        return false;
    };
    let Some(inner) = rest.strip_suffix(last.unwrap_or_default()) else {
        return false;
    };
    rest = inner;
    any.iter().all(|piece| {
        let found = piece
            .is_empty()
            .then_some(0)
            .or_else(|| rest.windows(piece.len()).position(|at| at == piece));
        found.is_some_and(|at| {
            rest = rest.get(at + piece.len()..).unwrap_or_default();
            true
        })
    })
}

impl Extensible {
    fn evaluate(&self, schema: &Schema, entry: &Entry) -> Truth {
        let named = self.rule.as_deref().map(|rule| schema.rule(rule));
        // A rule that is not known makes the filter Undefined (RFC 4511 section 4.5.1.7.7).
        if named == Some(None) {
            return Truth::Undefined;
        }
        let rule_for = |name: &AttributeName| named.flatten().or_else(|| schema.equality(name.as_str()));
        let matches = |name: &AttributeName, value: &Value| {
            rule_for(name).is_some_and(|rule| {
                let asserted = rule.key(schema, self.value.as_bytes());
                asserted.is_some() && rule.key(schema, value.as_bytes()) == asserted
            })
        };
        let wanted = |name: &AttributeName| {
            self.name
                .as_ref()
                .is_none_or(|wanted| wanted == name || schema.is_subtype(name.as_str(), wanted.as_str()))
        };
        let in_attributes = || {
            entry
                .attributes()
                .any(|(name, values)| wanted(name) && values.iter().any(|value| matches(name, value)))
        };
        let in_name = || {
            let avas = entry.dn().rdns().iter().flat_map(Rdn::avas);
            avas.into_iter()
                .any(|ava| wanted(&ava.name) && matches(&ava.name, &ava.value))
        };
        if let (Some(name), None) = (&self.name, named) {
            let asserted = schema
                .equality(name.as_str())
                .and_then(|rule| rule.key(schema, self.value.as_bytes()));
            if asserted.is_none() {
                return Truth::Undefined;
            }
        }
        Truth::from(in_attributes() || (self.dn_attributes && in_name()))
    }
}
