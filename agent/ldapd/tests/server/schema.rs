//! A site's own schema: served, and changed while clients are served.

use std::time::Duration;

use dirless_copy::{Draft, Record};
use dirless_directory::encoded::encode;
use dirless_directory::{AttributeName, Dn, Entry, Schema, Value};
use dirless_program::Clock;
use dirless_testkit::eventually;

use crate::support::{BASE, Host, Server, count};

const FLOOR: &str = "( 1.3.6.1.4.1.99999.1 NAME 'corpFloor' EQUALITY integerMatch ORDERING integerOrderingMatch \
    SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )";
const ROOM: &str = "( 1.3.6.1.4.1.99999.2 NAME 'corpRoom' SUP top STRUCTURAL MUST cn MAY corpFloor )";

/// Publishes the base and rooms on the floors 1 to 20 under `schema`.
fn publish(host: &Host, schema: &Schema) {
    let mut draft = Draft::begin(&host.copy(), schema.clone(), "rooms", Clock::system().now(), false).unwrap();
    let mut entries = vec![entry(BASE, &[("objectClass", "domain"), ("dc", "example")])];
    for floor in 1..=20 {
        let (dn, number) = (format!("cn=room{floor},{BASE}"), format!("{floor:03}"));
        entries.push(entry(&dn, &[("objectClass", "corpRoom"), ("corpFloor", &number)]));
    }
    let mut keyed: Vec<_> = entries
        .iter()
        .map(|entry| (schema.dn_key(entry.dn()).unwrap(), entry))
        .collect();
    keyed.sort_by(|one, other| one.0.cmp(&other.0));
    for (place, (key, entry)) in (1_u8..).zip(keyed) {
        let record = Record {
            key: &key,
            dn: &entry.dn().to_string(),
            uuid: [place; 16],
            attributes: &encode(schema, entry),
            canonical: false,
        };
        draft.put(&record).unwrap();
    }
    draft.finish("").unwrap();
}

fn entry(dn: &str, attributes: &[(&str, &str)]) -> Entry {
    let mut entry = Entry::new(Dn::parse(dn).unwrap());
    for (name, value) in attributes {
        entry.add(AttributeName::parse(name).unwrap(), Value::from(*value));
    }
    entry
}

fn found(server: &Server, filter: &str) -> usize {
    count(&server.search(&["-b", BASE, filter, "1.1"]))
}

fn subschema(server: &Server) -> String {
    server.search(&["-s", "base", "-b", "cn=Subschema", "+"])
}

#[test]
fn the_schema_of_the_newest_copy_is_served_and_gone_by() {
    let host = Host::new();
    publish(&host, &Schema::standard());
    let server = host.serve("");
    // Texts that nobody knows to be numbers.
    assert_eq!(
        (found(&server, "(corpFloor=7)"), found(&server, "(corpFloor=007)")),
        (0, 1)
    );
    assert!(!subschema(&server).contains("corpFloor"));
    let mut site = Schema::standard();
    site.extend(&format!("attributetype {FLOOR}\nobjectclass {ROOM}"))
        .unwrap();
    publish(&host, &site);
    eventually(Duration::from_secs(60), "the site's schema to be served", || {
        subschema(&server).contains("corpFloor").then_some(())
    })
    .unwrap();
    let schema = subschema(&server);
    for line in [format!("attributeTypes: {FLOOR}"), format!("objectClasses: {ROOM}")] {
        assert!(schema.lines().any(|held| held == line), "{line} is not in\n{schema}");
    }
    let uses = schema
        .lines()
        .find(|line| line.contains("'integerMatch' APPLIES"))
        .unwrap();
    assert!(uses.contains("corpFloor"), "{uses}");
    for (filter, wanted) in [
        ("(corpFloor=7)", 1),
        ("(1.3.6.1.4.1.99999.1=0007)", 1),
        ("(corpFloor>=11)", 10),
        ("(&(objectClass=1.3.6.1.4.1.99999.2)(corpFloor<=9))", 9),
        ("(corpFloor=seven)", 0),
    ] {
        assert_eq!(found(&server, filter), wanted, "{filter}");
    }
    // In the order of numbers.
    let sorted = server.search(&["-b", BASE, "-E", "sss=corpFloor", "(corpFloor=*)", "cn"]);
    assert!(sorted.find("cn=room9,") < sorted.find("cn=room10,"), "{sorted}");
    // Without it, as before.
    publish(&host, &Schema::standard());
    eventually(Duration::from_secs(60), "the standard schema to be served", || {
        (!subschema(&server).contains("corpFloor")).then_some(())
    })
    .unwrap();
    assert_eq!(found(&server, "(corpFloor=7)"), 0);
}
