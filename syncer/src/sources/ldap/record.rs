//! An entry as a server sends it, and what can be read out of it. Pure.

use std::collections::{BTreeMap, HashMap};

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

    /// The entry in the form of the client library.
    pub(super) fn from_parts(
        dn: &str,
        text: HashMap<String, Vec<String>>,
        binary: HashMap<String, Vec<Vec<u8>>>,
    ) -> Self {
        let mut record = Self::new(dn);
        for (name, values) in text {
            values
                .into_iter()
                .for_each(|value| record.add(&name, value.into_bytes()));
        }
        for (name, values) in binary {
            values.into_iter().for_each(|value| record.add(&name, value));
        }
        record
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

    /// Has the server cut the values of `name` into ranges (`member;range=0-1499`)?
    #[must_use]
    pub fn is_cut(&self, name: &str) -> bool {
        let start = format!("{};range=", name.to_ascii_lowercase());
        self.attributes.keys().any(|key| key.starts_with(&start))
    }

    /// Names of all attributes, in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.attributes.keys().map(String::as_str)
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
        record.add("photo", vec![0xff]);
        assert_eq!(record.text("mAIL"), Some("a@b"));
        assert!(record.is_cut("Member") && !record.is_cut("mail"));
        assert_eq!(record.text("photo"), None);
        assert!(record.has("photo"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_id_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(guid(&bytes).is_some(), bytes.len() == 16);
            let _ = rid(&bytes);
        }
    }
}
