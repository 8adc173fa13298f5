//! What of a filter an index can answer.

use std::sync::Arc;

use dirless_directory::filter::Extensible;
use dirless_directory::{AttributeName, Filter, MatchingRule, Schema};

use crate::index;

/// A condition that indexes answer: which entries meet it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// A value has this key.
    Equal {
        /// Numbers of the attribute and its subtypes in the index.
        attributes: Arc<[i64]>,
        key: Vec<u8>,
        /// The key stands for the value alone.
        exact: bool,
    },
    /// A value's key is in this range; either end may be open.
    Range {
        attributes: Arc<[i64]>,
        from: Vec<u8>,
        below: Option<Vec<u8>>,
        exact: bool,
    },
    /// One of the classes has this OID.
    Class(String),
    /// Any of these.
    Any(Vec<Terms>),
    /// No entry.
    Nothing,
}

impl Terms {
    /// Does an entry among those meet the condition for sure?
    pub(crate) fn exact(&self) -> bool {
        match self {
            Self::Equal { exact, .. } | Self::Range { exact, .. } => *exact,
            Self::Class(_) | Self::Nothing => true,
            Self::Any(terms) => terms.iter().all(Self::exact),
        }
    }

    /// Conditions that few entries meet come first.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Equal { .. } => 1,
            Self::Any(_) => 2,
            Self::Range { .. } => 3,
            Self::Class(_) => 4,
        }
    }
}

/// The conditions of which every match meets each one, with the place of each among the parts of the
/// conjunction that the filter is.
pub(crate) fn conjuncts(filter: &Filter) -> Vec<&Filter> {
    match filter {
        Filter::And(filters) => filters.iter().flat_map(conjuncts).collect(),
        other => vec![other],
    }
}

/// What an index knows of an attribute: its numbers there, and the rule that makes keys of values.
pub(crate) type Planned = (Arc<[i64]>, MatchingRule);

/// What a plan is made with.
#[derive(Clone, Copy)]
pub(crate) struct Planner<'a> {
    pub(crate) schema: &'a Schema,
    /// Finds an attribute in the index.
    pub(crate) find: &'a dyn Fn(&str) -> Option<Planned>,
}

/// The condition that the index answers for `filter`; none when it does not.
pub(crate) fn terms(planner: Planner<'_>, filter: &Filter) -> Option<Terms> {
    let schema = planner.schema;
    match filter {
        Filter::Equality(name, value) | Filter::Approximate(name, value) => {
            if is_object_class(name) {
                let text = value.as_str()?;
                return Some(Terms::Class(schema.oid_of(text.trim())));
            }
            equal(planner, name, value.as_bytes(), None)
        }
        Filter::GreaterOrEqual(name, value) => {
            let (attributes, key, _) = range_key(planner, name, value.as_bytes())?;
            Some(Terms::Range {
                attributes,
                from: key,
                below: None,
                exact: false,
            })
        }
        Filter::Substrings(name, pieces) => {
            let (attributes, rule) = (planner.find)(name.as_str())?;
            let initial = pieces.initial.as_ref()?;
            if !matches!(rule, MatchingRule::CaseIgnore | MatchingRule::CaseExact) {
                return None;
            }
            let mut from = rule.piece(initial.as_bytes(), true, false)?;
            from.truncate(32);
            let mut below = from.clone();
            // Prepared text is UTF-8, whose bytes never reach this.
            below.push(0xff);
            (!from.is_empty()).then_some(Terms::Range {
                attributes,
                from,
                below: Some(below),
                exact: false,
            })
        }
        Filter::Or(filters) => {
            let terms: Option<Vec<Terms>> = filters.iter().map(|one| terms(planner, one)).collect();
            terms.map(Terms::Any)
        }
        Filter::And(filters) if filters.len() == 1 => filters.first().and_then(|one| terms(planner, one)),
        Filter::Extensible(extensible) => by_rule(planner, extensible),
        Filter::And(_) | Filter::Not(_) | Filter::LessOrEqual(..) | Filter::Present(_) => None,
    }
}

fn by_rule(planner: Planner<'_>, extensible: &Extensible) -> Option<Terms> {
    if extensible.dn_attributes {
        return None;
    }
    let name = extensible.name.as_ref()?;
    let rule = match &extensible.rule {
        None => None,
        Some(rule) => Some(planner.schema.rule(rule)?),
    };
    if is_object_class(name) {
        return None;
    }
    equal(planner, name, extensible.value.as_bytes(), rule)
}

fn equal(planner: Planner<'_>, name: &AttributeName, value: &[u8], wanted: Option<MatchingRule>) -> Option<Terms> {
    let (attributes, rule) = (planner.find)(name.as_str())?;
    if wanted.is_some_and(|wanted| wanted != rule) {
        return None;
    }
    // A value that does not fit makes the filter Undefined, which matches nothing; under `Not` no
    // condition is taken at all.
    let Some((key, whole)) = index::key(planner.schema, rule, value) else {
        return Some(Terms::Nothing);
    };
    Some(Terms::Equal {
        attributes,
        key,
        exact: whole && !name.as_str().contains(';'),
    })
}

fn range_key(planner: Planner<'_>, name: &AttributeName, value: &[u8]) -> Option<(Arc<[i64]>, Vec<u8>, bool)> {
    let (attributes, rule) = (planner.find)(name.as_str())?;
    let ordering = planner.schema.ordering(name.as_str())?;
    if ordering != rule || rule == MatchingRule::DistinguishedName {
        return None;
    }
    let (key, whole) = index::key(planner.schema, rule, value)?;
    Some((attributes, key, whole))
}

/// The names in the index under which values of `name` are found, and the rule they share; none when
/// one of them is not indexed, or by another rule.
pub(crate) fn names(schema: &Schema, name: &str) -> Option<(Vec<String>, MatchingRule)> {
    let (own, rule) = index::indexed(schema, name)?;
    let mut names = vec![own];
    for spelling in schema.spellings(name).unwrap_or_default() {
        let (other, its) = index::indexed(schema, spelling)?;
        if its != rule {
            return None;
        }
        if !names.contains(&other) {
            names.push(other);
        }
    }
    Some((names, rule))
}

fn is_object_class(name: &AttributeName) -> bool {
    name.as_str().eq_ignore_ascii_case("objectClass") || name.as_str() == "2.5.4.0"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Option<Terms> {
        let schema = Schema::standard();
        let find = |name: &str| {
            let (names, rule) = names(&schema, name)?;
            Some(((0..).zip(names).map(|(at, _)| at).collect(), rule))
        };
        let planner = Planner {
            schema: &schema,
            find: &find,
        };
        terms(planner, &Filter::parse(text).unwrap())
    }

    #[test]
    fn what_an_index_answers() {
        assert!(matches!(plan("(uid=Alice)"), Some(Terms::Equal { key, exact: true, .. }) if key == b"alice"));
        assert!(matches!(
            plan("(cn;lang-de=x)"),
            Some(Terms::Equal { exact: false, .. })
        ));
        assert!(matches!(plan("(|(memberUid=a)(member=uid=a,dc=b))"), Some(Terms::Any(terms)) if terms.len() == 2));
        assert_eq!(
            plan("(objectClass=posixGroup)"),
            Some(Terms::Class("1.3.6.1.1.1.2.2".to_owned()))
        );
        assert!(matches!(plan("(cn=al*e)"), Some(Terms::Range { from, .. }) if from == b"al"));
        assert!(matches!(plan("(uidNumber>=5)"), Some(Terms::Range { below: None, .. })));
        assert_eq!(plan("(uidNumber=x)"), Some(Terms::Nothing));
        for text in [
            "(uid=*)",
            "(!(uid=a))",
            "(loginShell=/bin/sh)",
            "(cn=*a)",
            "(uid:dn:=a)",
            "(|(uid=a)(cn=*))",
        ] {
            assert_eq!(plan(text), None, "{text}");
        }
    }

    #[test]
    fn a_supertype_is_found_under_all_its_subtypes() {
        let Some(Terms::Equal { attributes, .. }) = plan("(name=alice)") else {
            // One of the subtypes may be compared otherwise; then there is nothing to go by.
            return;
        };
        assert!(attributes.len() > 3, "{attributes:?}");
    }

    #[test]
    fn conjunctions_are_flat() {
        let filter = Filter::parse("(&(uid=a)(&(cn=b)(|(sn=c)(sn=d)))(!(x=y)))").unwrap();
        assert_eq!(conjuncts(&filter).len(), 4);
    }
}
