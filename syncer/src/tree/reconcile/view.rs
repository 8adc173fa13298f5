//! What a comparison looks at: the tree, or a tree that is not there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use dirless_directory::{Dn, DnKey, Entry, Filter, Schema, Value};

use crate::tree::operational::name;
use crate::tree::read::{Query, Reader, Scope};
use crate::tree::record::Record;
use crate::tree::{TreeError, skeleton};

/// One state of a tree.
pub trait View {
    /// The schema that entries follow.
    fn schema(&self) -> &Schema;

    /// The entries of a source, by name, as they are stored: a fifth of the memory that they take when
    /// they are taken apart.
    ///
    /// # Errors
    /// When the database fails.
    fn held(&self, source: &str) -> Result<BTreeMap<DnKey, Record>, TreeError>;

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

    fn held(&self, source: &str) -> Result<BTreeMap<DnKey, Record>, TreeError> {
        let filter = Filter::Equality(name("aitherSource"), Value::from(source));
        let query = Query {
            base: &Dn::ROOT,
            scope: Scope::Subtree,
            filter: &filter,
            after: None,
        };
        let mut held = BTreeMap::new();
        self.visit(&query, |record| {
            held.insert(record.key().clone(), record);
            ControlFlow::Continue(())
        })?;
        Ok(held)
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

    fn held(&self, _: &str) -> Result<BTreeMap<DnKey, Record>, TreeError> {
        Ok(BTreeMap::new())
    }

    fn get(&self, key: &DnKey) -> Result<Option<Entry>, TreeError> {
        Ok(self.skeleton.get(key).cloned())
    }

    fn has_others_below(&self, _: &Dn, _: &str) -> Result<bool, TreeError> {
        Ok(false)
    }
}
