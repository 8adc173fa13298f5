//! LDAP messages: any bytes are read or refused, and a search that the library reads means the same
//! to the server's own decoder once the library has written it down again (which takes away the
//! freedoms that BER leaves and the server does not).

#![no_main]

use bytes::BytesMut;
use dirless_directory::filter::{DEEPEST, Extensible, Pieces};
use dirless_directory::{AttributeName, Filter, Value};
use dirless_ldap::check_message;
use ldap3_proto::LdapCodec;
use ldap3_proto::proto::{LdapFilter, LdapMsg, LdapOp, LdapSearchRequest};
use libfuzzer_sys::fuzz_target;
use tokio_util::codec::{Decoder, Encoder};

fuzz_target!(|data: &[u8]| {
    let _ = check_message(data);
    let mut codec = LdapCodec::new(Some(data.len() + 1), Some(DEEPEST - 1));
    let Ok(Some(message)) = codec.decode(&mut BytesMut::from(data)) else {
        return;
    };
    let LdapOp::SearchRequest(search) = &message.op else {
        return;
    };
    if message.msgid < 0 || search.sizelimit < 0 || search.timelimit < 0 {
        return;
    }
    let Some(filter) = ours(&search.filter) else { return };
    let expected = (search.base.clone(), filter, search.attrs.clone());
    let id = message.msgid.unsigned_abs();
    let bytes = written(message.msgid, search.clone());
    let checked = check_message(&bytes).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
    assert_eq!(checked.id, id);
    assert_eq!(checked.search, Some(expected));
});

fn written(id: i32, search: LdapSearchRequest) -> BytesMut {
    let mut bytes = BytesMut::new();
    let message = LdapMsg::new(id, LdapOp::SearchRequest(search));
    LdapCodec::default()
        .encode(message, &mut bytes)
        .expect("a message that was read can be written");
    bytes
}

/// The filter in our types; `None` when the server reads a part of it as undefined or refuses it,
/// which the library does not.
fn ours(filter: &LdapFilter) -> Option<Filter> {
    let name = |text: &str| AttributeName::parse(text).ok();
    let value = |text: &String| Value::from(text.as_str());
    let all = |filters: &[LdapFilter]| filters.iter().map(ours).collect::<Option<Vec<_>>>();
    Some(match filter {
        LdapFilter::And(filters) => Filter::And(all(filters)?),
        LdapFilter::Or(filters) => Filter::Or(all(filters)?),
        LdapFilter::Not(filter) => Filter::Not(Box::new(ours(filter)?)),
        LdapFilter::Equality(held, text) => Filter::Equality(name(held)?, value(text)),
        LdapFilter::GreaterOrEqual(held, text) => Filter::GreaterOrEqual(name(held)?, value(text)),
        LdapFilter::LessOrEqual(held, text) => Filter::LessOrEqual(name(held)?, value(text)),
        LdapFilter::Approx(held, text) => Filter::Approximate(name(held)?, value(text)),
        LdapFilter::Present(held) => Filter::Present(name(held)?),
        LdapFilter::Substring(held, pieces) => {
            let pieces = Pieces {
                initial: pieces.initial.as_ref().map(value),
                any: pieces.any.iter().map(value).collect(),
                last: pieces.final_.as_ref().map(value),
            };
            (pieces != Pieces::default()).then_some(())?;
            Filter::Substrings(name(held)?, pieces)
        }
        // Without a rule there has to be an attribute (RFC 4511 section 4.5.1.7.7).
        LdapFilter::Extensible(assertion) if assertion.matching_rule.is_none() && assertion.type_.is_none() => {
            return None;
        }
        LdapFilter::Extensible(assertion) => Filter::Extensible(Extensible {
            rule: assertion.matching_rule.clone(),
            name: match &assertion.type_ {
                Some(held) => Some(name(held)?),
                None => None,
            },
            value: value(&assertion.match_value),
            dn_attributes: assertion.dn_attributes,
        }),
    })
}
