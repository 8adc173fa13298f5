//! The streaming reader.

use std::fmt;
use std::io::{BufReader, Read};
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::raw::AnyText;
use super::{Meta, RawGroup, RawUser, Retired};

/// Takes the records of a snapshot as they come, in the order of the document.
pub trait Sink {
    /// One element of `users`.
    fn user(&mut self, user: RawUser);
    /// One element of `groups`.
    fn group(&mut self, group: RawGroup);
    /// One entry of `ssh_keys`: the source's username and its authorized_keys lines.
    fn keys(&mut self, username: String, lines: String);
    /// One retired number of the ledger. Hosts have no use for it.
    fn retired(&mut self, _retired: Retired) {}
}

/// How much a snapshot may hold. The caller caps its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Elements of `users`.
    pub users: usize,
    /// Elements of `groups`.
    pub groups: usize,
}

impl Default for Caps {
    /// Two million users and one million groups: twice the largest directory that is tested.
    fn default() -> Self {
        Self {
            users: 2_000_000,
            groups: 1_000_000,
        }
    }
}

/// Why a document is no snapshot. Nothing of it may be used.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot cannot be read: {0}")]
pub struct ReadError(#[from] serde_json::Error);

impl ReadError {
    /// Did the bytes fail rather than the JSON? True for a sealed body that turned out to be cut or
    /// changed while it was read.
    #[must_use]
    pub fn is_io(&self) -> bool {
        self.0.is_io()
    }
}

/// Reads one snapshot to its end, hands its records to `sink` and returns what it says of itself.
///
/// # Errors
/// When the bytes are no JSON object of the form in the [module text](super), when the reader fails,
/// when there is more than `caps` allow, or when anything but white space follows.
pub fn read(reader: impl Read, caps: Caps, sink: &mut dyn Sink) -> Result<Meta, ReadError> {
    let mut deserializer = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 16, reader));
    let meta = deserializer.deserialize_map(Top { caps, sink })?;
    deserializer.end()?;
    Ok(meta)
}

struct Top<'a> {
    caps: Caps,
    sink: &'a mut dyn Sink,
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = Meta;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a snapshot object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Meta, A::Error> {
        let Self { caps, sink } = self;
        let mut meta = Meta::default();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "users" => map.next_value_seed(Elements::new("users", caps.users, |user| sink.user(user)))?,
                "groups" => map.next_value_seed(Elements::new("groups", caps.groups, |group| sink.group(group)))?,
                "ssh_keys" => map.next_value_seed(Keys { most: caps.users, sink })?,
                "sequence" => meta.sequence = map.next_value()?,
                "generated_at" => meta.generated_at = map.next_value()?,
                "source" => meta.source = map.next_value()?,
                "ledger" => map.next_value_seed(Ledger { sink })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            }
            if let Some(twice) = seen.replace(key) {
                return Err(A::Error::custom(format_args!("{twice:?} is given twice")));
            }
        }
        Ok(meta)
    }
}

/// An array whose elements go to a closure one by one.
struct Elements<T, F: FnMut(T)> {
    what: &'static str,
    most: usize,
    take: F,
    element: PhantomData<T>,
}

impl<T, F: FnMut(T)> Elements<T, F> {
    fn new(what: &'static str, most: usize, take: F) -> Self {
        Self {
            what,
            most,
            take,
            element: PhantomData,
        }
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T)> DeserializeSeed<'de> for Elements<T, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T)> Visitor<'de> for Elements<T, F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an array for {:?}", self.what)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut count = 0_usize;
        while let Some(element) = seq.next_element()? {
            count += 1;
            if count > self.most {
                return Err(A::Error::custom(format_args!(
                    "{:?} holds more than {}",
                    self.what, self.most
                )));
            }
            (self.take)(element);
        }
        Ok(())
    }
}

/// The `ssh_keys` object. A value that is no string is passed over, as deployed agents do.
struct Keys<'a> {
    most: usize,
    sink: &'a mut dyn Sink,
}

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object for \"ssh_keys\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut count = 0_usize;
        while let Some((username, AnyText(lines))) = map.next_entry::<String, AnyText>()? {
            count += 1;
            if count > self.most {
                return Err(A::Error::custom(format_args!(
                    "\"ssh_keys\" holds more than {}",
                    self.most
                )));
            }
            if let Some(lines) = lines {
                self.sink.keys(username, lines);
            }
        }
        Ok(())
    }
}

/// The `ledger` object.
struct Ledger<'a> {
    sink: &'a mut dyn Sink,
}

impl<'de> DeserializeSeed<'de> for Ledger<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Ledger<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object for \"ledger\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "retired" {
                map.next_value_seed(Elements::new("retired", usize::MAX, |retired| {
                    self.sink.retired(retired)
                }))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
