//! Does an entry stand in the tree as its source has it? Told by the encoded forms of both.
//!
//! Yes means that [`super::compare`] would find nothing to change. No means that it has to look.

use std::collections::{HashMap, HashSet};

use dirless_directory::Schema;
use dirless_directory::encoded::{Attribute, Attributes};
use dirless_directory::{AttributeName, Dn};

use crate::tree::operational::{add_owner, canonical_name, is_kept_by_server};
use crate::tree::people::MANAGED;

/// What an attribute is to a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The server keeps it: whatever a source says of it means nothing.
    Server,
    /// The name of the source.
    Source,
    /// What the source gave last.
    Manages,
    /// The classes.
    Classes,
    /// What the source calls the entry.
    SourceId,
    /// Always the source's, in entries of users and groups.
    Managed,
    /// Anything else under the name that the schema writes.
    Other,
    /// A name that stands for another one.
    Alias,
}

/// Compares encoded forms for one source.
pub(super) struct Same<'a> {
    schema: &'a Schema,
    source: &'a str,
    kinds: HashMap<String, Kind>,
    /// Classes and attributes of entries that the schema passes as they are.
    fitting: HashSet<Vec<u8>>,
    shape: Vec<u8>,
}

impl<'a> Same<'a> {
    pub(super) fn new(schema: &'a Schema, source: &'a str) -> Self {
        Self {
            schema,
            source,
            kinds: HashMap::new(),
            fitting: HashSet::new(),
            shape: Vec::new(),
        }
    }

    /// Does `stored`, which has the name `dn`, say all that `wanted` says, and beyond that nothing that was the
    /// source's?
    pub(super) fn holds(&mut self, wanted: Attributes<'_>, is_person: bool, dn: &str, stored: Attributes<'_>) -> bool {
        let mut given: Vec<(Kind, Attribute<'_>)> = Vec::with_capacity(32);
        for one in wanted.iter() {
            match self.kind(one.name) {
                Kind::Server => {}
                Kind::Alias | Kind::Manages => return false,
                kind => given.push((kind, one)),
            }
        }
        let manages = |(kind, _): &&(Kind, Attribute<'_>)| match kind {
            Kind::Managed => !is_person,
            Kind::Other => true,
            _ => false,
        };
        let told = given.iter().filter(manages).map(|(_, one)| one.name.as_bytes());
        let (mut found, mut at) = (0, 0);
        let (mut is_owned, mut is_sourced, mut is_told) = (false, false, told.clone().next().is_none());
        for held in stored.iter() {
            let kind = self.kind(held.name);
            is_owned |= held.name.eq_ignore_ascii_case("aitherOwnerUid");
            match kind {
                Kind::Server => continue,
                Kind::Alias => return false,
                Kind::Source => {
                    is_sourced = held.values.eq([self.source.as_bytes()]);
                    if !is_sourced {
                        return false;
                    }
                    // Whatever the source says of itself gives way.
                    found += given.iter().filter(|(kind, _)| *kind == Kind::Source).count();
                    continue;
                }
                Kind::Manages => {
                    is_told = same_values(held.values, told.clone());
                    continue;
                }
                _ => {}
            }
            // Both are in the order of names, but for operational ones.
            let next = (0..given.len()).map(|step| (at + step) % given.len());
            let mut next = next.filter_map(|place| Some((place, given.get(place)?)));
            match next.find(|(_, (_, one))| one.name.eq_ignore_ascii_case(held.name)) {
                Some((place, (_, one))) => {
                    let same = match kind {
                        Kind::Classes => one
                            .values
                            .into_iter()
                            .all(|class| held.values.into_iter().any(|own| own == class)),
                        _ => same_values(one.values, held.values),
                    };
                    // Names are spelled as the schema writes them, on both sides.
                    if !same || one.name != held.name {
                        return false;
                    }
                    found += 1;
                    at = place + 1;
                }
                None if kind == Kind::Other || (kind == Kind::Managed && !is_person) => {}
                None => return false,
            }
        }
        found == given.len() && is_owned && is_sourced && is_told && self.fits(dn, stored)
    }

    fn kind(&mut self, name: &str) -> Kind {
        if let Some(kind) = self.kinds.get(name) {
            return *kind;
        }
        let kind = AttributeName::parse(name).map_or(Kind::Alias, |parsed| self.kind_of(&parsed));
        self.kinds.insert(name.to_owned(), kind);
        kind
    }

    fn kind_of(&self, name: &AttributeName) -> Kind {
        let is = |text: &str| name.as_str().eq_ignore_ascii_case(text);
        if canonical_name(self.schema, name).as_str() != name.as_str() {
            return Kind::Alias;
        }
        match name {
            _ if is_kept_by_server(self.schema, name) => Kind::Server,
            _ if is("aitherSource") => Kind::Source,
            _ if is("aitherSourceManages") => Kind::Manages,
            _ if is("objectClass") => Kind::Classes,
            _ if is("aitherSourceId") => Kind::SourceId,
            _ if MANAGED.iter().any(|managed| is(managed)) => Kind::Managed,
            _ => Kind::Other,
        }
    }

    /// Would the schema pass the entry as it stands? Looked at once for each set of classes and attributes: their values
    /// were passed when they were written.
    fn fits(&mut self, dn: &str, stored: Attributes<'_>) -> bool {
        self.shape.clear();
        for one in stored.iter() {
            self.shape.extend_from_slice(one.name.as_bytes());
            self.shape.push(u8::from(one.values.into_iter().nth(1).is_some()));
        }
        for class in stored.attribute("objectClass").into_iter().flat_map(|one| one.values) {
            self.shape.extend_from_slice(class);
            self.shape.push(2);
        }
        if self.fitting.contains(&self.shape) {
            return true;
        }
        let Some(entry) = Dn::parse(dn).ok().and_then(|dn| stored.entry(dn).ok()) else {
            return false;
        };
        let mut owned = entry.clone();
        add_owner(self.schema, &mut owned, || None);
        let fits = owned == entry && self.schema.check(&entry).is_ok();
        if fits {
            self.fitting.insert(self.shape.clone());
        }
        fits
    }
}

/// Do two lists hold the same values in whatever order?
fn same_values<'v>(one: impl Iterator<Item = &'v [u8]> + Clone, other: impl Iterator<Item = &'v [u8]> + Clone) -> bool {
    if one.clone().eq(other.clone()) {
        return true;
    }
    let (mut one, mut other): (Vec<&[u8]>, Vec<&[u8]>) = (one.collect(), other.collect());
    one.sort_unstable();
    other.sort_unstable();
    one == other
}
