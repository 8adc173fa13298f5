//! Which attributes of an entry an answer holds (RFC 4511 section 4.5.1.8, RFC 3673, RFC 4529).

use std::sync::Arc;

use dirless_directory::encoded::{Attribute, Attributes, Matcher, Subject, put_attribute, walk};
use dirless_directory::filter::Truth;
use dirless_directory::{AttributeName, Filter, Schema, Value};

use crate::{Stored, Visibility};

/// The descriptions of an attribute and its subtypes.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    text: Box<str>,
    kinds: Option<Arc<[Box<str>]>>,
}

impl Wanted {
    pub(crate) fn new(schema: &Schema, text: &str) -> Self {
        let plain = !text.contains(';');
        Self {
            text: text.into(),
            kinds: schema.shared_spellings(text).filter(|_| plain),
        }
    }

    pub(crate) fn fits(&self, held: &str) -> bool {
        held.eq_ignore_ascii_case(&self.text)
            || self.kinds.as_ref().is_some_and(|kinds| {
                let end = held.bytes().position(|byte| byte == b';').unwrap_or(held.len());
                let kind = held.get(..end).unwrap_or(held);
                kinds.iter().any(|name| name.eq_ignore_ascii_case(kind))
            })
    }
}

/// What a request wants of each entry.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    all_user: bool,
    all_operational: bool,
    named: Arc<[Wanted]>,
    types_only: bool,
    matched_values: Option<Vec<Filter>>,
}

/// Attributes that no store holds: each entry's own name, where the schema is, and whether anything is
/// below.
pub(crate) const ENTRY_DN: &str = "entryDN";
pub(crate) const SUBSCHEMA: &str = "subschemaSubentry";
pub(crate) const HAS_SUBORDINATES: &str = "hasSubordinates";

impl Selection {
    pub(crate) fn new<'a>(schema: &Schema, names: impl IntoIterator<Item = &'a str>, types_only: bool) -> Self {
        let mut selection = Self {
            all_user: false,
            all_operational: false,
            named: Arc::default(),
            types_only,
            matched_values: None,
        };
        let mut named = Vec::new();
        let mut empty = true;
        for name in names {
            empty = false;
            match name {
                "*" => selection.all_user = true,
                "+" => selection.all_operational = true,
                "1.1" => {}
                name => match name.strip_prefix('@') {
                    None => named.push(Wanted::new(schema, name)),
                    Some(class) => {
                        let classes = schema.class_closure(&[Value::from(class)]);
                        let attributes = classes.iter().flat_map(|class| class.must.iter().chain(&class.may));
                        named.extend(attributes.map(|name| Wanted::new(schema, name)));
                    }
                },
            }
        }
        selection.all_user |= empty;
        if !named.is_empty() {
            selection.named = named.into();
        }
        selection
    }

    /// Values that none of these match are left out (RFC 3876).
    pub(crate) fn with_matched_values(mut self, filters: Option<Vec<Filter>>) -> Self {
        self.matched_values = filters;
        self
    }

    /// The attributes that it looks at, with those of `more`; none when it is all of them.
    pub(crate) fn wanted(&self, more: impl Iterator<Item = Wanted>) -> Option<Arc<[Wanted]>> {
        let all = self.all_user || self.all_operational;
        let mut more = more.peekable();
        (!all).then(|| match more.peek() {
            None => Arc::clone(&self.named),
            Some(_) => self.named.iter().cloned().chain(more).collect(),
        })
    }

    /// Does it select exactly the user attributes, so that they are copied in one piece?
    pub(crate) fn is_plain(&self) -> bool {
        self.all_user
            && !self.all_operational
            && !self.types_only
            && self.matched_values.is_none()
            && self.named.is_empty()
    }

    /// Must be found out whether each entry has subordinates?
    pub(crate) fn wants_subordinates(&self) -> bool {
        self.wants_virtual(HAS_SUBORDINATES)
    }

    fn wants_virtual(&self, name: &str) -> bool {
        self.all_operational || self.named.iter().any(|wanted| wanted.fits(name))
    }

    fn is_named(&self, held: &str) -> bool {
        self.named.iter().any(|wanted| wanted.fits(held))
    }

    /// Does it take attributes whole, so that they may be sent without being looked at?
    pub(crate) fn takes_whole(&self) -> bool {
        !self.types_only && self.matched_values.is_none()
    }

    /// Is an attribute of that name among those it takes?
    pub(crate) fn takes(&self, name: &str, operational: bool) -> bool {
        let all = if operational {
            self.all_operational
        } else {
            self.all_user
        };
        all || self.is_named(name)
    }

    /// Appends what is selected of an entry to `out`, as the content of a `PartialAttributeList`.
    pub(crate) fn put(&self, schema: &Schema, stored: &Stored<'_>, has_subordinates: Option<bool>, out: &mut Vec<u8>) {
        let parts = [
            (stored.attributes.user(), self.all_user),
            (stored.attributes.operational(), self.all_operational),
        ];
        for (part, all) in parts {
            if all && !self.types_only && self.matched_values.is_none() {
                out.extend_from_slice(part);
                continue;
            }
            for attribute in walk(part).filter(|attribute| all || self.is_named(attribute.name)) {
                self.put_one(schema, &attribute, out);
            }
        }
        let mut put_virtual = |name: &str, value: &str| {
            if self.wants_virtual(name) && stored.attributes.attribute(name).is_none() {
                let values = (!self.types_only).then_some(value.as_bytes());
                put_attribute(out, name, values.into_iter());
            }
        };
        put_virtual(ENTRY_DN, stored.dn);
        put_virtual(SUBSCHEMA, crate::root::SUBSCHEMA_DN);
        if let Some(has) = has_subordinates {
            put_virtual(HAS_SUBORDINATES, if has { "TRUE" } else { "FALSE" });
        }
    }

    fn put_one(&self, schema: &Schema, attribute: &Attribute<'_>, out: &mut Vec<u8>) {
        let Some(filters) = &self.matched_values else {
            if self.types_only {
                put_attribute(out, attribute.name, std::iter::empty());
            } else {
                out.extend_from_slice(attribute.encoded);
            }
            return;
        };
        let matchers: Vec<_> = filters.iter().map(|filter| Matcher::new(schema, filter)).collect();
        let mut alone = Vec::new();
        let kept: Vec<&[u8]> = attribute
            .values
            .filter(|value| {
                // The value as the only one of an entry that has nothing else.
                alone.clear();
                alone.resize(4, 0);
                put_attribute(&mut alone, attribute.name, std::iter::once(*value));
                let length = u32::try_from(alone.len() - 4).unwrap_or(0).to_be_bytes();
                if let Some(prefix) = alone.get_mut(..4) {
                    prefix.copy_from_slice(&length);
                }
                Attributes::new(&alone).is_ok_and(|attributes| {
                    let subject = Subject {
                        dn: "",
                        key: &[],
                        attributes,
                    };
                    matchers
                        .iter()
                        .any(|matcher| matcher.matches(schema, subject) == Truth::True)
                })
            })
            .collect();
        if !kept.is_empty() {
            let values = kept.iter().copied().filter(|_| !self.types_only);
            put_attribute(out, attribute.name, values);
        }
    }
}

fn fits(schema: &Schema, names: &[AttributeName], held: &str) -> bool {
    names.iter().any(|name| Wanted::new(schema, name.as_str()).fits(held))
}

/// May an attribute of that name be seen?
pub(crate) fn is_shown(schema: &Schema, visibility: &Visibility, held: &str) -> bool {
    match visibility {
        Visibility::Whole => true,
        Visibility::Hidden => false,
        Visibility::Without(names) => !fits(schema, names, held),
        Visibility::Only(names) => fits(schema, names, held),
    }
}

/// Leaves of an encoded entry what may be seen, in `scratch`. None when all of it may be.
pub(crate) fn reduce(
    schema: &Schema,
    visibility: &Visibility,
    attributes: Attributes<'_>,
    scratch: &mut Vec<u8>,
) -> bool {
    let whole = match visibility {
        Visibility::Whole => true,
        Visibility::Without(names) => !attributes.iter().any(|one| fits(schema, names, one.name)),
        Visibility::Hidden | Visibility::Only(_) => false,
    };
    if whole {
        return false;
    }
    attributes.select(scratch, |held| is_shown(schema, visibility, held));
    true
}
