//! The bytes of a snapshot's records, for whoever digests or compares them.

use std::io::Read;
use std::ops::Range;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::pieces::{Pieces, parse};
use super::read::{ReadError, read_tapped};
use super::{Caps, Meta, Sink};

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// An element of `users`.
    User,
    /// An element of `groups`.
    Group,
    /// An element of `entries`.
    Entry,
    /// Anything else, behind the names that lead to it.
    Other,
}

/// Reads as [`read`](super::read), and hands the bytes of each record to `record`, after the sink has had it.
///
/// What is a record: each element of `users`, `groups` and `entries`, as it stands there, from its first byte to
/// its last; and each other member of the document as its name in quotes, a colon and its value as it stands. Of
/// `ssh_keys` and `ledger`, which may be long, each member is a record of its own, with both names in front
/// (`"ssh_keys":"alice":"ssh-ed25519 …"`); of `ledger`'s `retired`, each element is
/// (`"ledger":"retired":{…}`). Names are written with no more escapes than JSON asks for, `\u00XX` with small
/// digits. Brackets, commas and white space between records are in none of them, so that the records say
/// everything that a reader takes from the document, in whatever order they stand.
///
/// # Errors
/// As [`read`](super::read). What was handed out before an error means nothing.
pub fn read_records(
    reader: impl Read,
    caps: Caps,
    sink: &mut dyn Sink,
    record: &mut dyn FnMut(Part, &[u8]),
) -> Result<Meta, ReadError> {
    let scratch = Vec::new();
    let to = To::All(record);
    read_tapped(reader, caps, sink, Tap(Some(Open { to, scratch })))
}

/// Where in the text of a snapshot a record stands, and so what its span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An element of `users`: the span is the record.
    User,
    /// An element of `groups`, as well.
    Group,
    /// An element of `entries`, as well.
    Entry,
    /// A member of `ssh_keys`: the span is its name and its value.
    Keys,
    /// An element of `retired` in `ledger`.
    Retired,
    /// Any other member of `ledger`.
    Ledger,
    /// Any other member of the document.
    Member,
}

impl Place {
    /// What the record is.
    #[must_use]
    pub fn part(self) -> Part {
        match self {
            Self::User => Part::User,
            Self::Group => Part::Group,
            Self::Entry => Part::Entry,
            Self::Keys | Self::Retired | Self::Ledger | Self::Member => Part::Other,
        }
    }

    /// The record whose span this is; `None` when nothing of the kind can stand here.
    #[must_use]
    pub fn record(self, span: &[u8]) -> Option<Vec<u8>> {
        let (open, close): (&[u8], &[u8]) = match self {
            Self::User | Self::Group | Self::Entry => return Some(span.to_vec()),
            Self::Keys => (b"{\"ssh_keys\":{", b"}}"),
            Self::Retired => (b"{\"ledger\":{\"retired\":[", b"]}}"),
            Self::Ledger => (b"{\"ledger\":{", b"}}"),
            Self::Member => (b"{", b"}"),
        };
        let mut records = Vec::new();
        let mut take = |_: Part, bytes: &[u8]| records.push(bytes.to_vec());
        read_records(open.chain(span).chain(close), Caps::default(), &mut (), &mut take).ok()?;
        records.pop().filter(|_| records.is_empty())
    }
}

/// Takes the records of a text of which some may be known before they are read.
pub trait Listener {
    /// The length of the known span at this place that `text` begins with: it is stepped over then, and not handed out.
    /// It is one that was handed out of another text, at the same kind of place, and ends with a bracket or a quote.
    fn known(&mut self, place: Place, text: &[u8]) -> Option<usize>;

    /// A record that was read, and the span of the text that it is made of.
    fn record(&mut self, place: Place, span: Range<usize>, bytes: &[u8]);
}

/// Reads the records of `text` as [`read_records`] does, but for those that `listener` knows.
///
/// # Errors
/// As [`read`](super::read).
pub fn read_unknown(text: &[u8], caps: Caps, listener: &mut dyn Listener) -> Result<(), ReadError> {
    let scratch = Vec::new();
    let to = To::Listener { text, listener };
    // What is stepped over may be what a document says of itself.
    read_tapped(text, caps, &mut (), Tap(Some(Open { to, scratch }))).map(drop)
}

/// Where records' bytes go, or nowhere.
pub(super) struct Tap<'a>(Option<Open<'a>>);

struct Open<'a> {
    to: To<'a>,
    /// Names and value together.
    scratch: Vec<u8>,
}

enum To<'a> {
    All(&'a mut dyn FnMut(Part, &[u8])),
    Listener {
        text: &'a [u8],
        listener: &'a mut dyn Listener,
    },
}

impl To<'_> {
    fn take(&mut self, place: Place, span: Range<u64>, bytes: &[u8]) {
        match self {
            Self::All(take) => take(place.part(), bytes),
            // A text in memory is no longer than memory.
            Self::Listener { listener, .. } => listener.record(place, span.start as usize..span.end as usize, bytes),
        }
    }
}

impl Tap<'_> {
    /// Wants nothing.
    pub(super) fn closed() -> Self {
        Self(None)
    }

    /// Steps over the record at `place` that comes next, if it is known.
    pub(super) fn passes(&mut self, json: &mut Pieces<impl Read>, place: Place) -> Result<bool, ReadError> {
        let Some(Open {
            to: To::Listener { text, listener },
            ..
        }) = &mut self.0
        else {
            return Ok(false);
        };
        let at = json.next_at()?;
        let ahead = text.get(at as usize..).unwrap_or_default();
        let Some(length) = listener.known(place, ahead) else {
            return Ok(false);
        };
        json.skip(length)?;
        Ok(true)
    }

    /// Takes the first `len` of `bytes`, which stand at byte `at` and are an element of the array of `place`.
    pub(super) fn element(&mut self, place: Place, at: u64, bytes: &[u8], len: usize) {
        let span = at..at + len as u64;
        if place == Place::Retired {
            self.named(place, &["ledger", "retired"], span, bytes, len);
        } else if let Some(open) = &mut self.0 {
            open.to.take(place, span, bytes.get(..len).unwrap_or_default());
        }
    }

    /// Takes the first `len` of `bytes` with `names` in front; all of it stands in `span`.
    pub(super) fn named(&mut self, place: Place, names: &[&str], span: Range<u64>, bytes: &[u8], len: usize) {
        let Some(Open { to, scratch }) = &mut self.0 else {
            return;
        };
        scratch.clear();
        for name in names {
            // A text always has a JSON form, and a vector takes it.
            if serde_json::to_writer(&mut *scratch, name).is_ok() {
                scratch.push(b':');
            }
        }
        scratch.extend_from_slice(bytes.get(..len).unwrap_or_default());
        to.take(place, span, scratch);
    }

    /// The next value of `json`, whose names are these; the last of them begins at byte `from`.
    pub(super) fn member<T: DeserializeOwned>(
        &mut self,
        json: &mut Pieces<impl Read>,
        place: Place,
        names: &[&str],
        from: u64,
    ) -> Result<T, ReadError> {
        let at = json.next_at()?;
        json.value(|bytes| {
            let (value, len) = parse(bytes)?;
            self.named(place, names, from..at + len as u64, bytes, len);
            Ok((value, len))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{Collected, document};
    use super::super::{Document, Joined, record_key, write};
    use super::*;

    fn records(json: &[u8]) -> Vec<(Part, String)> {
        let mut records = Vec::new();
        let mut take = |part, bytes: &[u8]| records.push((part, String::from_utf8(bytes.to_vec()).unwrap()));
        read_records(json, Caps::default(), &mut Collected::default(), &mut take).unwrap();
        records
    }

    fn written(document: &Document) -> Vec<u8> {
        let mut json = Vec::new();
        write(document, &mut json).unwrap();
        json
    }

    #[test]
    fn each_record_is_its_bytes_and_the_names_that_lead_to_it() {
        let json = r#" {"sequence": 7 ,"users":[ {"username": "a"} , 3],"groups":[{}], "more" : {"x":[ 1]}, "schema" :["a", "b"],
            "ssh_keys":{ "a" : "k1" ,"b\u0041\n":null},"entries":[{"dn":"o=x"}],
            "ledger":{"retired":[{"kind":"user","id":"u","number":5}],"other":1}} "#;
        let wanted = [
            (Part::Other, r#""sequence":7"#),
            (Part::User, r#"{"username": "a"}"#),
            (Part::User, "3"),
            (Part::Group, "{}"),
            (Part::Other, r#""more":{"x":[ 1]}"#),
            (Part::Other, r#""schema":["a", "b"]"#),
            (Part::Other, r#""ssh_keys":"a":"k1""#),
            (Part::Other, r#""ssh_keys":"bA\n":null"#),
            (Part::Entry, r#"{"dn":"o=x"}"#),
            (Part::Other, r#""ledger":"retired":{"kind":"user","id":"u","number":5}"#),
            (Part::Other, r#""ledger":"other":1"#),
        ];
        assert_eq!(
            records(json.as_bytes()),
            wanted.map(|(part, text)| (part, text.to_owned()))
        );
    }

    /// What came of a text of which some spans are known.
    struct Heard<'a> {
        text: &'a [u8],
        heard: Vec<(Part, String, String)>,
        known: Vec<String>,
    }

    impl Listener for Heard<'_> {
        fn known(&mut self, _place: Place, text: &[u8]) -> Option<usize> {
            let known = self
                .known
                .iter()
                .find(|known| known.ends_with(['}', ']', '"']) && text.starts_with(known.as_bytes()));
            known.map(String::len)
        }

        fn record(&mut self, place: Place, span: Range<usize>, bytes: &[u8]) {
            let span = &self.text[span];
            assert_eq!(place.record(span).as_deref(), Some(bytes));
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            self.heard.push((place.part(), text(bytes), text(span)));
        }
    }

    /// The text that a writer makes of these records, without anything else.
    fn rebuilt(records: &[(Part, String)]) -> String {
        let inner = |name: &str| {
            let own = records.iter().filter(|(part, _)| *part == Part::Other);
            let own: Vec<_> = own.filter_map(|(_, text)| text.strip_prefix(name)).collect();
            own.join(",")
        };
        let array = |wanted: Part| {
            let own: Vec<_> = records.iter().filter(|(part, _)| *part == wanted).collect();
            own.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(",")
        };
        let mut members: Vec<String> = records
            .iter()
            .filter(|(part, text)| {
                *part == Part::Other && !text.starts_with("\"ssh_keys\"") && !text.starts_with("\"ledger\"")
            })
            .map(|(_, text)| text.clone())
            .collect();
        members.push(format!("\"groups\":[{}]", array(Part::Group)));
        members.push(format!("\"users\":[{}]", array(Part::User)));
        let keys = inner("\"ssh_keys\":");
        if !keys.is_empty() {
            members.push(format!("\"ssh_keys\":{{{keys}}}"));
        }
        let entries = array(Part::Entry);
        if !entries.is_empty() {
            members.push(format!("\"entries\":[{entries}]"));
        }
        let retired = inner("\"ledger\":\"retired\":");
        if !retired.is_empty() {
            members.push(format!("\"ledger\":{{\"retired\":[{retired}]}}"));
        }
        format!("{{{}}}", members.join(","))
    }

    proptest! {
        #[test]
        fn the_records_are_all_that_was_written(document in document()) {
            let json = written(&document);
            prop_assert_eq!(rebuilt(&records(&json)), String::from_utf8(json).unwrap());
        }

        #[test]
        fn every_record_is_made_of_its_span_and_known_ones_are_stepped_over(document in document()) {
            let text = written(&document);
            let all = records(&text);
            let mut listener = Heard { text: &text, heard: Vec::new(), known: Vec::new() };
            read_unknown(&text, Caps::default(), &mut listener).unwrap();
            prop_assert_eq!(listener.heard.iter().map(|(part, record, _)| (*part, record.clone())).collect::<Vec<_>>(), all.clone());
            let every_other = listener.heard.iter().step_by(2).map(|(.., span)| span.clone()).collect::<Vec<_>>();
            let mut listener = Heard { text: &text, heard: Vec::new(), known: every_other };
            read_unknown(&text, Caps::default(), &mut listener).unwrap();
            prop_assert!(listener.heard.iter().all(|(part, record, _)| all.contains(&(*part, record.clone()))));
            prop_assert!(listener.heard.len() <= all.len());
        }

        #[test]
        fn joined_records_are_the_same_ones_and_each_has_a_key(document in document()) {
            let mut before = records(&written(&document));
            let mut joined = Joined::default();
            before.iter().for_each(|(part, text)| joined.add(*part, text.as_bytes()));
            let joined = (joined.clone().finish(), joined.into_reader());
            let mut after = records(&joined.0);
            let mut read = Vec::new();
            // In small pieces, as a decoder asks for them.
            std::io::BufReader::with_capacity(7, joined.1).read_to_end(&mut read).unwrap();
            prop_assert_eq!(read, joined.0);
            before.sort();
            after.sort();
            prop_assert_eq!(&before, &after);
            prop_assert!(before.iter().all(|(part, text)| record_key(*part, text.as_bytes()).is_some()));
        }

        #[test]
        fn the_order_of_records_changes_none_of_them(mut document in document()) {
            let mut before = records(&written(&document));
            document.users.reverse();
            document.groups.reverse();
            document.entries.reverse();
            document.retired.reverse();
            let mut after = records(&written(&document));
            before.sort();
            after.sort();
            prop_assert_eq!(before, after);
        }

        #[test]
        fn white_space_between_records_is_in_none_of_them(document in document()) {
            let json = written(&document);
            let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
            let (mut compact, mut pretty) = (
                records(value.to_string().as_bytes()),
                records(serde_json::to_string_pretty(&value).unwrap().as_bytes()),
            );
            let compacted = |(part, text): &mut (Part, String)| {
                if *part != Part::Other {
                    *text = serde_json::from_str::<serde_json::Value>(text).unwrap().to_string();
                }
            };
            pretty.iter_mut().for_each(compacted);
            compact.retain(|(part, _)| *part != Part::Other);
            pretty.retain(|(part, _)| *part != Part::Other);
            prop_assert_eq!(compact, pretty);
        }
    }
}
