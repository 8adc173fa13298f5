//! What a change did, as JSON, and doing it again.
//!
//! ```json
//! {"add": {"mail": ["a@example"]}}                              an entry that appeared, or vanished as "remove"
//! {"set": {"mail": {"before": ["a@example"], "after": []}}}     attributes that changed
//! {"to": "uid=b,ou=users,dc=dirless", "set": {...}}             another name, for the whole subtree
//! ```
//!
//! A value that is no UTF-8 stands as `{"base64": "…"}`. Secrets are not told: each stands as
//! `{"hidden": true}`. `hasSubordinates` follows from the other entries and is not told either.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dirless_directory::{AttributeName, Entry, Value};
use serde_json::{Map, Value as Json, json};

use super::secrets::Secrets;

/// The attributes of an entry as JSON, for people and the changelog, with the values of `secrets` hidden.
#[must_use]
pub fn attributes(entry: &Entry, secrets: &Secrets) -> Json {
    let told = entry.attributes().filter(|(name, _)| is_told(name));
    Json::Object(
        told.map(|(name, values)| (name.to_string(), list(name, values, secrets)))
            .collect(),
    )
}

/// What leads from `before` to `after`; none when nothing does.
pub(super) fn between(before: &Entry, after: &Entry, secrets: &Secrets) -> Map<String, Json> {
    let mut set = Map::new();
    let mut note = |name: &AttributeName| {
        let (old, new) = (before.values(name), after.values(name));
        if old != new && is_told(name) {
            let difference = json!({"before": list(name, old, secrets), "after": list(name, new, secrets)});
            set.insert(name.to_string(), difference);
        }
    };
    after.attributes().for_each(|(name, _)| note(name));
    let gone = before.attributes().filter(|(name, _)| after.values(name).is_empty());
    gone.for_each(|(name, _)| note(name));
    set
}

fn is_told(name: &AttributeName) -> bool {
    !name.as_str().eq_ignore_ascii_case("hasSubordinates")
}

fn list(name: &AttributeName, values: &[Value], secrets: &Secrets) -> Json {
    let hidden = secrets.holds(name);
    let one = |value: &Value| {
        if hidden {
            return json!({"hidden": true});
        }
        match value.as_str() {
            Some(text) => Json::from(text),
            None => json!({"base64": STANDARD.encode(value.as_bytes())}),
        }
    };
    values.iter().map(one).collect()
}

/// Puts attributes as [`attributes`] and the changelog tell them into `entry`. Anything else is passed
/// over: hidden values cannot come back.
pub fn apply(entry: &mut Entry, attributes: &Map<String, Json>) {
    for (name, told) in attributes {
        let after = told.get("after").unwrap_or(told);
        if let (Ok(name), Some(values)) = (AttributeName::parse(name), after.as_array()) {
            entry.set(name, values.iter().filter_map(value).collect());
        }
    }
}

/// One value as JSON has it.
#[must_use]
pub fn value(json: &Json) -> Option<Value> {
    match json {
        Json::String(text) => Some(Value::from(text.as_str())),
        Json::Object(object) => {
            let bytes = STANDARD.decode(object.get("base64")?.as_str()?).ok()?;
            Some(Value::from(bytes))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use dirless_directory::{Dn, Schema};
    use proptest::prelude::*;

    use super::*;

    fn entry(attributes: Vec<(String, Vec<Vec<u8>>)>) -> Entry {
        let mut entry = Entry::new(Dn::parse("cn=a").unwrap());
        for (name, values) in attributes {
            entry.set(
                AttributeName::parse(&name).unwrap(),
                values.into_iter().map(Value::from).collect(),
            );
        }
        entry
    }

    fn secrets() -> Secrets {
        Secrets::passwords(&Schema::standard())
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_the_one_to_the_other(
            before in proptest::collection::vec(("[a-d]", proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 1..3)), 0..4),
            after in proptest::collection::vec(("[a-d]", proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 1..3)), 0..4),
        ) {
            let (mut before, after) = (entry(before), entry(after));
            let difference = between(&before, &after, &secrets());
            prop_assert_eq!(difference.is_empty(), before == after);
            apply(&mut before, &difference);
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn secrets_and_what_follows_from_others_are_not_told() {
        let held = entry(vec![
            ("userPassword".to_owned(), vec![b"{SSHA}x".to_vec()]),
            ("hasSubordinates".to_owned(), vec![b"TRUE".to_vec()]),
        ]);
        let told = attributes(&held, &secrets());
        assert_eq!(told, json!({"userPassword": [{"hidden": true}]}));
        let other = entry(vec![("userpassword".to_owned(), vec![b"{SSHA}y".to_vec()])]);
        let told = Json::Object(between(&held, &other, &secrets())).to_string();
        assert!(!told.contains("SSHA") && told.contains("hidden"), "{told}");
    }
}
