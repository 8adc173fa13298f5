use proptest::prelude::*;

use super::*;
use crate::Filter;
use crate::filter::Truth;

fn name(text: &str) -> AttributeName {
    AttributeName::parse(text).unwrap()
}

fn alice() -> Entry {
    let mut entry = Entry::new(Dn::parse("uid=alice,ou=users,dc=example").unwrap());
    for (attribute, value) in [
        ("objectClass", "inetOrgPerson"),
        ("objectClass", "posixAccount"),
        ("uid", "alice"),
        ("cn", "Alice  Example"),
        ("cn;lang-de", "Alice Beispiel"),
        ("uidNumber", "2001"),
        ("member", "UID=Bob, ou=users,dc=example"),
        ("entryUUID", "597ae2f6-16a6-1027-98f4-d28b5365dc14"),
        ("modifyTimestamp", "20260531000000Z"),
    ] {
        entry.add(name(attribute), Value::from(value));
    }
    entry
}

fn truth(schema: &Schema, entry: &Entry, filter: &Filter) -> Truth {
    let encoded = encode(schema, entry);
    let key = schema.dn_key(entry.dn()).unwrap();
    let dn = entry.dn().to_string();
    Matcher::new(schema, filter).matches(
        schema,
        Subject {
            dn: &dn,
            key: key.as_bytes(),
            attributes: Attributes::new(&encoded).unwrap(),
        },
    )
}

#[test]
fn user_and_operational_attributes_are_apart_and_nothing_is_lost() {
    let schema = Schema::standard();
    let encoded = encode(&schema, &alice());
    let attributes = Attributes::new(&encoded).unwrap();
    attributes.verify().unwrap();
    let names = |part| walk(part).map(|attribute| attribute.name).collect::<Vec<_>>();
    assert_eq!(names(attributes.operational()), ["entryUUID", "modifyTimestamp"]);
    assert_eq!(names(attributes.user()).len(), 6);
    assert_eq!(attributes.entry(alice().dn().clone()).unwrap(), alice());
    let classes: Vec<_> = attributes.attribute("OBJECTCLASS").unwrap().values.collect();
    assert_eq!(classes, [&b"inetOrgPerson"[..], b"posixAccount"]);
    assert!(attributes.attribute("sn").is_none());
}

#[test]
fn a_part_is_what_rfc_4511_says() {
    let mut entry = Entry::new(Dn::ROOT);
    entry.add(name("cn"), Value::from("a"));
    entry.add(name("cn"), Value::from("bc"));
    let encoded = encode(&Schema::standard(), &entry);
    let expected = b"\x30\x0d\x04\x02cn\x31\x07\x04\x01a\x04\x02bc";
    assert_eq!(Attributes::new(&encoded).unwrap().user(), expected);
}

#[test]
fn a_selection_is_an_entry_again() {
    let schema = Schema::standard();
    let encoded = encode(&schema, &alice());
    let mut out = vec![1, 2, 3];
    Attributes::new(&encoded).unwrap().select(&mut out, |name| {
        !name.eq_ignore_ascii_case("uidnumber") && name != "entryUUID"
    });
    let mut smaller = alice();
    smaller.set(name("uidNumber"), Vec::new());
    smaller.set(name("entryUUID"), Vec::new());
    assert_eq!(out, encode(&schema, &smaller));
}

#[test]
fn damage_is_told_and_never_walked_past() {
    let encoded = encode(&Schema::standard(), &alice());
    for length in 0..encoded.len() {
        let cut = Attributes::new(&encoded[..length]).and_then(Attributes::verify);
        // Between two operational attributes a cut leaves a well-formed, smaller entry.
        if let Ok(()) = cut {
            let entry = Attributes::new(&encoded[..length]).unwrap().entry(Dn::ROOT).unwrap();
            assert!(entry.attributes().count() < alice().attributes().count());
        }
    }
    let mut wrong = encoded;
    wrong[PREFIX] = 0x31;
    assert!(Attributes::new(&wrong).unwrap().verify().is_err());
    assert_eq!(
        Attributes::new(&wrong)
            .unwrap()
            .iter()
            .filter(|one| one.name == "cn")
            .count(),
        0
    );
}

#[test]
fn headers_hold_every_length() {
    for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536, 0xff_ffff, 0x100_0000] {
        let mut bytes = Vec::new();
        put_header(&mut bytes, OCTET_STRING, length);
        assert_eq!(bytes.len(), 1 + length_bytes(length));
        bytes.resize(bytes.len() + length, 7);
        bytes.push(9);
        let (content, rest) = take(&bytes, OCTET_STRING).unwrap();
        assert_eq!((content.len(), rest), (length, &[9][..]));
    }
    for bad in [
        &b""[..],
        b"\x04",
        b"\x04\x80",
        b"\x04\x85\0\0\0\0\0",
        b"\x04\x02a",
        b"\x05\0",
    ] {
        assert!(take(bad, OCTET_STRING).is_none(), "{bad:?}");
    }
}

#[test]
fn filters_answer_as_on_the_entry_itself() {
    let schema = Schema::standard();
    for text in [
        "(cn=alice example)",
        "(commonName=ALICE EXAMPLE)",
        "(2.5.4.3=alice*)",
        "(name=alice beispiel)",
        "(cn;lang-de=*beispiel)",
        "(cn;lang-en=*)",
        "(uidNumber>=2000)",
        "(uidNumber<=2000)",
        "(uidNumber=x)",
        "(!(uidNumber=x))",
        "(member=uid=bob,ou=users,dc=example)",
        "(&(objectClass=person)(uid=alice))",
        "(&(objectClass=2.16.840.1.113730.3.2.2)(|(uid=bob)(uid=ALICE)))",
        "(ou:dn:=Users)",
        "(:dn:2.5.13.2:=users)",
        "(cn:caseExactMatch:=Alice Example)",
        "(cn:1.2.3.4:=x)",
        "(undefinedThing=*)",
        "(&)",
        "(|)",
        "(entryUUID=597AE2F616A6102798F4D28B5365DC14)",
        "(modifyTimestamp>=20260101000000Z)",
    ] {
        let filter = Filter::parse(text).unwrap();
        assert_eq!(
            truth(&schema, &alice(), &filter),
            filter.evaluate(&schema, &alice()),
            "{text}"
        );
    }
}

#[test]
fn every_entry_has_its_own_name_as_entry_dn() {
    let schema = Schema::standard();
    let ask = |text| truth(&schema, &alice(), &Filter::parse(text).unwrap());
    assert_eq!(ask("(entryDN=UID=ALICE,OU=users,dc=example)"), Truth::True);
    assert_eq!(ask("(entryDN=uid=bob,ou=users,dc=example)"), Truth::False);
    assert_eq!(ask("(entryDN=*)"), Truth::True);
}

#[test]
fn sets_stand_for_rules_that_look_beyond_the_entry() {
    let schema = Schema::standard();
    let filter = Filter::parse("(&(uid=*)(member:1.2.840.113556.1.4.1941:=cn=x))").unwrap();
    let key = schema.dn_key(alice().dn()).unwrap();
    let matcher = Matcher::with_sets(&schema, &filter, |_| Some([key.clone()].into()));
    assert_eq!(matcher.bound().unwrap().len(), 1);
    let encoded = encode(&schema, &alice());
    let subject = |key| Subject {
        dn: "",
        key,
        attributes: Attributes::new(&encoded).unwrap(),
    };
    assert_eq!(matcher.matches(&schema, subject(key.as_bytes())), Truth::True);
    assert_eq!(matcher.matches(&schema, subject(b"other")), Truth::False);
    assert!(Matcher::new(&schema, &filter).bound().is_none());
}

fn entries() -> impl Strategy<Value = Entry> {
    let names = prop::sample::select(vec![
        "cn",
        "sn",
        "uid",
        "uidNumber",
        "member",
        "jpegPhoto",
        "foo",
        "entryUUID",
    ]);
    let values = prop::sample::select(vec![
        &b"alice"[..],
        b"ALICE ",
        b"7",
        b"07",
        b"cn=a,dc=b",
        b"CN=A, dc=B",
        b"\xff\xfe",
        b"x*y",
    ]);
    prop::collection::vec((names, values), 0..8).prop_map(|pairs| {
        let mut entry = Entry::new(Dn::parse("cn=alice,dc=b").unwrap());
        for (attribute, value) in pairs {
            entry.add(name(attribute), Value::from(value.to_vec()));
        }
        entry
    })
}

fn filters() -> impl Strategy<Value = Filter> {
    let name = || {
        prop::sample::select(vec![
            "cn",
            "name",
            "surname",
            "uidNumber",
            "member",
            "foo",
            "jpegPhoto",
            "distinguishedName",
        ])
        .prop_map(name)
    };
    let value = || {
        prop::sample::select(vec![&b"alice"[..], b"a", b"7", b"cn=a,dc=b", b"\xff\xfe", b""])
            .prop_map(|value| Value::from(value.to_vec()))
    };
    let leaf = prop_oneof![
        (name(), value()).prop_map(|(name, value)| Filter::Equality(name, value)),
        (name(), value()).prop_map(|(name, value)| Filter::GreaterOrEqual(name, value)),
        (name(), value()).prop_map(|(name, value)| Filter::LessOrEqual(name, value)),
        name().prop_map(Filter::Present),
        (name(), value()).prop_map(|(name, value)| Filter::Substrings(
            name,
            crate::filter::Pieces {
                initial: Some(value.clone()),
                any: vec![value],
                last: None
            }
        )),
        (
            prop::option::of(name()),
            prop::option::of(Just("caseIgnoreMatch".to_owned())),
            value(),
            any::<bool>()
        )
            .prop_map(
                |(name, rule, value, dn_attributes)| Filter::Extensible(crate::filter::Extensible {
                    rule,
                    name,
                    value,
                    dn_attributes
                })
            ),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::Or),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_back(entry in entries()) {
        let encoded = encode(&Schema::standard(), &entry);
        let attributes = Attributes::new(&encoded).unwrap();
        prop_assert_eq!(attributes.entry(entry.dn().clone()).unwrap(), entry);
    }

    #[test]
    fn every_filter_answers_alike_in_both_forms(entry in entries(), filter in filters()) {
        let schema = Schema::standard();
        prop_assert_eq!(truth(&schema, &entry, &filter), filter.evaluate(&schema, &entry), "{}", filter);
    }

    #[test]
    fn any_bytes_are_walked_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(attributes) = Attributes::new(&bytes) {
            let walked = attributes.iter().map(|attribute| attribute.encoded.len()).sum::<usize>();
            prop_assert!(walked <= bytes.len());
            if attributes.verify().is_ok() {
                prop_assert_eq!(walked + PREFIX, bytes.len());
            }
        }
    }
}
