//! Reading a JSON document value by value as it streams by: each value is parsed where it lies in the
//! buffer, so that its texts can be borrowed, and no more is in memory than the buffer.

use std::io::{self, Read};

use serde::de::{Deserialize, Error};

use super::raw::Text;
use super::read::ReadError;

/// Longest single value in bytes: a group of a million members takes some 35 MiB.
const LONGEST: usize = 64 << 20;
/// Length of the buffer, unless a value needs more.
const BUFFER: usize = 128 << 10;

/// A JSON text, read value by value.
pub(super) struct Pieces<R> {
    reader: R,
    /// What was read and not consumed is `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the text before the buffer.
    before: u64,
    /// The reader has no more.
    ended: bool,
    usual: usize,
}

impl<R: Read> Pieces<R> {
    pub(super) fn new(reader: R) -> Self {
        Self::with_buffer(reader, BUFFER)
    }

    /// With a buffer of `usual` bytes, at least one.
    fn with_buffer(reader: R, usual: usize) -> Self {
        Self {
            reader,
            buffer: vec![0; usual],
            start: 0,
            end: 0,
            before: 0,
            ended: false,
            usual,
        }
    }

    /// Consumes `wanted`, white space in front of it included.
    pub(super) fn expect(&mut self, wanted: u8) -> Result<(), ReadError> {
        if self.take(wanted)? {
            return Ok(());
        }
        let found = self.peek()?;
        let at = self.at();
        Err(match found {
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
        self.start += usize::from(is_next);
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

    /// Puts the next key of an object into `key` and consumes its colon. Where it begins; nothing when the object ended.
    pub(super) fn key(&mut self, first: bool, key: &mut String) -> Result<Option<u64>, ReadError> {
        if !self.step(first, b'}')? {
            return Ok(None);
        }
        self.name(key).map(Some)
    }

    /// The same after [`Self::step`].
    pub(super) fn name(&mut self, key: &mut String) -> Result<u64, ReadError> {
        let from = self.next_at()?;
        self.value(|bytes| {
            let (Text(text), len) = parse(bytes)?;
            key.clear();
            key.push_str(&text);
            Ok(((), len))
        })?;
        self.expect(b':')?;
        Ok(from)
    }

    /// Where the next byte stands that is no white space.
    pub(super) fn next_at(&mut self) -> Result<u64, ReadError> {
        self.peek()?;
        Ok(self.at())
    }

    /// Consumes `count` bytes, whatever they are.
    pub(super) fn skip(&mut self, mut count: usize) -> Result<(), ReadError> {
        loop {
            let own = count.min(self.end - self.start);
            self.start += own;
            count -= own;
            if count == 0 {
                return Ok(());
            }
            if !self.more()? {
                return Err(ReadError::Ended { at: self.at() });
            }
        }
    }

    /// The next value. `take` gets bytes that begin with it and returns what it makes of it, and its
    /// length; [`parse`] does. When they do not hold all of the value `take` has to fail, and is called
    /// again with more, so that it must do nothing before it has the value.
    pub(super) fn value<T>(
        &mut self,
        mut take: impl FnMut(&[u8]) -> serde_json::Result<(T, usize)>,
    ) -> Result<T, ReadError> {
        let first = self.peek()?;
        let at = self.at();
        match first.ok_or(ReadError::Ended { at })? {
            b'"' | b'{' | b'[' => {}
            // A number or a word does not show by itself where it ends.
            _ => while !self.unread().iter().any(|byte| ends_word(*byte)) && self.more()? {},
        }
        let mut failed = None;
        loop {
            let error = match take(self.unread()) {
                Ok((value, len)) => {
                    self.start += len;
                    return Ok(value);
                }
                Err(error) => error,
            };
            // Where a value is cut its parser fails at the cut; what is wrong stays wrong with more.
            let place = Some((error.line(), error.column()));
            if place == failed || !self.more()? {
                return Err(ReadError::Json { at, error });
            }
            failed = place;
        }
    }

    /// Refuses anything but white space up to the end.
    pub(super) fn end(&mut self) -> Result<(), ReadError> {
        match self.peek()? {
            None => Ok(()),
            Some(_) => Err(ReadError::Trailing { at: self.at() }),
        }
    }

    /// The next byte that is no white space; `None` at the end.
    fn peek(&mut self) -> Result<Option<u8>, ReadError> {
        loop {
            let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            match self.unread().iter().position(|byte| !blank(byte)) {
                Some(blanks) => {
                    self.start += blanks;
                    return Ok(self.unread().first().copied());
                }
                None => self.start = self.end,
            }
            if !self.more()? {
                return Ok(None);
            }
        }
    }

    /// Bytes consumed.
    fn at(&self) -> u64 {
        self.before + self.start as u64
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Reads on until the buffer is full again, a larger one when it is full. False when nothing came.
    fn more(&mut self) -> Result<bool, ReadError> {
        if self.ended {
            return Ok(false);
        }
        let unread = self.end - self.start;
        // At least twice what is there, so that a long value is parsed few times.
        let wanted = self.usual.max(unread * 2);
        if unread >= LONGEST {
            return Err(ReadError::TooLong {
                at: self.at(),
                limit: LONGEST,
            });
        }
        if wanted > self.buffer.len() {
            self.buffer.resize(wanted, 0);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.before += self.start as u64;
        (self.start, self.end) = (0, unread);
        if wanted < self.buffer.len() {
            self.buffer.truncate(wanted);
            self.buffer.shrink_to_fit();
        }
        while let Some(room) = self.buffer.get_mut(self.end..).filter(|room| !room.is_empty()) {
            match self.reader.read(room) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ReadError::Io(error)),
            }
        }
        Ok(self.end > unread)
    }
}

/// The value that `bytes` begin with, and its length.
pub(super) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> serde_json::Result<(T, usize)> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter();
    let value = values.next().unwrap_or_else(|| Err(Error::custom("there is no value")));
    value.map(|value| (value, values.byte_offset()))
}

fn ends_word(byte: u8) -> bool {
    matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r')
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

    /// The elements of an array, read with a buffer of `usual` bytes to begin with.
    fn array(text: &[u8], usual: usize) -> Result<Vec<Value>, ReadError> {
        let mut pieces = Pieces::with_buffer(Drip(text, false), usual);
        pieces.expect(b'[')?;
        let mut values = Vec::new();
        while pieces.step(values.is_empty(), b']')? {
            values.push(pieces.value(|bytes| parse(bytes))?);
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
            assert!(array(text.as_bytes(), 2).is_err(), "{text}");
        }
        assert_eq!(array(b" [ ] ", 1).unwrap(), Vec::<Value>::new());
    }

    #[test]
    fn a_value_beyond_the_limit_is_refused_while_it_is_read() {
        let endless = io::repeat(b'x').take(LONGEST as u64 * 2);
        let mut pieces = Pieces::new(b"\"".chain(endless));
        assert!(matches!(
            pieces.value(|bytes| parse::<String>(bytes)),
            Err(ReadError::TooLong { at: 0, .. })
        ));
    }

    proptest! {
        #[test]
        fn pieces_are_what_a_whole_parser_sees(values in proptest::collection::vec(json(), 0..6), usual in 1..80_usize) {
            let text = format!("[{}]", values.join(" , "));
            let whole: Vec<Value> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(array(text.as_bytes(), usual).unwrap(), whole);
        }

        #[test]
        fn changed_text_is_refused_just_when_a_whole_parser_refuses_it(
            values in proptest::collection::vec(json(), 0..4),
            place in any::<proptest::sample::Index>(),
            usual in 1..80_usize,
            byte in prop_oneof![Just(b'"'), Just(b'\\'), Just(b'['), Just(b'}'), Just(b','), Just(b' '), any::<u8>()],
        ) {
            let mut text = format!("[{}]", values.join(",")).into_bytes();
            let place = place.index(text.len());
            text[place] = byte;
            let whole = serde_json::from_slice::<Vec<Value>>(&text);
            match array(&text, usual) {
                Ok(values) => prop_assert_eq!(Some(values), whole.ok()),
                Err(error) => prop_assert!(whole.is_err(), "{}", error),
            }
        }
    }
}
