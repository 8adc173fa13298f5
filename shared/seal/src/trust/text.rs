//! The shape that all objects share: a context line, then `name value` lines in a fixed order.

use std::fmt::{self, Display, Write};
use std::str::FromStr;

use jiff::Timestamp;

use crate::Note;

/// Why a text is not the object it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Another kind of object, or another version of its format.
    #[error("it begins with {found:?} where {expected:?} is expected")]
    Context {
        /// The context line.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A line is missing, is another one, or holds no such value.
    #[error("line {line} should be `{name} …`{}", reason.as_ref().map_or(String::new(), |reason| format!(": {reason}")))]
    Line {
        /// Counted from 1.
        line: usize,
        /// The field that belongs there.
        name: &'static str,
        /// What is wrong with its value; none when the line is another field's.
        reason: Option<String>,
    },
    /// There are lines after the end.
    #[error("line {0} is one too many")]
    TooLong(usize),
    /// It means something, but is spelled differently from the one way it is written.
    #[error("it is not in its one exact form: line {0} is spelled differently")]
    Spelling(usize),
    /// Its parts contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

/// An object with one exact text. Implemented by this module's types alone.
pub trait Object: Sized {
    /// The first line: kind and version of the format.
    const CONTEXT: &'static str;
    /// Most bytes of its note; of its text where it travels without one.
    const MOST: usize;

    /// Reads the fields after the context line.
    #[doc(hidden)]
    fn read(fields: &mut Fields<'_>) -> Result<Self, FormatError>;
    /// Writes the fields after the context line.
    #[doc(hidden)]
    fn write(&self, lines: &mut Lines);
}

/// Reads the text of `note` as an object. Whether anybody may have signed it is another question.
///
/// # Errors
/// When it is another kind, malformed, contradictory, or not in its one exact form.
pub fn parse<T: Object>(note: &Note) -> Result<T, FormatError> {
    read(note.text())
}

/// The one exact text of `object`, ready to be signed or sealed.
///
/// # Errors
/// When the object's parts contradict each other, so that nobody could read it.
pub fn print<T: Object>(object: &T) -> Result<String, FormatError> {
    let text = write(object);
    read::<T>(&text).map(|_| text)
}

fn write<T: Object>(object: &T) -> String {
    let mut lines = Lines(format!("{}\n", T::CONTEXT));
    object.write(&mut lines);
    lines.0
}

/// Reads an object that is kept or sealed without a note: a host's memory, a wrap.
///
/// # Errors
/// When it is another kind, malformed, contradictory, or not in its one exact form.
pub fn read<T: Object>(text: &str) -> Result<T, FormatError> {
    let mut fields = Fields {
        lines: text.strip_suffix('\n').unwrap_or(text).split('\n').collect(),
        at: 1,
    };
    let context = fields.lines.first().copied().unwrap_or_default();
    if context != T::CONTEXT {
        return Err(FormatError::Context {
            expected: T::CONTEXT,
            found: context.chars().take(40).collect(),
        });
    }
    let object = T::read(&mut fields)?;
    if fields.at < fields.lines.len() {
        return Err(FormatError::TooLong(fields.at + 1));
    }
    let exact = write(&object);
    if exact != text {
        let same = exact
            .split('\n')
            .zip(text.split('\n'))
            .take_while(|(left, right)| left == right)
            .count();
        return Err(FormatError::Spelling(same + 1));
    }
    Ok(object)
}

/// A time in whole seconds, as objects write it.
pub(super) struct Time(pub(super) Timestamp);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time: Timestamp = text.parse().map_err(|error: jiff::Error| error.to_string())?;
        if time == whole_seconds(time) {
            Ok(Self(time))
        } else {
            Err("times are in whole seconds".to_owned())
        }
    }
}

impl Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        whole_seconds(self.0).fmt(formatter)
    }
}

/// `time` without the part of a second that no object has.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Lines being read.
#[derive(Debug)]
pub struct Fields<'a> {
    lines: Vec<&'a str>,
    at: usize,
}

impl<'a> Fields<'a> {
    fn error(&self, name: &'static str, reason: Option<String>) -> FormatError {
        let line = self.at + usize::from(reason.is_none());
        FormatError::Line { line, name, reason }
    }

    /// The value of the next line, if it is of field `name`.
    fn next(&mut self, name: &'static str) -> Option<&'a str> {
        let value = self.lines.get(self.at)?.strip_prefix(name)?.strip_prefix(' ')?;
        self.at += 1;
        Some(value)
    }

    /// The value of the next line, which must be of field `name`.
    pub(super) fn text(&mut self, name: &'static str) -> Result<&'a str, FormatError> {
        self.next(name).ok_or_else(|| self.error(name, None))
    }

    /// The same, parsed.
    pub(super) fn value<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Result<T, FormatError> {
        let text = self.text(name)?;
        self.convert(name, text)
    }

    /// The same, where `-` stands for nothing.
    pub(super) fn optional<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Result<Option<T>, FormatError> {
        match self.text(name)? {
            "-" => Ok(None),
            text => self.convert(name, text).map(Some),
        }
    }

    /// A version: 1 to [`LARGEST_VERSION`](super::LARGEST_VERSION).
    pub(super) fn version(&mut self, name: &'static str) -> Result<u64, FormatError> {
        let version = self.value(name)?;
        self.check_version(name, version)
    }

    pub(super) fn check_version(&self, name: &'static str, version: u64) -> Result<u64, FormatError> {
        if (1..=super::LARGEST_VERSION).contains(&version) {
            Ok(version)
        } else {
            Err(self.error(name, Some(format!("{version} is no version"))))
        }
    }

    /// All following lines of field `name`, each split at its spaces into exactly `N` words that `read` converts.
    pub(super) fn rows<const N: usize, T>(
        &mut self,
        name: &'static str,
        most: usize,
        read: impl Fn(&Self, [&'a str; N]) -> Result<T, FormatError>,
    ) -> Result<Vec<T>, FormatError> {
        self.each_line(name, most, |fields, value| read(fields, fields.words(name, value)?))
    }

    /// The same with `M` words more, or without them.
    pub(super) fn longer_rows<const N: usize, const M: usize, T>(
        &mut self,
        name: &'static str,
        most: usize,
        read: impl Fn(&Self, [&'a str; N], Option<[&'a str; M]>) -> Result<T, FormatError>,
    ) -> Result<Vec<T>, FormatError> {
        self.each_line(name, most, |fields, value| {
            let end = value.match_indices(' ').nth(N - 1).map(|(at, _)| at);
            let Some((first, more)) = end.and_then(|at| value.split_at_checked(at)) else {
                return read(fields, fields.words(name, value)?, None);
            };
            let more = fields.words(name, more.strip_prefix(' ').unwrap_or_default())?;
            read(fields, fields.words(name, first)?, Some(more))
        })
    }

    fn each_line<T>(
        &mut self,
        name: &'static str,
        most: usize,
        read: impl Fn(&Self, &'a str) -> Result<T, FormatError>,
    ) -> Result<Vec<T>, FormatError> {
        let mut rows = Vec::new();
        while let Some(value) = self.next(name) {
            if rows.len() == most {
                return Err(self.error(name, Some(format!("there are more than {most}"))));
            }
            rows.push(read(self, value)?);
        }
        Ok(rows)
    }

    /// Splits `value` into exactly `N` words.
    pub(super) fn words<const N: usize>(
        &self,
        name: &'static str,
        value: &'a str,
    ) -> Result<[&'a str; N], FormatError> {
        let words: Vec<_> = value.split(' ').collect();
        words
            .try_into()
            .map_err(|_| self.error(name, Some(format!("{N} words are expected"))))
    }

    /// Parses a word of the line that was read last.
    pub(super) fn convert<T: FromStr<Err: Display>>(&self, name: &'static str, word: &str) -> Result<T, FormatError> {
        word.parse()
            .map_err(|error: T::Err| self.error(name, Some(error.to_string())))
    }

    /// What follows `key=` in a word of the line that was read last.
    pub(super) fn keyed<T: FromStr<Err: Display>>(
        &self,
        name: &'static str,
        key: &str,
        word: &str,
    ) -> Result<T, FormatError> {
        match word.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')) {
            Some(rest) => self.convert(name, rest),
            None => Err(self.error(name, Some(format!("{key}=… is expected")))),
        }
    }
}

/// Lines being written.
#[derive(Debug)]
pub struct Lines(String);

impl Lines {
    pub(super) fn line(&mut self, name: &str, value: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{name} {value}");
    }

    pub(super) fn optional(&mut self, name: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.line(name, value),
            None => self.line(name, "-"),
        }
    }
}

/// Are the keys of `items` strictly ascending? Lists have one order, and nothing stands in them twice.
pub(super) fn ascending<'t, T, K: Ord>(
    what: &str,
    items: &'t [T],
    key: impl Fn(&'t T) -> K,
) -> Result<(), FormatError> {
    if items.is_sorted_by(|left, right| key(left) < key(right)) {
        Ok(())
    } else {
        Err(FormatError::Contradiction(format!(
            "its {what} are not in order, or one stands there twice"
        )))
    }
}
