//! Holding an entry against the schema (RFC 4512 section 2.4).

use std::collections::BTreeSet;

use super::{AttributeType, ClassKind, ObjectClass, Schema, Usage, object_class};
use crate::matching::MatchingRule;
use crate::{AttributeName, Entry, Value};

/// `extensibleObject` (RFC 4512 section 4.3): allows every attribute.
const EXTENSIBLE_OBJECT: &str = "1.3.6.1.4.1.1466.101.120.111";

/// Why an entry breaks the schema (RFC 4512 section 2.4), with the result code that LDAP gives it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// No `objectClass`, or none that is structural.
    #[error("has no structural object class")]
    NoStructuralClass,
    /// Two structural classes of which neither is above the other.
    #[error("has two structural object classes, {0} and {1}")]
    TwoStructuralClasses(String, String),
    /// A class that is not defined.
    #[error("has the object class {0}, which is not defined")]
    UnknownClass(String),
    /// An attribute that is not defined.
    #[error("has the attribute {0}, which is not defined")]
    UnknownAttribute(String),
    /// A required attribute is absent.
    #[error("has no {attribute}, which {class} requires")]
    Missing {
        /// The attribute.
        attribute: String,
        /// The class.
        class: String,
    },
    /// An attribute that no class of the entry allows.
    #[error("has the attribute {0}, which none of its object classes allows")]
    NotAllowed(String),
    /// More than one value.
    #[error("has more than one value of {0}, which takes one")]
    SingleValue(String),
    /// The same value twice.
    #[error("has the same value of {0} twice")]
    DuplicateValue(String),
    /// A value that the syntax refuses.
    #[error("has a value of {0} that does not follow its syntax")]
    Syntax(String),
    /// A value of the RDN is not among the attributes.
    #[error("is named by {0}, but does not have that value")]
    Naming(String),
}

impl ObjectClass {
    /// Does the class name the attribute among those that an entry must or may have?
    fn allows(&self, attribute: &AttributeType) -> bool {
        let is = |name: &str| {
            let mut own = std::iter::once(&attribute.oid).chain(&attribute.names);
            own.any(|own| own.eq_ignore_ascii_case(name))
        };
        self.must.iter().chain(&self.may).any(|name| is(name))
    }
}

impl Schema {
    /// Every class of the entry and every class above those, without repeats.
    #[must_use]
    pub fn class_closure<'a>(&'a self, classes: &[Value]) -> Vec<&'a ObjectClass> {
        let mut closure: Vec<&ObjectClass> = Vec::new();
        let mut open: Vec<&ObjectClass> = classes
            .iter()
            .filter_map(Value::as_str)
            .filter_map(|name| self.class(name))
            .collect();
        while let Some(class) = open.pop() {
            if !closure.iter().any(|seen| std::ptr::eq(*seen, class)) {
                closure.push(class);
                open.extend(class.superiors.iter().filter_map(|superior| self.class(superior)));
            }
        }
        closure
    }

    /// Checks a whole entry.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn check(&self, entry: &Entry) -> Result<(), Violation> {
        let classes = entry.values(&object_class());
        for class in classes {
            let name = class.as_str().unwrap_or_default();
            if self.class(name).is_none() {
                return Err(Violation::UnknownClass(name.to_owned()));
            }
        }
        let closure = self.class_closure(classes);
        self.check_structure(&closure)?;
        self.check_required(entry, &closure)?;
        let all_allowed = closure.iter().any(|class| class.oid.as_ref() == EXTENSIBLE_OBJECT);
        for (name, values) in entry.attributes() {
            let attribute = self
                .attribute(name.as_str())
                .ok_or_else(|| Violation::UnknownAttribute(name.to_string()))?;
            let operational = attribute.usage == Usage::Operational;
            if !(operational || all_allowed || closure.iter().any(|class| class.allows(attribute))) {
                return Err(Violation::NotAllowed(name.to_string()));
            }
            self.check_values(name, attribute, values)?;
        }
        self.check_naming(entry)
    }

    /// May `value` be a value of the attribute?
    #[must_use]
    pub fn takes(&self, name: &AttributeName, value: &Value) -> bool {
        self.attribute(name.as_str())
            .is_some_and(|attribute| self.check_values(name, attribute, std::slice::from_ref(value)).is_ok())
    }

    /// The structural classes of `closure` that no other structural class of it is below.
    fn leaves<'a>(&'a self, closure: &[&'a ObjectClass]) -> Vec<&'a ObjectClass> {
        let structural = || closure.iter().filter(|class| class.kind == ClassKind::Structural);
        let mut above: Vec<&ObjectClass> = Vec::new();
        let mut open: Vec<&ObjectClass> = structural().copied().collect();
        while let Some(class) = open.pop() {
            for superior in class.superiors.iter().filter_map(|name| self.class(name)) {
                if !above.iter().any(|seen| std::ptr::eq(*seen, superior)) {
                    above.push(superior);
                    open.push(superior);
                }
            }
        }
        let is_leaf = |class: &&&ObjectClass| !above.iter().any(|seen| std::ptr::eq(*seen, **class));
        structural().filter(is_leaf).copied().collect()
    }

    /// The class of an entry with these classes and those above them that says what it is
    /// (RFC 4512 section 2.4.2); none when no class is structural.
    #[must_use]
    pub fn structural_class<'a>(&'a self, closure: &[&'a ObjectClass]) -> Option<&'a ObjectClass> {
        self.leaves(closure).first().copied()
    }

    fn check_structure(&self, closure: &[&ObjectClass]) -> Result<(), Violation> {
        match self.leaves(closure).as_slice() {
            [] => Err(Violation::NoStructuralClass),
            [_] => Ok(()),
            [one, two, ..] => Err(Violation::TwoStructuralClasses(
                one.name().to_owned(),
                two.name().to_owned(),
            )),
        }
    }

    fn check_required(&self, entry: &Entry, closure: &[&ObjectClass]) -> Result<(), Violation> {
        for class in closure {
            for required in &class.must {
                let present = entry
                    .attributes()
                    .any(|(name, _)| self.is_subtype(name.as_str(), required));
                if !present {
                    return Err(Violation::Missing {
                        attribute: required.to_string(),
                        class: class.name().to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    fn check_values(&self, name: &AttributeName, attribute: &AttributeType, values: &[Value]) -> Result<(), Violation> {
        if attribute.single_value && values.len() > 1 {
            return Err(Violation::SingleValue(name.to_string()));
        }
        let mut seen = BTreeSet::new();
        for value in values {
            if !crate::syntax::check(self.syntax(name.as_str()), value.as_bytes()) {
                return Err(Violation::Syntax(name.to_string()));
            }
            let key = match self.equality(name.as_str()) {
                Some(rule) => rule
                    .key(self, value.as_bytes())
                    .ok_or_else(|| Violation::Syntax(name.to_string()))?,
                None => value.as_bytes().to_vec(),
            };
            if !seen.insert(key) {
                return Err(Violation::DuplicateValue(name.to_string()));
            }
        }
        Ok(())
    }

    fn check_naming(&self, entry: &Entry) -> Result<(), Violation> {
        for ava in entry.dn().rdn().into_iter().flat_map(crate::Rdn::avas) {
            let rule = self.equality(ava.name.as_str()).unwrap_or(MatchingRule::OctetString);
            let wanted = rule.key(self, ava.value.as_bytes());
            let held = entry
                .attributes()
                .filter(|(name, _)| self.is_subtype(name.as_str(), ava.name.as_str()))
                .flat_map(|(_, values)| values)
                .any(|value| wanted.is_some() && rule.key(self, value.as_bytes()) == wanted);
            if !held {
                return Err(Violation::Naming(ava.name.to_string()));
            }
        }
        Ok(())
    }
}
