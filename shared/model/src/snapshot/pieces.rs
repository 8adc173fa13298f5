//! Cutting a JSON document into values as it streams by, so that each can be parsed from one slice:
//! several times faster than parsing byte by byte, and no more in memory than one record.
//!
//! The cut looks at brackets and quotes alone; whether a piece is JSON is for its parser to say.

use std::io::{self, BufRead, BufReader, Read};

use serde::de::DeserializeOwned;

use super::read::ReadError;

/// Longest single value in bytes: a group of a million members takes some 35 MiB.
const LONGEST: usize = 64 << 20;
/// A longer piece gives its memory back.
const KEPT: usize = 1 << 20;

/// A JSON text, read value by value.
pub(super) struct Pieces<R> {
    reader: BufReader<R>,
    /// Bytes consumed.
    at: u64,
    piece: Vec<u8>,
}

impl<R: Read> Pieces<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader: BufReader::with_capacity(1 << 16, reader),
            at: 0,
            piece: Vec::new(),
        }
    }

    /// Consumes `wanted`, white space in front of it included.
    pub(super) fn expect(&mut self, wanted: u8) -> Result<(), ReadError> {
        if self.take(wanted)? {
            return Ok(());
        }
        let at = self.at;
        Err(match self.peek()? {
            Some(found) => ReadError::Unexpected {
                wanted: wanted.into(),
                found: found.into(),
                at,
            },
            None => ReadError::Ended { at },
        })
    }

    /// Consumes `wanted` when it is next.
    pub(super) fn take(&mut self, wanted: u8) -> Result<bool, ReadError> {
        let is_next = self.peek()? == Some(wanted);
        if is_next {
            self.consume(1);
        }
        Ok(is_next)
    }

    /// Steps to the next element of an array or object that `end` ends. False when it ended.
    pub(super) fn step(&mut self, first: bool, end: u8) -> Result<bool, ReadError> {
        if self.take(end)? {
            return Ok(false);
        }
        if !first {
            self.expect(b',')?;
        }
        Ok(true)
    }

    /// The next key of an object, its colon consumed; `None` when the object ended.
    pub(super) fn key(&mut self, first: bool) -> Result<Option<String>, ReadError> {
        if !self.step(first, b'}')? {
            return Ok(None);
        }
        let key = self.value()?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    /// The next value.
    pub(super) fn value<T: DeserializeOwned>(&mut self) -> Result<T, ReadError> {
        if self.piece.capacity() > KEPT {
            self.piece = Vec::new();
        }
        self.piece.clear();
        let first = self.peek()?;
        let at = self.at;
        let mut cut = Cut::starting(first.ok_or(ReadError::Ended { at })?);
        loop {
            let buffer = fill(&mut self.reader)?;
            let (count, whole) = cut.over(buffer);
            self.piece.extend_from_slice(buffer.get(..count).unwrap_or_default());
            let ended = buffer.is_empty();
            self.consume(count);
            if whole || ended {
                break;
            }
            if self.piece.len() > LONGEST {
                return Err(ReadError::TooLong { at, limit: LONGEST });
            }
        }
        serde_json::from_slice(&self.piece).map_err(|error| ReadError::Json { at, error })
    }

    /// Refuses anything but white space up to the end.
    pub(super) fn end(&mut self) -> Result<(), ReadError> {
        match self.peek()? {
            None => Ok(()),
            Some(_) => Err(ReadError::Trailing { at: self.at }),
        }
    }

    /// The next byte that is no white space; `None` at the end.
    fn peek(&mut self) -> Result<Option<u8>, ReadError> {
        loop {
            let buffer = fill(&mut self.reader)?;
            let blanks = buffer
                .iter()
                .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
                .count();
            let next = buffer.get(blanks).copied();
            let ended = buffer.is_empty();
            self.consume(blanks);
            if next.is_some() || ended {
                return Ok(next);
            }
        }
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
        self.at += count as u64;
    }
}

/// More bytes; none at the end.
fn fill<R: Read>(reader: &mut BufReader<R>) -> Result<&[u8], ReadError> {
    while let Err(error) = reader.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(ReadError::Io(error));
        }
    }
    // A borrow that may be returned cannot be taken again in a loop.
    Ok(reader.buffer())
}

/// Finds where a value ends.
enum Cut {
    /// A number or a word: ends before white space, a comma or a bracket.
    Bare,
    /// A string, an array or an object.
    Closed { depth: usize, place: Place },
}

/// Where in a string, array or object the cut stands.
enum Place {
    Outside,
    Text,
    Escaped,
}

impl Cut {
    fn starting(first: u8) -> Self {
        match first {
            b'"' | b'{' | b'[' => Self::Closed {
                depth: 0,
                place: Place::Outside,
            },
            _ => Self::Bare,
        }
    }

    /// How many of `bytes` belong to the value, and whether it ends with them.
    fn over(&mut self, bytes: &[u8]) -> (usize, bool) {
        match self {
            Self::Bare => {
                let end = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
                let end = bytes.iter().position(end);
                (end.unwrap_or(bytes.len()), end.is_some())
            }
            Self::Closed { depth, place } => {
                let mut rest = bytes.iter();
                while let Some(byte) = rest.next() {
                    match (&place, byte) {
                        (Place::Escaped, _) => *place = Place::Text,
                        (Place::Text, b'\\') => *place = Place::Escaped,
                        (Place::Text, b'"') => *place = Place::Outside,
                        (Place::Text, _) => continue,
                        (Place::Outside, b'"') => *place = Place::Text,
                        (Place::Outside, b'{' | b'[') => *depth += 1,
                        (Place::Outside, b'}' | b']') => *depth = depth.saturating_sub(1),
                        (Place::Outside, _) => continue,
                    }
                    if *depth == 0 && matches!(place, Place::Outside) {
                        return (bytes.len() - rest.len(), true);
                    }
                }
                (bytes.len(), false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Gives few bytes at a time, and is interrupted in between.
    struct Drip<'a>(&'a [u8], bool);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = self.0.len().min(3).min(buffer.len());
            let (now, later) = self.0.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn array(text: &[u8]) -> Result<Vec<Value>, ReadError> {
        let mut pieces = Pieces::new(Drip(text, false));
        pieces.expect(b'[')?;
        let mut values = Vec::new();
        while pieces.step(values.is_empty(), b']')? {
            values.push(pieces.value()?);
        }
        pieces.end()?;
        Ok(values)
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<i64>().prop_map(|number| number.to_string()),
            "[ -~\\\\\"\\[\\]{}]{0,9}".prop_map(|text| Value::from(text).to_string()),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(|all| format!("[{}]", all.join(" ,\n"))),
                proptest::collection::vec(("[a-z\"\\\\]{0,3}", inner), 0..4).prop_map(|all| {
                    let fields = all
                        .iter()
                        .map(|(key, value)| format!("{} :{value}", Value::from(key.as_str())));
                    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
                }),
            ]
        })
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for text in [
            "", "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[{]]", "[\"a]", "[1]]", "{}", "[1}", "[tru]",
        ] {
            assert!(array(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(array(b" [ ] ").unwrap(), Vec::<Value>::new());
    }

    #[test]
    fn a_value_beyond_the_limit_is_refused_while_it_is_read() {
        let endless = io::repeat(b'x').take(LONGEST as u64 * 2);
        let mut pieces = Pieces::new(b"\"".chain(endless));
        assert!(matches!(
            pieces.value::<String>(),
            Err(ReadError::TooLong { at: 0, .. })
        ));
    }

    proptest! {
        #[test]
        fn pieces_are_what_a_whole_parser_sees(values in proptest::collection::vec(json(), 0..6)) {
            let text = format!("[{}]", values.join(" , "));
            let whole: Vec<Value> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(array(text.as_bytes()).unwrap(), whole);
        }

        #[test]
        fn changed_text_is_refused_just_when_a_whole_parser_refuses_it(
            values in proptest::collection::vec(json(), 0..4),
            place in any::<proptest::sample::Index>(),
            byte in prop_oneof![Just(b'"'), Just(b'\\'), Just(b'['), Just(b'}'), Just(b','), Just(b' '), any::<u8>()],
        ) {
            let mut text = format!("[{}]", values.join(",")).into_bytes();
            let place = place.index(text.len());
            text[place] = byte;
            let whole = serde_json::from_slice::<Vec<Value>>(&text);
            match array(&text) {
                Ok(values) => prop_assert_eq!(Some(values), whole.ok()),
                Err(error) => prop_assert!(whole.is_err(), "{}", error),
            }
        }
    }
}
