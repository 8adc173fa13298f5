//! An entry as a server sends it, and what can be read out of it. Pure.

use std::collections::BTreeMap;

use dirless_directory::encoded::{OCTET_STRING, SEQUENCE, SET, put_attribute, take};

use crate::sources::SourceError;

/// One entry: attribute names in lower case, values as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub dn: String,
    attributes: BTreeMap<String, Vec<Vec<u8>>>,
}

impl Record {
    /// An entry called `dn`.
    #[must_use]
    pub fn new(dn: &str) -> Self {
        Self {
            dn: dn.to_owned(),
            attributes: BTreeMap::new(),
        }
    }

    /// Adds a value.
    pub fn add(&mut self, name: &str, value: Vec<u8>) {
        self.attributes
            .entry(name.to_ascii_lowercase())
            .or_default()
            .push(value);
    }

    /// The entry called `name` with the content of a `PartialAttributeList`, as a server sends it.
    ///
    /// # Errors
    /// [`SourceError::Inconsistent`] when it is none to its last byte: half an entry must not pass for
    /// a whole one.
    pub fn read(name: &str, attributes: &[u8]) -> Result<Self, SourceError> {
        let damaged = || SourceError::Inconsistent(format!("the attributes of {name:?} are damaged"));
        let mut record = Self::new(name);
        let mut rest = attributes;
        while !rest.is_empty() {
            let (attribute, after) = take(rest, SEQUENCE).ok_or_else(damaged)?;
            let (kind, attribute) = take(attribute, OCTET_STRING).ok_or_else(damaged)?;
            let (mut values, _) = take(attribute, SET).ok_or_else(damaged)?;
            let kind = std::str::from_utf8(kind).map_err(|_| damaged())?.to_ascii_lowercase();
            let list = record.attributes.entry(kind).or_default();
            while !values.is_empty() {
                let (value, after) = take(values, OCTET_STRING).ok_or_else(damaged)?;
                list.push(value.to_vec());
                values = after;
            }
            rest = after;
        }
        Ok(record)
    }

    /// The attributes as [`Record::read`] takes them.
    #[must_use]
    pub fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, values) in &self.attributes {
            put_attribute(&mut out, name, values.iter().map(Vec::as_slice));
        }
        out
    }

    /// The values of `name`.
    #[must_use]
    pub fn values(&self, name: &str) -> &[Vec<u8>] {
        self.attributes
            .get(&name.to_ascii_lowercase())
            .map_or(&[], Vec::as_slice)
    }

    /// Values of `name` that are text and not empty.
    pub fn texts<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let values = self.values(name).iter();
        values
            .filter_map(|value| std::str::from_utf8(value).ok())
            .filter(|text| !text.is_empty())
    }

    /// The first text of `name`.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts(name).next()
    }

    /// Is there a value of `name`?
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }

    /// When the server has cut the values of `name` into ranges (`member;range=0-1499`, MS-ADTS
    /// 3.1.1.3.1.3.3), adds those of this part to the plain attribute and returns where the next
    /// part begins: `None` after the last.
    pub fn take_range(&mut self, name: &str) -> Option<u32> {
        let name = name.to_ascii_lowercase();
        let start = format!("{name};range=");
        let key = self.attributes.keys().find(|key| key.starts_with(&start))?.clone();
        let values = self.attributes.remove(&key).unwrap_or_default();
        let upper = key.rsplit('-').next().and_then(|text| text.parse::<u32>().ok());
        self.attributes.entry(name).or_default().extend(values);
        upper.and_then(|upper| upper.checked_add(1))
    }

    /// Has the server cut the values of `name` into ranges?
    #[must_use]
    pub fn is_cut(&self, name: &str) -> bool {
        let start = format!("{};range=", name.to_ascii_lowercase());
        self.attributes.keys().any(|key| key.starts_with(&start))
    }

    /// Adds the values that `other` has of `name`.
    pub fn append(&mut self, name: &str, other: &Self) {
        let values = other.values(name).to_vec();
        self.attributes
            .entry(name.to_ascii_lowercase())
            .or_default()
            .extend(values);
    }

    /// Names of all attributes, in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.attributes.keys().map(String::as_str)
    }

    /// Takes the values of `name` away.
    pub fn remove(&mut self, name: &str) {
        self.attributes.remove(&name.to_ascii_lowercase());
    }
}

/// A GUID in the form that Microsoft prints: its first three parts are little-endian (MS-DTYP 2.3.4).
#[must_use]
pub fn guid(bytes: &[u8]) -> Option<String> {
    let [a0, a1, a2, a3, b0, b1, c0, c1, d @ ..] = <&[u8; 16]>::try_from(bytes).ok()?;
    let first = u32::from_le_bytes([*a0, *a1, *a2, *a3]);
    let second = u16::from_le_bytes([*b0, *b1]);
    let third = u16::from_le_bytes([*c0, *c1]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (front, back) = d.split_at(2);
    Some(format!(
        "{first:08x}-{second:04x}-{third:04x}-{}-{}",
        hex(front),
        hex(back)
    ))
}

/// The bytes of a GUID that [`guid`] wrote.
#[must_use]
pub fn guid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|char| *char != '-').collect();
    if digits.len() != 32 || !digits.is_ascii() {
        return None;
    }
    let number = u128::from_str_radix(&digits, 16).ok()?;
    let mut bytes = number.to_be_bytes();
    for part in [0..4, 4..6, 6..8] {
        bytes.get_mut(part)?.reverse();
    }
    Some(bytes)
}

/// The last part of a SID (MS-DTYP 2.4.2): its number within the domain.
#[must_use]
pub fn rid(sid: &[u8]) -> Option<u32> {
    let count = usize::from(*sid.get(1)?);
    if count == 0 || sid.len() != 8 + 4 * count {
        return None;
    }
    let last: [u8; 4] = sid.last_chunk().copied()?;
    Some(u32::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_guid_reads_as_microsoft_prints_it() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(guid(&bytes).unwrap(), "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(guid(&bytes[..15]), None);
        assert_eq!(
            guid_bytes("03020100-0504-0706-0809-0a0b0c0d0e0f").unwrap().as_slice(),
            bytes
        );
        assert_eq!(guid_bytes("03020100"), None);
    }

    #[test]
    fn a_rid_is_the_last_part() {
        let mut sid = vec![1, 2, 0, 0, 0, 0, 0, 5];
        sid.extend(21u32.to_le_bytes());
        sid.extend(513u32.to_le_bytes());
        assert_eq!(rid(&sid), Some(513));
        assert_eq!(rid(&sid[..15]), None);
        assert_eq!(rid(&[]), None);
        assert_eq!(rid(&[1, 0, 0, 0, 0, 0, 0, 5]), None);
    }

    #[test]
    fn attributes_are_found_in_any_case_and_cut_lists_are_seen() {
        let mut record = Record::new("cn=a");
        record.add("Mail", b"a@b".to_vec());
        record.add("member;range=0-1499", b"cn=b".to_vec());
        record.add("member", b"cn=a".to_vec());
        record.add("photo", vec![0xff]);
        assert_eq!(record.text("mAIL"), Some("a@b"));
        assert!(record.is_cut("Member") && !record.is_cut("mail"));
        assert_eq!(record.text("photo"), None);
        assert!(record.has("photo"));
        assert_eq!(record.take_range("member"), Some(1500));
        assert_eq!(record.texts("member").collect::<Vec<_>>(), ["cn=a", "cn=b"]);
        record.add("member;range=1500-*", b"cn=c".to_vec());
        assert_eq!((record.take_range("member"), record.values("member").len()), (None, 3));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_id_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(guid(&bytes).is_some(), bytes.len() == 16);
            let _ = rid(&bytes);
            if let Some(text) = guid(&bytes) {
                let back = guid_bytes(&text).unwrap();
                prop_assert_eq!(back.to_vec(), bytes);
            }
        }

        /// What is written is read back, and what a server makes up is read or refused.
        #[test]
        fn a_record_is_read_back(values in proptest::collection::btree_map("[a-z]{1,8}", proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..4), 0..4), cut in 0usize..40) {
            let mut record = Record::new("cn=a");
            for (name, values) in &values {
                values.iter().for_each(|value| record.add(name, value.clone()));
            }
            let bytes = record.encoded();
            prop_assert_eq!(Record::read("cn=a", &bytes).unwrap(), record);
            if (1..bytes.len()).contains(&cut) && Record::read("cn=a", &bytes[..cut]).is_ok() {
                // Only at the edge of an attribute is a part of it something whole.
                prop_assert!(values.len() > 1);
            }
        }
    }
}
