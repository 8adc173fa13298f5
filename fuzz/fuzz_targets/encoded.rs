//! Encoded entries as a store may hold them when its file is damaged: walked to an end, refused, or
//! read and written back as the same entry.

#![no_main]

use std::sync::LazyLock;

use dirless_directory::encoded::{Attributes, Matcher, Subject, encode};
use dirless_directory::{Dn, Filter, Schema};
use libfuzzer_sys::fuzz_target;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::standard);
static FILTER: LazyLock<Filter> = LazyLock::new(|| {
    Filter::parse("(|(cn=a*b)(!(uidNumber>=7))(member=cn=a,dc=b)(objectClass=person))").expect("a filter")
});

fuzz_target!(|data: &[u8]| {
    let Ok(attributes) = Attributes::new(data) else { return };
    let walked: usize = attributes.iter().map(|attribute| attribute.encoded.len()).sum();
    assert!(walked <= data.len());
    let subject = Subject {
        dn: "cn=a,dc=b",
        key: b"dc=b\0cn=a\0",
        attributes,
    };
    let _ = Matcher::new(&SCHEMA, &FILTER).matches(&SCHEMA, subject);
    let mut selected = Vec::new();
    attributes.select(&mut selected, |name| name.len() % 2 == 0);
    let part = Attributes::new(&selected).expect("a selection is whole");
    assert!(part.verify().is_ok() || attributes.verify().is_err());
    let Ok(entry) = attributes.entry(Dn::ROOT) else { return };
    let again = encode(&SCHEMA, &entry);
    let again = Attributes::new(&again).expect("it was just encoded");
    assert_eq!(again.entry(Dn::ROOT), Ok(entry));
});
