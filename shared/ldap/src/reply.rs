//! Answers as they are sent (RFC 4511 section 4). Everything is appended to one buffer, so that what
//! one read asked for is answered by one write.

use dirless_directory::encoded::{OCTET_STRING, SEQUENCE, SET, length_bytes, put_attribute, put_header};

use crate::ResultCode;
use crate::answers::{Answers, Piece};
use crate::ber::{BOOLEAN, ENUMERATED, INTEGER};

/// Tags of answers.
pub(crate) const BIND: u8 = 0x61;
pub(crate) const ENTRY: u8 = 0x64;
pub(crate) const SEARCH_DONE: u8 = 0x65;
pub(crate) const MODIFY: u8 = 0x67;
pub(crate) const ADD: u8 = 0x69;
pub(crate) const DELETE: u8 = 0x6b;
pub(crate) const MODIFY_DN: u8 = 0x6d;
pub(crate) const COMPARE: u8 = 0x6f;
pub(crate) const EXTENDED: u8 = 0x78;
const INTERMEDIATE: u8 = 0x79;

/// `1.3.6.1.4.1.1466.20036` (RFC 4511 section 4.4.1).
const NOTICE_OF_DISCONNECTION: &str = "1.3.6.1.4.1.1466.20036";
/// `1.3.6.1.4.1.4203.1.9.1.4` (RFC 4533 section 2.5).
const SYNC_INFO: &str = "1.3.6.1.4.1.4203.1.9.1.4";

/// An outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: ResultCode,
    pub(crate) matched: String,
    pub(crate) message: String,
}

impl Outcome {
    pub(crate) fn new(code: ResultCode, message: impl Into<String>) -> Self {
        Self {
            code,
            matched: String::new(),
            message: message.into(),
        }
    }

    pub(crate) fn success() -> Self {
        Self::new(ResultCode::Success, "")
    }
}

impl From<ResultCode> for Outcome {
    fn from(code: ResultCode) -> Self {
        Self::new(code, "")
    }
}

/// A control of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplyControl {
    pub(crate) oid: &'static str,
    pub(crate) value: Vec<u8>,
}

/// Appends an element with its content.
pub(crate) fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    put_header(out, tag, content.len());
    out.extend_from_slice(content);
}

/// Appends a number of RFC 4511.
pub(crate) fn put_number(out: &mut Vec<u8>, tag: u8, number: u32) {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take(3).take_while(|byte| **byte == 0).count();
    let significant = bytes.get(zeros..).unwrap_or(&[0]);
    // A leading bit would make it negative.
    if significant.first().is_some_and(|byte| byte & 0x80 != 0) {
        put_header(out, tag, significant.len() + 1);
        out.push(0);
    } else {
        put_header(out, tag, significant.len());
    }
    out.extend_from_slice(significant);
}

/// Bytes that [`put_number`] appends.
fn number_size(number: u32) -> usize {
    // One bit more than the number has, for the sign.
    3 + (32 - number.leading_zeros()) as usize / 8
}

fn sized(length: usize) -> usize {
    1 + length_bytes(length) + length
}

fn message(out: &mut Vec<u8>, id: u32, operation: &[u8], controls: &[u8]) {
    let mut number = Vec::with_capacity(6);
    put_number(&mut number, INTEGER, id);
    put_header(out, SEQUENCE, number.len() + operation.len() + controls.len());
    out.extend_from_slice(&number);
    out.extend_from_slice(operation);
    out.extend_from_slice(controls);
}

fn encode_controls(controls: &[ReplyControl]) -> Vec<u8> {
    let mut list = Vec::new();
    for control in controls {
        put_header(
            &mut list,
            SEQUENCE,
            sized(control.oid.len()) + sized(control.value.len()),
        );
        put(&mut list, OCTET_STRING, control.oid.as_bytes());
        put(&mut list, OCTET_STRING, &control.value);
    }
    let mut encoded = Vec::new();
    if !list.is_empty() {
        put(&mut encoded, 0xa0, &list);
    }
    encoded
}

/// Appends an `LDAPResult` under that tag.
pub(crate) fn result(out: &mut Vec<u8>, id: u32, tag: u8, outcome: &Outcome, controls: &[ReplyControl]) {
    result_with(out, id, tag, outcome, &[], controls);
}

fn result_with(out: &mut Vec<u8>, id: u32, tag: u8, outcome: &Outcome, extra: &[u8], controls: &[ReplyControl]) {
    let code = u32::from(outcome.code.number());
    let texts = [outcome.matched.as_bytes(), outcome.message.as_bytes()];
    // Every operation ends in one of these: nothing is allocated for it.
    let content = number_size(code) + texts.iter().map(|text| sized(text.len())).sum::<usize>() + extra.len();
    let controls = encode_controls(controls);
    let mut number = [0; 8];
    let number = id_bytes(id, &mut number);
    put_header(out, SEQUENCE, number.len() + sized(content) + controls.len());
    out.extend_from_slice(number);
    put_header(out, tag, content);
    put_number(out, ENUMERATED, code);
    for text in texts {
        put(out, OCTET_STRING, text);
    }
    out.extend_from_slice(extra);
    out.extend_from_slice(&controls);
}

/// Appends an extended response.
pub(crate) fn extended(out: &mut Vec<u8>, id: u32, outcome: &Outcome, name: Option<&str>, value: Option<&[u8]>) {
    let mut extra = Vec::new();
    if let Some(name) = name {
        put(&mut extra, 0x8a, name.as_bytes());
    }
    if let Some(value) = value {
        put(&mut extra, 0x8b, value);
    }
    result_with(out, id, EXTENDED, outcome, &extra, &[]);
}

/// Appends the notice that the server ends the connection.
pub(crate) fn disconnection(out: &mut Vec<u8>, outcome: &Outcome) {
    extended(out, 0, outcome, Some(NOTICE_OF_DISCONNECTION), None);
}

/// Appends an entry: a header, and the attributes as they are.
pub(crate) fn entry(out: &mut Vec<u8>, id: u32, dn: &str, attributes: &[u8], controls: &[ReplyControl]) {
    let controls = encode_controls(controls);
    entry_header(out, id, dn, attributes.len(), controls.len());
    out.extend_from_slice(attributes);
    out.extend_from_slice(&controls);
}

/// As [`entry`], with more attributes from files.
pub(crate) fn entry_with(
    out: &mut Answers,
    id: u32,
    dn: &str,
    attributes: &[u8],
    more: Vec<Piece>,
    controls: &[ReplyControl],
) {
    let controls = encode_controls(controls);
    let attached: usize = more.iter().map(|piece| piece.length).sum();
    entry_header(out, id, dn, attributes.len() + attached, controls.len());
    out.extend_from_slice(attributes);
    more.into_iter().for_each(|piece| out.attach(piece));
    out.extend_from_slice(&controls);
}

/// Appends what comes before the attributes of an entry, which are `list` bytes long.
fn entry_header(out: &mut Vec<u8>, id: u32, dn: &str, list: usize, controls: usize) {
    let content = sized(dn.len()) + sized(list);
    let mut number = [0; 8];
    let number = id_bytes(id, &mut number);
    put_header(out, SEQUENCE, number.len() + sized(content) + controls);
    out.extend_from_slice(number);
    put_header(out, ENTRY, content);
    put_header(out, OCTET_STRING, dn.len());
    out.extend_from_slice(dn.as_bytes());
    put_header(out, SEQUENCE, list);
}

/// The message id as an element, without allocating: every entry has one.
fn id_bytes(id: u32, bytes: &mut [u8; 8]) -> &[u8] {
    let [a, b, c, d] = id.to_be_bytes();
    *bytes = [INTEGER, 5, 0, a, b, c, d, 0];
    match id {
        0..=0x7f => {
            *bytes = [INTEGER, 1, d, 0, 0, 0, 0, 0];
            bytes.get(..3).unwrap_or_default()
        }
        0x80..=0x7fff => {
            *bytes = [INTEGER, 2, c, d, 0, 0, 0, 0];
            bytes.get(..4).unwrap_or_default()
        }
        _ => bytes.get(..7).unwrap_or_default(),
    }
}

/// The value of a paged results control.
pub(crate) fn paged_value(cookie: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(cookie.len() + 8);
    put_number(&mut content, INTEGER, 0);
    put(&mut content, OCTET_STRING, cookie);
    let mut value = Vec::with_capacity(content.len() + 4);
    put(&mut value, SEQUENCE, &content);
    value
}

/// The value of a sort result control.
pub(crate) fn sort_value(code: ResultCode) -> Vec<u8> {
    let mut content = Vec::new();
    put_number(&mut content, ENUMERATED, u32::from(code.number()));
    let mut value = Vec::new();
    put(&mut value, SEQUENCE, &content);
    value
}

/// What became of an entry (RFC 4533 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncState {
    Add = 1,
    Modify = 2,
    Delete = 3,
}

/// The value of a sync state control.
pub(crate) fn sync_state_value(state: SyncState, uuid: &[u8; 16], cookie: Option<&str>) -> Vec<u8> {
    let mut content = Vec::new();
    put_number(&mut content, ENUMERATED, state as u32);
    put(&mut content, OCTET_STRING, uuid);
    if let Some(cookie) = cookie {
        put(&mut content, OCTET_STRING, cookie.as_bytes());
    }
    let mut value = Vec::new();
    put(&mut value, SEQUENCE, &content);
    value
}

/// The value of a sync done control (RFC 4533 section 2.4).
pub(crate) fn sync_done_value(cookie: &str, refresh_deletes: bool) -> Vec<u8> {
    let mut content = Vec::new();
    put(&mut content, OCTET_STRING, cookie.as_bytes());
    if refresh_deletes {
        put(&mut content, BOOLEAN, &[0xff]);
    }
    let mut value = Vec::new();
    put(&mut value, SEQUENCE, &content);
    value
}

/// What a sync info message says (RFC 4533 section 2.5).
#[derive(Debug)]
pub(crate) enum SyncInfo<'a> {
    /// The refresh is over; what changed since the consumer's cookie was sent.
    RefreshDelete(&'a str),
    /// The refresh is over; what was not sent is gone.
    RefreshPresent(&'a str),
    /// These entries are gone.
    Deleted(&'a [[u8; 16]]),
}

/// Appends a sync info message.
pub(crate) fn sync_info(out: &mut Vec<u8>, id: u32, info: &SyncInfo<'_>) {
    let mut value = Vec::new();
    match info {
        // refreshDone is TRUE by default.
        SyncInfo::RefreshDelete(cookie) | SyncInfo::RefreshPresent(cookie) => {
            let tag = if matches!(info, SyncInfo::RefreshDelete(_)) {
                0xa1
            } else {
                0xa2
            };
            put_header(&mut value, tag, sized(cookie.len()));
            put(&mut value, OCTET_STRING, cookie.as_bytes());
        }
        SyncInfo::Deleted(uuids) => {
            let set = uuids.len() * sized(16);
            put_header(&mut value, 0xa3, 3 + sized(set));
            put(&mut value, BOOLEAN, &[0xff]);
            put_header(&mut value, SET, set);
            for uuid in *uuids {
                put(&mut value, OCTET_STRING, uuid);
            }
        }
    }
    let mut content = Vec::with_capacity(value.len() + 40);
    put(&mut content, 0x80, SYNC_INFO.as_bytes());
    put(&mut content, 0x81, &value);
    let mut operation = Vec::with_capacity(content.len() + 6);
    put(&mut operation, INTERMEDIATE, &content);
    message(out, id, &operation, &[]);
}

/// The value of a read entry control (RFC 4527): a whole `SearchResultEntry`.
pub(crate) fn read_entry_value(dn: &str, attributes: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    put_header(&mut value, ENTRY, sized(dn.len()) + sized(attributes.len()));
    put(&mut value, OCTET_STRING, dn.as_bytes());
    put(&mut value, SEQUENCE, attributes);
    value
}

/// Appends one result of a dereference control: the attribute, the name it held, and attributes of the
/// entry there.
pub(crate) fn put_dereferenced(out: &mut Vec<u8>, attribute: &str, dn: &[u8], attributes: &[u8]) {
    let list = if attributes.is_empty() {
        0
    } else {
        sized(attributes.len())
    };
    put_header(out, SEQUENCE, sized(attribute.len()) + sized(dn.len()) + list);
    put(out, OCTET_STRING, attribute.as_bytes());
    put(out, OCTET_STRING, dn);
    if !attributes.is_empty() {
        put(out, 0xa0, attributes);
    }
}

/// Appends an attribute of one value.
pub(crate) fn put_value(out: &mut Vec<u8>, name: &str, value: &str) {
    put_attribute(out, name, std::iter::once(value.as_bytes()));
}
