use proptest::prelude::*;

use super::*;
use crate::Dn;
use crate::{Entry, Value};

fn entry(dn: &str, attributes: &[(&str, &str)]) -> Entry {
    let mut entry = Entry::new(Dn::parse(dn).unwrap());
    for (name, value) in attributes {
        entry.add(AttributeName::parse(name).unwrap(), Value::from(*value));
    }
    entry
}

fn alice() -> Entry {
    entry(
        "uid=alice,ou=users,dc=example",
        &[
            ("objectClass", "inetOrgPerson"),
            ("objectClass", "posixAccount"),
            ("objectClass", "ldapPublicKey"),
            ("objectClass", "aitherUser"),
            ("uid", "alice"),
            ("cn", "Alice"),
            ("sn", "Example"),
            ("uidNumber", "60002"),
            ("gidNumber", "60002"),
            ("homeDirectory", "/home/alice"),
            ("aitherUserType", "human"),
            ("sshPublicKey", "ssh-ed25519 AAAA"),
        ],
    )
}

fn set(mut entry: Entry, name: &str, values: &[&str]) -> Entry {
    entry.set(
        AttributeName::parse(name).unwrap(),
        values.iter().map(|value| Value::from(*value)).collect(),
    );
    entry
}

#[test]
fn the_standard_schema_is_whole() {
    let schema = Schema::standard();
    for class in [
        "top",
        "person",
        "inetOrgPerson",
        "organizationalUnit",
        "groupOfNames",
        "posixAccount",
        "posixGroup",
        "shadowAccount",
        "ldapPublicKey",
        // RFC 4524, RFC 4523 and the rest of rfc2307bis.
        "account",
        "document",
        "documentSeries",
        "room",
        "domain",
        "rFC822localPart",
        "dNSDomain",
        "domainRelatedObject",
        "friendlyCountry",
        "simpleSecurityObject",
        "pkiUser",
        "pkiCA",
        "certificationAuthority-V2",
        "cRLDistributionPoint",
        "deltaCRL",
        "strongAuthenticationUser",
        "userSecurityInformation",
        "groupOfMembers",
        "nisKeyObject",
        "nisDomainObject",
        "automountMap",
        "aitherUser",
        "aitherGroup",
        "aitherRole",
        "aitherTenant",
        "aitherService",
        "aitherDevice",
        "aitherConfig",
        "aitherEntity",
        "aitherWidget",
        "aitherAgent",
        "aitherCalendar",
        "aitherContact",
        "aitherEmail",
        "aitherTask",
        "aitherReminder",
        "aitherCertificate",
        "aitherSecret",
        "aitherPolicy",
        "aitherMailbox",
        "aitherLockbox",
        "aitherDistributionList",
        "aitherRoutePolicy",
        "aitherSession",
    ] {
        assert!(schema.class(class).is_some(), "{class}");
    }
    assert_eq!(schema.attribute("COMMONNAME").map(AttributeType::name), Some("cn"));
    assert_eq!(schema.equality("cn"), Some(MatchingRule::CaseIgnore));
    assert_eq!(schema.equality("member"), Some(MatchingRule::DistinguishedName));
    assert!(schema.is_subtype("cn", "name") && !schema.is_subtype("name", "cn"));
}

#[test]
fn every_definition_is_printed_as_it_can_be_read() {
    let schema = Schema::standard();
    let mut again = Schema::default();
    for attribute in schema.attributes() {
        again.extend(&format!("attributetype {attribute}")).unwrap();
    }
    for class in schema.classes() {
        again.extend(&format!("objectclass {class}")).unwrap();
    }
    assert!(schema.attributes().eq(again.attributes()));
    assert!(schema.classes().eq(again.classes()));
}

#[test]
fn a_good_entry_passes_and_each_fault_is_named() {
    let schema = Schema::standard();
    assert_eq!(schema.check(&alice()), Ok(()));
    let text = |name: &str| name.to_owned();
    let cases = [
        (set(alice(), "objectClass", &[]), Violation::NoStructuralClass),
        (
            set(alice(), "objectClass", &["posixAccount"]),
            Violation::NoStructuralClass,
        ),
        (
            set(alice(), "objectClass", &["inetOrgPerson", "device"]),
            Violation::TwoStructuralClasses(text("inetOrgPerson"), text("device")),
        ),
        (
            set(alice(), "objectClass", &["inetOrgPerson", "dragon"]),
            Violation::UnknownClass(text("dragon")),
        ),
        (
            set(alice(), "wings", &["2"]),
            Violation::UnknownAttribute(text("wings")),
        ),
        (
            set(alice(), "sn", &[]),
            Violation::Missing {
                attribute: text("sn"),
                class: text("person"),
            },
        ),
        (
            set(alice(), "aitherTrustLevel", &["4"]),
            Violation::NotAllowed(text("aitherTrustLevel")),
        ),
        (
            set(alice(), "uidNumber", &["1", "2"]),
            Violation::SingleValue(text("uidNumber")),
        ),
        (
            set(alice(), "cn", &["Alice", "ALICE "]),
            Violation::DuplicateValue(text("cn")),
        ),
        (
            set(alice(), "uidNumber", &["many"]),
            Violation::Syntax(text("uidNumber")),
        ),
        (
            set(alice(), "aitherA2ACard", &["name: alice"]),
            Violation::Syntax(text("aitherA2ACard")),
        ),
        (set(alice(), "uid", &["bob"]), Violation::Naming(text("uid"))),
    ];
    for (entry, violation) in cases {
        let found = schema.check(&entry).unwrap_err();
        let same = match (&found, &violation) {
            // Which of the two is named first is not part of the promise.
            (Violation::TwoStructuralClasses(..), Violation::TwoStructuralClasses(..)) => true,
            (found, violation) => found == violation,
        };
        assert!(same, "{found:?} is not {violation:?}");
    }
}

#[test]
fn a_site_extends_the_schema_with_text() {
    let mut schema = Schema::standard();
    let before = schema.classes().count();
    schema
        .extend(
            "# ours\nattributetype ( 1.3.6.1.4.1.32473.1 NAME 'rackUnit' EQUALITY integerMatch\n  SYNTAX 1.3.6.1.4.1.1466.115.121.1.27{8} SINGLE-VALUE X-ORIGIN 'site' )\n\
             objectclass ( 1.3.6.1.4.1.32473.2 NAME ( 'rack' 'cabinet' ) DESC 'It''s' SUP top STRUCTURAL MUST ( cn $ rackUnit ) )"
                .replace("It''s", "a rack")
                .as_str(),
        )
        .unwrap();
    assert_eq!(schema.classes().count(), before + 1);
    assert_eq!(
        schema.check(&entry(
            "cn=r1",
            &[("objectClass", "cabinet"), ("cn", "r1"), ("rackUnit", "42")]
        )),
        Ok(())
    );
}

#[test]
fn a_comment_inside_a_definition_does_not_swallow_the_rest_of_its_text() {
    let mut schema = Schema::standard();
    schema
        .extend("attributetype ( # a comment's text )\n 1.2.3 NAME\t'rackUnit'\n# another\n DESC 'two\n lines' )")
        .unwrap();
    let text = schema.attribute("rackUnit").unwrap().to_string();
    assert_eq!(text, "( 1.2.3 NAME 'rackUnit' DESC 'two  lines' )");
    Schema::standard().extend(&format!("attributetype {text}")).unwrap();
}

#[test]
fn every_word_of_a_definition_that_is_printed_again_is_a_name_or_an_oid() {
    for words in [
        "SUP na\u{1}me",
        "EQUALITY 'caseIgnoreMatch'",
        "ORDERING a\u{8}b",
        "SUBSTR é",
        "SYNTAX 1.2{\u{1}}",
        "SYNTAX 1.2{",
        "SYNTAX 1.2{}",
        "X-\u{1}b 'c'",
    ] {
        let text = format!("attributetype ( 1.2.3 NAME 'rackUnit' {words} )");
        let error = Schema::standard().extend(&text).unwrap_err().to_string();
        assert!(error.ends_with("is no name and no OID"), "{words}: {error}");
    }
    for words in ["SUP to\u{1}p", "MUST ( cn $ s\u{1}n )", "MAY c\u{7f}n"] {
        let text = format!("objectclass ( 1.2.3 NAME 'rack' {words} )");
        let error = Schema::standard().extend(&text).unwrap_err().to_string();
        assert!(error.ends_with("is no name and no OID"), "{words}: {error}");
    }
    Schema::standard()
        .extend("attributetype ( 1.2.3 NAME 'rackUnit' SYNTAX 1.3.6.1.4.1.1466.115.121.1.15{64} X-ORIGIN 'here' )")
        .unwrap();
}

#[test]
fn definitions_that_cannot_be_taken_change_nothing_and_name_their_line() {
    let mut schema = Schema::standard();
    let wrong = [
        ("\n\nattributetype ( 1.2.3 NAME 'cn' )", "line 3: cn is defined already"),
        (
            "objectclass ( 1.2.3 NAME 'x' MUST nothing )",
            "line 1: x refers to nothing",
        ),
        (
            "attributetype ( 1.2.3 NAME 'x' EQUALITY noMatch )",
            "line 1: x refers to noMatch",
        ),
        ("attributetype ( 1.2.3 NAME 'x'", "cut short"),
        ("attribute ( 1.2.3 )", "expected attributetype or objectclass"),
        ("attributetype ( 1.2.3 NAME x )", "quoted string"),
        ("attributetype ( 1.2.3 COLOUR 'x' )", "a part of an attribute type"),
        ("objectclass 1.2.3", "expected ("),
        ("attributetype ( 1..3 NAME 'x' )", "no name and no OID"),
        ("attributetype ( 1.2.3 NAME 'a b' )", "no name and no OID"),
    ];
    for (text, reason) in wrong {
        let error = schema.extend(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    assert!(schema.attribute("x").is_none() && schema.class("x").is_none());
}

#[test]
fn names_are_one_when_their_keys_are() {
    let schema = Schema::standard();
    let key = |text: &str| schema.dn_key(&Dn::parse(text).unwrap()).unwrap();
    assert_eq!(
        key("UID=Alice, OU=Users , dc=Example"),
        key("userid=alice,2.5.4.11=users,DC=example")
    );
    assert_eq!(key("cn=a+sn=b,dc=x"), key("SN=B+CN=A,dc=x"));
    assert_ne!(key("cn=a,dc=x"), key("cn=a,dc=y"));
    assert!(key("uid=a,ou=users,dc=x").is_within(&key("dc=x")));
    assert!(key("dc=x").is_within(&key("dc=x")) && key("dc=x").is_within(&key("")));
    assert!(!key("dc=xy").is_within(&key("dc=x")));
    let (base, end) = (key("ou=users,dc=x"), key("ou=users,dc=x").subtree_end());
    for (dn, inside) in [
        ("uid=a,ou=users,dc=x", true),
        ("ou=users,dc=x", true),
        ("ou=users2,dc=x", false),
        ("ou=groups,dc=x", false),
        ("dc=x", false),
    ] {
        let at = key(dn);
        assert_eq!(at >= base && at.as_bytes() < end.as_slice(), inside, "{dn}");
    }
}

proptest! {
    #[test]
    fn a_subtree_is_one_range_of_keys(base in "[a-c]{1,2}", child in "[a-c ]{1,3}", other in "[a-c]{1,2}") {
        let schema = Schema::standard();
        let key = |text: &str| schema.dn_key(&Dn::parse(text).unwrap()).unwrap();
        let root = key(&format!("ou={base}"));
        for dn in [format!("cn={child},ou={base}"), format!("cn=x,cn={child},ou={base}"), format!("cn={child},ou={other}"), format!("ou={other}")] {
            let at = key(&dn);
            let in_range = at >= root && at.as_bytes() < root.subtree_end().as_slice();
            prop_assert_eq!(in_range, at.is_within(&root), "{}", dn);
        }
    }

    #[test]
    fn any_text_is_an_answer_and_not_a_crash(text in "[a-z0-9'$(){}. \n#-]{0,80}") {
        let _ = Schema::standard().extend(&format!("attributetype {text}"));
    }
}
