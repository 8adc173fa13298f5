//! Requests as they come (RFC 4511 section 4), borrowed from the bytes that were read.

use bytes::BytesMut;
use dirless_directory::Filter;
use dirless_directory::encoded::{SEQUENCE, put_header};
use ldap3_proto::LdapCodec;
use ldap3_proto::proto::LdapOp;
use tokio_util::codec::Decoder;

use crate::Scope;
use crate::ber::{DecodeError, ENUMERATED, INTEGER, Reader, text};
use crate::decode_filter::{FilterLimits, filter};

/// One message of a client.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) id: u32,
    pub(crate) operation: Operation<'a>,
    pub(crate) controls: Vec<RawControl<'a>>,
}

/// A control as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawControl<'a> {
    pub(crate) oid: &'a str,
    pub(crate) critical: bool,
    pub(crate) value: Option<&'a [u8]>,
}

pub(crate) enum Operation<'a> {
    Bind(Bind<'a>),
    Unbind,
    Search(SearchRequest<'a>),
    Compare {
        dn: &'a str,
        attribute: &'a str,
        value: &'a [u8],
    },
    Abandon(u32),
    /// Changes and extended operations, which are rare: the library reads them.
    Other(LdapOp),
}

impl std::fmt::Debug for Operation<'_> {
    /// The kind alone: requests carry passwords.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Bind(_) => "bind",
            Self::Unbind => "unbind",
            Self::Search(_) => "search",
            Self::Compare { .. } => "compare",
            Self::Abandon(_) => "abandon",
            Self::Other(_) => "other",
        })
    }
}

pub(crate) struct Bind<'a> {
    pub(crate) version: u32,
    pub(crate) dn: &'a str,
    pub(crate) method: Method<'a>,
}

pub(crate) enum Method<'a> {
    Simple(&'a [u8]),
    Sasl(&'a str, Option<&'a [u8]>),
    Unknown,
}

#[derive(Debug, PartialEq)]
pub(crate) struct SearchRequest<'a> {
    pub(crate) base: &'a str,
    pub(crate) scope: Scope,
    /// The base itself does not count: the scope that OpenLDAP calls children.
    pub(crate) without_base: bool,
    /// Entries at most; 0 for no limit.
    pub(crate) size_limit: u32,
    /// Seconds at most; 0 for no limit.
    pub(crate) time_limit: u32,
    pub(crate) types_only: bool,
    pub(crate) filter: Filter,
    pub(crate) attributes: Vec<&'a str>,
}

/// Reads the one message that `bytes` are.
pub(crate) fn decode(bytes: &[u8], limits: FilterLimits) -> Result<Message<'_>, DecodeError> {
    let mut outer = Reader::new(bytes);
    let mut message = outer.sequence("message")?;
    let id = message.number(INTEGER, "message id")?;
    let tag = message.tag().ok_or(DecodeError::Malformed("operation"))?;
    let content = message.element(tag, "operation")?;
    let operation = operation(tag, content, id, limits)?;
    let controls = match message.optional(0xa0, "controls")? {
        Some(content) => controls(content)?,
        None => Vec::new(),
    };
    Ok(Message {
        id,
        operation,
        controls,
    })
}

fn operation(tag: u8, content: &[u8], id: u32, limits: FilterLimits) -> Result<Operation<'_>, DecodeError> {
    let mut reader = Reader::new(content);
    match tag {
        0x60 => bind(reader).map(Operation::Bind),
        0x42 => Ok(Operation::Unbind),
        0x63 => search(reader, limits).map(Operation::Search),
        0x6e => {
            let dn = reader.text("name to compare")?;
            let mut assertion = reader.sequence("assertion")?;
            Ok(Operation::Compare {
                dn,
                attribute: assertion.text("attribute to compare")?,
                value: assertion.octets("value to compare")?,
            })
        }
        0x50 => crate::ber::number(content)
            .map(Operation::Abandon)
            .ok_or(DecodeError::Malformed("id to abandon")),
        // Modify, add, delete, modify DN, extended.
        0x66 | 0x68 | 0x4a | 0x6c | 0x77 => other(tag, content, id).map(Operation::Other),
        _ => Err(DecodeError::Malformed("operation")),
    }
}

/// Has the library read an operation. It sees the message without controls, which are read here.
fn other(tag: u8, content: &[u8], id: u32) -> Result<LdapOp, DecodeError> {
    let mut inner = Vec::with_capacity(content.len() + 16);
    put_header(&mut inner, INTEGER, 4);
    inner.extend_from_slice(&id.to_be_bytes());
    put_header(&mut inner, tag, content.len());
    inner.extend_from_slice(content);
    let mut bytes = Vec::with_capacity(inner.len() + 6);
    put_header(&mut bytes, SEQUENCE, inner.len());
    bytes.extend_from_slice(&inner);
    let mut codec = LdapCodec::new(Some(bytes.len()), Some(16));
    match codec.decode(&mut BytesMut::from(bytes.as_slice())) {
        Ok(Some(message)) => Ok(message.op),
        Ok(None) | Err(_) => Err(DecodeError::Malformed("request")),
    }
}

fn bind(mut reader: Reader<'_>) -> Result<Bind<'_>, DecodeError> {
    let version = reader.number(INTEGER, "version")?;
    let dn = reader.text("name to bind as")?;
    let method = match reader.tag() {
        Some(0x80) => Method::Simple(reader.element(0x80, "password")?),
        Some(0xa3) => {
            let mut sasl = Reader::new(reader.element(0xa3, "SASL credentials")?);
            let mechanism = sasl.text("SASL mechanism")?;
            Method::Sasl(mechanism, sasl.optional(0x04, "SASL credentials")?)
        }
        _ => Method::Unknown,
    };
    Ok(Bind { version, dn, method })
}

fn search(mut reader: Reader<'_>, limits: FilterLimits) -> Result<SearchRequest<'_>, DecodeError> {
    let base = reader.text("search base")?;
    let (scope, without_base) = match reader.number(ENUMERATED, "search scope")? {
        0 => (Scope::Base, false),
        1 => (Scope::OneLevel, false),
        2 => (Scope::Subtree, false),
        3 => (Scope::Subtree, true),
        _ => return Err(DecodeError::Malformed("search scope")),
    };
    // There are no aliases, so that every way of dereferencing them is the same.
    if reader.number(ENUMERATED, "alias dereferencing")? > 3 {
        return Err(DecodeError::Malformed("alias dereferencing"));
    }
    let size_limit = reader.number(INTEGER, "size limit")?;
    let time_limit = reader.number(INTEGER, "time limit")?;
    let types_only = reader.boolean("typesOnly")?;
    let filter = filter(&mut reader, limits)?;
    let mut list = reader.sequence("attributes")?;
    let mut attributes = Vec::new();
    while !list.is_empty() {
        attributes.push(list.text("attribute")?);
    }
    reader.end("search request")?;
    Ok(SearchRequest {
        base,
        scope,
        without_base,
        size_limit,
        time_limit,
        types_only,
        filter,
        attributes,
    })
}

fn controls(content: &[u8]) -> Result<Vec<RawControl<'_>>, DecodeError> {
    let mut reader = Reader::new(content);
    let mut controls = Vec::new();
    while !reader.is_empty() {
        let mut control = reader.sequence("control")?;
        let oid = text(control.octets("control type")?, "control type")?;
        let critical = match control.tag() {
            Some(crate::ber::BOOLEAN) => control.boolean("criticality")?,
            _ => false,
        };
        let value = control.optional(0x04, "control value")?;
        control.end("control")?;
        controls.push(RawControl { oid, critical, value });
    }
    Ok(controls)
}
