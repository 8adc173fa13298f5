//! Entries as JSON, and back.
//!
//! A value is a text; one that is no UTF-8 is `{"base64": "…"}`. A secret is shown as
//! `{"hidden": true}`, and who sends that back keeps what is there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dirless_directory::{AttributeName, Dn, Entry, Schema, Value};
use serde_json::{Map, Value as Json, json};

use crate::serve::problem::{Code, Problem};
pub(crate) use crate::tree::secrets::Secrets;

/// The attributes of an entry; only those that `wanted` names, all when it names none.
pub(crate) fn attributes(schema: &Schema, secrets: &Secrets, entry: &Entry, wanted: &[String]) -> Map<String, Json> {
    let is_wanted = |name: &AttributeName| {
        wanted.is_empty()
            || wanted.iter().any(|wanted| {
                wanted == "*" || name.as_str().eq_ignore_ascii_case(wanted) || schema.is_subtype(name.kind(), wanted)
            })
    };
    let shown = entry.attributes().filter(|(name, _)| is_wanted(name));
    shown
        .map(|(name, values)| {
            let hidden = secrets.holds(name);
            let one = |value: &Value| {
                if hidden {
                    json!({"hidden": true})
                } else {
                    shown_value(value)
                }
            };
            (name.to_string(), values.iter().map(one).collect())
        })
        .collect()
}

pub(crate) fn shown_value(value: &Value) -> Json {
    match value.as_str() {
        Some(text) => Json::from(text),
        None => json!({"base64": STANDARD.encode(value.as_bytes())}),
    }
}

/// Reads attributes as [`attributes`] shows them. A single value needs no list; numbers and truth
/// values are taken for their texts. What is hidden comes from `held`.
pub(crate) fn entry(
    dn: Dn,
    attributes: &Map<String, Json>,
    secrets: &Secrets,
    held: Option<&Entry>,
) -> Result<Entry, Problem> {
    let mut entry = Entry::new(dn);
    for (text, told) in attributes {
        let wrong = |reason: String| Problem::new(Code::InvalidBody, reason).at(format!("attributes.{text}"));
        let name = AttributeName::parse(text).map_err(|error| wrong(error.to_string()))?;
        let list = match told {
            Json::Array(list) => list.as_slice(),
            single => std::slice::from_ref(single),
        };
        let is_hidden = |value: &Json| value.get("hidden") == Some(&Json::Bool(true));
        if list.iter().any(is_hidden) {
            if !secrets.holds(&name) || !list.iter().all(is_hidden) {
                return Err(
                    wrong("only a secret can be hidden, and then all of its values".to_owned())
                        .hint("send {\"hidden\": true} back as it was read, or new values"),
                );
            }
            let values = held.map_or(&[][..], |held| held.values(&name));
            entry.set(name, values.to_vec());
            continue;
        }
        for one in list {
            let value = value(one).ok_or_else(|| {
                wrong("is no value".to_owned()).hint("a value is a text, a number, true, false or {\"base64\": \"…\"}")
            })?;
            entry.add(name.clone(), value);
        }
    }
    Ok(entry)
}

fn value(json: &Json) -> Option<Value> {
    match json {
        Json::String(text) => Some(Value::from(text.as_str())),
        Json::Number(number) => Some(Value::from(number.to_string())),
        Json::Bool(truth) => Some(Value::from(if *truth { "TRUE" } else { "FALSE" })),
        Json::Object(object) if object.len() == 1 => {
            let bytes = STANDARD.decode(object.get("base64")?.as_str()?).ok()?;
            Some(Value::from(bytes))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> AttributeName {
        AttributeName::parse(text).unwrap()
    }

    fn secrets() -> Secrets {
        Secrets::passwords(&Schema::standard())
    }

    #[test]
    fn what_is_hidden_comes_back_as_it_was() {
        let schema = Schema::standard();
        let mut held = Entry::new(Dn::parse("uid=a").unwrap());
        held.add(name("userPassword"), Value::from("{SSHA}x"));
        held.add(name("jpegPhoto"), Value::from(vec![0xff, 0xd8]));
        let told = attributes(&schema, &secrets(), &held, &[]);
        assert!(!serde_json::to_string(&told).unwrap().contains("SSHA"));
        let back = entry(held.dn().clone(), &told, &secrets(), Some(&held)).unwrap();
        assert_eq!(back, held);
        let refused = |json: Json| {
            let told = json.as_object().unwrap().clone();
            entry(held.dn().clone(), &told, &secrets(), Some(&held))
                .unwrap_err()
                .code()
        };
        assert_eq!(refused(json!({"cn": [{"hidden": true}]})), Code::InvalidBody);
        assert_eq!(
            refused(json!({"userPassword": [{"hidden": true}, "x"]})),
            Code::InvalidBody
        );
        assert_eq!(refused(json!({"a b": ["x"]})), Code::InvalidBody);
        assert_eq!(refused(json!({"cn": [null]})), Code::InvalidBody);
        assert_eq!(refused(json!({"cn": [{"base64": "!"}]})), Code::InvalidBody);
    }

    #[test]
    fn plain_json_is_understood_and_attributes_are_chosen() {
        let told = json!({"aitherEnabled": true, "uidNumber": 41, "cn": "a"});
        let read = entry(Dn::parse("uid=a").unwrap(), told.as_object().unwrap(), &secrets(), None).unwrap();
        let shown = attributes(&Schema::standard(), &secrets(), &read, &[]);
        assert_eq!(
            Json::Object(shown),
            json!({"aitherEnabled": ["TRUE"], "uidNumber": ["41"], "cn": ["a"]})
        );
        let shown = attributes(&Schema::standard(), &secrets(), &read, &["name".to_owned()]);
        assert_eq!(Json::Object(shown), json!({"cn": ["a"]}), "cn is a kind of name");
    }

    proptest! {
        #[test]
        fn entries_survive(
            values in proptest::collection::btree_map("[a-d]", proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 1..3), 0..4)
        ) {
            let mut made = Entry::new(Dn::parse("cn=a").unwrap());
            for (text, values) in values {
                made.set(name(&text), values.into_iter().map(Value::from).collect());
            }
            let told = attributes(&Schema::standard(), &secrets(), &made, &[]);
            let back = entry(made.dn().clone(), &told, &secrets(), None).unwrap();
            prop_assert_eq!(back, made);
        }
    }
}
