//! Entries in the form in which LDAP sends them, so that an answer is a header and a copy.
//!
//! An encoded entry is the attributes without the name: four bytes with the length of the first part,
//! big-endian; the first part, the user attributes; the second part, the operational attributes. Each
//! part is the content of a `PartialAttributeList` (RFC 4511 section 4.1.7): a `SEQUENCE` per attribute
//! of its description and the `SET` of its values. Stores keep these bytes as they are; the LDAP front
//! copies a part, or single attributes of it, into its answers.

mod matcher;
mod write;

use crate::schema::Usage;
use crate::{AttributeName, Dn, Entry, Schema, Value};

pub use matcher::{Matcher, Subject};
pub use write::{length_bytes, put_header};

/// Tag of `SEQUENCE`.
pub const SEQUENCE: u8 = 0x30;
/// Tag of `SET`.
pub const SET: u8 = 0x31;
/// Tag of `OCTET STRING`.
pub const OCTET_STRING: u8 = 0x04;

/// Bytes that say how long the user attributes are.
const PREFIX: usize = 4;

/// Why bytes are no encoded entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored attributes of an entry are damaged: {0}")]
pub struct EncodedError(&'static str);

/// Encodes the attributes of `entry`; the schema says which are operational.
#[must_use]
pub fn encode(schema: &Schema, entry: &Entry) -> Vec<u8> {
    let operational = |name: &AttributeName| {
        schema
            .attribute(name.as_str())
            .is_some_and(|attribute| attribute.usage == Usage::Operational)
    };
    let mut bytes = vec![0; PREFIX];
    let part = |bytes: &mut Vec<u8>, wanted: bool| {
        for (name, values) in entry.attributes().filter(|(name, _)| operational(name) == wanted) {
            put_attribute(bytes, name.as_str(), values.iter().map(Value::as_bytes));
        }
    };
    part(&mut bytes, false);
    let user = u32::try_from(bytes.len() - PREFIX).unwrap_or(u32::MAX);
    part(&mut bytes, true);
    if let Some(prefix) = bytes.get_mut(..PREFIX) {
        prefix.copy_from_slice(&user.to_be_bytes());
    }
    bytes
}

/// Appends one attribute and its values as a `PartialAttribute`.
pub fn put_attribute<'a>(out: &mut Vec<u8>, name: &str, values: impl Iterator<Item = &'a [u8]> + Clone) {
    let sized = |length: usize| 1 + length_bytes(length) + length;
    let set: usize = values.clone().map(|value| sized(value.len())).sum();
    put_header(out, SEQUENCE, sized(name.len()) + sized(set));
    put_header(out, OCTET_STRING, name.len());
    out.extend_from_slice(name.as_bytes());
    put_header(out, SET, set);
    for value in values {
        put_header(out, OCTET_STRING, value.len());
        out.extend_from_slice(value);
    }
}

/// The attributes of an encoded entry, borrowed. Walking them allocates nothing; a walk ends where the
/// bytes stop making sense, and [`verify`](Self::verify) tells whether they do so to the end.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    user: &'a [u8],
    operational: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Of an entry that [`encode`] made.
    ///
    /// # Errors
    /// When the bytes are too few for what they say about themselves.
    pub fn new(encoded: &'a [u8]) -> Result<Self, EncodedError> {
        let split = || {
            let (prefix, rest) = encoded.split_first_chunk::<PREFIX>()?;
            rest.split_at_checked(usize::try_from(u32::from_be_bytes(*prefix)).ok()?)
        };
        let (user, operational) = split().ok_or(EncodedError("cut short"))?;
        Ok(Self { user, operational })
    }

    /// The user attributes as the content of a `PartialAttributeList`: what `*` selects.
    #[must_use]
    pub fn user(self) -> &'a [u8] {
        self.user
    }

    /// The operational attributes, likewise: what `+` selects.
    #[must_use]
    pub fn operational(self) -> &'a [u8] {
        self.operational
    }

    /// All attributes, the user ones first.
    pub fn iter(self) -> impl Iterator<Item = Attribute<'a>> + Clone {
        walk(self.user).chain(walk(self.operational))
    }

    /// The attribute of exactly that description, compared without regard to case. Supertypes and
    /// other names of the attribute are the schema's matter: see [`Matcher`].
    #[must_use]
    pub fn attribute(self, name: &str) -> Option<Attribute<'a>> {
        self.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name))
    }

    /// Are all bytes well-formed attributes?
    ///
    /// # Errors
    /// When they are not.
    pub fn verify(self) -> Result<(), EncodedError> {
        for part in [self.user, self.operational] {
            let mut rest = part;
            while !rest.is_empty() {
                let (attribute, after) = take_attribute(rest).ok_or(EncodedError("not an attribute"))?;
                let mut values = attribute.values.0;
                while !values.is_empty() {
                    (_, values) = take(values, OCTET_STRING).ok_or(EncodedError("not a value"))?;
                }
                rest = after;
            }
        }
        Ok(())
    }

    /// The entry of that name with these attributes.
    ///
    /// # Errors
    /// When bytes are no attributes, or a description is none.
    pub fn entry(self, dn: Dn) -> Result<Entry, EncodedError> {
        self.verify()?;
        let mut entry = Entry::new(dn);
        for attribute in self.iter() {
            let name = AttributeName::parse(attribute.name).map_err(|_| EncodedError("not an attribute name"))?;
            let values = attribute.values.map(|value| Value::from(value.to_vec())).collect();
            entry.set(name, values);
        }
        Ok(entry)
    }

    /// Encodes the attributes that `keep` wants into `out`, which is emptied first: a smaller entry.
    pub fn select(self, out: &mut Vec<u8>, keep: impl Fn(&str) -> bool) {
        out.clear();
        out.resize(PREFIX, 0);
        for attribute in walk(self.user).filter(|attribute| keep(attribute.name)) {
            out.extend_from_slice(attribute.encoded);
        }
        let user = u32::try_from(out.len() - PREFIX).unwrap_or(u32::MAX);
        for attribute in walk(self.operational).filter(|attribute| keep(attribute.name)) {
            out.extend_from_slice(attribute.encoded);
        }
        if let Some(prefix) = out.get_mut(..PREFIX) {
            prefix.copy_from_slice(&user.to_be_bytes());
        }
    }
}

/// One attribute of an encoded entry.
#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    /// Its description.
    pub name: &'a str,
    /// Its values.
    pub values: Values<'a>,
    /// The whole `PartialAttribute`, to be copied.
    pub encoded: &'a [u8],
}

/// The values of an attribute in the order in which they were given.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a>(&'a [u8]);

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (value, rest) = take(self.0, OCTET_STRING)?;
        self.0 = rest;
        Some(value)
    }
}

/// Walks the content of a `PartialAttributeList`.
pub fn walk(content: &[u8]) -> impl Iterator<Item = Attribute<'_>> + Clone {
    let mut rest = content;
    std::iter::from_fn(move || {
        let (attribute, after) = take_attribute(rest)?;
        rest = after;
        Some(attribute)
    })
}

fn take_attribute(bytes: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let (content, rest) = take(bytes, SEQUENCE)?;
    let encoded = bytes.get(..bytes.len() - rest.len())?;
    let (name, content) = take(content, OCTET_STRING)?;
    let (values, after) = take(content, SET)?;
    let name = std::str::from_utf8(name).ok()?;
    after.is_empty().then_some((
        Attribute {
            name,
            values: Values(values),
            encoded,
        },
        rest,
    ))
}

/// The content of the element of that tag at the start of `bytes`, and what follows it. Lengths are
/// definite and at most four bytes long.
#[must_use]
pub fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    if *found != tag {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    if *first < 0x80 {
        return rest.split_at_checked(usize::from(*first));
    }
    let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
    if length.is_empty() || length.len() > 4 {
        return None;
    }
    let length = length.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
    rest.split_at_checked(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests;
