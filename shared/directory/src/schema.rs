//! The schema: attribute types, object classes and what an entry must and may hold (RFC 4512).
//!
//! Definitions are read from text in the notation of RFC 4512 section 4.1, one definition after
//! `attributetype` or `objectclass`, so that a site extends the schema with a file and no code.

mod check;
mod definition;
mod extension;
mod keys;
mod names;
mod secret;
mod standard;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

pub use check::Violation;
pub use definition::DefinitionError;
pub use extension::{Definition, Refused};
pub use secret::{PASSWORDS, SECRET_REFERENCES};

use crate::AttributeName;
use crate::matching::{MatchingRule, RULES};
use crate::name::is_numeric_oid;
use names::Names;

/// Separates the RDNs of a [`DnKey`]; no prepared value holds it, for mapping drops controls.
const RDN_END: u8 = 0;

/// What an attribute is for (`USAGE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usage {
    /// People and programs read and write it; `*` selects it.
    #[default]
    UserApplications,
    /// The server keeps it; `+` selects it.
    Operational,
}

/// An attribute type. What it does not say itself it has from its supertype.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeType {
    /// The object identifier.
    pub oid: Box<str>,
    /// Its names, the first one being the one that is written.
    pub names: Vec<Box<str>>,
    /// For people.
    pub description: Option<Box<str>>,
    /// OID or name of the supertype.
    pub superior: Option<Box<str>>,
    /// Name of the equality rule.
    pub equality: Option<Box<str>>,
    /// Name of the ordering rule.
    pub ordering: Option<Box<str>>,
    /// Name of the substrings rule.
    pub substring: Option<Box<str>>,
    /// OID of the syntax.
    pub syntax: Option<Box<str>>,
    /// At most one value.
    pub single_value: bool,
    /// Clients may not write it.
    pub no_user_modification: bool,
    /// Who it is for.
    pub usage: Usage,
    text: Box<str>,
}

/// The kind of an object class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClassKind {
    /// Only a superclass.
    Abstract,
    /// What an entry is; each entry has one chain of these.
    #[default]
    Structural,
    /// What an entry has besides.
    Auxiliary,
}

/// An object class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectClass {
    /// The object identifier.
    pub oid: Box<str>,
    /// Its names, the first one being the one that is written.
    pub names: Vec<Box<str>>,
    /// For people.
    pub description: Option<Box<str>>,
    /// OIDs or names of the superclasses.
    pub superiors: Vec<Box<str>>,
    /// Abstract, structural or auxiliary.
    pub kind: ClassKind,
    /// Attributes that an entry of it must have.
    pub must: Vec<Box<str>>,
    /// Attributes that it may have.
    pub may: Vec<Box<str>>,
    text: Box<str>,
}

/// All definitions of a directory. A clone is the same ones until either is extended, and costs nothing.
#[derive(Clone, Default)]
pub struct Schema(Arc<Definitions>);

#[derive(Clone, Default)]
struct Definitions {
    attributes: Vec<Arc<AttributeType>>,
    classes: Vec<Arc<ObjectClass>>,
    /// For each attribute, every name and OID of it and of its subtypes.
    spellings: Vec<Arc<[Box<str>]>>,
    /// For each attribute, what every comparison asks of it.
    resolved: Vec<Resolved>,
    attribute_index: Names,
    class_index: Names,
    /// How many attributes and classes every directory starts from; what follows is an extension.
    standard: (usize, usize),
}

/// An attribute's rules, its own or inherited.
#[derive(Clone, Debug)]
struct Resolved {
    /// Its first name in lower case, as it stands in keys of names.
    folded: Box<str>,
    equality: Option<MatchingRule>,
    ordering: Option<MatchingRule>,
    substring: Option<MatchingRule>,
}

/// A name of an entry in the form in which names are compared: from the root down, each RDN prepared
/// by the equality rule of its attribute. The key of an entry starts with the key of every entry above
/// it, so a subtree is one range.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnKey(Vec<u8>);

impl DnKey {
    /// The bytes, for a store's primary key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Is the entry `base` itself or below it?
    #[must_use]
    pub fn is_within(&self, base: &Self) -> bool {
        self.0.starts_with(&base.0)
    }

    /// The key of the entry above; none for a topmost one.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, inner) = self.0.split_last()?;
        let end = inner.iter().rposition(|byte| *byte == RDN_END)?;
        self.0.get(..=end).map(|key| Self(key.to_vec()))
    }

    /// The smallest key after every key of the subtree, for a range scan: keys end in a separator, and
    /// nothing sorts between that and the next byte.
    #[must_use]
    pub fn subtree_end(&self) -> Vec<u8> {
        let mut end = self.0.clone();
        match end.last_mut() {
            Some(last) => *last = RDN_END + 1,
            None => end.push(u8::MAX),
        }
        end
    }
}

impl From<Vec<u8>> for DnKey {
    /// Takes back what [`DnKey::as_bytes`] gave, from a store.
    fn from(key: Vec<u8>) -> Self {
        Self(key)
    }
}

impl std::borrow::Borrow<[u8]> for DnKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<DnKey> for Vec<u8> {
    fn from(key: DnKey) -> Self {
        key.0
    }
}

impl fmt::Debug for DnKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DnKey({:?})", String::from_utf8_lossy(&self.0))
    }
}

/// Why definitions cannot be taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A definition does not follow the notation.
    #[error("line {line}: {reason}")]
    Definition {
        /// Line in the text, from 1.
        line: usize,
        /// What is wrong.
        reason: DefinitionError,
    },
    /// Two definitions share an OID or a name.
    #[error("line {line}: {name} is defined already")]
    Twice {
        /// Line in the text, from 1.
        line: usize,
        /// The OID or name.
        name: String,
    },
    /// A definition refers to one that is not there.
    #[error("line {line}: {name} refers to {missing}, which is not defined before it")]
    Unknown {
        /// Line in the text, from 1.
        line: usize,
        /// The definition.
        name: String,
        /// What it refers to.
        missing: String,
    },
    /// A definition stands on too many others.
    #[error("line {line}: {name} has more than {} supertypes above one another", Schema::DEEPEST)]
    Deep {
        /// Line in the text, from 1.
        line: usize,
        /// The definition.
        name: String,
    },
}

impl Schema {
    /// Most supertypes above one another: every name of an attribute is kept with each of them.
    pub const DEEPEST: usize = 16;

    /// The standard definitions (core, cosine, inetorgperson, rfc2307bis, openssh-lpk) and the Aither
    /// classes.
    #[must_use]
    pub fn standard() -> Self {
        standard::schema()
    }

    /// Takes in definitions. Each may refer to those before it.
    ///
    /// # Errors
    /// When one does not follow the notation, is there already or refers to what is not; nothing of
    /// `text` is taken in then.
    pub fn extend(&mut self, text: &str) -> Result<(), SchemaError> {
        let mut extended = self.clone();
        for item in definition::items(text) {
            let (line, item) = item.map_err(|(line, reason)| SchemaError::Definition { line, reason })?;
            match item {
                definition::Item::Attribute(attribute) => extended.add_attribute(line, attribute)?,
                definition::Item::Class(class) => extended.add_class(line, class)?,
            }
        }
        *self = extended;
        Ok(())
    }

    /// Is `other` a clone of it, and neither was extended since? Others may say the same all the same.
    #[must_use]
    pub fn shares(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn add_attribute(&mut self, line: usize, attribute: AttributeType) -> Result<(), SchemaError> {
        let unknown = |missing: &str| SchemaError::Unknown {
            line,
            name: attribute.name().to_owned(),
            missing: missing.to_owned(),
        };
        if let Some(superior) = attribute
            .superior
            .as_deref()
            .filter(|superior| self.attribute(superior).is_none())
        {
            return Err(unknown(superior));
        }
        if self.depth(&attribute) > Self::DEEPEST {
            let name = attribute.name().to_owned();
            return Err(SchemaError::Deep { line, name });
        }
        let rules = [&attribute.equality, &attribute.ordering, &attribute.substring];
        if let Some(rule) = rules.into_iter().flatten().find(|rule| self.rule(rule).is_none()) {
            return Err(unknown(rule));
        }
        let all = Arc::make_mut(&mut self.0);
        let place = all.attributes.len();
        index(&mut all.attribute_index, line, &attribute.oid, &attribute.names, place)?;
        let own: Vec<Box<str>> = std::iter::once(&attribute.oid)
            .chain(&attribute.names)
            .cloned()
            .collect();
        let mut superior = attribute.superior.clone();
        while let Some(above) = superior.and_then(|name| all.attribute_index.get(&name)) {
            if let Some(spellings) = all.spellings.get_mut(above) {
                *spellings = spellings.iter().chain(&own).cloned().collect();
            }
            superior = all
                .attributes
                .get(above)
                .and_then(|attribute| attribute.superior.clone());
        }
        let rule = |part: fn(&AttributeType) -> Option<&str>| {
            self.inherited(&attribute, part).and_then(|rule| self.rule(rule))
        };
        let resolved = Resolved {
            folded: attribute.name().to_ascii_lowercase().into(),
            equality: rule(|one| one.equality.as_deref()),
            ordering: rule(|one| one.ordering.as_deref()),
            substring: rule(|one| one.substring.as_deref()),
        };
        let all = Arc::make_mut(&mut self.0);
        all.resolved.push(resolved);
        all.spellings.push(own.into());
        all.attributes.push(Arc::new(attribute));
        Ok(())
    }

    /// How many supertypes are above one another.
    fn depth(&self, attribute: &AttributeType) -> usize {
        let above = |one: &AttributeType| self.attribute(one.superior.as_deref()?);
        std::iter::successors(above(attribute), |one| above(one)).count()
    }

    fn add_class(&mut self, line: usize, class: ObjectClass) -> Result<(), SchemaError> {
        let unknown = |missing: &str| SchemaError::Unknown {
            line,
            name: class.name().to_owned(),
            missing: missing.to_owned(),
        };
        if let Some(superior) = class.superiors.iter().find(|superior| self.class(superior).is_none()) {
            return Err(unknown(superior));
        }
        if let Some(attribute) = class
            .must
            .iter()
            .chain(&class.may)
            .find(|name| self.attribute(name).is_none())
        {
            return Err(unknown(attribute));
        }
        let all = Arc::make_mut(&mut self.0);
        let place = all.classes.len();
        index(&mut all.class_index, line, &class.oid, &class.names, place)?;
        all.classes.push(Arc::new(class));
        Ok(())
    }

    /// The attribute type of that name or OID; options are passed over.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&AttributeType> {
        self.attribute_place(name)
            .and_then(|at| self.0.attributes.get(at))
            .map(Arc::as_ref)
    }

    fn attribute_place(&self, name: &str) -> Option<usize> {
        let end = name.bytes().position(|byte| byte == b';').unwrap_or(name.len());
        self.0.attribute_index.get(name.get(..end).unwrap_or(name))
    }

    /// The object class of that name or OID.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<&ObjectClass> {
        self.0
            .class_index
            .get(name)
            .and_then(|at| self.0.classes.get(at))
            .map(Arc::as_ref)
    }

    /// All attribute types, in the order of their definition.
    pub fn attributes(&self) -> impl Iterator<Item = &AttributeType> {
        self.0.attributes.iter().map(Arc::as_ref)
    }

    /// All object classes, in the order of their definition.
    pub fn classes(&self) -> impl Iterator<Item = &ObjectClass> {
        self.0.classes.iter().map(Arc::as_ref)
    }

    /// The matching rule of that name or OID.
    #[must_use]
    pub fn rule(&self, name: &str) -> Option<MatchingRule> {
        RULES
            .iter()
            .find(|(oid, rule, _, _)| *oid == name || rule.eq_ignore_ascii_case(name))
            .map(|(_, _, rule, _)| *rule)
    }

    /// The matching rules as RFC 4512 section 4.1.3 writes them, for the subschema subentry.
    pub fn rule_definitions(&self) -> impl Iterator<Item = String> {
        RULES
            .iter()
            .map(|(oid, name, _, syntax)| format!("( {oid} NAME '{name}' SYNTAX {syntax} )"))
    }

    /// The equality rule of an attribute, its own or inherited; attributes that are not defined are
    /// compared without regard to case, so that a lenient reader still finds them.
    #[must_use]
    pub fn equality(&self, name: &str) -> Option<MatchingRule> {
        match self.attribute_place(name) {
            None => Some(MatchingRule::CaseIgnore),
            Some(at) => self.0.resolved.get(at)?.equality,
        }
    }

    /// The ordering rule of an attribute, its own or inherited.
    #[must_use]
    pub fn ordering(&self, name: &str) -> Option<MatchingRule> {
        self.0.resolved.get(self.attribute_place(name)?)?.ordering
    }

    /// The substrings rule of an attribute, its own or inherited.
    #[must_use]
    pub fn substring(&self, name: &str) -> Option<MatchingRule> {
        match self.attribute_place(name) {
            None => Some(MatchingRule::CaseIgnore),
            Some(at) => self.0.resolved.get(at)?.substring,
        }
    }

    /// The OID of an attribute's syntax, its own or inherited.
    #[must_use]
    pub fn syntax(&self, name: &str) -> Option<&str> {
        self.attribute(name)
            .and_then(|attribute| self.inherited(attribute, |one| one.syntax.as_deref()))
    }

    fn inherited<'a>(
        &'a self,
        mut attribute: &'a AttributeType,
        part: impl Fn(&'a AttributeType) -> Option<&'a str>,
    ) -> Option<&'a str> {
        // A supertype is defined before its subtypes, so this ends.
        loop {
            if let Some(found) = part(attribute) {
                return Some(found);
            }
            attribute = self.attribute(attribute.superior.as_deref()?)?;
        }
    }

    /// Is `name` the attribute `of`, or a subtype of it (RFC 4512 section 2.5.1)?
    #[must_use]
    pub fn is_subtype(&self, name: &str, of: &str) -> bool {
        let Some(wanted) = self.attribute(of) else {
            return name.eq_ignore_ascii_case(of);
        };
        let mut current = self.attribute(name);
        while let Some(attribute) = current {
            if std::ptr::eq(attribute, wanted) {
                return true;
            }
            current = attribute
                .superior
                .as_deref()
                .and_then(|superior| self.attribute(superior));
        }
        false
    }

    /// Every name and OID under which the attribute or a subtype of it may be held, in no order; none
    /// when it is not defined. Options are passed over.
    #[must_use]
    pub fn spellings(&self, name: &str) -> Option<&[Box<str>]> {
        self.0.spellings.get(self.attribute_place(name)?).map(AsRef::as_ref)
    }

    /// The same, to be kept.
    #[must_use]
    pub fn shared_spellings(&self, name: &str) -> Option<Arc<[Box<str>]>> {
        self.0.spellings.get(self.attribute_place(name)?).cloned()
    }

    /// The OID that a text means: itself, or that of the class or attribute of that name; else the
    /// text in lower case.
    #[must_use]
    pub fn oid_of(&self, text: &str) -> String {
        if is_numeric_oid(text) {
            return text.to_owned();
        }
        let class = self.class(text).map(|class| class.oid.as_ref());
        class
            .or_else(|| self.attribute(text).map(|attribute| attribute.oid.as_ref()))
            .map_or_else(|| text.to_ascii_lowercase(), str::to_owned)
    }
}

impl AttributeType {
    /// The name that is written: the first one, or the OID.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().unwrap_or(&self.oid)
    }
}

impl ObjectClass {
    /// The name that is written: the first one, or the OID.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().unwrap_or(&self.oid)
    }
}

impl fmt::Display for AttributeType {
    /// The definition as RFC 4512 section 4.1.2 writes it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Display for ObjectClass {
    /// The definition as RFC 4512 section 4.1.1 writes it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Schema({} attribute types, {} object classes)",
            self.0.attributes.len(),
            self.0.classes.len()
        )
    }
}

/// The attribute that every entry has.
#[must_use]
pub fn object_class() -> AttributeName {
    AttributeName::parse("objectClass").expect("objectClass is a letter followed by letters")
}

/// Gives the names of a definition its place: all of them, or none when one is taken.
fn index(index: &mut Names, line: usize, oid: &str, names: &[Box<str>], at: usize) -> Result<(), SchemaError> {
    let all = || std::iter::once(oid).chain(names.iter().map(AsRef::as_ref));
    let mut own = BTreeSet::new();
    if let Some(name) = all().find(|name| index.get(name).is_some() || !own.insert(name.to_ascii_lowercase())) {
        let name = name.to_owned();
        return Err(SchemaError::Twice { line, name });
    }
    for name in all() {
        index.insert(name, at);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
