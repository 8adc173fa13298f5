//! Search filters: the string form (RFC 4515) and evaluation in three values (RFC 4511 section 4.5.1.7).

mod evaluate;
mod parse;

use std::fmt;

use crate::{AttributeName, Value};

pub use evaluate::Truth;
pub(crate) use evaluate::contains;
pub use parse::FilterError;

/// Deepest nesting that is read: real filters stay under ten.
pub const DEEPEST: usize = 64;

/// A search filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All of them; the empty one is true (RFC 4526).
    And(Vec<Filter>),
    /// Any of them; the empty one is false (RFC 4526).
    Or(Vec<Filter>),
    /// Not that one.
    Not(Box<Filter>),
    /// The attribute has the value.
    Equality(AttributeName, Value),
    /// A value of the attribute consists of these pieces in order.
    Substrings(AttributeName, Pieces),
    /// A value is the asserted one or sorts after it.
    GreaterOrEqual(AttributeName, Value),
    /// A value is the asserted one or sorts before it.
    LessOrEqual(AttributeName, Value),
    /// The attribute is there.
    Present(AttributeName),
    /// As equality: an approximate match of our own would surprise more than it finds.
    Approximate(AttributeName, Value),
    /// A match by a named rule, also over the names of the entry.
    Extensible(Extensible),
}

/// The pieces of a substring filter, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// The value starts with it.
    pub initial: Option<Value>,
    /// These follow in order, anywhere.
    pub any: Vec<Value>,
    /// The value ends with it.
    pub last: Option<Value>,
}

/// An extensible match: `attribute:dn:rule:=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extensible {
    /// The rule's name or OID; the attribute's equality rule when absent.
    pub rule: Option<String>,
    /// The attribute; every attribute that the rule fits when absent.
    pub name: Option<AttributeName>,
    /// The asserted value.
    pub value: Value,
    /// Whether the attributes of the entry's name count too.
    pub dn_attributes: bool,
}

impl fmt::Display for Filter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |formatter: &mut fmt::Formatter<'_>, sign: char, filters: &[Self]| {
            write!(formatter, "({sign}")?;
            filters.iter().try_for_each(|filter| write!(formatter, "{filter}"))?;
            formatter.write_str(")")
        };
        match self {
            Self::And(filters) => set(formatter, '&', filters),
            Self::Or(filters) => set(formatter, '|', filters),
            Self::Not(filter) => write!(formatter, "(!{filter})"),
            Self::Equality(name, value) => write!(formatter, "({name}={})", Escaped(value)),
            Self::GreaterOrEqual(name, value) => write!(formatter, "({name}>={})", Escaped(value)),
            Self::LessOrEqual(name, value) => write!(formatter, "({name}<={})", Escaped(value)),
            Self::Approximate(name, value) => write!(formatter, "({name}~={})", Escaped(value)),
            Self::Present(name) => write!(formatter, "({name}=*)"),
            Self::Substrings(name, pieces) => write!(formatter, "({name}={pieces})"),
            Self::Extensible(extensible) => write!(formatter, "({extensible})"),
        }
    }
}

impl fmt::Display for Pieces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(initial) = &self.initial {
            write!(formatter, "{}", Escaped(initial))?;
        }
        formatter.write_str("*")?;
        self.any
            .iter()
            .try_for_each(|piece| write!(formatter, "{}*", Escaped(piece)))?;
        self.last
            .iter()
            .try_for_each(|piece| write!(formatter, "{}", Escaped(piece)))
    }
}

impl fmt::Display for Extensible {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(formatter, "{name}")?;
        }
        if self.dn_attributes {
            formatter.write_str(":dn")?;
        }
        if let Some(rule) = &self.rule {
            write!(formatter, ":{rule}")?;
        }
        write!(formatter, ":={}", Escaped(&self.value))
    }
}

/// A value as RFC 4515 section 3 writes it.
struct Escaped<'a>(&'a Value);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.as_bytes();
        let plain = |byte: u8| !(byte < 0x20 || byte == 0x7f || matches!(byte, b'*' | b'(' | b')' | b'\\'));
        match self.0.as_str() {
            Some(text) => text.chars().try_for_each(|c| match u8::try_from(c) {
                Ok(byte) if byte.is_ascii() && !plain(byte) => write!(formatter, "\\{byte:02x}"),
                _ => write!(formatter, "{c}"),
            }),
            None => bytes.iter().try_for_each(|byte| {
                if byte.is_ascii() && plain(*byte) {
                    write!(formatter, "{}", char::from(*byte))
                } else {
                    write!(formatter, "\\{byte:02x}")
                }
            }),
        }
    }
}

impl std::str::FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests;
