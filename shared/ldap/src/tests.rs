//! The decoder and the encoder against ldap3_proto, which read and write the same messages otherwise.

use bytes::BytesMut;
use dirless_directory::encoded::{Attributes, encode};
use dirless_directory::{AttributeName, Dn, Entry, Schema, Value};
use ldap3_proto::LdapCodec;
use ldap3_proto::control::LdapControl;
use ldap3_proto::proto::{
    LdapBindCred, LdapBindRequest, LdapCompareRequest, LdapDerefAliases, LdapFilter, LdapMatchingRuleAssertion,
    LdapMsg, LdapOp, LdapSearchRequest, LdapSearchScope, LdapSubstringFilter,
};
use proptest::prelude::*;
use tokio_util::codec::{Decoder, Encoder};

use crate::decode_filter::FilterLimits;
use crate::reply::{self, Outcome, ReplyControl};
use crate::request::{Method, Operation, decode};
use crate::{ResultCode, Scope, check_message};

const LIMITS: FilterLimits = FilterLimits { nodes: 1000 };

fn bytes(message: LdapMsg) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    LdapCodec::default().encode(message, &mut bytes).unwrap();
    bytes.to_vec()
}

fn read(bytes: &[u8]) -> LdapMsg {
    let mut codec = LdapCodec::new(Some(1 << 24), Some(64));
    let mut bytes = BytesMut::from(bytes);
    let message = codec.decode(&mut bytes).unwrap().unwrap();
    assert!(bytes.is_empty());
    message
}

fn filters() -> impl Strategy<Value = LdapFilter> {
    let name = || "[a-z][a-zA-Z0-9-]{0,8}";
    let value = || "\\PC{0,12}";
    let leaf = prop_oneof![
        (name(), value()).prop_map(|(name, value)| LdapFilter::Equality(name, value)),
        (name(), value()).prop_map(|(name, value)| LdapFilter::GreaterOrEqual(name, value)),
        (name(), value()).prop_map(|(name, value)| LdapFilter::LessOrEqual(name, value)),
        (name(), value()).prop_map(|(name, value)| LdapFilter::Approx(name, value)),
        name().prop_map(LdapFilter::Present),
        (
            name(),
            prop::option::of("[a-z*]{1,5}"),
            prop::collection::vec("[a-z]{1,5}", 1..3),
            prop::option::of("[a-z]{1,5}")
        )
            .prop_map(|(name, initial, any, final_)| LdapFilter::Substring(
                name,
                LdapSubstringFilter { initial, any, final_ }
            )),
        (name(), value(), any::<bool>()).prop_map(|(name, value, dn)| LdapFilter::Extensible(
            LdapMatchingRuleAssertion {
                matching_rule: Some("2.5.13.2".to_owned()),
                type_: Some(name),
                match_value: value,
                dn_attributes: dn,
            }
        )),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(LdapFilter::And),
            prop::collection::vec(inner.clone(), 0..5).prop_map(LdapFilter::Or),
            inner.prop_map(|filter| LdapFilter::Not(Box::new(filter))),
        ]
    })
}

/// The filter in our types, by way of theirs.
fn ours(filter: &LdapFilter) -> dirless_directory::Filter {
    use dirless_directory::Filter;
    use dirless_directory::filter::{Extensible, Pieces};
    let name = |text: &str| AttributeName::parse(text).unwrap();
    let value = |text: &str| Value::from(text);
    match filter {
        LdapFilter::And(filters) => Filter::And(filters.iter().map(ours).collect()),
        LdapFilter::Or(filters) => Filter::Or(filters.iter().map(ours).collect()),
        LdapFilter::Not(filter) => Filter::Not(Box::new(ours(filter))),
        LdapFilter::Equality(held, text) => Filter::Equality(name(held), value(text)),
        LdapFilter::GreaterOrEqual(held, text) => Filter::GreaterOrEqual(name(held), value(text)),
        LdapFilter::LessOrEqual(held, text) => Filter::LessOrEqual(name(held), value(text)),
        LdapFilter::Approx(held, text) => Filter::Approximate(name(held), value(text)),
        LdapFilter::Present(held) => Filter::Present(name(held)),
        LdapFilter::Substring(held, pieces) => Filter::Substrings(
            name(held),
            Pieces {
                initial: pieces.initial.as_deref().map(value),
                any: pieces.any.iter().map(|piece| value(piece)).collect(),
                last: pieces.final_.as_deref().map(value),
            },
        ),
        LdapFilter::Extensible(assertion) => Filter::Extensible(Extensible {
            rule: assertion.matching_rule.clone(),
            name: assertion.type_.as_deref().map(name),
            value: value(&assertion.match_value),
            dn_attributes: assertion.dn_attributes,
        }),
    }
}

proptest! {
    #[test]
    fn searches_are_read_as_the_library_wrote_them(
        id in 0..i32::MAX,
        base in "\\PC{0,20}",
        scope in 0..3,
        sizelimit in 0..i32::MAX,
        typesonly in any::<bool>(),
        filter in filters(),
        attrs in prop::collection::vec("[a-z+*]{1,8}", 0..4),
    ) {
        let request = LdapSearchRequest {
            base: base.clone(),
            scope: match scope { 0 => LdapSearchScope::Base, 1 => LdapSearchScope::OneLevel, _ => LdapSearchScope::Subtree },
            aliases: LdapDerefAliases::Always,
            sizelimit,
            timelimit: 7,
            typesonly,
            filter: filter.clone(),
            attrs: attrs.clone(),
        };
        let mut message = LdapMsg::new(id, LdapOp::SearchRequest(request));
        message.ctrl.push(LdapControl::SimplePagedResults { size: 10, cookie: b"x".to_vec() });
        let bytes = bytes(message);
        let message = decode(&bytes, LIMITS).unwrap();
        prop_assert_eq!(message.id, u32::try_from(id).unwrap());
        prop_assert_eq!(message.controls.len(), 1);
        let Operation::Search(search) = message.operation else { panic!("no search") };
        prop_assert_eq!(search.base, base);
        prop_assert_eq!(search.scope, [Scope::Base, Scope::OneLevel, Scope::Subtree][usize::try_from(scope).unwrap()]);
        prop_assert_eq!(search.size_limit, u32::try_from(sizelimit).unwrap());
        prop_assert_eq!((search.time_limit, search.types_only), (7, typesonly));
        prop_assert_eq!(search.filter, ours(&filter));
        prop_assert_eq!(search.attributes, attrs);
    }

    #[test]
    fn any_bytes_are_an_answer_and_not_a_crash(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = check_message(&bytes);
    }

    #[test]
    fn a_message_with_a_wrong_byte_is_an_answer_too(filter in filters(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let request = LdapSearchRequest {
            base: "dc=example".to_owned(),
            scope: LdapSearchScope::Subtree,
            aliases: LdapDerefAliases::Never,
            sizelimit: 0,
            timelimit: 0,
            typesonly: false,
            filter,
            attrs: vec!["cn".to_owned()],
        };
        let mut bytes = bytes(LdapMsg::new(1, LdapOp::SearchRequest(request)));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = check_message(&bytes);
    }

    #[test]
    fn entries_are_written_as_the_library_reads_them(
        id in 1..i32::MAX,
        dn in "\\PC{0,40}",
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6),
    ) {
        let mut held = Entry::new(Dn::ROOT);
        for value in &values {
            held.add(AttributeName::parse("description").unwrap(), Value::from(value.clone()));
        }
        let encoded = encode(&Schema::standard(), &held);
        let mut out = Vec::new();
        let user = Attributes::new(&encoded).unwrap().user();
        reply::entry(&mut out, u32::try_from(id).unwrap(), &dn, user, &[]);
        let message = read(&out);
        prop_assert_eq!(message.msgid, id);
        let LdapOp::SearchResultEntry(entry) = message.op else { panic!("no entry") };
        prop_assert_eq!(entry.dn, dn);
        prop_assert_eq!(&entry.attributes[0].atype, "description");
        prop_assert_eq!(&entry.attributes[0].vals, &values);
    }

    #[test]
    fn results_are_written_as_the_library_reads_them(id in 1..i32::MAX, matched in "\\PC{0,200}", text in "\\PC{0,200}", cookie in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut out = Vec::new();
        let mut outcome = Outcome::new(ResultCode::NoSuchObject, text.clone());
        outcome.matched.clone_from(&matched);
        let control = ReplyControl { oid: crate::controls::PAGED, value: reply::paged_value(&cookie) };
        reply::result(&mut out, u32::try_from(id).unwrap(), reply::SEARCH_DONE, &outcome, &[control]);
        let message = read(&out);
        let LdapOp::SearchResultDone(result) = message.op else { panic!("no result") };
        prop_assert_eq!((result.matcheddn, result.message), (matched, text));
        prop_assert_eq!(message.ctrl, vec![LdapControl::SimplePagedResults { size: 0, cookie }]);
    }
}

#[test]
fn binds_and_compares_are_read() {
    let bind = LdapBindRequest {
        version: 3,
        dn: "cn=a".to_owned(),
        cred: LdapBindCred::Simple("secret".to_owned()),
    };
    let bytes_of_bind = bytes(LdapMsg::new(300, LdapOp::BindRequest(bind)));
    let message = decode(&bytes_of_bind, LIMITS).unwrap();
    assert_eq!(message.id, 300);
    let shown = format!("{message:?}");
    assert!(
        !shown.contains("115") && !shown.contains("secret"),
        "a password is shown: {shown}"
    );
    let Operation::Bind(bind) = message.operation else {
        panic!("no bind")
    };
    assert_eq!((bind.version, bind.dn), (3, "cn=a"));
    assert!(matches!(bind.method, Method::Simple(b"secret")));

    let compare = LdapCompareRequest {
        dn: "cn=a".to_owned(),
        atype: "jpegPhoto".to_owned(),
        val: vec![0xff, 0xfe],
    };
    let bytes_of_compare = bytes(LdapMsg::new(2, LdapOp::CompareRequest(compare)));
    let Operation::Compare { dn, attribute, value } = decode(&bytes_of_compare, LIMITS).unwrap().operation else {
        panic!("no compare")
    };
    assert_eq!((dn, attribute, value), ("cn=a", "jpegPhoto", &[0xff, 0xfe][..]));
    let unbind = bytes(LdapMsg::new(3, LdapOp::UnbindRequest));
    assert!(matches!(decode(&unbind, LIMITS).unwrap().operation, Operation::Unbind));
    let abandon = bytes(LdapMsg::new(4, LdapOp::AbandonRequest(300)));
    assert!(matches!(
        decode(&abandon, LIMITS).unwrap().operation,
        Operation::Abandon(300)
    ));
}

#[test]
fn values_that_are_no_text_are_served() {
    // (objectGUID=\ff\fe), which the library does not take.
    let filter = b"\xa3\x10\x04\x0aobjectGUID\x04\x02\xff\xfe";
    let mut reader = crate::ber::Reader::new(filter);
    let read = crate::decode_filter::filter(&mut reader, LIMITS).unwrap();
    assert_eq!(read.to_string(), "(objectGUID=\\ff\\fe)");
}

#[test]
fn scopes_hold_what_is_in_them() {
    let schema = Schema::standard();
    let key = |text| schema.dn_key(&Dn::parse(text).unwrap()).unwrap();
    let base = key("ou=a,dc=b");
    for (name, one, sub) in [
        ("ou=a,dc=b", false, true),
        ("cn=x,ou=a,dc=b", true, true),
        ("cn=y,cn=x,ou=a,dc=b", false, true),
        ("ou=ab,dc=b", false, false),
        ("dc=b", false, false),
    ] {
        let key = key(name);
        assert_eq!(Scope::OneLevel.holds(&base, key.as_bytes()), one, "{name}");
        assert_eq!(Scope::Subtree.holds(&base, key.as_bytes()), sub, "{name}");
        assert_eq!(Scope::Base.holds(&base, key.as_bytes()), name == "ou=a,dc=b", "{name}");
    }
}
