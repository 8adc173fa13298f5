//! An entry of a source in little memory.

use std::borrow::Cow;

use dirless_directory::encoded::{Attributes, encode};
use dirless_directory::{Dn, DnKey, Entry, Schema};

use crate::tree::TreeError;

/// An entry, encoded: a tenth of what it takes apart.
#[derive(Clone, Debug)]
pub(in crate::tree) struct Packed {
    name: Name,
    /// All attributes in the order of their names, without regard to which are operational.
    encoded: Box<[u8]>,
}

#[derive(Clone, Debug)]
enum Name {
    /// Leads back to the name.
    Text(Box<str>),
    /// One whose text leads elsewhere.
    Whole(Box<Dn>),
}

impl Packed {
    /// Packs any entry.
    pub(in crate::tree) fn of(entry: &Entry) -> Self {
        let text = entry.dn().to_string();
        let name = match Dn::parse(&text) {
            Ok(back) if back == *entry.dn() => Name::Text(text.into()),
            _ => Name::Whole(Box::new(entry.dn().clone())),
        };
        Self::named(name, entry)
    }

    /// Packs an entry that is named by a name of the strict grammar below others whose texts lead back to them.
    pub(in crate::tree) fn plain(entry: &Entry) -> Self {
        Self::named(Name::Text(entry.dn().to_string().into()), entry)
    }

    fn named(name: Name, entry: &Entry) -> Self {
        Self {
            name,
            // No attribute is operational in an empty schema.
            encoded: encode(&Schema::default(), entry).into(),
        }
    }

    /// Its name as names are compared.
    pub(super) fn key(&self, schema: &Schema) -> Option<DnKey> {
        match &self.name {
            Name::Text(text) => schema.dn_key_of(text),
            Name::Whole(dn) => schema.dn_key(dn),
        }
    }

    fn dn(&self) -> Result<Cow<'_, Dn>, TreeError> {
        match &self.name {
            Name::Text(text) => Dn::parse(text).map(Cow::Owned).map_err(|error| TreeError::Damaged {
                dn: text.to_string(),
                reason: error.to_string(),
            }),
            Name::Whole(dn) => Ok(Cow::Borrowed(dn)),
        }
    }

    /// Its attributes, as they were given.
    pub(super) fn attributes(&self) -> Result<Attributes<'_>, TreeError> {
        Attributes::new(&self.encoded).map_err(TreeError::damaged("an entry of the source".to_owned()))
    }

    /// The entry.
    pub(super) fn entry(&self) -> Result<Entry, TreeError> {
        let dn = self.dn()?.into_owned();
        let text = dn.to_string();
        self.attributes()?.entry(dn).map_err(TreeError::damaged(text))
    }
}

#[cfg(test)]
mod tests {
    use dirless_directory::{AttributeName, Rdn, Value};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_back(values in prop::collection::btree_map("[a-zA-Z]{1,3}", prop::collection::vec(".{1,4}", 1..3), 1..5), rdn in ".{1,6}") {
            let cn = AttributeName::parse("cn").unwrap();
            let mut entry = Entry::new(Dn::parse("ou=users,dc=x").unwrap().child(Rdn::new(cn, Value::from(rdn.as_str()))));
            for (name, values) in &values {
                let name = AttributeName::parse(name).unwrap();
                entry.set(name, values.iter().map(|value| Value::from(value.as_str())).collect());
            }
            let packed = Packed::of(&entry);
            prop_assert_eq!(packed.entry().unwrap(), entry.clone());
            let schema = Schema::standard();
            prop_assert_eq!(packed.key(&schema), schema.dn_key(entry.dn()));
        }
    }
}
