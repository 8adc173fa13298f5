//! Search filters as text: what is read is printed so that it reads the same, and an entry answers it
//! alike whether it is held in memory or encoded.
//!
//! The input is a filter, and after a line end the values that an entry has of some attributes.

#![no_main]

use std::sync::LazyLock;

use dirless_directory::encoded::{Attributes, Matcher, Subject, encode};
use dirless_directory::{AttributeName, Dn, Entry, Filter, Schema, Value};
use libfuzzer_sys::fuzz_target;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::standard);
const NAME: &str = "cn=alice+uid=a,ou=people,dc=example";

fuzz_target!(|data: &[u8]| {
    let place = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (text, values) = data.split_at(place);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(filter) = Filter::parse(text) else { return };
    let printed = filter.to_string();
    if printed.len() <= 65_536 {
        assert_eq!(Filter::parse(&printed).as_ref(), Ok(&filter), "{printed}");
    }
    let entry = entry(values);
    let encoded = encode(&SCHEMA, &entry);
    let key = SCHEMA.dn_key(entry.dn()).expect("the name is an ordinary one");
    let subject = Subject {
        dn: NAME,
        key: key.as_bytes(),
        attributes: Attributes::new(&encoded).expect("it was just encoded"),
    };
    let answer = Matcher::new(&SCHEMA, &filter).matches(&SCHEMA, subject);
    assert_eq!(answer, filter.evaluate(&SCHEMA, &entry), "{printed}");
});

/// A line each: the first byte chooses the attribute, the rest is a value of it.
fn entry(lines: &[u8]) -> Entry {
    let names = [
        "cn",
        "sn",
        "uid",
        "uidNumber",
        "member",
        "jpegPhoto",
        "foo",
        "entryUUID",
        "objectClass",
        "createTimestamp",
        "telephoneNumber",
        "cn;lang-de",
    ];
    let mut entry = Entry::new(Dn::parse(NAME).expect("a name"));
    for line in lines.split(|byte| *byte == b'\n').take(32) {
        let Some((choice, value)) = line.split_first() else {
            continue;
        };
        if let Some(name) = names.get(usize::from(*choice) % names.len()) {
            let name = AttributeName::parse(name).expect("an attribute name");
            entry.add(name, Value::from(value.to_vec()));
        }
    }
    entry
}
