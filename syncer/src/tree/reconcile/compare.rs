//! The comparison.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::view::View;
use super::{Packed, Plan, Refused, Rename, beside, managed_before, source_of};
use crate::guard::Change;
use crate::tree::derive::Deriving;
use crate::tree::operational::{
    add_naming_values, add_owner, canonical, holds, is_kept_by_server, name, says_the_same,
};
use crate::tree::people::{MANAGED, is_person};
use crate::tree::record::Record;
use crate::tree::{Actor, TreeError};
use dirless_directory::encoded::Attributes;
use dirless_directory::schema::object_class;
use dirless_directory::{AttributeName, Dn, DnKey, Entry, Schema, Value};

/// What a source calls an entry, among those right below one entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    above: Box<[u8]>,
    id: Box<[u8]>,
}

impl Identity {
    fn of(schema: &Schema, entry: &Entry) -> Option<Self> {
        let id = entry.values(&name("aitherSourceId")).first()?;
        let above = entry.dn().parent().and_then(|above| schema.dn_key(&above))?;
        Some(Self {
            above: Vec::from(above).into(),
            id: id.as_bytes().into(),
        })
    }

    /// The same of an encoded entry of that key.
    pub(super) fn stored(key: &[u8], attributes: Attributes<'_>) -> Option<Self> {
        let id = attributes.attribute("aitherSourceId")?.values.next()?;
        let (_, inner) = key.split_last()?;
        // Each component ends in a zero byte, which stands nowhere else.
        let above = inner.iter().rposition(|byte| *byte == 0).map_or(0, |end| end + 1);
        Some(Self {
            above: key.get(..above)?.into(),
            id: id.into(),
        })
    }
}

pub(super) struct Compare<'a> {
    view: &'a dyn View,
    source: &'a str,
    plan: Plan,
    /// The source's entries that are not accounted for yet.
    held: BTreeMap<DnKey, Record>,
    by_id: HashMap<Identity, Option<DnKey>>,
    /// The names of entries that the source will have, beyond those that stay as they are.
    after: BTreeSet<DnKey>,
    /// The names of entries that stay as they are, in their order.
    settled: Vec<DnKey>,
    /// The names of entries that get another one; what is not the source's moves along from below them.
    vacated: BTreeSet<DnKey>,
    /// The names that they get.
    taken_over: BTreeSet<DnKey>,
    deriving: Deriving,
}

/// Who has the name that an entry wants.
enum Place {
    /// Nobody, or the source itself.
    Free,
    /// The skeleton, which gives it away.
    Skeleton(Box<Entry>),
    /// Somebody else.
    Taken(String),
}

impl<'a> Compare<'a> {
    pub(super) fn new(
        view: &'a dyn View,
        source: &'a str,
        plan: Plan,
        held: BTreeMap<DnKey, Record>,
        by_id: HashMap<Identity, Option<DnKey>>,
        settled: Vec<DnKey>,
        deriving: Deriving,
    ) -> Self {
        Self {
            view,
            source,
            plan,
            held,
            by_id,
            after: BTreeSet::new(),
            settled,
            vacated: BTreeSet::new(),
            taken_over: BTreeSet::new(),
            deriving,
        }
    }

    /// Will the source have an entry of that name, as far as is known?
    fn is_after(&self, key: &DnKey) -> bool {
        self.after.contains(key) || self.settled.binary_search(key).is_ok()
    }

    /// Does the entry of that name get another one, by itself or with one above it?
    fn moves(&self, key: &DnKey) -> bool {
        // What has entries of the source below it keeps its name, so none of these is within another.
        let above = self.vacated.range::<DnKey, _>(..=key).next_back();
        above.is_some_and(|above| key.is_within(above))
    }

    /// Does one of the entries that stay as they are stand below `key`?
    fn has_settled_below(&self, key: &DnKey) -> bool {
        let from = self.settled.partition_point(|settled| settled <= key);
        self.settled.get(from).is_some_and(|below| below.is_within(key))
    }

    pub(super) fn person(&mut self, packed: &Packed) -> Result<(), TreeError> {
        let mut entry = packed.entry()?;
        let Some(mut key) = self.key(&entry, true) else {
            return Ok(());
        };
        if let Place::Taken(_) = self.place(&key)? {
            entry.rename(beside(entry.dn(), "aitherSource", self.source));
            match self.key(&entry, true) {
                Some(apart) => key = apart,
                None => return Ok(()),
            }
        }
        self.put(&entry, key, true)
    }

    pub(super) fn further(&mut self, entry: &Entry) -> Result<(), TreeError> {
        if is_person(entry) {
            let reason = "accounts and groups for hosts stand among the source's people and groups".to_owned();
            self.refuse(entry.dn(), false, reason);
            return Ok(());
        }
        let Some(key) = self.key(entry, false) else {
            return Ok(());
        };
        let above = entry.dn().parent().and_then(|above| self.view.schema().dn_key(&above));
        let stands = match &above {
            Some(above) => self.is_after(above) || (self.view.has(above)? && !self.moves(above)),
            None => false,
        };
        if !stands {
            self.refuse(entry.dn(), false, "there is no entry above it".to_owned());
            return Ok(());
        }
        self.put(entry, key, false)
    }

    fn key(&mut self, entry: &Entry, is_person: bool) -> Option<DnKey> {
        let key = self.view.schema().dn_key(entry.dn());
        if key.is_none() {
            let reason = "a value in its name does not fit its attribute".to_owned();
            self.refuse(entry.dn(), is_person, reason);
        }
        key
    }

    fn refuse(&mut self, dn: &Dn, is_person: bool, reason: String) {
        self.plan.refused.push(Refused {
            dn: dn.clone(),
            is_person,
            reason,
        });
    }

    fn place(&self, key: &DnKey) -> Result<Place, TreeError> {
        if self.held.contains_key(key) || self.is_after(key) {
            return Ok(Place::Free);
        }
        let Some(other) = self.view.get(key)? else {
            return Ok(Place::Free);
        };
        match source_of(&other) {
            // It was the source's and has been accounted for under another name.
            Some(source) if source == self.source => Ok(Place::Free),
            Some(source) => Ok(Place::Taken(format!("it is the source {source}'s"))),
            None => {
                let syncer = Actor::syncer().dn().to_string();
                let by_syncer = other.values(&name("creatorsName")).first() == Some(&Value::from(syncer));
                Ok(if by_syncer {
                    Place::Skeleton(Box::new(other))
                } else {
                    Place::Taken("people have entered it".to_owned())
                })
            }
        }
    }

    /// Takes the entry that this one was until now out of those that are held.
    fn old(&mut self, entry: &Entry, key: &DnKey) -> Result<Option<(DnKey, Entry)>, TreeError> {
        let taken = |held: Option<(DnKey, Record)>| match held {
            Some((key, record)) => Ok(Some((key, record.entry()?))),
            None => Ok(None),
        };
        if let Some(identity) = Identity::of(self.view.schema(), entry) {
            if let Some(Some(old)) = self.by_id.get(&identity) {
                let moves_alone = old == key || !self.has_own_below(old);
                if moves_alone && let Some(held) = self.held.remove_entry(old) {
                    return taken(Some(held));
                }
            }
            // Somebody else of that name: the old entry goes, this one is new.
            let Some(other) = self.held.get(key) else {
                return Ok(None);
            };
            if !other.entry()?.values(&name("aitherSourceId")).is_empty() {
                return Ok(None);
            }
        }
        taken(self.held.remove_entry(key))
    }

    fn has_own_below(&self, key: &DnKey) -> bool {
        let mut from = self.held.range(key.clone()..).skip(1);
        from.next().is_some_and(|(below, _)| below.is_within(key)) || self.has_settled_below(key)
    }

    fn put(&mut self, entry: &Entry, key: DnKey, is_person: bool) -> Result<(), TreeError> {
        if self.is_after(&key) {
            self.refuse(entry.dn(), is_person, "the source has that name twice".to_owned());
            return Ok(());
        }
        let mut old = self.old(entry, &key)?;
        match self.place(&key)? {
            Place::Taken(reason) => {
                self.refuse(entry.dn(), is_person, reason);
                self.after.extend(old.map(|(key, _)| key));
                return Ok(());
            }
            Place::Skeleton(skeleton) if old.is_none() => old = Some((key.clone(), *skeleton)),
            Place::Skeleton(_) | Place::Free => {}
        }
        let has_others_in_its_place = |(old_key, _): &(DnKey, Entry)| {
            let in_its_place = self.held.get(&key).filter(|_| *old_key != key);
            in_its_place.is_some_and(|other| other.children() > 0)
        };
        if old.as_ref().is_some_and(has_others_in_its_place) {
            let reason = "the entry that has its name until now has others below it, which have to go first";
            self.refuse(entry.dn(), is_person, reason.to_owned());
            self.after.extend(old.map(|(key, _)| key));
            return Ok(());
        }
        let schema = self.view.schema();
        let new = match merged(schema, entry, old.as_ref().map(|(_, old)| old), self.source) {
            Ok(new) => new,
            Err(reason) => {
                self.refuse(entry.dn(), is_person, reason);
                self.after.extend(old.map(|(key, _)| key));
                return Ok(());
            }
        };
        let mut changed = None;
        match old {
            None => {
                changed = Some(&mut self.plan.further.added);
                self.plan.appear.push(new.clone());
            }
            Some((old_key, old)) => {
                let moves = old_key != key;
                if moves {
                    self.plan.rename.push(Rename {
                        from: old.dn().clone(),
                        to: new.dn().clone(),
                    });
                    self.vacated.insert(old_key);
                    self.taken_over.insert(key.clone());
                }
                if moves || !says_the_same(schema, &old, &new) {
                    changed = Some(&mut self.plan.further.changed);
                    self.plan.change.push(new.clone());
                }
            }
        }
        if let Some(changed) = changed.filter(|_| !is_person) {
            changed.push(change(new.dn()));
        }
        self.after.insert(key);
        if is_person {
            self.deriving.take(&new);
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(Plan, Deriving), TreeError> {
        // From the deepest up, so that an entry goes after those below it.
        for (key, record) in std::mem::take(&mut self.held).into_iter().rev() {
            let entry = record.entry()?;
            // What comes below a name that is taken over comes below whoever takes it; nothing stands there yet.
            if !self.taken_over.contains(&key) && self.stays(&key, &entry)? {
                self.plan.kept.push(entry.dn().clone());
                self.after.insert(key);
                continue;
            }
            if !is_person(&entry) {
                self.plan.further.removed.push(change(entry.dn()));
            }
            self.plan.disappear.push(entry.dn().clone());
        }
        self.plan.appear.sort_by_key(|entry| entry.dn().rdns().len());
        self.plan.entries = self.after.len() + self.settled.len();
        Ok((self.plan, self.deriving))
    }

    /// Must an entry that the source no longer has stay, because something below it is not the source's
    /// or stays itself?
    fn stays(&self, key: &DnKey, entry: &Entry) -> Result<bool, TreeError> {
        let mut from = self.after.range(key.clone()..);
        if from
            .find(|other| *other != key)
            .is_some_and(|below| below.is_within(key))
        {
            return Ok(true);
        }
        if self.has_settled_below(key) {
            return Ok(true);
        }
        self.view.has_others_below(entry.dn(), self.source)
    }
}

fn change(dn: &Dn) -> Change {
    let dn = dn.to_string();
    Change {
        key: dn.clone(),
        name: dn,
        fields: Vec::new(),
    }
}

/// The entry as it will be: what the source manages from the source, all else as it was.
fn merged(schema: &Schema, wanted: &Entry, old: Option<&Entry>, source: &str) -> Result<Entry, String> {
    let always: BTreeSet<AttributeName> = if is_person(wanted) {
        MANAGED.iter().copied().map(name).collect()
    } else {
        BTreeSet::new()
    };
    let mut new = Entry::new(wanted.dn().clone());
    for (attribute, values) in canonical(schema, wanted).attributes() {
        if !is_kept_by_server(schema, attribute) {
            new.set(attribute.clone(), values.to_vec());
        }
    }
    let own = [object_class(), name("aitherSource"), name("aitherSourceId")];
    let given = new.attributes().map(|(attribute, _)| attribute.clone());
    let given: Vec<AttributeName> = given
        .filter(|attribute| !always.contains(attribute) && !own.contains(attribute))
        .collect();
    let told = given.iter().map(|attribute| Value::from(attribute.as_str()));
    new.set(name("aitherSourceManages"), told.collect());
    new.set(name("aitherSource"), vec![Value::from(source)]);
    add_naming_values(schema, &mut new);
    let alone = new.clone();
    if let Some(old) = old {
        if schema.dn_key(old.dn()) == schema.dn_key(new.dn()) {
            new.rename(old.dn().clone());
        }
        keep(schema, &mut new, old, &always);
    }
    add_owner(schema, &mut new, || None);
    if schema.check(&new).is_ok() {
        return Ok(new);
    }
    // What others have put there does not go with what the source says now.
    let mut alone = alone;
    if let Some(old) = old {
        keep_server(schema, &mut alone, old);
    }
    add_owner(schema, &mut alone, || None);
    match schema.check(&alone) {
        Ok(()) => Ok(alone),
        Err(violation) => Err(violation.to_string()),
    }
}

/// Takes over from `old` what is not the source's.
fn keep(schema: &Schema, new: &mut Entry, old: &Entry, always: &BTreeSet<AttributeName>) {
    let before = managed_before(old);
    let classes = object_class();
    let own = [
        classes.clone(),
        name("aitherSource"),
        name("aitherSourceId"),
        name("aitherSourceManages"),
    ];
    let naming = old.dn().rdn().map(dirless_directory::Rdn::avas).unwrap_or_default();
    for (attribute, values) in old.attributes() {
        let theirs = !(always.contains(attribute) || before.contains(attribute) || own.contains(attribute));
        if theirs && new.values(attribute).is_empty() && !is_kept_by_server(schema, attribute) {
            let mut values = values.to_vec();
            // A renamed entry loses what it was named by.
            if schema.dn_key(old.dn()) != schema.dn_key(new.dn()) {
                values.retain(|value| !naming.iter().any(|ava| ava.name == *attribute && ava.value == *value));
            }
            new.set(attribute.clone(), values);
        }
    }
    keep_server(schema, new, old);
    for class in old.values(&classes) {
        if !holds(schema, new.values(&classes), &classes, class) {
            new.add(classes.clone(), class.clone());
        }
    }
}

/// Takes over from `old` what the server keeps, and the owner.
fn keep_server(schema: &Schema, new: &mut Entry, old: &Entry) {
    let owner = name("aitherOwnerUid");
    for (attribute, values) in old.attributes() {
        let owned = *attribute == owner && new.values(attribute).is_empty();
        if owned || is_kept_by_server(schema, attribute) {
            new.set(attribute.clone(), values.to_vec());
        }
    }
}
