//! The walk over what a source has and what the tree has, side by side in the order of names.

use std::collections::{BTreeMap, HashMap, HashSet};

use dirless_directory::encoded::Attributes;
use dirless_directory::{DnKey, Schema};
use dirless_program::service;

use super::compare::{Compare, Identity};
use super::same::Same;
use super::view::View;
use super::{ALIVE_EVERY, Derived, Packed, Plan, SourceEntries};
use crate::tree::derive::{Deriving, Stored};
use crate::tree::record::Record;
use crate::tree::{TreeError, people};

/// Compares; `passes_by` is false when everything is to be taken apart.
pub(super) fn plan(view: &dyn View, wanted: &SourceEntries, passes_by: bool) -> Result<Plan, TreeError> {
    let mut walk = Walk::new(view.schema(), wanted, passes_by)?;
    walk.along(view, wanted)?;
    if !walk.twice.is_empty() {
        // An id that two entries have identifies neither, and which are those is known only now.
        let twice = std::mem::take(&mut walk.twice);
        walk = Walk::new(view.schema(), wanted, passes_by)?;
        walk.distrusted.extend(twice);
        walk.along(view, wanted)?;
    }
    let Walk {
        settled,
        settled_keys,
        held,
        by_id,
        deriving,
        further_before,
        ..
    } = walk;
    let plan = Plan {
        further_before,
        ..Plan::default()
    };
    let mut compare = Compare::new(view, &wanted.source, plan, held, by_id, settled_keys, deriving);
    let left = |at: usize| settled.get(at) == Some(&false);
    for (count, (_, packed)) in wanted.people.iter().enumerate().filter(|(at, _)| left(*at)).enumerate() {
        compare.person(packed)?;
        if count % ALIVE_EVERY == 0 {
            service::alive();
        }
    }
    let others = wanted.further.iter().enumerate();
    let others = others.filter(|(at, _)| left(at + wanted.people.len()));
    let mut further = others
        .map(|(_, packed)| packed.entry())
        .collect::<Result<Vec<_>, _>>()?;
    // Those above first, so that those below find them.
    further.sort_by_key(|entry| entry.dn().rdns().len());
    for entry in &further {
        compare.further(entry)?;
    }
    let (mut plan, deriving) = compare.finish()?;
    let (document, unfit) = deriving.finish(view.schema());
    plan.derived = Derived { document, unfit };
    Ok(plan)
}

/// Where a walk has got to.
struct Walk<'a> {
    /// Places in what is wanted, people first, in the order of their keys.
    order: Vec<(DnKey, usize)>,
    /// Of what is wanted, what stands in the tree as it is.
    settled: Vec<bool>,
    /// The names of those, in their order.
    settled_keys: Vec<DnKey>,
    /// The source's other entries.
    held: BTreeMap<DnKey, Record>,
    by_id: HashMap<Identity, Option<DnKey>>,
    /// Ids that the source has twice, or the tree.
    distrusted: HashSet<Identity>,
    /// Ids that turned out to be there twice after one of them was passed by.
    twice: Vec<Identity>,
    further_before: usize,
    deriving: Deriving,
    same: Same<'a>,
}

impl<'a> Walk<'a> {
    fn new(schema: &'a Schema, wanted: &'a SourceEntries, passes_by: bool) -> Result<Self, TreeError> {
        let mut order = Vec::new();
        let mut distrusted = HashSet::new();
        if passes_by {
            let all = wanted.people.iter().chain(&wanted.further);
            order = all
                .enumerate()
                .filter_map(|(at, packed)| Some((packed.key(schema)?, at)))
                .collect();
            order.sort();
            let mut known = HashSet::with_capacity(order.len());
            for (key, at) in &order {
                if let Some(identity) = packed(wanted, *at).map(|one| identity(key, one)).transpose()?.flatten()
                    && !known.insert(identity.clone())
                {
                    distrusted.insert(identity);
                }
            }
        }
        Ok(Self {
            order,
            settled: vec![false; wanted.people.len() + wanted.further.len()],
            settled_keys: Vec::new(),
            held: BTreeMap::new(),
            by_id: HashMap::new(),
            distrusted,
            twice: Vec::new(),
            further_before: 0,
            deriving: Deriving::default(),
            same: Same::new(schema, &wanted.source),
        })
    }

    /// Passes by what stands in the tree as it is wanted, and takes the rest along.
    fn along(&mut self, view: &dyn View, wanted: &SourceEntries) -> Result<(), TreeError> {
        let mut next = 0;
        let mut count = 0_usize;
        view.each_held(&wanted.source, &mut |row| {
            count += 1;
            if count.is_multiple_of(ALIVE_EVERY) {
                service::alive();
            }
            let is_person = people::is_person_encoded(row.attributes);
            self.further_before += usize::from(!is_person);
            let identity = Identity::stored(row.key, row.attributes);
            let trusted = match &identity {
                Some(identity) => !self.distrusted.contains(identity),
                None => true,
            };
            let at = self.wanted_at(row.key, &mut next);
            let same = match at.filter(|_| trusted).and_then(|at| Some((at, packed(wanted, at)?))) {
                // Users and groups stand among people, and nothing else does.
                Some((at, one)) if is_person == (at < wanted.people.len()) => {
                    self.same.holds(one.attributes()?, is_person, row.dn, row.attributes)
                }
                _ => false,
            };
            let key = DnKey::from(row.key.to_vec());
            if let Some(identity) = identity {
                let before = self.by_id.get(&identity);
                if before.is_some() && trusted {
                    self.twice.push(identity.clone());
                }
                let twice = before.is_some();
                self.by_id.insert(identity, (!twice).then(|| key.clone()));
            }
            if !same {
                self.held.insert(key, (row.record)()?);
                return Ok(());
            }
            if let Some(settled) = at.and_then(|at| self.settled.get_mut(at)) {
                *settled = true;
            }
            self.settled_keys.push(key);
            if is_person {
                self.deriving.take(&Stored {
                    dn: row.dn,
                    attributes: row.attributes,
                });
            }
            Ok(())
        })
    }

    /// The place of the only entry that is wanted under that name. Keys come in their order.
    fn wanted_at(&self, key: &[u8], next: &mut usize) -> Option<usize> {
        while self.order.get(*next).is_some_and(|(own, _)| own.as_bytes() < key) {
            *next += 1;
        }
        let (own, at) = self.order.get(*next)?;
        let alone = self.order.get(*next + 1).is_none_or(|(other, _)| other != own);
        (own.as_bytes() == key && alone).then_some(*at)
    }
}

fn packed(wanted: &SourceEntries, at: usize) -> Option<&Packed> {
    match at.checked_sub(wanted.people.len()) {
        None => wanted.people.get(at),
        Some(at) => wanted.further.get(at),
    }
}

fn identity(key: &DnKey, packed: &Packed) -> Result<Option<Identity>, TreeError> {
    let attributes: Attributes<'_> = packed.attributes()?;
    Ok(Identity::stored(key.as_bytes(), attributes))
}
