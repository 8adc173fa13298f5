//! Reading BER elements from borrowed bytes.

use dirless_directory::encoded::{OCTET_STRING, SEQUENCE, take};

/// Why a message cannot be read. The connection ends, for what follows cannot be trusted to be read
/// in step (RFC 4511 section 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Something is not where RFC 4511 has it.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A filter nests too deep or has too many parts.
    #[error("the filter is too deep or has too many parts")]
    FilterTooLarge,
    /// The message is longer than the server takes.
    #[error("the message is too long")]
    TooLong,
}

/// What is left to be read of the content of an element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next element; none at the end.
    pub(crate) fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The content of the next element, which has that tag.
    pub(crate) fn element(&mut self, tag: u8, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (content, rest) = take(self.0, tag).ok_or(DecodeError::Malformed(what))?;
        self.0 = rest;
        Ok(content)
    }

    /// The content of the next element if it has that tag.
    pub(crate) fn optional(&mut self, tag: u8, what: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        if self.tag() == Some(tag) {
            self.element(tag, what).map(Some)
        } else {
            Ok(None)
        }
    }

    pub(crate) fn sequence(&mut self, what: &'static str) -> Result<Self, DecodeError> {
        self.element(SEQUENCE, what).map(Self)
    }

    pub(crate) fn octets(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        self.element(OCTET_STRING, what)
    }

    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        text(self.octets(what)?, what)
    }

    /// An `INTEGER` or `ENUMERATED` between 0 and 2^31 - 1, the range of every number in RFC 4511.
    pub(crate) fn number(&mut self, tag: u8, what: &'static str) -> Result<u32, DecodeError> {
        let content = self.element(tag, what)?;
        number(content).ok_or(DecodeError::Malformed(what))
    }

    pub(crate) fn boolean(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.element(BOOLEAN, what)? {
            [byte] => Ok(*byte != 0),
            _ => Err(DecodeError::Malformed(what)),
        }
    }

    pub(crate) fn end(&self, what: &'static str) -> Result<(), DecodeError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed(what))
        }
    }
}

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const ENUMERATED: u8 = 0x0a;

/// The value of an `INTEGER` between 0 and 2^31 - 1.
pub(crate) fn number(content: &[u8]) -> Option<u32> {
    let significant = content.iter().skip_while(|byte| **byte == 0);
    let negative = content.first()? & 0x80 != 0;
    if negative || content.len() > 8 || significant.clone().count() > 4 {
        return None;
    }
    let number = significant.fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    (number <= i32::MAX as u32).then_some(number)
}

pub(crate) fn text<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Malformed(what))
}

/// How long the message at the start of `bytes` is; none when too little has come to tell.
pub(crate) fn message_length(bytes: &[u8], longest: usize) -> Result<Option<usize>, DecodeError> {
    let Some((tag, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    if *tag != SEQUENCE {
        return Err(DecodeError::Malformed("message"));
    }
    let Some((first, rest)) = rest.split_first() else {
        return Ok(None);
    };
    let (header, length) = if *first < 0x80 {
        (2, usize::from(*first))
    } else {
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return Err(DecodeError::Malformed("length of the message"));
        }
        let Some(length) = rest.get(..count) else {
            return Ok(None);
        };
        let length = length.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
        (2 + count, usize::try_from(length).unwrap_or(usize::MAX))
    };
    if length > longest {
        return Err(DecodeError::TooLong);
    }
    Ok(Some(header + length))
}
