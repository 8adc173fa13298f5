//! The streaming reader.

use std::collections::HashSet;
use std::io::Read;

use serde::de::IgnoredAny;

use super::pieces::{Pieces, parse};
use super::raw::{Any, AnyText};
use super::records::{Place, Tap};
use super::{Field, Meta, RawEntry, RawGroup, RawSchema, RawUser, Retired};

/// Takes the records of a snapshot as they come, in the order of the document.
pub trait Sink {
    /// One element of `users`.
    fn user(&mut self, user: RawUser<'_>);
    /// One element of `groups`.
    fn group(&mut self, group: RawGroup<'_>);
    /// One entry of `ssh_keys`: the source's username and its authorized_keys lines.
    fn keys(&mut self, username: &str, lines: &str);
    /// One retired number of the ledger. Hosts have no use for it.
    fn retired(&mut self, _retired: Retired) {}
    /// `schema`: definitions for the entries after it. Only a host's directory copy has use for them.
    fn schema(&mut self, _schema: Field<RawSchema>) {}
    /// One element of `entries`. Only a host's directory copy has use for it.
    fn entry(&mut self, _entry: RawEntry) {}
}

/// Wants records' bytes alone.
impl Sink for () {
    fn user(&mut self, _user: RawUser<'_>) {}
    fn group(&mut self, _group: RawGroup<'_>) {}
    fn keys(&mut self, _username: &str, _lines: &str) {}
}

/// How much a snapshot may hold. The caller caps its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Elements of `users`.
    pub users: usize,
    /// Elements of `groups`.
    pub groups: usize,
    /// Elements of `entries`.
    pub entries: usize,
}

impl Default for Caps {
    /// Two million users, one million groups and four million entries: twice the largest directory that
    /// is tested, and more.
    fn default() -> Self {
        Self {
            users: 2_000_000,
            groups: 1_000_000,
            entries: 4_000_000,
        }
    }
}

/// Why a document is no snapshot. Nothing of it may be used. Places are bytes from its beginning.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes failed.
    #[error("the snapshot cannot be read: {0}")]
    Io(#[source] std::io::Error),
    /// A value is no JSON, or of another kind than its place wants.
    #[error("the snapshot cannot be read: the value at byte {at}: {error}")]
    Json {
        /// Where the value begins.
        at: u64,
        /// What its parser says; line and column count from the value's beginning.
        #[source]
        error: serde_json::Error,
    },
    /// Another character than must stand there.
    #[error("the snapshot cannot be read: {found:?} instead of {wanted:?} at byte {at}")]
    Unexpected {
        /// What must stand there.
        wanted: char,
        /// What stands there.
        found: char,
        /// Where.
        at: u64,
    },
    /// It ends too early.
    #[error("the snapshot cannot be read: it ends at byte {at}, before its last bracket")]
    Ended {
        /// Its length.
        at: u64,
    },
    /// Something follows.
    #[error("the snapshot cannot be read: something follows its end at byte {at}")]
    Trailing {
        /// Where.
        at: u64,
    },
    /// One value is larger than any record.
    #[error("the snapshot cannot be read: the value at byte {at} is longer than {limit} bytes")]
    TooLong {
        /// Where it begins.
        at: u64,
        /// The limit.
        limit: usize,
    },
    /// More records than [`Caps`] allow.
    #[error("the snapshot cannot be read: {what:?} holds more than {most}")]
    TooMany {
        /// Which records.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// One of the top-level fields is given twice.
    #[error("the snapshot cannot be read: {0:?} is given twice")]
    Twice(String),
}

impl ReadError {
    /// Did the bytes fail rather than the JSON? True for a sealed body that turned out to be cut or
    /// changed while it was read.
    #[must_use]
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io(_))
    }
}

/// Reads one snapshot to its end, hands its records to `sink` and returns what it says of itself.
///
/// # Errors
/// When the bytes are no JSON object of the form in the [module text](super), when the reader fails,
/// when there is more than `caps` allow, or when anything but white space follows.
pub fn read(reader: impl Read, caps: Caps, sink: &mut dyn Sink) -> Result<Meta, ReadError> {
    read_tapped(reader, caps, sink, Tap::closed())
}

/// The same, and every record's bytes as they stand go to `tap` besides.
///
/// # Errors
/// As [`read`].
pub(super) fn read_tapped(
    reader: impl Read,
    caps: Caps,
    sink: &mut dyn Sink,
    mut tap: Tap<'_>,
) -> Result<Meta, ReadError> {
    let mut json = Pieces::new(reader);
    let mut meta = Meta::default();
    let mut seen = HashSet::new();
    let mut key = String::new();
    let mut first = true;
    json.expect(b'{')?;
    while let Some(from) = json.key(first, &mut key)? {
        first = false;
        match key.as_str() {
            "users" => each(&mut json, ("users", caps.users), &mut tap, Place::User, |bytes| {
                let (user, len) = parse(bytes)?;
                sink.user(user);
                Ok(len)
            })?,
            "groups" => each(&mut json, ("groups", caps.groups), &mut tap, Place::Group, |bytes| {
                let (group, len) = parse(bytes)?;
                sink.group(group);
                Ok(len)
            })?,
            "entries" => each(&mut json, ("entries", caps.entries), &mut tap, Place::Entry, |bytes| {
                let (entry, len) = parse(bytes)?;
                sink.entry(entry);
                Ok(len)
            })?,
            "ssh_keys" => keys(&mut json, caps.users, sink, &mut tap)?,
            "schema" => {
                let at = json.next_at()?;
                json.value(|bytes| {
                    let (Any(schema), len) = parse(bytes)?;
                    sink.schema(schema);
                    tap.named(Place::Member, &[&key], from..at + len as u64, bytes, len);
                    Ok(((), len))
                })?;
            }
            "sequence" => meta.sequence = tap.member(&mut json, Place::Member, &[&key], from)?,
            "generated_at" => meta.generated_at = tap.member(&mut json, Place::Member, &[&key], from)?,
            "source" => meta.source = tap.member(&mut json, Place::Member, &[&key], from)?,
            "host_groups" => meta.host_groups = Some(tap.member(&mut json, Place::Member, &[&key], from)?),
            "ledger" => ledger(&mut json, sink, &mut tap)?,
            _ => {
                tap.member::<IgnoredAny>(&mut json, Place::Member, &[&key], from)?;
                continue;
            }
        }
        if !seen.insert(key.clone()) {
            return Err(ReadError::Twice(key));
        }
    }
    json.end()?;
    Ok(meta)
}

/// An array of `most` elements at most, each of which goes to `take`, for its length, and then to `tap`, unless that knows it;
/// see [`Pieces::value`].
fn each(
    json: &mut Pieces<impl Read>,
    (what, most): (&'static str, usize),
    tap: &mut Tap<'_>,
    place: Place,
    mut take: impl FnMut(&[u8]) -> serde_json::Result<usize>,
) -> Result<(), ReadError> {
    json.expect(b'[')?;
    let mut count = 0_usize;
    while json.step(count == 0, b']')? {
        count += 1;
        if count > most {
            return Err(ReadError::TooMany { what, most });
        }
        if !tap.passes(json, place)? {
            let at = json.next_at()?;
            json.value(|bytes| {
                let len = take(bytes)?;
                tap.element(place, at, bytes, len);
                Ok(((), len))
            })?;
        }
    }
    Ok(())
}

/// The `ssh_keys` object. A value that is no string is passed over, as deployed agents do.
fn keys(json: &mut Pieces<impl Read>, most: usize, sink: &mut dyn Sink, tap: &mut Tap<'_>) -> Result<(), ReadError> {
    json.expect(b'{')?;
    let mut count = 0_usize;
    let mut username = String::new();
    while json.step(count == 0, b'}')? {
        count += 1;
        if count > most {
            return Err(ReadError::TooMany { what: "ssh_keys", most });
        }
        if tap.passes(json, Place::Keys)? {
            continue;
        }
        let from = json.name(&mut username)?;
        let at = json.next_at()?;
        json.value(|bytes| {
            let (AnyText(lines), len) = parse(bytes)?;
            if let Some(lines) = lines {
                sink.keys(&username, &lines);
            }
            tap.named(Place::Keys, &["ssh_keys", &username], from..at + len as u64, bytes, len);
            Ok(((), len))
        })?;
    }
    Ok(())
}

/// The `ledger` object.
fn ledger(json: &mut Pieces<impl Read>, sink: &mut dyn Sink, tap: &mut Tap<'_>) -> Result<(), ReadError> {
    json.expect(b'{')?;
    let mut first = true;
    let mut key = String::new();
    while let Some(from) = json.key(first, &mut key)? {
        first = false;
        if key == "retired" {
            each(json, ("retired", usize::MAX), tap, Place::Retired, |bytes| {
                let (retired, len) = parse(bytes)?;
                sink.retired(retired);
                Ok(len)
            })?;
        } else {
            tap.member::<IgnoredAny>(json, Place::Ledger, &["ledger", &key], from)?;
        }
    }
    Ok(())
}
