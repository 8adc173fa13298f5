//! The string form of RFC 4515.

use super::{DEEPEST, Extensible, Filter, Pieces};
use crate::{AttributeName, Value};

/// Longest filter that is read: applications send ORs of a thousand names.
const LONGEST: usize = 1 << 20;

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Something does not follow the grammar.
    #[error("no filter: {reason} at byte {at}")]
    Syntax {
        /// Byte offset in the text.
        at: usize,
        /// What was expected there.
        reason: &'static str,
    },
    /// Nested deeper than [`DEEPEST`].
    #[error("the filter nests deeper than 64")]
    TooDeep,
    /// Over 1 MiB.
    #[error("the filter is longer than 1 MiB")]
    TooLong,
}

impl Filter {
    /// Parses the string form. The outer parentheses may be left out around a simple item, as
    /// ldapsearch(1) allows.
    ///
    /// # Errors
    /// When the text does not follow the grammar, is too deep or too long.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > LONGEST {
            return Err(FilterError::TooLong);
        }
        let trimmed = text.trim();
        let mut parser = Parser { text: trimmed, at: 0 };
        if !trimmed.starts_with('(') {
            return parser.item();
        }
        let filter = parser.filter(0)?;
        if parser.at < trimmed.len() {
            Err(parser.error("expected the end"))
        } else {
            Ok(filter)
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, reason: &'static str) -> FilterError {
        FilterError::Syntax { at: self.at, reason }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expect(&mut self, byte: u8, reason: &'static str) -> Result<(), FilterError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.error(reason))
        }
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn filter(&mut self, depth: usize) -> Result<Filter, FilterError> {
        if depth >= DEEPEST {
            return Err(FilterError::TooDeep);
        }
        self.expect(b'(', "expected (")?;
        let filter = match self.peek() {
            Some(b'&') => Filter::And(self.set(depth)?),
            Some(b'|') => Filter::Or(self.set(depth)?),
            Some(b'!') => {
                self.at += 1;
                self.skip_blanks();
                let inner = self.filter(depth + 1)?;
                self.skip_blanks();
                Filter::Not(Box::new(inner))
            }
            _ => self.item()?,
        };
        self.expect(b')', "expected )")?;
        Ok(filter)
    }

    fn set(&mut self, depth: usize) -> Result<Vec<Filter>, FilterError> {
        self.at += 1;
        let mut filters = Vec::new();
        loop {
            self.skip_blanks();
            if self.peek() != Some(b'(') {
                return Ok(filters);
            }
            filters.push(self.filter(depth + 1)?);
        }
    }

    fn item(&mut self) -> Result<Filter, FilterError> {
        let start = self.at;
        let rest = self.text.get(start..).unwrap_or_default();
        let end = rest.find([')', '(']).map_or(self.text.len(), |end| start + end);
        let item = self.text.get(start..end).unwrap_or_default();
        let equals = item.find('=').ok_or_else(|| self.error("expected ="))?;
        let (left, right) = (
            item.get(..equals).unwrap_or_default(),
            item.get(equals + 1..).unwrap_or_default(),
        );
        self.at = start + equals + 1;
        let filter = match left.as_bytes().last() {
            Some(b':') => self.extensible(left, right)?,
            Some(b'>') => Filter::GreaterOrEqual(self.name(shortened(left), start)?, self.value(right)?),
            Some(b'<') => Filter::LessOrEqual(self.name(shortened(left), start)?, self.value(right)?),
            Some(b'~') => Filter::Approximate(self.name(shortened(left), start)?, self.value(right)?),
            _ => self.simple(left, right, start)?,
        };
        self.at = end;
        Ok(filter)
    }

    fn name(&self, text: &str, at: usize) -> Result<AttributeName, FilterError> {
        AttributeName::parse(text.trim()).map_err(|_| FilterError::Syntax {
            at,
            reason: "expected an attribute name",
        })
    }

    fn simple(&self, left: &str, right: &str, start: usize) -> Result<Filter, FilterError> {
        let name = self.name(left, start)?;
        // Several stars say no more than one: there is a value.
        if !right.is_empty() && right.bytes().all(|byte| byte == b'*') {
            return Ok(Filter::Present(name));
        }
        if !right.contains('*') {
            return Ok(Filter::Equality(name, self.value(right)?));
        }
        let pieces: Vec<&'_ str> = right.split('*').collect();
        let piece = |text: &&str| -> Result<Option<Value>, FilterError> {
            if text.is_empty() {
                Ok(None)
            } else {
                self.value(text).map(Some)
            }
        };
        let [first, middle @ .., last] = pieces.as_slice() else {
            return Err(self.error("expected a value"));
        };
        let any = middle
            .iter()
            .filter(|text| !text.is_empty())
            .map(|text| self.value(text))
            .collect::<Result<_, _>>()?;
        Ok(Filter::Substrings(
            name,
            Pieces {
                initial: piece(first)?,
                any,
                last: piece(last)?,
            },
        ))
    }

    /// `[attribute][:dn][:rule]:=value`, of which the colon before `=` is the last of `left`.
    fn extensible(&self, left: &'a str, right: &str) -> Result<Filter, FilterError> {
        let mut parts = shortened(left).split(':');
        let name = match parts.next().unwrap_or_default() {
            "" => None,
            name => Some(self.name(name, self.at)?),
        };
        let mut parts = parts.peekable();
        let dn_attributes = parts.next_if(|part| part.eq_ignore_ascii_case("dn")).is_some();
        let rule = parts.next().map(str::to_owned);
        let rule_is_name = rule.as_deref().is_none_or(|rule| AttributeName::parse(rule).is_ok());
        if parts.next().is_some() || !rule_is_name || (name.is_none() && rule.is_none()) {
            return Err(self.error("expected attribute:dn:rule:=value"));
        }
        Ok(Filter::Extensible(Extensible {
            rule,
            name,
            value: self.value(right)?,
            dn_attributes,
        }))
    }

    fn value(&self, text: &str) -> Result<Value, FilterError> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((byte, after)) = rest.split_first() {
            rest = match byte {
                b'\\' => {
                    let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
                    let byte = pair
                        .filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))
                        .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                        .ok_or_else(|| self.error("expected two hexadecimal digits after \\"))?;
                    bytes.push(byte);
                    after.get(2..).unwrap_or_default()
                }
                b'*' | 0 => return Err(self.error("this character must be escaped")),
                byte => {
                    bytes.push(*byte);
                    after
                }
            };
        }
        Ok(Value::from(bytes))
    }
}

/// Without its last byte, which is one of `: > < ~`.
fn shortened(text: &str) -> &str {
    text.get(..text.len().saturating_sub(1)).unwrap_or_default()
}
