//! The messages of LDAP (RFC 4511) that a reader sends and understands. Pure.
//!
//! The server is not trusted: lengths are checked against what is there, text for people is cut and
//! freed of control characters, and values stay bytes.

use dirless_directory::encoded::{OCTET_STRING, SEQUENCE, put_header, take};
use dirless_directory::{Filter, Value};

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const ENUMERATED: u8 = 0x0a;

const BIND: u8 = 0x60;
const SEARCH: u8 = 0x63;
const EXTENDED: u8 = 0x77;
const CONTROLS: u8 = 0xa0;

/// StartTLS (RFC 4511 section 4.14).
const STARTTLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
/// `UnbindRequest`.
const UNBIND: [u8; 2] = [0x42, 0];

/// Characters of a server's message that are shown.
const SHOWN: usize = 300;

/// Something that is no LDAP message, or none that may come here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a malformed message: {0}")]
pub struct Malformed(&'static str);

/// A control of a request, or of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Which.
    pub oid: String,
    /// Must the server refuse the request when it does not know it?
    pub critical: bool,
    /// Its value.
    pub value: Vec<u8>,
}

impl Control {
    /// A control that the server must know.
    pub(super) fn critical(oid: &str, value: Vec<u8>) -> Self {
        Self {
            oid: oid.to_owned(),
            critical: true,
            value,
        }
    }
}

/// How deep a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The base alone.
    Base = 0,
    /// The base and everything under it.
    Subtree = 2,
}

/// A search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search<'a> {
    /// Where.
    pub(super) base: &'a str,
    /// How deep.
    pub(super) scope: Scope,
    /// What.
    pub(super) filter: &'a Filter,
    /// Which attributes of it.
    pub(super) attributes: &'a [String],
}

/// How an operation ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// The result code (RFC 4511 appendix A).
    pub code: u32,
    /// The part of the base that is there.
    pub matched: String,
    /// What the server says about it.
    pub message: String,
    /// Where else to ask.
    pub referrals: Vec<String>,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// An entry: its name, and its attributes as the content of a `PartialAttributeList`.
    Entry(&'a str, &'a [u8]),
    /// A pointer to another server beside the entries.
    Reference,
    /// The end of a search.
    SearchDone(Ending),
    /// The answer to a bind.
    Bound(Ending),
    /// The answer to an extended operation.
    Extended(Ending),
    /// Something beside the entries: its name and its value.
    Intermediate(&'a str, &'a [u8]),
}

/// A message of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Of which request; 0 is for a notice of its own.
    pub id: u32,
    /// What.
    pub operation: Operation<'a>,
    /// Its controls.
    pub controls: Vec<Control>,
}

/// A simple bind.
pub(super) fn bind(id: u32, name: &str, password: &str) -> Vec<u8> {
    let mut content = Vec::with_capacity(name.len() + password.len() + 16);
    put_integer(&mut content, INTEGER, 3);
    put(&mut content, OCTET_STRING, name.as_bytes());
    put(&mut content, 0x80, password.as_bytes());
    message(id, BIND, &content, &[])
}

/// A search.
pub(super) fn search(id: u32, search: &Search<'_>, controls: &[Control]) -> Vec<u8> {
    let mut content = Vec::new();
    put(&mut content, OCTET_STRING, search.base.as_bytes());
    put_integer(&mut content, ENUMERATED, search.scope as i64);
    // Aliases are not followed: they would let whoever writes one place move people into the read.
    put_integer(&mut content, ENUMERATED, 0);
    put_integer(&mut content, INTEGER, 0);
    put_integer(&mut content, INTEGER, 0);
    put(&mut content, BOOLEAN, &[0]);
    put_filter(&mut content, search.filter);
    let mut attributes = Vec::new();
    for name in search.attributes {
        put(&mut attributes, OCTET_STRING, name.as_bytes());
    }
    put(&mut content, SEQUENCE, &attributes);
    message(id, SEARCH, &content, controls)
}

/// A request for TLS on this connection.
pub(super) fn starttls(id: u32) -> Vec<u8> {
    let mut content = Vec::new();
    put(&mut content, 0x80, STARTTLS);
    message(id, EXTENDED, &content, &[])
}

/// A goodbye.
pub(super) fn unbind(id: u32) -> Vec<u8> {
    let mut content = Vec::new();
    put_integer(&mut content, INTEGER, i64::from(id));
    content.extend_from_slice(&UNBIND);
    let mut message = Vec::new();
    put(&mut message, SEQUENCE, &content);
    message
}

fn message(id: u32, tag: u8, operation: &[u8], controls: &[Control]) -> Vec<u8> {
    let mut content = Vec::with_capacity(operation.len() + 64);
    put_integer(&mut content, INTEGER, i64::from(id));
    put(&mut content, tag, operation);
    if !controls.is_empty() {
        let mut all = Vec::new();
        for control in controls {
            let mut one = Vec::new();
            put(&mut one, OCTET_STRING, control.oid.as_bytes());
            if control.critical {
                put(&mut one, BOOLEAN, &[0xff]);
            }
            put(&mut one, OCTET_STRING, &control.value);
            put(&mut all, SEQUENCE, &one);
        }
        put(&mut content, CONTROLS, &all);
    }
    let mut message = Vec::with_capacity(content.len() + 8);
    put(&mut message, SEQUENCE, &content);
    // The password may be in both.
    zeroize::Zeroize::zeroize(&mut content);
    message
}

/// Appends an element.
pub(super) fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    put_header(out, tag, content.len());
    out.extend_from_slice(content);
}

/// Appends an `INTEGER` or `ENUMERATED` in as few bytes as it takes.
pub(super) fn put_integer(out: &mut Vec<u8>, tag: u8, number: i64) {
    let bytes = number.to_be_bytes();
    let spare =
        |pair: &[u8]| matches!(pair, [0, next] if next & 0x80 == 0) || matches!(pair, [0xff, next] if next & 0x80 != 0);
    let skip = bytes.windows(2).take_while(|pair| spare(pair)).count();
    put(out, tag, bytes.get(skip..).unwrap_or(&[]));
}

fn put_filter(out: &mut Vec<u8>, filter: &Filter) {
    let mut content = Vec::new();
    let assertion = |content: &mut Vec<u8>, name: &str, value: &Value| {
        put(content, OCTET_STRING, name.as_bytes());
        put(content, OCTET_STRING, value.as_bytes());
    };
    let tag = match filter {
        Filter::And(filters) | Filter::Or(filters) => {
            filters.iter().for_each(|filter| put_filter(&mut content, filter));
            if matches!(filter, Filter::And(_)) { 0xa0 } else { 0xa1 }
        }
        Filter::Not(filter) => {
            put_filter(&mut content, filter);
            0xa2
        }
        Filter::Equality(name, value) => {
            assertion(&mut content, name.as_str(), value);
            0xa3
        }
        Filter::Substrings(name, pieces) => {
            put(&mut content, OCTET_STRING, name.as_str().as_bytes());
            let mut list = Vec::new();
            let initial = pieces.initial.iter().map(|piece| (0x80, piece));
            let any = pieces.any.iter().map(|piece| (0x81, piece));
            let last = pieces.last.iter().map(|piece| (0x82, piece));
            for (tag, piece) in initial.chain(any).chain(last) {
                put(&mut list, tag, piece.as_bytes());
            }
            put(&mut content, SEQUENCE, &list);
            0xa4
        }
        Filter::GreaterOrEqual(name, value) => {
            assertion(&mut content, name.as_str(), value);
            0xa5
        }
        Filter::LessOrEqual(name, value) => {
            assertion(&mut content, name.as_str(), value);
            0xa6
        }
        Filter::Present(name) => {
            content.extend_from_slice(name.as_str().as_bytes());
            0x87
        }
        Filter::Approximate(name, value) => {
            assertion(&mut content, name.as_str(), value);
            0xa8
        }
        Filter::Extensible(extensible) => {
            if let Some(rule) = &extensible.rule {
                put(&mut content, 0x81, rule.as_bytes());
            }
            if let Some(name) = &extensible.name {
                put(&mut content, 0x82, name.as_str().as_bytes());
            }
            put(&mut content, 0x83, extensible.value.as_bytes());
            if extensible.dn_attributes {
                put(&mut content, 0x84, &[0xff]);
            }
            0xa9
        }
    };
    put(out, tag, &content);
}

/// The length of the message whose first bytes are `start`: of its header and of its content. `None`
/// when that takes more bytes.
///
/// # Errors
/// When no message starts so.
pub fn lengths(start: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    match start {
        [] | [SEQUENCE] => Ok(None),
        [SEQUENCE, first, ..] if *first < 0x80 => Ok(Some((2, usize::from(*first)))),
        [SEQUENCE, first, rest @ ..] => {
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) {
                return Err(Malformed("its length"));
            }
            let length = rest.get(..count).map(|bytes| {
                let length = bytes.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
                (2 + count, usize::try_from(length).unwrap_or(usize::MAX))
            });
            Ok(length)
        }
        _ => Err(Malformed(
            "it is no sequence (is this an LDAP server, and TLS where it should be?)",
        )),
    }
}

/// Reads a whole message.
///
/// # Errors
/// When it is none, or none that a server sends a reader.
pub fn reply(bytes: &[u8]) -> Result<Reply<'_>, Malformed> {
    let (content, _) = take(bytes, SEQUENCE).ok_or(Malformed("its frame"))?;
    let (id, rest) = take(content, INTEGER).ok_or(Malformed("its number"))?;
    let id = u32::try_from(number(id).ok_or(Malformed("its number"))?).map_err(|_| Malformed("its number"))?;
    let tag = *rest.first().ok_or(Malformed("it is empty"))?;
    let (body, rest) = take(rest, tag).ok_or(Malformed("its operation"))?;
    let operation = match tag {
        0x64 => entry(body).ok_or(Malformed("an entry"))?,
        0x73 => Operation::Reference,
        0x65 => Operation::SearchDone(ending(body).ok_or(Malformed("a result"))?),
        0x61 => Operation::Bound(ending(body).ok_or(Malformed("a result"))?),
        0x78 => Operation::Extended(ending(body).ok_or(Malformed("a result"))?),
        0x79 => intermediate(body).ok_or(Malformed("an intermediate answer"))?,
        _ => return Err(Malformed("an operation that servers do not send")),
    };
    let controls = match rest.first() {
        None => Vec::new(),
        Some(_) => controls(rest).ok_or(Malformed("its controls"))?,
    };
    Ok(Reply {
        id,
        operation,
        controls,
    })
}

fn entry(body: &[u8]) -> Option<Operation<'_>> {
    let (name, rest) = take(body, OCTET_STRING)?;
    let (attributes, _) = take(rest, SEQUENCE)?;
    Some(Operation::Entry(std::str::from_utf8(name).ok()?, attributes))
}

fn ending(body: &[u8]) -> Option<Ending> {
    let (code, rest) = take(body, ENUMERATED)?;
    let (matched, rest) = take(rest, OCTET_STRING)?;
    let (message, rest) = take(rest, OCTET_STRING)?;
    let mut referrals = Vec::new();
    if let Some((mut list, _)) = take(rest, 0xa3) {
        while let Some((text, after)) = take(list, OCTET_STRING) {
            // Three say enough.
            if referrals.len() < 3 {
                referrals.push(shown(text));
            }
            list = after;
        }
    }
    Some(Ending {
        code: u32::try_from(number(code)?).ok()?,
        matched: shown(matched),
        message: shown(message),
        referrals,
    })
}

/// A server's text, for people.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().filter(|char| !char.is_control()).take(SHOWN).collect()
}

fn intermediate(body: &[u8]) -> Option<Operation<'_>> {
    let (name, rest) = take(body, 0x80).unwrap_or((&[], body));
    let (value, _) = take(rest, 0x81).unwrap_or((&[], rest));
    Some(Operation::Intermediate(std::str::from_utf8(name).ok()?, value))
}

fn controls(bytes: &[u8]) -> Option<Vec<Control>> {
    let (mut list, _) = take(bytes, CONTROLS)?;
    let mut all = Vec::new();
    while !list.is_empty() {
        let (one, after) = take(list, SEQUENCE)?;
        let (oid, rest) = take(one, OCTET_STRING)?;
        let (critical, rest) = take(rest, BOOLEAN).map_or((false, rest), |(flag, rest)| (flag != [0], rest));
        let value = take(rest, OCTET_STRING).map_or(&[][..], |(value, _)| value);
        all.push(Control {
            oid: String::from_utf8(oid.to_vec()).ok()?,
            critical,
            value: value.to_vec(),
        });
        list = after;
    }
    Some(all)
}

/// The value of an `INTEGER` or `ENUMERATED`.
pub(super) fn number(content: &[u8]) -> Option<i64> {
    let first = *content.first()?;
    let start = if first & 0x80 == 0 { 0 } else { -1 };
    (content.len() <= 8).then(|| {
        content
            .iter()
            .fold(start, |number, byte| number << 8 | i64::from(*byte))
    })
}

/// The next element of that tag and what follows it, for the values of controls.
pub(super) fn next(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    take(bytes, tag)
}

#[cfg(test)]
mod tests;
