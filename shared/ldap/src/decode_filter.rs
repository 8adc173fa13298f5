//! Filters as they come (RFC 4511 section 4.5.1.7).

use dirless_directory::filter::{DEEPEST, Extensible, Pieces};
use dirless_directory::{AttributeName, Filter, Value};

use crate::ber::{DecodeError, Reader, text};

/// What a filter may cost before it is looked at further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilterLimits {
    /// Parts at most, sets and items alike.
    pub(crate) nodes: usize,
}

/// Reads the filter that comes next.
pub(crate) fn filter(reader: &mut Reader<'_>, limits: FilterLimits) -> Result<Filter, DecodeError> {
    let mut left = limits.nodes;
    one(reader, 0, &mut left)
}

fn one(reader: &mut Reader<'_>, depth: usize, left: &mut usize) -> Result<Filter, DecodeError> {
    if depth >= DEEPEST || *left == 0 {
        return Err(DecodeError::FilterTooLarge);
    }
    *left -= 1;
    let tag = reader.tag().ok_or(DecodeError::Malformed("filter"))?;
    let content = reader.element(tag, "filter")?;
    let mut inner = Reader::new(content);
    Ok(match tag {
        0xa0 => Filter::And(several(inner, depth, left)?),
        0xa1 => Filter::Or(several(inner, depth, left)?),
        0xa2 => {
            let negated = one(&mut inner, depth + 1, left)?;
            inner.end("negation")?;
            Filter::Not(Box::new(negated))
        }
        0x87 => match name(content)? {
            Some(name) => Filter::Present(name),
            None => undefined(),
        },
        0xa3 | 0xa5 | 0xa6 | 0xa8 => assertion(tag, inner)?,
        0xa4 => substrings(inner)?,
        0xa9 => extensible(inner)?,
        _ => return Err(DecodeError::Malformed("filter")),
    })
}

fn several(mut inner: Reader<'_>, depth: usize, left: &mut usize) -> Result<Vec<Filter>, DecodeError> {
    let mut filters = Vec::new();
    while !inner.is_empty() {
        filters.push(one(&mut inner, depth + 1, left)?);
    }
    Ok(filters)
}

/// An attribute description; none when it is not one, and the item is Undefined rather than the whole
/// request malformed (RFC 4511 section 4.5.1.7).
fn name(bytes: &[u8]) -> Result<Option<AttributeName>, DecodeError> {
    Ok(AttributeName::parse(text(bytes, "attribute in a filter")?).ok())
}

/// What is Undefined on every entry: a match by a rule that does not exist.
pub(crate) fn undefined() -> Filter {
    Filter::Extensible(Extensible {
        rule: Some("0".to_owned()),
        name: None,
        value: Value::from(Vec::new()),
        dn_attributes: false,
    })
}

fn assertion(tag: u8, mut inner: Reader<'_>) -> Result<Filter, DecodeError> {
    let name = name(inner.octets("attribute in a filter")?)?;
    let value = Value::from(inner.octets("value in a filter")?.to_vec());
    inner.end("assertion")?;
    Ok(match (name, tag) {
        (None, _) => undefined(),
        (Some(name), 0xa3) => Filter::Equality(name, value),
        (Some(name), 0xa5) => Filter::GreaterOrEqual(name, value),
        (Some(name), 0xa6) => Filter::LessOrEqual(name, value),
        (Some(name), _) => Filter::Approximate(name, value),
    })
}

fn substrings(mut inner: Reader<'_>) -> Result<Filter, DecodeError> {
    const WHAT: &str = "substrings";
    let name = name(inner.octets("attribute in a filter")?)?;
    let mut list = inner.sequence(WHAT)?;
    inner.end(WHAT)?;
    let mut pieces = Pieces::default();
    if list.is_empty() {
        return Err(DecodeError::Malformed(WHAT));
    }
    while let Some(tag) = list.tag() {
        let value = Value::from(list.element(tag, WHAT)?.to_vec());
        match tag {
            // The initial piece comes first, the final one last, and each once.
            0x80 if pieces.initial.is_none() && pieces.any.is_empty() && pieces.last.is_none() => {
                pieces.initial = Some(value);
            }
            0x81 if pieces.last.is_none() => pieces.any.push(value),
            0x82 if pieces.last.is_none() => pieces.last = Some(value),
            _ => return Err(DecodeError::Malformed(WHAT)),
        }
    }
    Ok(name.map_or_else(undefined, |name| Filter::Substrings(name, pieces)))
}

fn extensible(mut inner: Reader<'_>) -> Result<Filter, DecodeError> {
    const WHAT: &str = "extensible match";
    let rule = inner.optional(0x81, WHAT)?.map(|rule| text(rule, WHAT)).transpose()?;
    let description = inner.optional(0x82, WHAT)?;
    let value = Value::from(inner.element(0x83, WHAT)?.to_vec());
    let dn_attributes = match inner.optional(0x84, WHAT)? {
        None => false,
        Some([byte]) => *byte != 0,
        Some(_) => return Err(DecodeError::Malformed(WHAT)),
    };
    inner.end(WHAT)?;
    let name = match description {
        None if rule.is_none() => return Err(DecodeError::Malformed(WHAT)),
        None => None,
        Some(bytes) => match name(bytes)? {
            None => return Ok(undefined()),
            some => some,
        },
    };
    Ok(Filter::Extensible(Extensible {
        rule: rule.map(str::to_owned),
        name,
        value,
        dn_attributes,
    }))
}
