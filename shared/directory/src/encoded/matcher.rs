//! A filter made ready to be held against many encoded entries.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Attribute, Attributes};
use crate::filter::{Extensible, Pieces, Truth, contains};
use crate::matching::MatchingRule;
use crate::{AttributeName, Dn, DnKey, Filter, Rdn, Schema};

/// `entryDN` (RFC 5020): no entry stores it, every entry has it.
const ENTRY_DN: &str = "1.3.6.1.1.20";

/// A filter whose assertions were prepared once. On every entry it answers as [`Filter::evaluate`]
/// does, and `entryDN` is there besides.
#[derive(Clone, Debug)]
pub struct Matcher(Node);

#[derive(Clone, Debug)]
enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Known(Truth),
    Compare(Names, MatchingRule, Relation, Assertion),
    Substrings(Names, MatchingRule, PreparedPieces),
    Present(Names),
    Extensible(Box<PreparedExtensible>),
    Entries(HashSet<DnKey>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Equal,
    AtLeast,
    AtMost,
}

#[derive(Clone, Debug)]
struct Assertion {
    /// As it was asserted: most values that match are spelled the same, and comparing bytes is cheap.
    raw: Box<[u8]>,
    key: Vec<u8>,
}

#[derive(Clone, Debug)]
struct PreparedPieces {
    initial: Option<Vec<u8>>,
    any: Vec<Vec<u8>>,
    last: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
struct PreparedExtensible {
    names: Option<Names>,
    rule: Option<MatchingRule>,
    value: Box<[u8]>,
    dn_attributes: bool,
}

/// The descriptions under which an attribute, or a subtype of it, may be held.
#[derive(Clone, Debug)]
struct Names {
    wanted: Box<str>,
    kinds: Option<Arc<[Box<str>]>>,
    entry_dn: bool,
}

impl Names {
    fn new(schema: &Schema, name: &AttributeName) -> Self {
        let plain = !name.as_str().contains(';');
        Self {
            wanted: name.as_str().into(),
            kinds: schema.shared_spellings(name.as_str()).filter(|_| plain),
            entry_dn: schema
                .attribute(name.as_str())
                .is_some_and(|attribute| attribute.oid.as_ref() == ENTRY_DN),
        }
    }

    fn fit(&self, held: &str) -> bool {
        held.eq_ignore_ascii_case(&self.wanted) || {
            let kind = held.split(';').next().unwrap_or(held);
            self.kinds
                .iter()
                .flat_map(|kinds| kinds.iter())
                .any(|name| name.eq_ignore_ascii_case(kind))
        }
    }

    fn values<'a>(&self, attributes: Attributes<'a>) -> impl Iterator<Item = &'a [u8]> + Clone {
        attributes
            .iter()
            .filter(|attribute| self.fit(attribute.name))
            .flat_map(|attribute: Attribute<'a>| attribute.values)
    }
}

/// An entry to be held against a filter.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its name as it is written.
    pub dn: &'a str,
    /// The bytes of its [`DnKey`].
    pub key: &'a [u8],
    /// Its attributes.
    pub attributes: Attributes<'a>,
}

impl Matcher {
    /// Prepares `filter`.
    #[must_use]
    pub fn new(schema: &Schema, filter: &Filter) -> Self {
        Self(prepare(schema, filter, &mut |_| None))
    }

    /// Prepares `filter`; an extensible match for which `entries` names a set of entries is true for
    /// those and false for all others. So are rules answered that look beyond one entry.
    pub fn with_sets(
        schema: &Schema,
        filter: &Filter,
        mut entries: impl FnMut(&Extensible) -> Option<HashSet<DnKey>>,
    ) -> Self {
        Self(prepare(schema, filter, &mut entries))
    }

    /// Holds the filter against an entry.
    pub fn matches(&self, schema: &Schema, subject: Subject<'_>) -> Truth {
        self.0.matches(schema, subject)
    }

    /// A set of entries that every match is in, when a set from [`with_sets`](Self::with_sets) bounds
    /// the filter: the search may look those up instead of reading the subtree.
    #[must_use]
    pub fn bound(&self) -> Option<&HashSet<DnKey>> {
        match &self.0 {
            Node::Entries(set) => Some(set),
            Node::And(nodes) => nodes.iter().find_map(|node| match node {
                Node::Entries(set) => Some(set),
                _ => None,
            }),
            _ => None,
        }
    }
}

type Sets<'a> = &'a mut dyn FnMut(&Extensible) -> Option<HashSet<DnKey>>;

fn prepare(schema: &Schema, filter: &Filter, sets: Sets<'_>) -> Node {
    let compare = |name: &AttributeName, rule: Option<MatchingRule>, relation, value: &[u8]| {
        let key = rule.and_then(|rule| Some((rule, rule.key(schema, value)?)));
        key.map_or(Node::Known(Truth::Undefined), |(rule, key)| {
            let raw = value.into();
            Node::Compare(Names::new(schema, name), rule, relation, Assertion { raw, key })
        })
    };
    match filter {
        Filter::And(filters) => Node::And(filters.iter().map(|one| prepare(schema, one, sets)).collect()),
        Filter::Or(filters) => Node::Or(filters.iter().map(|one| prepare(schema, one, sets)).collect()),
        Filter::Not(filter) => Node::Not(Box::new(prepare(schema, filter, sets))),
        Filter::Equality(name, value) | Filter::Approximate(name, value) => {
            compare(name, schema.equality(name.as_str()), Relation::Equal, value.as_bytes())
        }
        Filter::GreaterOrEqual(name, value) => compare(
            name,
            schema.ordering(name.as_str()),
            Relation::AtLeast,
            value.as_bytes(),
        ),
        Filter::LessOrEqual(name, value) => {
            compare(name, schema.ordering(name.as_str()), Relation::AtMost, value.as_bytes())
        }
        Filter::Present(name) => Node::Present(Names::new(schema, name)),
        Filter::Substrings(name, pieces) => substrings(schema, name, pieces),
        Filter::Extensible(extensible) => match sets(extensible) {
            Some(set) => Node::Entries(set),
            None => extended(schema, extensible),
        },
    }
}

fn substrings(schema: &Schema, name: &AttributeName, pieces: &Pieces) -> Node {
    let prepared = schema
        .substring(name.as_str())
        .and_then(|rule| Some((rule, pieces.prepare(rule)?)));
    prepared.map_or(Node::Known(Truth::Undefined), |(rule, (initial, any, last))| {
        Node::Substrings(Names::new(schema, name), rule, PreparedPieces { initial, any, last })
    })
}

fn extended(schema: &Schema, extensible: &Extensible) -> Node {
    let rule = extensible.rule.as_deref().map(|rule| schema.rule(rule));
    // A rule that is not known makes the filter Undefined (RFC 4511 section 4.5.1.7.7).
    if rule == Some(None) {
        return Node::Known(Truth::Undefined);
    }
    if let (Some(name), None) = (&extensible.name, rule) {
        let asserted = schema
            .equality(name.as_str())
            .and_then(|rule| rule.key(schema, extensible.value.as_bytes()));
        if asserted.is_none() {
            return Node::Known(Truth::Undefined);
        }
    }
    Node::Extensible(Box::new(PreparedExtensible {
        names: extensible.name.as_ref().map(|name| Names::new(schema, name)),
        rule: rule.flatten(),
        value: extensible.value.as_bytes().into(),
        dn_attributes: extensible.dn_attributes,
    }))
}

impl Node {
    fn matches(&self, schema: &Schema, subject: Subject<'_>) -> Truth {
        match self {
            Self::And(nodes) => {
                let mut truth = Truth::True;
                for node in nodes {
                    truth = truth.min(node.matches(schema, subject));
                    if truth == Truth::False {
                        break;
                    }
                }
                truth
            }
            Self::Or(nodes) => {
                let mut truth = Truth::False;
                for node in nodes {
                    truth = truth.max(node.matches(schema, subject));
                    if truth == Truth::True {
                        break;
                    }
                }
                truth
            }
            Self::Not(node) => match node.matches(schema, subject) {
                Truth::True => Truth::False,
                Truth::Undefined => Truth::Undefined,
                Truth::False => Truth::True,
            },
            Self::Known(truth) => *truth,
            Self::Entries(set) => Truth::from(set.contains(subject.key)),
            Self::Present(names) => Truth::from(names.entry_dn || names.values(subject.attributes).next().is_some()),
            Self::Compare(names, rule, relation, assertion) => {
                Truth::from(compare(schema, subject, names, *rule, *relation, assertion))
            }
            Self::Substrings(names, rule, pieces) => Truth::from(names.values(subject.attributes).any(|value| {
                rule.key(schema, value)
                    .is_some_and(|held| contains(&held, pieces.initial.as_deref(), &pieces.any, pieces.last.as_deref()))
            })),
            Self::Extensible(extensible) => extensible.matches(schema, subject),
        }
    }
}

fn compare(
    schema: &Schema,
    subject: Subject<'_>,
    names: &Names,
    rule: MatchingRule,
    relation: Relation,
    assertion: &Assertion,
) -> bool {
    if names.entry_dn && relation == Relation::Equal {
        return subject.key == assertion.key;
    }
    let values = names.values(subject.attributes);
    if values.clone().any(|value| value == &*assertion.raw) {
        return true;
    }
    let mut keys = values.filter_map(|value| rule.key(schema, value));
    keys.any(|held| match relation {
        Relation::Equal => held == assertion.key,
        Relation::AtLeast => held >= assertion.key,
        Relation::AtMost => held <= assertion.key,
    })
}

impl PreparedExtensible {
    fn matches(&self, schema: &Schema, subject: Subject<'_>) -> Truth {
        let wanted = |name: &str| self.names.as_ref().is_none_or(|names| names.fit(name));
        let matches = |name: &str, value: &[u8]| {
            self.rule.or_else(|| schema.equality(name)).is_some_and(|rule| {
                let asserted = rule.key(schema, &self.value);
                asserted.is_some() && rule.key(schema, value) == asserted
            })
        };
        let in_attributes = || {
            subject.attributes.iter().any(|mut attribute| {
                wanted(attribute.name) && attribute.values.any(|value| matches(attribute.name, value))
            })
        };
        let in_name = || {
            Dn::parse(subject.dn).is_ok_and(|dn| {
                let mut avas = dn.rdns().iter().flat_map(Rdn::avas);
                avas.any(|ava| wanted(ava.name.as_str()) && matches(ava.name.as_str(), ava.value.as_bytes()))
            })
        };
        Truth::from(in_attributes() || (self.dn_attributes && in_name()))
    }
}
