//! Entries of the directory tree, laid over those that are made of a host's users and groups.
//!
//! What makes somebody an account of this host comes from the checked records alone: of an entry that
//! has the name of a user or a group, only other attributes are taken, and one that says it is an
//! account while no record does is left out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use dirless_directory::encoded::{Attributes, encode, put_attribute, walk};
use dirless_directory::{AttributeName, Dn, DnKey, Schema, Value};

use crate::draft::Record;
use crate::posix::{close_user_part, unit};
use crate::uuid::{self, Uuid};
use crate::{CopyError, Target};

/// What only checked records say, of users and groups alike, so that neither becomes the other.
const OF_RECORDS: [&str; 18] = [
    "uid",
    "uidNumber",
    "gidNumber",
    "homeDirectory",
    "loginShell",
    "gecos",
    "sshPublicKey",
    "member",
    "uniqueMember",
    "memberUid",
    "memberOf",
    "shadowLastChange",
    "shadowMin",
    "shadowMax",
    "shadowWarning",
    "shadowInactive",
    "shadowExpire",
    "shadowFlag",
];
/// The name of a group is in its DN; that of a person is elsewhere, and the tree may know a better `cn`.
const NAME_OF_GROUPS: &str = "cn";
/// Classes of entries that name services look accounts up by.
const ACCOUNT_CLASSES: [&str; 3] = ["posixAccount", "posixGroup", "shadowAccount"];
/// Attributes that make an account of an entry, whatever its classes.
const ACCOUNT_ATTRIBUTES: [&str; 3] = ["uidNumber", "gidNumber", "memberUid"];
/// What the copy itself says of every entry.
const OF_THE_COPY: [&str; 5] = [
    "entryUUID",
    "entryCSN",
    "entryDN",
    "hasSubordinates",
    "subschemaSubentry",
];

/// Names whose kind is remembered; more than that are made up by somebody.
const MOST_KINDS: usize = 4096;

/// Entries to lay over, sorted once they are all there.
#[derive(Debug, Default)]
pub struct Overlay {
    bytes: Vec<u8>,
    entries: Vec<Place>,
    uuids: HashSet<Uuid>,
    kinds: Kinds,
}

/// Where an entry is in the bytes: key, DN and attributes, in this order.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: usize,
    dn: usize,
    attributes: usize,
    end: usize,
    uuid: Uuid,
    is_account: bool,
}

/// Why an entry cannot be laid over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Its name is none, or a value in it does not fit its attribute.
    #[error("has a name that is no distinguished name")]
    Name,
    /// It is somewhere else.
    #[error("is not below the base of this host's copy")]
    Elsewhere,
    /// It is nested deeper than [`Overlay::DEEPEST`].
    #[error("is nested too deep")]
    Deep,
    /// It takes more than [`Overlay::LARGEST`].
    #[error("is larger than 4 MiB")]
    Large,
    /// It says nothing.
    #[error("has no attributes")]
    Empty,
}

impl Overlay {
    /// Most components of a name.
    pub const DEEPEST: usize = 32;
    /// Most bytes of one entry.
    pub const LARGEST: usize = 4 << 20;

    /// Takes an entry. Attributes whose names are none are left out, and what the copy itself says of
    /// every entry.
    ///
    /// # Errors
    /// Why it cannot be taken.
    pub fn add<'v>(
        &mut self,
        schema: &Schema,
        base: &DnKey,
        dn: &str,
        attributes: impl Iterator<Item = (&'v str, &'v [Vec<u8>])>,
    ) -> Result<(), Unfit> {
        let dn = Dn::parse(dn).map_err(|_| Unfit::Name)?;
        if dn.rdns().len() > Self::DEEPEST {
            return Err(Unfit::Deep);
        }
        let key = schema.dn_key(&dn).ok_or(Unfit::Name)?;
        if !key.is_within(base) {
            return Err(Unfit::Elsewhere);
        }
        let mut entry = dirless_directory::Entry::new(dn);
        let mut given = None;
        let mut size = 0;
        let mut is_account = false;
        for (name, values) in attributes {
            let Ok(parsed) = AttributeName::parse(name) else {
                continue;
            };
            size += name.len() + values.iter().map(|value| value.len() + 8).sum::<usize>();
            if size > Self::LARGEST {
                return Err(Unfit::Large);
            }
            let kind = self.kinds.of(schema, name);
            if kind.of_the_copy {
                if name.eq_ignore_ascii_case("entryUUID") {
                    given = values.first().and_then(|text| uuid::parse(text));
                }
                continue;
            }
            is_account |= kind.makes_account;
            if kind.is_class {
                is_account |= values.iter().any(|class| self.kinds.class(schema, class).1);
            }
            entry.set(parsed, values.iter().map(|value| Value::from(value.clone())).collect());
        }
        if entry.attributes().next().is_none() {
            return Err(Unfit::Empty);
        }
        // One that another entry has, or one of the kind that records get, would make two entries one.
        let uuid = given
            .filter(|uuid| !uuid::is_made(uuid) && !self.uuids.contains(uuid))
            .unwrap_or_else(|| uuid::made("entry", &String::from_utf8_lossy(key.as_bytes())));
        self.uuids.insert(uuid);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key.as_bytes());
        let at_dn = self.bytes.len();
        self.bytes.extend_from_slice(entry.dn().to_string().as_bytes());
        let at_attributes = self.bytes.len();
        self.bytes.extend_from_slice(&encode(schema, &entry));
        self.entries.push(Place {
            start,
            dn: at_dn,
            attributes: at_attributes,
            end: self.bytes.len(),
            uuid,
            is_account,
        });
        Ok(())
    }

    /// Takes all entries of another one, after those that are here.
    pub fn append(&mut self, other: Self) {
        let shift = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        for mut place in other.entries {
            let key = other.bytes.get(place.start..place.dn).unwrap_or_default();
            if !self.uuids.insert(place.uuid) {
                place.uuid = uuid::made("entry", &String::from_utf8_lossy(key));
                self.uuids.insert(place.uuid);
            }
            place.start += shift;
            place.dn += shift;
            place.attributes += shift;
            place.end += shift;
            self.entries.push(place);
        }
    }

    /// Sorts the entries. Of those with the same name the first one stays; how many were not is told.
    pub fn sort(&mut self) -> usize {
        let bytes = std::mem::take(&mut self.bytes);
        let key = |place: &Place| bytes.get(place.start..place.dn).unwrap_or_default();
        // Stable, so that the order in which they were taken decides between equal ones.
        self.entries.sort_by(|one, other| key(one).cmp(key(other)));
        let before = self.entries.len();
        self.entries.dedup_by(|later, earlier| key(later) == key(earlier));
        self.bytes = bytes;
        before - self.entries.len()
    }

    /// Makes it empty; what it knows of the schema stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.uuids.clear();
    }

    /// The names of its entries and what else decides about them, in the order in which they stand.
    pub fn names(&self) -> impl Iterator<Item = Named<'_>> {
        self.entries.iter().map(|place| Named {
            key: self.bytes.get(place.start..place.dn).unwrap_or_default(),
            given: (!uuid::is_made(&place.uuid)).then_some(place.uuid),
            is_account: place.is_account,
        })
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// SHA-256 over all entries, in hex. The entries must be sorted.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for place in &self.entries {
            context.update(&place.uuid);
            context.update(&(place.end - place.start).to_le_bytes());
            context.update(&(place.attributes - place.dn).to_le_bytes());
            context.update(self.bytes.get(place.start..place.end).unwrap_or_default());
        }
        let digest = context.finish();
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn entry(&self, at: usize) -> Option<Laid<'_>> {
        let place = self.entries.get(at)?;
        Some(Laid {
            key: self.bytes.get(place.start..place.dn)?,
            dn: std::str::from_utf8(self.bytes.get(place.dn..place.attributes)?).ok()?,
            attributes: self.bytes.get(place.attributes..place.end)?,
            uuid: place.uuid,
            is_account: place.is_account,
        })
    }
}

/// Which entry of an overlay it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// The bytes of its key.
    pub key: &'a [u8],
    /// The identity that its source gave it.
    pub given: Option<[u8; 16]>,
    /// It says that it is an account, and counts where a record of one has its name alone.
    pub is_account: bool,
}

/// An entry of an overlay.
#[derive(Clone, Copy)]
struct Laid<'a> {
    key: &'a [u8],
    dn: &'a str,
    attributes: &'a [u8],
    uuid: Uuid,
    is_account: bool,
}

/// A draft, or something before one, with an overlay over what is put into it.
pub struct Layered<'a> {
    target: &'a mut dyn Target,
    overlay: &'a Overlay,
    schema: &'a Schema,
    /// The next entry of the overlay.
    next: usize,
    /// The keys of the last entry put and of those above it, topmost first.
    above: Vec<DnKey>,
    /// Accounts of the overlay that no record is.
    left_out: usize,
    kinds: Kinds,
}

impl std::fmt::Debug for Layered<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Layered({} of {})", self.next, self.overlay.len())
    }
}

impl<'a> Layered<'a> {
    /// Begins. The overlay must be sorted.
    pub fn new(target: &'a mut dyn Target, overlay: &'a Overlay, schema: &'a Schema) -> Self {
        Self {
            target,
            overlay,
            schema,
            next: 0,
            above: Vec::new(),
            left_out: 0,
            kinds: Kinds::default(),
        }
    }

    /// Puts what comes after the last record, and says how many accounts were left out.
    ///
    /// # Errors
    /// As [`Target::put`].
    pub fn finish(mut self) -> Result<usize, CopyError> {
        self.until(None)?;
        Ok(self.left_out)
    }

    /// Puts entries of the overlay that come before `key`.
    fn until(&mut self, key: Option<&[u8]>) -> Result<(), CopyError> {
        let overlay = self.overlay;
        while let Some(laid) = overlay
            .entry(self.next)
            .filter(|laid| key.is_none_or(|key| laid.key < key))
        {
            self.next += 1;
            if laid.is_account {
                self.left_out += 1;
                continue;
            }
            self.put_whole(&Record {
                key: &DnKey::from(laid.key.to_vec()),
                dn: laid.dn,
                uuid: laid.uuid,
                attributes: laid.attributes,
                canonical: false,
            })?;
        }
        Ok(())
    }

    /// Puts a record after those above it that are missing.
    fn put_whole(&mut self, record: &Record<'_>) -> Result<(), CopyError> {
        while self.above.last().is_some_and(|above| !record.key.is_within(above)) {
            self.above.pop();
        }
        let depth = |key: &DnKey| key.as_bytes().iter().filter(|byte| **byte == 0).count();
        // The topmost entry is the base, whose own parents are nobody's matter.
        let missing = self
            .above
            .last()
            .map_or(0, |above| depth(record.key).saturating_sub(depth(above) + 1));
        if missing > 0 {
            let mut parents = Vec::new();
            let mut name = Dn::parse(record.dn).ok().and_then(|dn| dn.parent());
            while let Some(dn) = name.filter(|_| parents.len() < missing) {
                name = dn.parent();
                parents.push(dn);
            }
            for dn in parents.iter().rev() {
                let unit = unit(self.schema, dn)?;
                self.target.put(&unit.record())?;
                self.above.push(unit.key);
            }
        }
        self.target.put(record)?;
        self.above.push(record.key.clone());
        Ok(())
    }
}

impl Target for Layered<'_> {
    fn put(&mut self, record: &Record<'_>) -> Result<(), CopyError> {
        self.until(Some(record.key.as_bytes()))?;
        let overlay = self.overlay;
        let Some(laid) = overlay
            .entry(self.next)
            .filter(|laid| laid.key == record.key.as_bytes())
        else {
            return self.put_whole(record);
        };
        self.next += 1;
        let (held, more) = (Attributes::new(record.attributes)?, Attributes::new(laid.attributes)?);
        let account = |class: &str| {
            let classes = held.attribute("objectClass");
            classes.is_some_and(|mut classes| classes.values.any(|value| value == class.as_bytes()))
        };
        let is_group = account("posixGroup");
        if !is_group && !account("posixAccount") {
            // An organisational unit: the tree knows more about it, unless it takes it for an account.
            return if laid.is_account {
                self.put_whole(record)
            } else {
                self.put_whole(&Record {
                    dn: laid.dn,
                    uuid: laid.uuid,
                    attributes: laid.attributes,
                    canonical: false,
                    ..*record
                })
            };
        }
        let attributes = merged(&mut self.kinds, self.schema, held, more, is_group);
        self.put_whole(&Record {
            attributes: &attributes,
            canonical: false,
            ..*record
        })
    }
}

/// A checked record with what `more` says beyond it. What makes the account and what is operational is
/// the record's alone; classes are those of both.
fn merged(kinds: &mut Kinds, schema: &Schema, held: Attributes<'_>, more: Attributes<'_>, is_group: bool) -> Vec<u8> {
    let protected = |kind: &Kind| kind.of_records || (is_group && kind.names_group);
    let mut taken = Vec::new();
    for one in walk(more.user()) {
        let kind = kinds.of(schema, one.name);
        if !kind.is_class && !protected(&kind) {
            taken.push((kind.oid, one));
        }
    }
    let mut out = vec![0; 4];
    for one in walk(held.user()) {
        let kind = kinds.of(schema, one.name);
        if kind.is_class {
            let mut classes: Vec<&[u8]> = one.values.collect();
            let mut known: Vec<Arc<str>> = classes.iter().map(|class| kinds.class(schema, class).0).collect();
            for class in more.attribute("objectClass").into_iter().flat_map(|one| one.values) {
                let (oid, is_account) = kinds.class(schema, class);
                if !is_account && !known.contains(&oid) {
                    known.push(oid);
                    classes.push(class);
                }
            }
            put_attribute(&mut out, one.name, classes.iter().copied());
        } else if protected(&kind) || taken.iter().all(|(oid, _)| *oid != kind.oid) {
            out.extend_from_slice(one.encoded);
        }
    }
    for (_, one) in taken {
        out.extend_from_slice(one.encoded);
    }
    close_user_part(&mut out);
    out.extend_from_slice(held.operational());
    out
}

/// What the schema and the lists above say of an attribute.
#[derive(Clone, Debug)]
struct Kind {
    oid: Arc<str>,
    is_class: bool,
    makes_account: bool,
    of_records: bool,
    names_group: bool,
    of_the_copy: bool,
}

/// The kinds of names that were met: a directory has a few dozen.
#[derive(Debug, Default)]
struct Kinds {
    attributes: HashMap<String, Kind>,
    /// OIDs of classes, and whether name services look accounts up by them.
    classes: HashMap<Vec<u8>, (Arc<str>, bool)>,
}

impl Kinds {
    fn of(&mut self, schema: &Schema, name: &str) -> Kind {
        if let Some(kind) = self.attributes.get(name) {
            return kind.clone();
        }
        let is = |attributes: &[&str]| is_one_of(schema, name, attributes);
        let kind = Kind {
            oid: schema.oid_of(name).into(),
            is_class: is(&["objectClass"]),
            makes_account: is(&ACCOUNT_ATTRIBUTES),
            of_records: is(&OF_RECORDS),
            names_group: is(&[NAME_OF_GROUPS]),
            of_the_copy: is(&OF_THE_COPY),
        };
        if self.attributes.len() < MOST_KINDS {
            self.attributes.insert(name.to_owned(), kind.clone());
        }
        kind
    }

    fn class(&mut self, schema: &Schema, class: &[u8]) -> (Arc<str>, bool) {
        if let Some(known) = self.classes.get(class) {
            return known.clone();
        }
        let oid = schema.oid_of(String::from_utf8_lossy(class).trim());
        // A site's own class below one of those is one of those.
        let above = schema.class_closure(&[Value::from(class.to_vec())]);
        let is = |one: &str| schema.oid_of(one) == oid || above.iter().any(|class| class.name() == one);
        let is_account = ACCOUNT_CLASSES.into_iter().any(is);
        let found = (Arc::from(oid), is_account);
        if self.classes.len() < MOST_KINDS {
            self.classes.insert(class.to_vec(), found.clone());
        }
        found
    }
}

/// Is `name` one of these attributes, under any of its names, or a subtype of one? Options (`;lang-de`)
/// make no other attribute of it.
fn is_one_of(schema: &Schema, name: &str, attributes: &[&str]) -> bool {
    let kind = name.split(';').next().unwrap_or(name);
    attributes.iter().any(|attribute| schema.is_subtype(kind, attribute))
}

#[cfg(test)]
mod tests;
