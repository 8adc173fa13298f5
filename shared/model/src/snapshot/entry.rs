//! Entries of the directory tree. What a name or a value means is the directory's matter; here they
//! are texts and bytes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess};

use super::raw::{Any, Field, Record, RecordError, RecordVisitor, Take, next};

/// An entry of the directory tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeEntry {
    /// Its distinguished name (RFC 4514).
    pub dn: String,
    /// Its attributes with their values, each attribute once and with at least one value.
    pub attributes: Vec<(String, Vec<Vec<u8>>)>,
}

/// An entry as it stands in the JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawEntry {
    /// Set when the record is no object; the other fields are absent then.
    pub not_an_object: Option<&'static str>,
    /// `dn`
    pub dn: Field<String>,
    /// `attributes`
    pub attributes: Field<RawAttributes>,
}

/// The definitions of a site as they stand in the JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawSchema(pub Vec<String>);

/// The attributes of an entry as they stand in the JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawAttributes(Vec<(String, Vec<Vec<u8>>)>);

impl RawEntry {
    /// The name to show in reports.
    #[must_use]
    pub fn label(&self) -> &str {
        self.dn.value().map_or("(no name)", String::as_str)
    }

    /// The entry that this record describes. An attribute without values is none.
    ///
    /// # Errors
    /// When name or attributes are missing or of the wrong type, or an attribute comes twice.
    pub fn check(self) -> Result<TreeEntry, RecordError> {
        if let Some(was) = self.not_an_object {
            return Err(RecordError::NotAnObject { was });
        }
        let dn = self.dn.required("dn")?.clone();
        let mut attributes = match self.attributes {
            Field::Value(attributes) => attributes.0,
            Field::Absent => return Err(RecordError::Missing { field: "attributes" }),
            Field::Wrong(was) => {
                return Err(RecordError::Wrong {
                    field: "set of attributes",
                    was,
                });
            }
        };
        attributes.retain(|(_, values)| !values.is_empty());
        let mut seen = HashSet::with_capacity(attributes.len());
        if !attributes
            .iter()
            .all(|(name, _)| seen.insert(name.to_ascii_lowercase()))
        {
            return Err(RecordError::Wrong {
                field: "set of attributes",
                was: "one with an attribute that is there twice",
            });
        }
        Ok(TreeEntry { dn, attributes })
    }
}

impl<'de> Record<'de> for RawEntry {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "dn" => self.dn.set(next(map)?),
            "attributes" => self.attributes.set(next(map)?),
            _ => _ = map.next_value::<IgnoredAny>()?,
        }
        Ok(())
    }

    fn no_object(was: &'static str) -> Self {
        Self {
            not_an_object: Some(was),
            ..Self::default()
        }
    }
}

impl<'de> Deserialize<'de> for RawEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RecordVisitor(PhantomData))
    }
}

impl<'de> Take<'de> for RawAttributes {
    fn object<A: MapAccess<'de>>(mut map: A) -> Result<Field<Self>, A::Error> {
        let mut attributes = Vec::new();
        let mut wrong = false;
        while let Some(name) = map.next_key::<String>()? {
            match map.next_value()? {
                Any(Field::Value(RawValues(values))) => attributes.push((name, values)),
                Any(Field::Absent | Field::Wrong(_)) => wrong = true,
            }
        }
        Ok(if wrong {
            Field::Wrong("one with an attribute that is no list of values")
        } else {
            Field::Value(Self(attributes))
        })
    }
}

impl<'de> Take<'de> for RawSchema {
    fn array<A: SeqAccess<'de>>(mut seq: A) -> Result<Field<Self>, A::Error> {
        let mut definitions = Vec::new();
        let mut wrong = false;
        while let Some(Any(definition)) = seq.next_element::<Any<String>>()? {
            match definition {
                Field::Value(definition) => definitions.push(definition),
                Field::Absent | Field::Wrong(_) => wrong = true,
            }
        }
        Ok(if wrong {
            Field::Wrong("a list with something that is no text")
        } else {
            Field::Value(Self(definitions))
        })
    }
}

/// The values of one attribute.
struct RawValues(Vec<Vec<u8>>);

impl<'de> Take<'de> for RawValues {
    fn array<A: SeqAccess<'de>>(mut seq: A) -> Result<Field<Self>, A::Error> {
        let mut values = Vec::new();
        let mut wrong = false;
        while let Some(Any(value)) = seq.next_element::<Any<RawValue>>()? {
            match value {
                Field::Value(RawValue(bytes)) => values.push(bytes),
                Field::Absent | Field::Wrong(_) => wrong = true,
            }
        }
        Ok(if wrong {
            Field::Wrong("a list with something that is no value")
        } else {
            Field::Value(Self(values))
        })
    }
}

/// One value: a string, or an object with the bytes in base64.
struct RawValue(Vec<u8>);

impl<'de> Take<'de> for RawValue {
    fn text(text: Cow<'de, str>) -> Field<Self> {
        Field::Value(Self(text.into_owned().into_bytes()))
    }

    fn object<A: MapAccess<'de>>(mut map: A) -> Result<Field<Self>, A::Error> {
        let mut text: Field<String> = Field::Absent;
        while let Some(key) = map.next_key::<String>()? {
            if key == "base64" {
                text.set(next(&mut map)?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        let bytes = text.value().and_then(|text| STANDARD.decode(text).ok());
        Ok(bytes.map_or(Field::Wrong("no base64"), |bytes| Field::Value(Self(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<TreeEntry, String> {
        let raw: RawEntry = serde_json::from_str(json).unwrap();
        raw.check().map_err(|error| error.to_string())
    }

    #[test]
    fn text_and_bytes_are_values() {
        let entry =
            check(r#"{"dn":"cn=a","attributes":{"cn":["a","Zo\u00eb"],"photo":[{"base64":"/9g="}],"x":[]},"new":1}"#);
        let values = |texts: &[&[u8]]| texts.iter().map(|text| text.to_vec()).collect::<Vec<_>>();
        let wanted = TreeEntry {
            dn: "cn=a".to_owned(),
            attributes: vec![
                ("cn".to_owned(), values(&[b"a", "Zo\u{eb}".as_bytes()])),
                ("photo".to_owned(), values(&[&[0xff, 0xd8]])),
            ],
        };
        assert_eq!(entry.unwrap(), wanted);
    }

    #[test]
    fn what_is_no_entry_says_why() {
        for (json, reason) in [
            ("7", "is a number"),
            (r#"{"attributes":{}}"#, "has no dn"),
            (r#"{"dn":null,"attributes":{}}"#, "has a dn that is null"),
            (r#"{"dn":"cn=a"}"#, "has no attributes"),
            (r#"{"dn":"cn=a","attributes":[]}"#, "an array"),
            (r#"{"dn":"cn=a","attributes":{"cn":"a"}}"#, "no list of values"),
            (r#"{"dn":"cn=a","attributes":{"cn":["a",7]}}"#, "no list of values"),
            (
                r#"{"dn":"cn=a","attributes":{"cn":[{"base64":"!"}]}}"#,
                "no list of values",
            ),
            (
                r#"{"dn":"cn=a","attributes":{"cn":[{"base64":"YQ==","base64":"YQ=="}]}}"#,
                "no list of values",
            ),
            (r#"{"dn":"cn=a","attributes":{"cn":["a"],"CN":["b"]}}"#, "twice"),
            (r#"{"dn":"cn=a","dn":"cn=b","attributes":{}}"#, "given twice"),
        ] {
            let error = check(json).unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }
}
