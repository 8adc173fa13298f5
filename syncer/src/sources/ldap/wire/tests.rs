use ldap3_proto::LdapCodec;
use ldap3_proto::control::LdapControl;
use ldap3_proto::proto::{
    LdapBindCred, LdapIntermediateResponse, LdapMsg, LdapOp, LdapPartialAttribute, LdapResult, LdapResultCode,
    LdapSearchResultEntry, LdapSearchScope,
};
use proptest::prelude::*;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use super::*;

/// The message as another implementation reads it.
fn read(bytes: &[u8]) -> LdapMsg {
    let mut buffer = BytesMut::from(bytes);
    let message = LdapCodec::default().decode(&mut buffer).unwrap().unwrap();
    assert!(buffer.is_empty());
    message
}

/// The message as another implementation writes it.
fn written(op: LdapOp, ctrl: Vec<LdapControl>) -> Vec<u8> {
    let mut buffer = BytesMut::new();
    LdapCodec::default()
        .encode(LdapMsg { msgid: 7, op, ctrl }, &mut buffer)
        .unwrap();
    buffer.to_vec()
}

#[test]
fn another_implementation_reads_a_bind() {
    let LdapOp::BindRequest(bind) = read(&bind(1, "cn=a", "pass")).op else {
        panic!("no bind")
    };
    assert_eq!((bind.version, bind.dn.as_str()), (3, "cn=a"));
    assert!(bind.cred == LdapBindCred::Simple("pass".to_owned()));
    assert_eq!(read(&unbind(300)).msgid, 300);
    assert!(matches!(read(&starttls(2)).op, LdapOp::ExtendedRequest(request) if request.name.as_bytes() == STARTTLS));
}

#[test]
fn another_implementation_reads_a_search_with_every_kind_of_filter() {
    let text = "(&(|(a=b)(c=*d*e*f))(!(g>=1))(h<=2)(i=*)(j~=k)(memberOf:dn:1.2.3:=x))";
    let filter = Filter::parse(text).unwrap();
    let attributes = ["cn".to_owned(), "member;range=0-*".to_owned()];
    let asked = Search {
        base: "dc=x",
        scope: Scope::Subtree,
        filter: &filter,
        attributes: &attributes,
    };
    let message = read(&search(70_000, &asked, &[Control::critical("1.2.3", vec![5, 0])]));
    assert_eq!(message.msgid, 70_000);
    assert!(matches!(&message.ctrl[..], [LdapControl::Unknown { oid, criticality: true, .. }] if oid == "1.2.3"));
    let LdapOp::SearchRequest(request) = message.op else {
        panic!("no search")
    };
    assert_eq!(
        (request.base.as_str(), request.scope),
        ("dc=x", LdapSearchScope::Subtree)
    );
    assert_eq!(request.attrs, attributes);
    assert_eq!(request.filter, ldap3_proto::parse_ldap_filter_str(text).unwrap());
}

#[test]
fn an_entry_of_another_implementation_is_read() {
    let op = LdapOp::SearchResultEntry(LdapSearchResultEntry {
        dn: "cn=a,dc=x".to_owned(),
        attributes: vec![LdapPartialAttribute {
            atype: "objectGUID".to_owned(),
            vals: vec![vec![0xff, 0], b"b".to_vec()],
        }],
    });
    let paged = LdapControl::SimplePagedResults {
        size: 0,
        cookie: b"c".to_vec(),
    };
    let bytes = written(op, vec![paged]);
    assert_eq!(lengths(&bytes).unwrap(), Some((2, bytes.len() - 2)));
    let reply = reply(&bytes).unwrap();
    assert_eq!((reply.id, reply.controls.len()), (7, 1));
    let Operation::Entry(name, attributes) = reply.operation else {
        panic!("no entry")
    };
    assert_eq!(name, "cn=a,dc=x");
    let all: Vec<_> = dirless_directory::encoded::walk(attributes).collect();
    assert_eq!((all[0].name, all[0].values.count()), ("objectGUID", 2));
}

#[test]
fn an_end_of_another_implementation_is_read_and_shown_without_control_characters() {
    let op = LdapOp::SearchResultDone(LdapResult {
        code: LdapResultCode::Referral,
        matcheddn: "dc=x".to_owned(),
        message: format!("go\u{1b}[31m {}", "x".repeat(5000)),
        referral: vec!["ldap://other".to_owned()],
    });
    let bytes = written(op, Vec::new());
    let Operation::SearchDone(ending) = reply(&bytes).unwrap().operation else {
        panic!("no end")
    };
    assert_eq!((ending.code, ending.matched.as_str()), (10, "dc=x"));
    assert_eq!(ending.referrals, ["ldap://other"]);
    assert!(ending.message.starts_with("go[31m xx") && ending.message.len() == SHOWN);
    let op = LdapOp::IntermediateResponse(LdapIntermediateResponse::SyncInfoNewCookie { cookie: b"c".to_vec() });
    let bytes = written(op, Vec::new());
    assert!(matches!(
        reply(&bytes).unwrap().operation,
        Operation::Intermediate("1.3.6.1.4.1.4203.1.9.1.4", _)
    ));
}

#[test]
fn lengths_are_known_as_soon_as_they_are_there() {
    assert_eq!(lengths(&[]).unwrap(), None);
    assert_eq!(lengths(&[0x30]).unwrap(), None);
    assert_eq!(lengths(&[0x30, 0x82, 1]).unwrap(), None);
    assert_eq!(lengths(&[0x30, 0x82, 1, 0]).unwrap(), Some((4, 256)));
    assert!(lengths(&[0x30, 0x80]).is_err());
    assert!(lengths(&[0x30, 0x88]).is_err());
    assert!(lengths(b"HTTP").unwrap_err().to_string().contains("LDAP server"));
}

proptest! {
    #[test]
    fn integers_are_as_short_as_can_be_and_read_back(value: i64) {
        let mut out = Vec::new();
        put_integer(&mut out, INTEGER, value);
        let (content, rest) = take(&out, INTEGER).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert_eq!(number(content), Some(value));
    }

    /// A server may send anything: it is read or refused, and nothing else happens.
    #[test]
    fn any_bytes_are_a_message_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (lengths(&bytes), reply(&bytes));
    }

    /// The same with bytes that are nearly right.
    #[test]
    fn a_damaged_message_is_refused_or_read(at in 0usize..60, byte: u8) {
        let op = LdapOp::SearchResultDone(LdapResult {
            code: LdapResultCode::Success,
            matcheddn: "dc=x".to_owned(),
            message: "fine".to_owned(),
            referral: vec!["ldap://other".to_owned()],
        });
        let mut bytes = written(op, vec![LdapControl::SimplePagedResults { size: 9, cookie: b"c".to_vec() }]);
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        let _ = reply(&bytes);
    }
}
