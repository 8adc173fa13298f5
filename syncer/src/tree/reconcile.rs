//! A source's complete read against the tree: what appears, changes, moves and disappears. The
//! comparison is pure over a [`View`]; [`apply`] writes its outcome in one transaction.
//!
//! A source touches nothing but its own entries, those whose `aitherSource` names it. Of an entry it
//! sets the attributes that it manages; what else people or other engines have put there stays. A name
//! that somebody else has is left to them: a person or group of the source then stands beside it, told
//! apart by `aitherSource` in its RDN, and any other entry is refused and reported. What the skeleton
//! made is taken over.

mod compare;
mod packed;
mod same;
mod view;
mod walk;

use std::collections::BTreeSet;

use dirless_directory::{AttributeName, Dn, Entry, Rdn, Value};
use dirless_model::snapshot::Document;
use dirless_program::service;

pub(super) use packed::Packed;
pub use view::{HeldRow, Nothing, View};

use super::derive::Unfit;
use super::operational::name;
use super::write::{Batch, Expect};
use super::{TreeError, skeleton};
use crate::guard::{Changes, Verdict};
use crate::sources::Complete;

/// Entries after which the watchdog is told that the work goes on.
const ALIVE_EVERY: usize = 1_000;

/// Everything that a source has for the tree, each entry encoded.
#[derive(Clone, Debug)]
pub struct SourceEntries {
    source: String,
    /// Users and groups for hosts.
    people: Vec<Packed>,
    /// Whatever else.
    further: Vec<Packed>,
}

impl SourceEntries {
    /// Entries of `source`, read to their end, that are neither users nor groups for hosts. Those come
    /// from [`super::people::entries`] alone.
    #[must_use]
    pub fn new(source: &str, entries: Complete<Vec<Entry>>) -> Self {
        Self::of(source, std::iter::empty(), entries.into_inner().iter())
    }

    /// Users and groups for hosts, and whatever else, of `source`.
    pub(super) fn of<'e>(
        source: &str,
        people: impl Iterator<Item = Packed>,
        further: impl Iterator<Item = &'e Entry>,
    ) -> Self {
        Self {
            source: source.to_owned(),
            people: people.collect(),
            further: further.map(Packed::of).collect(),
        }
    }

    /// The source's name.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// An entry that cannot stand in the tree. If it was there before, it stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The entry.
    pub dn: Dn,
    /// Is it a user or group for hosts?
    pub is_person: bool,
    /// Why.
    pub reason: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "entry {:?}: {}", self.dn.to_string(), self.reason)
    }
}

/// An entry that gets another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// The name it has.
    pub from: Dn,
    /// The name it will have, below the same entry.
    pub to: Dn,
}

/// What a read would do to the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Entries that appear, those above first.
    pub appear: Vec<Entry>,
    /// Entries that get another name.
    pub rename: Vec<Rename>,
    /// Entries that change, as they will be.
    pub change: Vec<Entry>,
    /// Entries that disappear, those below first.
    pub disappear: Vec<Dn>,
    /// Entries that stay, although the source has them no more, because others stand below them that
    /// are not the source's.
    pub kept: Vec<Dn>,
    /// Entries that cannot stand in the tree.
    pub refused: Vec<Refused>,
    /// Users, groups and keys for hosts, as the entries of the source's users and groups will say.
    pub derived: Derived,
    /// How many entries the source will have.
    pub entries: usize,
    /// What changes among entries that are neither users nor groups.
    pub further: Changes,
    /// How many of those the source had.
    pub further_before: usize,
}

/// What hosts will know of a source's users and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Derived {
    /// The users, groups and keys.
    pub document: Document,
    /// Entries of which none can be made, or only a part.
    pub unfit: Vec<Unfit>,
}

/// Compares what the source has with what the tree has, in the order of names: what stands there as the source has it
/// is passed by without being taken apart, so that memory follows what changes.
///
/// # Errors
/// When the database fails or the source itself makes no sense.
pub fn plan(view: &dyn View, wanted: &SourceEntries) -> Result<Plan, TreeError> {
    walk::plan(view, wanted, true)
}

impl Plan {
    /// Is there nothing to write?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.appear.is_empty() && self.rename.is_empty() && self.change.is_empty() && self.disappear.is_empty()
    }

    /// One line with all counts.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "entries +{} -{} ~{}, {} renamed, {} refused",
            self.appear.len(),
            self.disappear.len(),
            self.change.len(),
            self.rename.len(),
            self.refused.len()
        )
    }

    /// Why the change waits for a person: more than `percent` of the entries that are neither users nor
    /// groups vanish or change, or all vanish. Users and groups are judged by what hosts see of them.
    #[must_use]
    pub fn reasons(&self, percent: u8) -> Vec<String> {
        let before = self.further_before;
        let allowed = before.max(10) * usize::from(percent) / 100;
        let (gone, changed) = (self.further.removed.len(), self.further.changed.len());
        let mut reasons = Vec::new();
        if before > 0 && gone == before {
            reasons.push(format!(
                "none of its {before} entries that are neither users nor groups is left"
            ));
        }
        for (count, what) in [(gone, "disappear"), (changed, "change")] {
            if count > allowed {
                reasons.push(format!(
                    "{count} of {before} entries {what}, more than the {allowed} that [guard] percent = {percent} lets pass"
                ));
            }
        }
        reasons
    }

    /// Must the change wait for a person? See [`Plan::reasons`].
    pub fn judge(&self, percent: u8) -> Verdict {
        let reasons = self.reasons(percent);
        if reasons.is_empty() {
            Verdict::Publish
        } else {
            Verdict::Hold(reasons)
        }
    }
}

/// Writes a plan that was made on the state that `batch` sees.
///
/// # Errors
/// As the single operations; nothing is written then.
pub fn apply(batch: &mut Batch<'_>, plan: &Plan) -> Result<(), TreeError> {
    for dn in &plan.disappear {
        // Only what a tenant was given at its start can still stand below.
        batch.delete_subtree(dn)?;
    }
    rename_all(batch, &plan.rename)?;
    for (count, entry) in plan.appear.iter().chain(&plan.change).enumerate() {
        batch.put(entry, Expect::Anything)?;
        // A first read of a large site takes longer than the watchdog waits.
        if count % ALIVE_EVERY == 0 {
            service::alive();
        }
    }
    if !plan.disappear.is_empty() && skeleton::is_missing(batch.reader())? {
        skeleton::add(batch)?;
    }
    Ok(())
}

/// Renames in an order in which each name is free; where names go round in a circle, one entry steps
/// aside first.
///
/// # Errors
/// When a name is not free although every circle was broken: it has somebody who gets no other one.
fn rename_all(batch: &mut Batch<'_>, renames: &[Rename]) -> Result<(), TreeError> {
    let mut left: Vec<Rename> = renames.to_vec();
    let mut stepped_aside = 0;
    while !left.is_empty() {
        let mut later = Vec::new();
        let before = left.len();
        for step in left {
            let same = batch.reader().context.key(&step.from)? == batch.reader().context.key(&step.to)?;
            if !same && batch.reader().get(&step.to)?.is_some() {
                later.push(step);
            } else {
                rename(batch, &step.from, &step.to)?;
            }
        }
        if later.len() == before
            && let Some(first) = later.first_mut()
        {
            if stepped_aside == renames.len() {
                return Err(TreeError::Exists(first.to.clone()));
            }
            stepped_aside += 1;
            let aside = beside(&first.from, "description", "stepping aside");
            rename(batch, &first.from, &aside)?;
            first.from = aside;
        }
        left = later;
    }
    Ok(())
}

fn rename(batch: &mut Batch<'_>, from: &Dn, to: &Dn) -> Result<(), TreeError> {
    let rdn = to.rdn().cloned().ok_or_else(|| TreeError::Move(from.clone()))?;
    batch.rename(from, rdn, true, None, Expect::Anything)
}

/// The same name with another attribute value in its RDN.
fn beside(dn: &Dn, attribute: &'static str, value: &str) -> Dn {
    let more = Rdn::new(name(attribute), Value::from(value));
    let rdn = dn.rdn().map_or_else(|| more.clone(), |own| own.and(&more));
    dn.parent().unwrap_or_default().child(rdn)
}

/// The source that an entry is of.
#[must_use]
pub fn source_of(entry: &Entry) -> Option<&str> {
    entry.values(&name("aitherSource")).first()?.as_str()
}

/// Does the entry stand beside another one of its name?
#[must_use]
pub fn stands_beside(entry: &Entry) -> bool {
    let avas = entry.dn().rdn().map(Rdn::avas).unwrap_or_default();
    avas.len() > 1 && avas.iter().any(|ava| ava.name == name("aitherSource"))
}

/// Attributes that the source gave at its last read, beyond those that it always manages.
fn managed_before(entry: &Entry) -> BTreeSet<AttributeName> {
    let names = entry.values(&name("aitherSourceManages")).iter();
    names
        .filter_map(|value| AttributeName::parse(value.as_str()?).ok())
        .collect()
}

#[cfg(test)]
mod tests;
