//! A site's own schema, from the sealed snapshot to what clients make of it.

use anyhow::Context;
use dirless_e2e::ldap_host::{BASE, LdapHost, entries, python, search};
use dirless_e2e::world::ARRIVAL;
use dirless_testkit::{Program, eventually, isolated};
use serde_json::json;

const SCHEMA: [&str; 3] = [
    "attributetype ( 1.3.6.1.4.1.99999.1 NAME ( 'corpBadge' 'badge' ) DESC 'of the door' EQUALITY caseIgnoreMatch SUBSTR \
     caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )",
    "attributetype ( 1.3.6.1.4.1.99999.2 NAME 'corpFloor' EQUALITY integerMatch ORDERING integerOrderingMatch SYNTAX \
     1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )",
    "objectclass ( 1.3.6.1.4.1.99999.3 NAME 'corpRoom' SUP top STRUCTURAL MUST cn MAY ( corpBadge $ corpFloor ) )",
];

const LDAP3: &str = r#"
import ldap3
base = "dc=example,dc=com"
server = ldap3.Server("127.0.0.1", get_info=ldap3.ALL)
c = ldap3.Connection(server, auto_bind=True, raise_exceptions=True)
badge, floor = (server.schema.attribute_types[name] for name in ("corpBadge", "corpFloor"))
assert badge.oid == "1.3.6.1.4.1.99999.1" and list(badge.name) == ["corpBadge", "badge"], badge
for line in ("Equality rule: caseIgnoreMatch", "Description: of the door"):
    assert line in str(badge), badge
assert "Ordering rule: integerOrderingMatch" in str(floor) and floor.single_value, floor
room = server.schema.object_classes["corpRoom"]
assert "cn" in room.must_contain and {"corpBadge", "corpFloor"} <= set(room.may_contain), room
c.search(base, "(&(objectClass=corpRoom)(badge=door a)(corpFloor>=7))", attributes=["*"])
[entry] = c.entries
# It knows from the schema that this is a number.
assert entry.corpFloor.value == 7 and entry.corpBadge.value == "Door A", entry
print("the schema of the site")
"#;

#[test]
fn definitions_of_a_site_reach_clients() {
    isolated("schema::definitions_of_a_site_reach_clients", || {
        let host = LdapHost::start()?;
        let mut list = entries();
        list.push(json!({"dn": format!("cn=r1,ou=services,{BASE}"), "attributes": {
            "objectClass": ["top", "corpRoom"], "cn": ["r1"], "corpBadge": ["Door A"], "corpFloor": ["007"],
        }}));
        host.world
            .put("tree", &json!({"users": [], "groups": [], "entries": list}))?;
        let room = |filter: &str| anyhow::Ok(search(&[filter, "1.1"])?.contains("cn=r1,"));
        eventually(ARRIVAL, "the room", || {
            room("(cn=r1)").is_ok_and(|found| found).then_some(())
        })?;
        anyhow::ensure!(!room("(corpFloor=7)")?, "a number although nobody says so");
        // The schema alone changes.
        let text = json!({"users": [], "groups": [], "schema": SCHEMA, "entries": list});
        host.world.put("tree", &text)?;
        eventually(ARRIVAL, "the site's schema", || {
            room("(corpFloor=7)").is_ok_and(|found| found).then_some(())
        })?;
        for filter in [
            "(badge=DOOR  a)",
            "(corpBadge=door*)",
            "(corpFloor<=8)",
            "(objectClass=1.3.6.1.4.1.99999.3)",
        ] {
            anyhow::ensure!(room(filter)?, "{filter}");
        }
        anyhow::ensure!(!room("(corpFloor>=8)")?, "numbers in the order of texts");
        let said = Program::system(&python()?.to_string_lossy())
            .args(["-c", LDAP3])
            .succeed()?;
        assert_eq!(said.trim(), "the schema of the site");
        // A text that is no schema is told, and nothing is lost.
        let bad = json!({"users": [], "groups": [], "schema": ["attributetype ("], "entries": []});
        host.world.put("tree", &bad)?;
        let status = || Program::system("dirless").arg("status").run().ok();
        eventually(ARRIVAL, "the bad schema to be told", || {
            status()?.stdout.contains("definition 1").then_some(())
        })
        .with_context(|| format!("{:?}", status()))?;
        anyhow::ensure!(room("(corpFloor=7)")?, "the last good schema is gone");
        Ok(())
    })
    .unwrap();
}
