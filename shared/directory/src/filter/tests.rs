use proptest::prelude::*;

use super::*;
use crate::{Dn, Entry, Schema};

fn entry() -> Entry {
    let mut entry = Entry::new(Dn::parse("uid=alice,ou=users,dc=corp,dc=example").unwrap());
    for (name, value) in [
        ("objectClass", "inetOrgPerson"),
        ("objectClass", "posixAccount"),
        ("uid", "alice"),
        ("cn", "Alice  Example"),
        ("sn", "Example"),
        ("uidNumber", "60002"),
        ("mail", "alice@corp.example"),
        ("manager", "UID=Bob, OU=Users,dc=corp,dc=example"),
        ("telephoneNumber", "+1 555-0123"),
    ] {
        entry.add(AttributeName::parse(name).unwrap(), Value::from(value));
    }
    entry
}

fn evaluate(text: &str) -> Truth {
    Filter::parse(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .evaluate(&Schema::standard(), &entry())
}

#[test]
fn filters_match_as_clients_expect() {
    let matching = [
        "(uid=ALICE)",
        "uid=alice",
        "(&(uid=alice)(objectClass=POSIXACCOUNT))",
        "(cn=alice example)",
        "(cn=*)",
        "(|(uid=bob)(uid=alice))",
        "(!(uid=bob))",
        "(&)",
        "(uidNumber>=60002)",
        "(uidNumber<=070000)",
        "(uidNumber=060002)",
        "(cn=al*ex*le)",
        "(cn=*ice ex*)",
        "(mail=*@corp.example)",
        "(name=alice example)",
        "(manager=uid=bob,ou=users,dc=corp,dc=example)",
        "(telephoneNumber=+15550123)",
        "(sn~=example)",
        "(cn:caseExactMatch:=Alice Example)",
        "(ou:dn:=USERS)",
        "(:dn:caseIgnoreMatch:=corp)",
        "(objectClass=1.3.6.1.1.1.2.0)",
        "(2.5.4.3=alice example)",
        r"(cn=\41lice example)",
        "(&(uid=alice)(objectclass=posixAccount)(uid=*)(&(uidNumber=*)(!(uidNumber=0))))",
    ];
    for text in matching {
        assert_eq!(evaluate(text), Truth::True, "{text}");
    }
    let not_matching = [
        "(uid=bob)",
        "(|)",
        "(!(&))",
        "(uidNumber>=60003)",
        "(cn=exa*)",
        "(cn=*alice*alice*)",
        "(gidNumber=*)",
        "(cn:caseExactMatch:=alice example)",
        "(ou:dn:=groups)",
        "(uidNumber<=9999)",
    ];
    for text in not_matching {
        assert_eq!(evaluate(text), Truth::False, "{text}");
    }
    for text in [
        "(uidNumber=x)",
        "(!(uidNumber=x))",
        "(cn:1.2.3:=x)",
        "(objectClass>=x)",
        "(uidNumber=1*)",
    ] {
        assert_eq!(evaluate(text), Truth::Undefined, "{text}");
    }
}

#[test]
fn what_is_no_filter_says_where() {
    let wrong = [
        "",
        "(",
        "()",
        "(uid)",
        "(uid=alice",
        "(uid=alice))",
        "(&(uid=a)",
        "(!)",
        "(=a)",
        "(u id=a)",
        r"(uid=\4)",
        r"(uid=\zz)",
        "(:=a)",
        "(uid:dn:rule:more:=a)",
        "(uid=a(b)",
        "(&(uid=a)x)",
        "(uid>=a*)",
    ];
    for text in wrong {
        assert!(
            matches!(Filter::parse(text), Err(FilterError::Syntax { .. })),
            "{text:?}"
        );
    }
    let deep = format!("{}(uid=a){}", "(!".repeat(100_000), ")".repeat(100_000));
    assert_eq!(Filter::parse(&deep), Err(FilterError::TooDeep));
    assert_eq!(Filter::parse(&"x".repeat((1 << 20) + 1)), Err(FilterError::TooLong));
}

fn filter() -> impl Strategy<Value = Filter> {
    let name = "[a-z][a-zA-Z0-9-]{0,8}".prop_map(|text| AttributeName::parse(&text).unwrap());
    let value = proptest::collection::vec(any::<u8>(), 1..8).prop_map(Value::from);
    let pieces = (
        proptest::option::of(value.clone()),
        proptest::collection::vec(value.clone(), 0..3),
        proptest::option::of(value.clone()),
    )
        .prop_filter("a lone * is a presence filter", |(first, any, last)| {
            first.is_some() || !any.is_empty() || last.is_some()
        })
        .prop_map(|(initial, any, last)| Pieces { initial, any, last });
    let item = prop_oneof![
        (name.clone(), value.clone()).prop_map(|(name, value)| Filter::Equality(name, value)),
        (name.clone(), value.clone()).prop_map(|(name, value)| Filter::GreaterOrEqual(name, value)),
        (name.clone(), value.clone()).prop_map(|(name, value)| Filter::LessOrEqual(name, value)),
        (name.clone(), value.clone()).prop_map(|(name, value)| Filter::Approximate(name, value)),
        name.clone().prop_map(Filter::Present),
        (name.clone(), pieces).prop_map(|(name, pieces)| Filter::Substrings(name, pieces)),
        (name, value, any::<bool>()).prop_map(|(name, value, dn_attributes)| Filter::Extensible(Extensible {
            rule: dn_attributes.then(|| "caseExactMatch".to_owned()),
            name: Some(name),
            value,
            dn_attributes,
        })),
    ];
    item.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Filter::And),
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Filter::Or),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
}

#[test]
fn stars_alone_ask_for_presence() {
    let present = Filter::Present(AttributeName::parse("cn").unwrap());
    for text in ["(cn=*)", "(cn=**)", "(cn=***)"] {
        assert_eq!(Filter::parse(text).as_ref(), Ok(&present), "{text}");
    }
    assert!(matches!(Filter::parse("(cn=)"), Ok(Filter::Equality(..))));
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(filter in filter()) {
        prop_assert_eq!(Filter::parse(&filter.to_string()), Ok(filter));
    }

    #[test]
    fn any_text_is_an_answer_and_not_a_crash(text in "[ -~\u{e9}]{0,60}") {
        if let Ok(filter) = Filter::parse(&text) {
            prop_assert_eq!(Filter::parse(&filter.to_string()), Ok(filter));
        }
    }

    #[test]
    fn the_laws_of_three_values_hold(filter in filter()) {
        let (schema, entry) = (Schema::standard(), entry());
        let plain = filter.evaluate(&schema, &entry);
        let twice = Filter::Not(Box::new(Filter::Not(Box::new(filter.clone())))).evaluate(&schema, &entry);
        prop_assert_eq!(plain, twice);
        prop_assert_eq!(Filter::And(vec![filter.clone()]).evaluate(&schema, &entry), plain);
        prop_assert_eq!(Filter::Or(vec![filter]).evaluate(&schema, &entry), plain);
    }
}
