//! A directory server that means harm, or is none.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use dirless_syncer::sources::SourceDirectory;
use dirless_syncer::sources::SourceError;
use dirless_syncer::sources::ldap::{Bounds, lengths};
use ldap3_proto::LdapCodec;
use ldap3_proto::control::LdapControl;
use ldap3_proto::proto::{
    LdapMsg, LdapOp, LdapPartialAttribute, LdapResult, LdapResultCode, LdapSearchResultEntry, LdapSearchResultReference,
};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use crate::directory::{open, read};

/// Answers each request, which has the number `id`, with what `answer` says of the `nth` one; returns
/// what reading from it comes to.
fn read_from(
    bounds: Bounds,
    answer: impl Fn(i32, usize) -> Vec<u8> + Send + 'static,
) -> Result<SourceDirectory, SourceError> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut nth = 0;
        while let Some(id) = request(&mut stream) {
            if stream.write_all(&answer(id, nth)).is_err() {
                return;
            }
            nth += 1;
        }
    });
    let table = format!(
        "url = \"ldap://127.0.0.1:{port}\"\npermit_plain = true\nbase = \"dc=x\"\nincremental = \"off\"\npreset = \"rfc2307bis\"\n"
    );
    read(&open(&table, bounds, None))
}

fn request(stream: &mut TcpStream) -> Option<i32> {
    let mut bytes = Vec::new();
    let all = loop {
        if let Some((header, content)) = lengths(&bytes).unwrap() {
            break header + content;
        }
        let mut one = [0];
        stream.read_exact(&mut one).ok()?;
        bytes.push(one[0]);
    };
    let mut rest = vec![0; all - bytes.len()];
    stream.read_exact(&mut rest).ok()?;
    bytes.extend(rest);
    let mut buffer = BytesMut::from(&bytes[..]);
    Some(LdapCodec::default().decode(&mut buffer).unwrap().unwrap().msgid)
}

fn message(id: i32, op: LdapOp, ctrl: Vec<LdapControl>) -> Vec<u8> {
    let mut buffer = BytesMut::new();
    LdapCodec::default()
        .encode(LdapMsg { msgid: id, op, ctrl }, &mut buffer)
        .unwrap();
    buffer.to_vec()
}

fn entry(id: i32, name: &str, attributes: &[(&str, &[u8])]) -> Vec<u8> {
    let attributes = attributes.iter().map(|(name, value)| LdapPartialAttribute {
        atype: (*name).to_owned(),
        vals: vec![value.to_vec()],
    });
    let op = LdapOp::SearchResultEntry(LdapSearchResultEntry {
        dn: name.to_owned(),
        attributes: attributes.collect(),
    });
    message(id, op, Vec::new())
}

fn done(id: i32, code: LdapResultCode, cookie: Option<&[u8]>) -> Vec<u8> {
    let op = LdapOp::SearchResultDone(LdapResult {
        code,
        matcheddn: String::new(),
        message: "as you like".to_owned(),
        referral: Vec::new(),
    });
    let page = cookie.map(|cookie| LdapControl::SimplePagedResults {
        size: 0,
        cookie: cookie.to_vec(),
    });
    message(id, op, page.into_iter().collect())
}

fn person(id: i32, uuid: &str) -> Vec<u8> {
    entry(
        id,
        &format!("uid={uuid},dc=x"),
        &[("entryUUID", uuid.as_bytes()), ("uid", b"a")],
    )
}

fn refused(says: &str, answer: impl Fn(i32, usize) -> Vec<u8> + Send + 'static) {
    let error = read_from(Bounds::new(50, 50), answer).unwrap_err().to_string();
    assert!(error.contains(says), "{error}");
}

#[test]
fn an_honest_answer_in_this_form_is_taken() {
    let directory = read_from(Bounds::new(50, 50), |id, nth| {
        let reference = LdapSearchResultReference {
            uris: vec!["ldap://elsewhere".to_owned()],
        };
        let reference = message(id, LdapOp::SearchResultReference(reference), Vec::new());
        let people = if nth == 0 { person(id, "u1") } else { Vec::new() };
        [people, reference, done(id, LdapResultCode::Success, Some(b""))].concat()
    });
    assert_eq!(directory.unwrap().users().count(), 1);
}

#[test]
fn what_is_no_ldap_or_too_long_is_refused() {
    refused("LDAP server", |_, _| b"HTTP/1.1 400 Bad Request\r\n".to_vec());
    refused("2147483647 bytes", |_, _| vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff]);
    refused("length", |_, _| vec![0x30, 0x80, 0, 0]);
    refused("operation", |_, _| vec![0x30, 5, 2, 1, 1, 0x4a, 0]);
}

#[test]
fn wrong_encodings_are_refused() {
    refused("entry", |id, _| {
        let mut bytes = person(id, "u1");
        // The first byte of the name.
        let at = bytes.windows(4).position(|window| window == b"uid=").unwrap();
        bytes[at] = 0xff;
        bytes
    });
    refused("damaged", |id, _| {
        let mut bytes = person(id, "u1");
        let at = bytes.len() - 3;
        // The value of the last attribute claims to be longer than its set.
        assert_eq!(bytes[at..], [4, 1, b'a']);
        bytes[at + 1] = 9;
        [bytes, done(id, LdapResultCode::Success, Some(b""))].concat()
    });
    refused("no usable entryUUID", |id, _| {
        let bytes = entry(id, "uid=a,dc=x", &[("entryUUID", b"\xff"), ("uid", b"a")]);
        [bytes, done(id, LdapResultCode::Success, Some(b""))].concat()
    });
}

#[test]
fn short_and_endless_lists_are_refused() {
    refused("paged-results control", |id, _| {
        [person(id, "u1"), done(id, LdapResultCode::Success, None)].concat()
    });
    refused("size limit", |id, _| {
        [person(id, "u1"), done(id, LdapResultCode::SizeLimitExceeded, Some(b""))].concat()
    });
    refused("time limit", |id, _| {
        done(id, LdapResultCode::TimeLimitExceeded, Some(b""))
    });
    refused("empty pages", |id, _| done(id, LdapResultCode::Success, Some(b"more")));
    refused("more than 50 entries", |id, nth| {
        [
            person(id, &format!("u{nth}")),
            done(id, LdapResultCode::Success, Some(b"more")),
        ]
        .concat()
    });
    refused("came twice", |id, _| {
        [
            person(id, "u1"),
            person(id, "u1"),
            done(id, LdapResultCode::Success, Some(b"")),
        ]
        .concat()
    });
    refused("something else", |id, _| person(id + 1, "u1"));
    let few = Bounds {
        bytes: 1000,
        ..Bounds::new(50, 50)
    };
    let error = read_from(few, |id, _| entry(id, "uid=a,dc=x", &[("entryUUID", &[b'a'; 2000])])).unwrap_err();
    assert!(error.to_string().contains("more bytes"), "{error}");
}
