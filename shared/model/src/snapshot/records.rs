//! The bytes of a snapshot's records, for whoever digests or compares them.

use std::io::Read;

use serde::de::DeserializeOwned;

use super::pieces::{Pieces, parse};
use super::read::{ReadError, read_tapped};
use super::{Caps, Meta, Sink};

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    read_tapped(reader, caps, sink, Tap(Some(Open { record, scratch })))
}

/// Where records' bytes go, or nowhere.
pub(super) struct Tap<'a>(Option<Open<'a>>);

struct Open<'a> {
    record: &'a mut dyn FnMut(Part, &[u8]),
    /// Names and value together.
    scratch: Vec<u8>,
}

impl Tap<'_> {
    /// Wants nothing.
    pub(super) fn closed() -> Self {
        Self(None)
    }

    /// Takes the first `len` of `bytes`.
    pub(super) fn record(&mut self, part: Part, bytes: &[u8], len: usize) {
        if let Some(open) = &mut self.0 {
            (open.record)(part, bytes.get(..len).unwrap_or_default());
        }
    }

    /// The same of [`Part::Other`], with `names` in front.
    pub(super) fn named(&mut self, names: &[&str], bytes: &[u8], len: usize) {
        let Some(Open { record, scratch }) = &mut self.0 else {
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
        record(Part::Other, scratch);
    }

    /// The next value of `json`, whose names are these.
    pub(super) fn member<T: DeserializeOwned>(
        &mut self,
        json: &mut Pieces<impl Read>,
        names: &[&str],
    ) -> Result<T, ReadError> {
        json.value(|bytes| {
            let (value, len) = parse(bytes)?;
            self.named(names, bytes, len);
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
