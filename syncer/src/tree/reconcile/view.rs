//! What a comparison looks at: the tree, or a tree that is not there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use dirless_directory::encoded::Attributes;
use dirless_directory::{Dn, DnKey, Entry, Filter, Schema, Value};

use crate::tree::operational::name;
use crate::tree::read::{Query, Reader, Scope};
use crate::tree::record::Record;
use crate::tree::{TreeError, skeleton};

/// An entry as it stands in the tree.
pub struct HeldRow<'a> {
    /// The bytes of its key.
    pub key: &'a [u8],
    /// Its name.
    pub dn: &'a str,
    /// Its attributes.
    pub attributes: Attributes<'a>,
    /// The whole of it, to be kept.
    pub record: &'a dyn Fn() -> Result<Record, TreeError>,
}

impl std::fmt::Debug for HeldRow<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "HeldRow({})", self.dn)
    }
}

/// One state of a tree.
pub trait View {
    /// The schema that entries follow.
    fn schema(&self) -> &Schema;

    /// Shows the entries of a source, one after the other in the order of their keys.
    ///
    /// # Errors
    /// When the database fails, and what `take` reports.
    fn each_held(
        &self,
        source: &str,
        take: &mut dyn FnMut(&HeldRow<'_>) -> Result<(), TreeError>,
    ) -> Result<(), TreeError>;

    /// The entry of that name.
    ///
    /// # Errors
    /// When the database fails.
    fn get(&self, key: &DnKey) -> Result<Option<Entry>, TreeError>;

    /// Is there an entry of that name?
    ///
    /// # Errors
    /// When the database fails.
    fn has(&self, key: &DnKey) -> Result<bool, TreeError> {
        Ok(self.get(key)?.is_some())
    }

    /// Does `dn` or something below it belong to anybody but `source`? A tenant's own units do not count.
    ///
    /// # Errors
    /// When the database fails.
    fn has_others_below(&self, dn: &Dn, source: &str) -> Result<bool, TreeError>;
}

impl View for Reader<'_> {
    fn schema(&self) -> &Schema {
        Reader::schema(self)
    }

    fn each_held(
        &self,
        source: &str,
        take: &mut dyn FnMut(&HeldRow<'_>) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        let filter = Filter::Equality(name("aitherSource"), Value::from(source));
        let schema = Reader::schema(self);
        let rule = schema.equality("aitherSource");
        let compared = |value: &[u8]| rule.and_then(|rule| rule.key(schema, value));
        let wanted = compared(source.as_bytes());
        let is_theirs = |value: &[u8]| value == source.as_bytes() || (wanted.is_some() && compared(value) == wanted);
        self.each(&filter, |key, dn, encoded, record| {
            let attributes = Attributes::new(encoded).map_err(TreeError::damaged(dn.to_owned()))?;
            let theirs = attributes.attribute("aitherSource");
            if theirs.is_some_and(|mut theirs| theirs.values.any(is_theirs)) {
                let row = HeldRow {
                    key,
                    dn,
                    attributes,
                    record,
                };
                take(&row)?;
            }
            Ok(())
        })
    }

    fn get(&self, key: &DnKey) -> Result<Option<Entry>, TreeError> {
        self.by_key(key.as_bytes())?.map(|record| record.entry()).transpose()
    }

    fn has(&self, key: &DnKey) -> Result<bool, TreeError> {
        Ok(self.by_key(key.as_bytes())?.is_some())
    }

    fn has_others_below(&self, dn: &Dn, source: &str) -> Result<bool, TreeError> {
        let theirs = Filter::Equality(name("aitherSource"), Value::from(source));
        let query = Query {
            base: dn,
            scope: Scope::Subtree,
            filter: &Filter::Not(Box::new(Filter::And(vec![
                Filter::Present(name("aitherSource")),
                theirs,
            ]))),
            after: None,
        };
        let units: BTreeSet<DnKey> = skeleton::TENANT_UNITS
            .iter()
            .filter_map(|unit| Reader::schema(self).dn_key(&skeleton::unit(dn, unit)))
            .collect();
        let mut others = false;
        self.visit(&query, |record| {
            if units.contains(record.key()) {
                return ControlFlow::Continue(());
            }
            others = true;
            ControlFlow::Break(())
        })?;
        Ok(others)
    }
}

/// A tree that was just made: the skeleton and nothing else.
#[derive(Clone, Debug)]
pub struct Nothing {
    schema: Schema,
    skeleton: BTreeMap<DnKey, Entry>,
}

impl Nothing {
    /// Under `base`.
    #[must_use]
    pub fn below(base: &Dn, schema: Schema) -> Self {
        let names = skeleton::names(base).into_iter();
        let skeleton = names.filter_map(|dn| Some((schema.dn_key(&dn)?, skeleton::made(dn))));
        Self {
            skeleton: skeleton.collect(),
            schema,
        }
    }
}

impl View for Nothing {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn each_held(&self, _: &str, _: &mut dyn FnMut(&HeldRow<'_>) -> Result<(), TreeError>) -> Result<(), TreeError> {
        Ok(())
    }

    fn get(&self, key: &DnKey) -> Result<Option<Entry>, TreeError> {
        Ok(self.skeleton.get(key).cloned())
    }

    fn has_others_below(&self, _: &Dn, _: &str) -> Result<bool, TreeError> {
        Ok(false)
    }
}
