//! Entries: a name and its attributes.

use std::collections::BTreeMap;
use std::fmt;

use crate::{AttributeName, Dn};

/// One value of an attribute: bytes, which most syntaxes take as UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(Box<[u8]>);

impl Value {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value as text, when it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self(text.into_bytes().into())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// An entry of the tree. An attribute that is there has at least one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    dn: Dn,
    attributes: BTreeMap<AttributeName, Vec<Value>>,
}

impl Entry {
    /// An entry without attributes.
    #[must_use]
    pub fn new(dn: Dn) -> Self {
        Self {
            dn,
            attributes: BTreeMap::new(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn dn(&self) -> &Dn {
        &self.dn
    }

    /// Gives it another name; its attributes stay.
    pub fn rename(&mut self, dn: Dn) {
        self.dn = dn;
    }

    /// The values of `name`, compared without regard to case; empty when it is absent.
    #[must_use]
    pub fn values(&self, name: &AttributeName) -> &[Value] {
        self.attributes.get(name).map_or(&[], Vec::as_slice)
    }

    /// All attributes, in the order of their names.
    pub fn attributes(&self) -> impl Iterator<Item = (&AttributeName, &[Value])> {
        self.attributes.iter().map(|(name, values)| (name, values.as_slice()))
    }

    /// Sets the values of `name`; none removes the attribute.
    pub fn set(&mut self, name: AttributeName, values: Vec<Value>) {
        if values.is_empty() {
            self.attributes.remove(&name);
        } else {
            self.attributes.insert(name, values);
        }
    }

    /// Adds one value of `name`.
    pub fn add(&mut self, name: AttributeName, value: Value) {
        self.attributes.entry(name).or_default().push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_in_any_case_and_vanish_when_empty() {
        let name = |text| AttributeName::parse(text).unwrap();
        let mut entry = Entry::new(Dn::parse("cn=a").unwrap());
        entry.add(name("Mail"), Value::from("a@example"));
        entry.add(name("mail"), Value::from("b@example"));
        assert_eq!(entry.values(&name("MAIL")).len(), 2);
        entry.set(name("mAil"), Vec::new());
        assert!(entry.values(&name("mail")).is_empty());
        assert_eq!(entry.attributes().count(), 0);
    }
}
