//! Short ways to write entries, and JSON that comes out the same whatever it was written in.

use std::collections::BTreeMap;

use dirless_directory::schema::object_class;
use dirless_directory::{AttributeName, Dn, Entry, Rdn, Value};
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use super::Place;
use crate::tree::skeleton;

/// Longest JSON that an entry carries: hosts keep each entry whole.
pub(super) const LARGEST_JSON: usize = 1024 * 1024;

/// An entry in the making.
#[derive(Clone, Debug)]
pub(super) struct Draft(Entry);

impl Draft {
    /// An entry of `classes` below `above`, named by `attribute` and `value`.
    pub(super) fn new(above: &Dn, attribute: &'static str, value: &str, classes: &[&str]) -> Self {
        let dn = above.child(Rdn::new(name(attribute), Value::from(value)));
        let mut entry = Entry::new(dn);
        let classes = std::iter::once("top").chain(classes.iter().copied());
        entry.set(object_class(), classes.map(Value::from).collect());
        entry.add(name(attribute), Value::from(value));
        Self(entry)
    }

    /// One text; one that is missing or blank is none.
    pub(super) fn text(&mut self, attribute: &'static str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) {
            self.0.set(name(attribute), vec![Value::from(value)]);
        }
        self
    }

    /// Texts, each once (upper and lower case are the same), in the order in which they come.
    pub(super) fn list<T: AsRef<str>>(
        &mut self,
        attribute: &'static str,
        values: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        let mut kept: Vec<String> = Vec::new();
        for value in values {
            let value = value.as_ref().trim();
            let known = kept.iter().any(|known| known.to_lowercase() == value.to_lowercase());
            if !value.is_empty() && !known {
                kept.push(value.to_owned());
            }
        }
        if !kept.is_empty() {
            let values = kept.iter().map(|value| Value::from(value.as_str()));
            self.0.set(name(attribute), values.collect());
        }
        self
    }

    /// A number.
    pub(super) fn number(&mut self, attribute: &'static str, value: Option<u64>) -> &mut Self {
        self.text(attribute, value.map(|value| value.to_string()).as_deref())
    }

    /// TRUE or FALSE.
    pub(super) fn boolean(&mut self, attribute: &'static str, value: Option<bool>) -> &mut Self {
        self.text(attribute, value.map(|value| if value { "TRUE" } else { "FALSE" }))
    }

    /// JSON; an empty table is none.
    pub(super) fn json(&mut self, attribute: &'static str, value: &Json) -> &mut Self {
        let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        let text = value.to_string();
        self.text(attribute, (!empty).then_some(text.as_str()))
    }

    /// Names of entries.
    pub(super) fn names(&mut self, attribute: &'static str, names: impl IntoIterator<Item = Dn>) -> &mut Self {
        self.list(attribute, names.into_iter().map(|dn| dn.to_string()))
    }

    /// Bytes.
    pub(super) fn bytes(&mut self, attribute: &'static str, bytes: &[u8]) -> &mut Self {
        self.0.set(name(attribute), vec![Value::from(bytes.to_vec())]);
        self
    }

    /// The entry.
    pub(super) fn entry(&self) -> Entry {
        self.0.clone()
    }
}

fn name(attribute: &'static str) -> AttributeName {
    AttributeName::parse(attribute).expect("names of attributes here are written out")
}

impl Place<'_> {
    /// The unit `unit` of `tenant`, or of the whole tree.
    ///
    /// # Errors
    /// When there is no such tenant.
    pub(super) fn unit(&self, tenant: Option<&str>, unit: &str) -> Result<Dn, String> {
        match tenant {
            None => Ok(skeleton::unit(self.base, unit)),
            Some(tenant) if self.tenants.contains(tenant) => {
                Ok(skeleton::unit(&skeleton::tenant(self.base, tenant), unit))
            }
            Some(tenant) => Err(format!(
                "there is no tenant {tenant:?}; describe it in tenants/{tenant}.yaml, or correct the name"
            )),
        }
    }

    /// The entry of the person `uid`.
    pub(super) fn user(&self, uid: &str) -> Dn {
        skeleton::unit(self.base, "users").child(Rdn::new(name("uid"), Value::from(uid)))
    }

    /// The entry called `cn` in `unit`.
    pub(super) fn named(&self, unit: &str, cn: &str) -> Dn {
        skeleton::unit(self.base, unit).child(Rdn::new(name("cn"), Value::from(cn)))
    }
}

/// A name as keys compare: lower case, blanks as hyphens.
pub(super) fn slug(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join("-").to_lowercase()
}

/// Checks a name that becomes part of an entry's name.
pub(super) fn check_name(text: &str) -> Result<(), String> {
    let odd = |letter: char| !(letter.is_alphanumeric() || "-_. @".contains(letter));
    if text.is_empty() || text.len() > 128 || text.contains(odd) || text.trim() != text {
        Err(format!(
            "{text:?} is no name; use up to 128 letters, digits, '-', '_' and '.'"
        ))
    } else {
        Ok(())
    }
}

/// JSON of any format: keys sorted, a key that comes twice refused, times as text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Strict(pub(super) Json);

impl<'de> serde::Deserialize<'de> for Strict {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Any.deserialize(deserializer).map(Self)
    }
}

/// What the `toml` crate calls the one key of a time.
const TOML_TIME: &str = "$__toml_private_datetime";

struct Any;

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Json;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Json;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a value that JSON has")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        let number = serde_json::Number::from_f64(value);
        number
            .map(Json::Number)
            .ok_or_else(|| E::custom("JSON has no such number; write it as text"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Any)? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Json, A::Error> {
        let mut values: BTreeMap<String, Json> = BTreeMap::new();
        while let Some(key) = table.next_key::<String>()? {
            let value = table.next_value_seed(Any)?;
            if key == TOML_TIME {
                return Ok(value);
            }
            if values.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key:?} comes twice")));
            }
            values.insert(key, value);
        }
        Ok(Json::Object(values.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sources::files::Format;

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Json::from),
            any::<i32>().prop_map(Json::from),
            "[ -~]{0,12}".prop_map(Json::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                proptest::collection::btree_map("[a-z]{1,5}", inner, 0..4)
                    .prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn the_same_comes_out_of_every_format() {
        let yaml = "b: [1, 2.5, no, null]\na: {x: true, 1: one}\nt: 2026-05-31T00:00:00Z\n";
        let json = r#"{"t": "2026-05-31T00:00:00Z", "a": {"1": "one", "x": true}, "b": [1, 2.5, "no", null]}"#;
        let yaml: Strict = Format::Yaml.document(yaml).unwrap();
        let json: Strict = Format::Json.document(json).unwrap();
        assert_eq!(yaml, json);
        assert!(json.0.to_string().starts_with("{\"a\":{\"1\""));
        let toml: Strict = Format::Toml.document("t = 2026-05-31T00:00:00Z\nb = [1]\n").unwrap();
        assert_eq!(toml.0.to_string(), r#"{"b":[1],"t":"2026-05-31T00:00:00Z"}"#);
    }

    #[test]
    fn doubles_and_what_json_lacks_are_refused() {
        let refused = |format: Format, text: &str| format.document::<Strict>(text).is_err();
        assert!(refused(Format::Json, r#"{"a": 1, "a": 2}"#));
        assert!(refused(Format::Yaml, "a: 1\na: 2\n"));
        assert!(refused(Format::Yaml, "a: .nan\n"));
        assert!(refused(Format::Yaml, "a: &x [1]\nb: *x\n"));
        assert!(refused(Format::Yaml, "a: 1\n---\nb: 1\n"));
        assert!(refused(Format::Toml, "a = inf\n"));
        assert!(refused(
            Format::Yaml,
            &format!("a: {}{}", "[".repeat(200), "]".repeat(200))
        ));
        assert!(check_name("a/b").is_err() && check_name(" a").is_err() && check_name("Athena 2").is_ok());
        assert_eq!(slug(" The  Agent "), "the-agent");
    }

    proptest! {
        /// JSON is YAML, so both readers say the same of it.
        #[test]
        fn json_reads_as_yaml_and_back(json in any_json()) {
            let table = serde_json::json!({ "it": json });
            let text = table.to_string();
            let read: Strict = Format::Json.document(&text).unwrap();
            prop_assert_eq!(&read.0, &table);
            let read: Strict = Format::Yaml.document(&text).unwrap();
            prop_assert_eq!(&read.0, &table);
        }
    }
}
