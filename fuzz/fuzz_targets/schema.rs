//! Schema definitions as text: taken in whole or not at all, and printed so that they can be taken in
//! again.

#![no_main]

use std::fmt::Write as _;
use std::sync::LazyLock;

use dirless_directory::{Dn, Schema};
use libfuzzer_sys::fuzz_target;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::standard);

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut extended = SCHEMA.clone();
    let (attributes, classes) = (SCHEMA.attributes().count(), SCHEMA.classes().count());
    if extended.extend(text).is_err() {
        assert_eq!(
            (extended.attributes().count(), extended.classes().count()),
            (attributes, classes)
        );
        return;
    }
    let mut printed = String::new();
    for attribute in extended
        .attributes()
        .filter(|attribute| SCHEMA.attribute(&attribute.oid).is_none())
    {
        let _ = writeln!(printed, "attributetype {attribute}");
        let name = attribute.name();
        let _ = (
            extended.equality(name),
            extended.ordering(name),
            extended.substring(name),
            extended.syntax(name),
        );
        assert!(extended.is_subtype(name, name), "{name}");
        if let Ok(dn) = Dn::parse(&format!("{name}=a b,dc=example")) {
            let _ = extended.dn_key(&dn);
        }
    }
    for class in extended.classes().filter(|class| SCHEMA.class(&class.oid).is_none()) {
        let _ = writeln!(printed, "objectclass {class}");
    }
    let mut again = SCHEMA.clone();
    // In the order of the table a definition may come before what it refers to; nothing else may be wrong.
    if let Err(error) = again.extend(&printed) {
        assert!(
            matches!(error, dirless_directory::schema::SchemaError::Unknown { .. }),
            "{error}\n{printed}"
        );
    }
});
